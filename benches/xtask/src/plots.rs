//! The plots, as SVG: those of the report plain, without legends, since the page explains the colours once; those that stand
//! alone with a title and the names of their lines.

use crate::stats::Estimate;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

/// The line of what a program holds, beside those of allocators.
pub const LIVE: &str = "live bytes";
/// The line of the pages that hold a survivor.
pub const FLOOR: &str = "pages that hold a survivor";

/// The colour of an allocator, the same in plots and tables.
pub fn colour(allocator: &str) -> &'static str {
    match allocator {
        "terrace" => "#c2410c",
        "mimalloc-v3" => "#2563eb",
        "mimalloc-v2" => "#38bdf8",
        "jemalloc" => "#16a34a",
        "tcmalloc" => "#9333ea",
        "snmalloc" => "#ca8a04",
        "rusty-alloc" => "#db2777",
        "rallocator" => "#0d9488",
        LIVE => "#0f172a",
        FLOOR => "#94a3b8",
        _ => "#64748b",
    }
}

fn rgb(allocator: &str) -> RGBColor {
    let digits = u32::from_str_radix(&colour(allocator)[1..], 16).unwrap_or(0);
    RGBColor((digits >> 16) as u8, (digits >> 8) as u8, digits as u8)
}

const FONT: &str = "system-ui, sans-serif";
const INK: RGBColor = RGBColor(71, 85, 105);
const GRID: RGBColor = RGBColor(226, 232, 240);

/// The subject's lines are stronger.
fn width(allocator: &str) -> u32 {
    if allocator == crate::tables::SUBJECT { 3 } else { 1 }
}

/// A line of a plot.
pub struct Line {
    /// The allocator.
    pub allocator: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// Intervals at the points, or none.
    pub intervals: Vec<Estimate>,
}

/// What stands at the axes.
pub struct Axes<'a> {
    /// The name of the x axis.
    pub x: &'a str,
    /// The name of the y axis.
    pub y: &'a str,
    /// How x values are written.
    pub write_x: &'a dyn Fn(f64) -> String,
    /// How y values are written.
    pub write_y: &'a dyn Fn(f64) -> String,
    /// Whether both axes are logarithmic, or y alone, or none.
    pub scale: Scale,
    /// Ticks on the x axis, at most.
    pub ticks: usize,
}

/// The scales of the axes. Logarithmic ones are drawn as linear axes of the logarithm, which gives ticks between the decades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Both linear, y from zero.
    Linear,
    /// y logarithmic.
    LogY,
    /// Both logarithmic, x to the base of two.
    LogBoth,
}

impl Scale {
    fn place_x(self, x: f64) -> f64 {
        if self == Self::LogBoth { x.max(1e-9).log2() } else { x }
    }

    fn value_x(self, place: f64) -> f64 {
        if self == Self::LogBoth { place.exp2() } else { place }
    }

    fn place_y(self, y: f64) -> f64 {
        if self == Self::Linear { y } else { y.max(1e-9).log10() }
    }

    fn value_y(self, place: f64) -> f64 {
        if self == Self::Linear { place } else { 10_f64.powf(place) }
    }
}

/// The range of places with a margin, from zero if wanted; `None` if there are none.
fn range(places: impl Iterator<Item = f64>, from_zero: bool) -> Option<Range<f64>> {
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    for place in places.filter(|place| place.is_finite()) {
        (low, high) = (low.min(place), high.max(place));
    }
    if low > high {
        return None;
    }
    let margin = if high > low { (high - low) * 0.06 } else { 0.1 };
    Some(if from_zero { 0.0 } else { low - margin }..high + margin)
}

/// Lines over a common x axis. `None` if there is nothing to show.
pub fn lines(lines: &[Line], axes: &Axes, size: (u32, u32)) -> Option<String> {
    draw_lines(lines, axes, size, None)
}

/// As `lines`, below a title and the names of the lines.
pub fn named_lines(lines: &[Line], axes: &Axes, size: (u32, u32), title: &str) -> Option<String> {
    draw_lines(lines, axes, size, Some(title))
}

/// Writes the title and the names of the lines, each in its colour.
fn draw_head<D: DrawingBackend>(
    head: &DrawingArea<D, plotters::coord::Shift>,
    lines: &[Line],
    title: &str,
) -> Option<()> {
    const LETTER: i32 = 7;
    let bold = (FONT, 13, FontStyle::Bold).into_font().color(&INK);
    head.draw(&Text::new(title.to_owned(), (10, 6), bold)).ok()?;
    let mut x = 10;
    for line in lines {
        let style = (FONT, 12).into_font().color(&rgb(&line.allocator));
        head.draw(&Text::new(line.allocator.clone(), (x, 26), style)).ok()?;
        x += (line.allocator.len() as i32 + 2) * LETTER;
    }
    Some(())
}

fn draw_lines(lines: &[Line], axes: &Axes, size: (u32, u32), title: Option<&str>) -> Option<String> {
    let scale = axes.scale;
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let ends = lines.iter().flat_map(|line| line.intervals.iter()).flat_map(|it| [it.low, it.high]);
    let x = range(points().map(|point| scale.place_x(point.0)), scale == Scale::Linear)?;
    let y = points().map(|point| point.1).chain(ends).map(|value| scale.place_y(value));
    let y = range(y, scale == Scale::Linear)?;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let (head, body) = root.split_vertically(if title.is_some() { 44 } else { 0 });
        if let Some(title) = title {
            draw_head(&head, lines, title)?;
        }
        let mut chart = ChartBuilder::on(&body)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(36)
            .y_label_area_size(58)
            .build_cartesian_2d(x, y)
            .ok()?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style((FONT, 11).into_font().color(&INK))
            .axis_desc_style((FONT, 12).into_font().color(&INK))
            .x_desc(axes.x)
            .y_desc(axes.y)
            .x_labels(axes.ticks)
            .y_labels(6)
            .x_label_formatter(&|place| (axes.write_x)(scale.value_x(*place)))
            .y_label_formatter(&|place| (axes.write_y)(scale.value_y(*place)))
            .draw()
            .ok()?;
        // The subject comes last, on top.
        let mut sorted: Vec<&Line> = lines.iter().collect();
        sorted.sort_by_key(|line| line.allocator == crate::tables::SUBJECT);
        for line in sorted {
            let colour = rgb(&line.allocator);
            let places: Vec<_> = line.points.iter().map(|it| (scale.place_x(it.0), scale.place_y(it.1))).collect();
            let style = colour.stroke_width(width(&line.allocator));
            chart.draw_series(LineSeries::new(places.iter().copied(), style)).ok()?;
            if line.intervals.is_empty() {
                continue;
            }
            let bars = places.iter().zip(&line.intervals).map(|(place, it)| {
                let ends = vec![(place.0, scale.place_y(it.low)), (place.0, scale.place_y(it.high))];
                PathElement::new(ends, colour.mix(0.6))
            });
            chart.draw_series(bars).ok()?;
            let size = 2 + width(&line.allocator) / 2;
            chart.draw_series(places.iter().map(|place| Circle::new(*place, size, colour.filled()))).ok()?;
        }
        root.present().ok()?;
    }
    Some(svg)
}

/// A row of dots: its name, whether it sums up others, and the allocators' estimates.
pub struct Dots {
    /// The name.
    pub name: String,
    /// Whether it sums up others.
    pub mean: bool,
    /// The estimates by allocator.
    pub estimates: Vec<(String, Estimate)>,
}

/// Rows of dots with intervals over a logarithmic axis of ratios; what lies beyond `most` is drawn at the edge. `None` if
/// there is nothing to show.
pub fn dots(rows: &[Dots], most: f64, axis: &str, width: u32, labels: u32) -> Option<String> {
    const ROW: u32 = 22;
    if rows.iter().all(|row| row.estimates.is_empty()) {
        return None;
    }
    let least = rows.iter().flat_map(|row| &row.estimates).map(|(_, it)| it.low).fold(0.97, f64::min).max(0.1);
    let height = rows.len() as u32 * ROW + 60;
    let count = rows.len() as f64;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(38)
            .y_label_area_size(labels)
            .build_cartesian_2d((least..most * 1.02).log_scale(), 0.0..count)
            .ok()?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .y_labels(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style((FONT, 11).into_font().color(&INK))
            .axis_desc_style((FONT, 12).into_font().color(&INK))
            .x_desc(axis)
            .x_label_formatter(&|value| format!("{value:.2}"))
            .draw()
            .ok()?;
        chart.draw_series([PathElement::new(vec![(1.0, 0.0), (1.0, count)], INK.stroke_width(1))]).ok()?;
        for (place, row) in rows.iter().enumerate() {
            let y = count - place as f64 - 0.5;
            draw_row(&mut chart, row, y, most)?;
            let style = if row.mean { FontStyle::Bold } else { FontStyle::Normal };
            let text = (FONT, 12, style).into_font().color(&INK).pos(Pos::new(HPos::Right, VPos::Center));
            let anchor = chart.backend_coord(&(least, y));
            root.draw(&Text::new(row.name.clone(), (anchor.0 - 10, anchor.1), text)).ok()?;
        }
        root.present().ok()?;
    }
    Some(svg)
}

type RatioChart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::combinators::LogCoord<f64>, plotters::coord::types::RangedCoordf64>,
>;

fn draw_row(chart: &mut RatioChart, row: &Dots, y: f64, most: f64) -> Option<()> {
    let mut sorted: Vec<_> = row.estimates.iter().collect();
    sorted.sort_by_key(|(name, _)| name == crate::tables::SUBJECT);
    for (name, it) in sorted {
        let colour = rgb(name);
        let strong = name == crate::tables::SUBJECT;
        let ends = vec![(it.low.min(most), y), (it.high.min(most), y)];
        chart.draw_series([PathElement::new(ends, colour.mix(0.55).stroke_width(width(name)))]).ok()?;
        let at = (it.median.min(most), y);
        let (size, fill) = if strong { (6, colour.mix(1.0)) } else { (4, colour.mix(0.9)) };
        if it.median > most {
            chart.draw_series([TriangleMarker::new(at, size + 1, fill.filled())]).ok()?;
        } else {
            chart.draw_series([Circle::new(at, size, fill.filled())]).ok()?;
        }
    }
    Some(())
}

/// Allocators as points: time against memory.
pub fn scatter(points: &[(String, Estimate, Estimate)], x: &str, y: &str) -> Option<String> {
    let place = |value: f64| Scale::LogY.place_y(value);
    let reach = |pick: &dyn Fn(&(String, Estimate, Estimate)) -> Estimate| {
        let ends = points.iter().flat_map(|point| [pick(point).low, pick(point).high]);
        range(ends.chain([0.99]).map(place), false)
    };
    let (x_range, y_range) = (reach(&|point| point.1)?, reach(&|point| point.2)?);
    // Room for the names.
    let x_range = x_range.start..x_range.end + (x_range.end - x_range.start) * 0.18;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (560, 380)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(20)
            .x_label_area_size(38)
            .y_label_area_size(58)
            .build_cartesian_2d(x_range, y_range)
            .ok()?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style((FONT, 11).into_font().color(&INK))
            .axis_desc_style((FONT, 12).into_font().color(&INK))
            .x_desc(x)
            .y_desc(y)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|place| format!("{:.2}", Scale::LogY.value_y(*place)))
            .y_label_formatter(&|place| format!("{:.2}", Scale::LogY.value_y(*place)))
            .draw()
            .ok()?;
        for (name, across, up) in points {
            let colour = rgb(name);
            let centre = (place(across.median), place(up.median));
            let cross = [
                vec![(place(across.low), centre.1), (place(across.high), centre.1)],
                vec![(centre.0, place(up.low)), (centre.0, place(up.high))],
            ];
            chart.draw_series(cross.map(|ends| PathElement::new(ends, colour.mix(0.5)))).ok()?;
            let size = if name == crate::tables::SUBJECT { 7 } else { 5 };
            chart.draw_series([Circle::new(centre, size, colour.filled())]).ok()?;
            let at = chart.backend_coord(&centre);
            let text = (FONT, 12).into_font().color(&colour).pos(Pos::new(HPos::Left, VPos::Bottom));
            root.draw(&Text::new(name.clone(), (at.0 + 8, at.1 - 3), text)).ok()?;
        }
        root.present().ok()?;
    }
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(median: f64) -> Estimate {
        Estimate { median, low: median * 0.9, high: median * 1.1 }
    }

    fn axes(scale: Scale) -> Axes<'static> {
        Axes {
            x: "threads",
            y: "seconds",
            write_x: &|it| format!("{it:.0}"),
            write_y: &|it| format!("{it:.1}"),
            scale,
            ticks: 4,
        }
    }

    #[test]
    fn every_line_is_drawn_in_its_colour() {
        for scale in [Scale::Linear, Scale::LogY, Scale::LogBoth] {
            let both = ["terrace", "glibc"].map(|name| Line {
                allocator: name.into(),
                points: vec![(1.0, 2.0), (2.0, 3.0)],
                intervals: vec![at(2.0), at(3.0)],
            });
            let svg = lines(&both, &axes(scale), (400, 300)).expect("a plot");
            assert!(svg.starts_with("<svg") && svg.contains("threads"));
            assert!(svg.to_lowercase().contains(colour("terrace")) && svg.to_lowercase().contains(colour("glibc")));
        }
    }

    #[test]
    fn nothing_gives_no_plot() {
        assert_eq!(lines(&[], &axes(Scale::Linear), (400, 300)), None);
        assert_eq!(dots(&[], 2.0, "ratio", 900, 100), None);
    }

    #[test]
    fn every_row_of_dots_is_named() {
        let rows = ["server", "lru"].map(|name| Dots {
            name: name.into(),
            mean: false,
            estimates: vec![("terrace".into(), at(1.0)), ("glibc".into(), at(9.0))],
        });
        let svg = dots(&rows, 2.5, "ratio", 900, 100).expect("a plot");
        assert!(svg.contains("server") && svg.contains("lru"));
    }

    #[test]
    fn every_allocator_of_the_scatter_is_named() {
        let svg = scatter(&[("jemalloc".into(), at(1.2), at(1.0))], "time", "memory").expect("a plot");
        assert!(svg.contains("jemalloc"));
    }
}
