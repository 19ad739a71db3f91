//! The report as one page of HTML that needs nothing else.

use crate::plots::{self, Axes, Dots, Line, Scale, colour};
use crate::report::{failures, runs};
use crate::results::{Face, Results, Suite};
use crate::stats::{estimate, median, values};
use crate::tables::{
    Entry, QUANTILES, Row, SUBJECT, Samples, Subject, Table, Times, Unit, Verdict, disturbed, face_name, quantile,
    tables, times,
};
use crate::targets::{TAILS, Target, targets};
use std::fmt::Write;

const FACES: [Face; 2] = [Face::C, Face::Rust];

/// Ratios beyond this are drawn at the edge.
const MOST: f64 = 4.0;

/// The whole page.
pub fn page(results: &Results) -> String {
    let samples = Samples::new(results);
    let all: Vec<(Face, Vec<Table>)> = FACES
        .into_iter()
        .map(|face| (face, tables(&samples, face)))
        .filter(|(face, tables)| !tables.is_empty() || !samples.allocators(Suite::Latency, *face).is_empty())
        .collect();
    let mut body = String::new();
    body.push_str(&cards(&all));
    body.push_str(&navigation(&samples, &all));
    body.push_str(&troubles(results));
    body.push_str(&goals(&samples));
    body.push_str(&standings(&all));
    for (face, tables) in &all {
        body.push_str(&face_section(&samples, *face, tables));
    }
    body.push_str(&machine(results));
    let fact = |name: &str| {
        let found = results.header.facts.iter().find(|(it, _)| it == name);
        escape(found.map_or("unknown", |(_, value)| value))
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>Allocators side by side</title><style>{}</style></head>\n\
         <body><header class=\"top\"><div><h1>Allocators side by side</h1><p>{} · {} · {} processors · Linux {} · huge pages: \
         {} · runs: {}</p></div></header><main>{body}</main></body></html>\n",
        include_str!("page.css"),
        fact("date"),
        fact("processor"),
        fact("processors that may be used"),
        fact("kernel"),
        fact("huge pages"),
        runs(results)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Win => "win",
        Verdict::Tie => "tie",
        Verdict::Loss => "loss",
    }
}

/// The sums, large.
fn cards(all: &[(Face, Vec<Table>)]) -> String {
    let mut text = String::from("<div class=\"cards\">");
    for (face, tables) in all {
        for title in ["Whole programs: time", "Whole programs: peak memory", "Rows: time an operation"] {
            let table = tables.iter().find(|table| table.title == title);
            let Some(standing) = table.and_then(Table::mean).and_then(|row| row.standing.as_ref()) else { continue };
            let ratio = standing.ratio;
            let _ = write!(
                text,
                "<div class=\"card {}\"><small>{} face · {}</small><b>{:.2}</b><small>times the best rival of each row \
                 ({:.2} to {:.2})</small></div>",
                class(standing.verdict()),
                face_name(*face),
                title.to_lowercase(),
                ratio.median,
                ratio.low,
                ratio.high
            );
        }
    }
    text + "</div>"
}

fn legend(names: &[String]) -> String {
    names.iter().fold(String::new(), |mut text, name| {
        let _ =
            write!(text, "<span><i class=\"dot\" style=\"background:{}\"></i>{}</span>", colour(name), escape(name));
        text
    })
}

fn navigation(samples: &Samples, all: &[(Face, Vec<Table>)]) -> String {
    let mut names: Vec<String> = Vec::new();
    for (face, tables) in all {
        let latency = samples.allocators(Suite::Latency, *face);
        for name in tables.iter().flat_map(|table| &table.columns).chain(&latency) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    let mut text = String::from("<nav><a href=\"#goals\">Goals</a><a href=\"#standings\">Wins and losses</a>");
    for (face, _) in all {
        let name = face_name(*face);
        let _ = write!(text, "<a href=\"#{name}\">{name} face</a>");
    }
    let _ = write!(text, "<a href=\"#machine\">Machine</a><span class=\"legend\">{}</span></nav>", legend(&names));
    text
}

fn troubles(results: &Results) -> String {
    let (spoilt, all) = disturbed(results);
    let mut lines: Vec<String> =
        results.header.missing.iter().map(|it| format!("Not available: {}", escape(it))).collect();
    lines.extend(failures(results).iter().map(|it| format!("Failed: {}", escape(it))));
    if spoilt > 0 {
        lines.push(format!(
            "{spoilt} of {all} samples of rows with one thread lost more than 5 % of the processor to other programs, in each \
             of three tries."
        ));
    }
    if runs(results) < 6 {
        lines.push(format!("With fewer than six runs (here: {}) the intervals are ranges.", runs(results)));
    }
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "<section><div class=\"panel warn\"><ul class=\"plain\"><li>{}</li></ul></div></section>",
        lines.join("</li><li>")
    )
}

fn goals(samples: &Samples) -> String {
    let targets = targets(samples);
    if targets.is_empty() {
        return String::new();
    }
    let met = targets.iter().filter(|target| target.met).count();
    let head = "<tr><th>what</th><th>goal</th><th>found</th><th></th></tr>";
    let mut text = format!(
        "<section id=\"goals\"><h2>Goals</h2><p class=\"note\">{met} of {} reached.</p><div class=\"panel\"><table \
         class=\"text\">{head}",
        targets.len()
    );
    let mut group = "";
    for target in targets.iter().filter(|target| target.group != TAILS) {
        if target.group != group {
            group = target.group;
            let _ = write!(text, "<tr class=\"group\"><td colspan=\"4\">{group}</td></tr>");
        }
        text.push_str(&goal(target));
    }
    text.push_str("</table>");
    let tails: Vec<_> = targets.iter().filter(|target| target.group == TAILS).collect();
    if !tails.is_empty() {
        let met = tails.iter().filter(|target| target.met).count();
        let rows: String = tails.iter().map(|target| goal(target)).collect();
        let _ = write!(
            text,
            "<details><summary>{TAILS}, the rarest of a thousand: {met} of {} reached</summary><table \
             class=\"text\">{head}{rows}</table></details>",
            tails.len()
        );
    }
    text + "</div></section>"
}

fn goal(target: &Target) -> String {
    let pill = if target.met { "<i class=\"pill win\">reached</i>" } else { "<i class=\"pill loss\">missed</i>" };
    format!(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{pill}</td></tr>",
        escape(&target.what),
        escape(&target.goal),
        escape(&target.found)
    )
}

/// Losses beside wins, each sorted by how clear they are.
fn standings(all: &[(Face, Vec<Table>)]) -> String {
    let mut found: Vec<(Verdict, f64, String)> = Vec::new();
    for (face, tables) in all {
        let figures = ["Whole programs: time", "Whole programs: peak memory", "Rows: time an operation"];
        for table in tables.iter().filter(|table| figures.contains(&table.title.as_str())) {
            for row in table.rows.iter().filter(|row| !row.mean) {
                let Some(standing) = &row.standing else { continue };
                let ratio = standing.ratio;
                let what = if table.unit == Unit::Memory { "memory" } else { "time" };
                let words = format!(
                    "<td>{} <small>{what}, {} face</small></td><td><b class=\"{}\">{:.2}</b> <small>{:.2} to \
                     {:.2}</small></td><td>{}</td>",
                    escape(&row.name),
                    face_name(*face),
                    class(standing.verdict()),
                    ratio.median,
                    ratio.low,
                    ratio.high,
                    standing.rival.as_deref().unwrap_or("")
                );
                found.push((standing.verdict(), ratio.median, words));
            }
        }
    }
    if found.is_empty() {
        return String::new();
    }
    let ties = found.iter().filter(|(verdict, ..)| *verdict == Verdict::Tie).count();
    let column = |wanted: Verdict, title: &str| {
        let mut rows: Vec<_> = found.iter().filter(|(verdict, ..)| *verdict == wanted).collect();
        rows.sort_by(|a, b| b.1.ln().abs().total_cmp(&a.1.ln().abs()));
        let line = |row: &&(Verdict, f64, String)| format!("<tr>{}</tr>", row.2);
        let first: String = rows.iter().take(12).map(line).collect();
        let rest: String = rows.iter().skip(12).map(line).collect();
        let head = "<tr><th>row</th><th>of the best rival</th><th>which is</th></tr>";
        let more = if rest.is_empty() {
            String::new()
        } else {
            format!("<details><summary>{} more</summary><table>{head}{rest}</table></details>", rows.len() - 12)
        };
        format!(
            "<div class=\"panel\"><h3 style=\"margin-top:0\">{title}: {}</h3><table>{head}{first}</table>{more}</div>",
            rows.len()
        )
    };
    format!(
        "<section id=\"standings\"><h2>Wins and losses</h2><p class=\"note\">Terrace against the best rival of each row. A row \
         is won or lost when the whole 95 % interval of the ratio lies on one side of 1; {ties} more are ties.</p><div \
         class=\"pair\">{}{}</div></section>",
        column(Verdict::Loss, "Losses"),
        column(Verdict::Win, "Wins")
    )
}

fn face_section(samples: &Samples, face: Face, tables: &[Table]) -> String {
    let what = if face == Face::C {
        "Each library preloaded into the same program: what any program gets."
    } else {
        "Each allocator linked into the program as its global allocator, with the compiler's knowledge of sizes."
    };
    let name = face_name(face);
    let mut text = format!("<section id=\"{name}\"><h2>{name} face</h2><p class=\"note\">{what}</p>");
    text.push_str(&overview(tables));
    text.push_str(&threads(samples, face));
    for table in tables {
        let _ = write!(text, "<h3>{}</h3><p class=\"note\">{}</p>", escape(&table.title), escape(&table.note));
        if table.title == "Rows: time an operation"
            && let Some(svg) = plots::dots(
                &dots_of(table),
                MOST,
                "time, as a multiple of the row's best (beyond 4: at the edge)",
                940,
                190,
            )
        {
            let _ = write!(
                text,
                "<div class=\"panel\">{svg}</div><details><summary>As a table</summary>{}</details>",
                render(table)
            );
            continue;
        }
        text.push_str(&render(table));
    }
    text.push_str(&memory(samples, face));
    text.push_str(&latency(samples, face));
    text + "</section>"
}

fn dots_of(table: &Table) -> Vec<Dots> {
    let estimates = |row: &Row| {
        let pairs = table.columns.iter().zip(&row.entries);
        pairs.filter_map(|(name, entry)| Some((name.clone(), entry.as_ref()?.ratio?))).collect()
    };
    table.rows.iter().map(|row| Dots { name: row.name.clone(), mean: row.mean, estimates: estimates(row) }).collect()
}

/// Time against memory, of whole programs.
fn overview(tables: &[Table]) -> String {
    let of = |title: &str| tables.iter().find(|table| table.title == title);
    let (Some(time), Some(memory)) = (of("Whole programs: time"), of("Whole programs: peak memory")) else {
        return String::new();
    };
    let mean = |table: &Table, name: &str| {
        let place = table.columns.iter().position(|column| column == name)?;
        table.mean()?.entries[place].as_ref()?.ratio
    };
    let points: Vec<_> =
        time.columns.iter().filter_map(|name| Some((name.clone(), mean(time, name)?, mean(memory, name)?))).collect();
    let plot = plots::scatter(&points, "time", "peak memory").unwrap_or_default();
    let system: Vec<Dots> = [
        "Whole programs: time",
        "Whole programs: processor time",
        "Whole programs: peak memory",
        "Whole programs: system time",
        "Whole programs: page faults",
    ]
    .iter()
    .filter_map(|title| {
        let table = of(title)?;
        let name = title.trim_start_matches("Whole programs: ").to_owned();
        Some(Dots { name, ..dots_of(table).pop()? })
    })
    .collect();
    let sums = plots::dots(&system, 8.0, "as a multiple of the row's best (beyond 8: at the edge)", 560, 110)
        .unwrap_or_default();
    format!(
        "<div class=\"pair\" style=\"margin-top:1rem\"><figure><figcaption>Time and memory <span>of all whole programs: geometric \
         means of the ratio to each row's best; the lower left is best</span></figcaption>{plot}</figure><figure><figcaption>What \
         the programs cost <span>geometric means over all whole programs</span></figcaption>{sums}</figure></div>"
    )
}

fn write_time(nanoseconds: f64) -> String {
    Unit::Time.show(nanoseconds)
}

/// Time by the number of threads, a plot for each program.
fn threads(samples: &Samples, face: Face) -> String {
    let subjects = samples.subjects(Suite::Programs, face);
    let mut items: Vec<&str> = subjects.iter().map(|subject| subject.item.as_str()).collect();
    items.dedup();
    let columns = samples.allocators(Suite::Programs, face);
    let mut figures = String::new();
    for item in items {
        let of_item: Vec<&Subject> = subjects.iter().filter(|subject| subject.item == item).collect();
        if of_item.len() < 2 {
            continue;
        }
        let lines: Vec<Line> = columns
            .iter()
            .map(|name| {
                let estimates = of_item.iter().filter_map(|subject| {
                    let it = estimate(&values(&samples.series(subject, name, "wall_ns")))?;
                    Some(((f64::from(subject.threads), it.median), it))
                });
                let (points, intervals) = estimates.unzip();
                Line { allocator: name.clone(), points, intervals }
            })
            .collect();
        let axes = Axes {
            x: "threads",
            y: "",
            // Ticks between the powers of two stand for no number of threads.
            write_x: &|value| if (value - value.round()).abs() < 1e-6 { format!("{value:.0}") } else { String::new() },
            write_y: &write_time,
            scale: Scale::LogBoth,
            ticks: 6,
        };
        if let Some(svg) = plots::lines(&lines, &axes, (380, 240)) {
            let _ = write!(
                figures,
                "<figure><figcaption>{} <span>{}</span></figcaption>{svg}</figure>",
                escape(item),
                what(item)
            );
        }
    }
    if figures.is_empty() {
        return String::new();
    }
    format!(
        "<h3>Time by the number of threads</h3><p class=\"note\">The work is the same for any number of threads, so a flat line \
         is a program that can be oversubscribed. Both axes are logarithmic.</p><div class=\"grid\">{figures}</div>"
    )
}

/// What a program does.
fn what(item: &str) -> String {
    let own = terrace_bench::programs::find(item).map(|program| program.what);
    let real = crate::real::REAL.iter().find(|(name, _)| *name == item).map(|(_, what)| *what);
    escape(own.or(real).unwrap_or(if item == "http" { "the example HTTP server under load" } else { "" }))
}

/// A colour between green and red for a ratio to the best.
fn heat(ratio: f64) -> String {
    let far = (ratio.max(1.0).ln() / 4_f64.ln()).min(1.0);
    if far < 0.01 {
        return "background:#bbf7d0".into();
    }
    let hue = 110.0 * (1.0 - far.powf(0.6));
    format!("background:hsl({hue:.0} 85% {:.0}%)", 93.0 - 9.0 * far)
}

fn render(table: &Table) -> String {
    let own = table.columns.iter().any(|name| name == SUBJECT);
    let mut text = String::from("<div class=\"panel\"><table><tr><th></th>");
    for name in &table.columns {
        let mark = if name == SUBJECT { " class=\"own\"" } else { "" };
        let _ =
            write!(text, "<th{mark}><i class=\"dot\" style=\"background:{}\"></i>{}</th>", colour(name), escape(name));
    }
    text.push_str(if own { "<th>against the best rival</th></tr>" } else { "</tr>" });
    for row in &table.rows {
        let _ = write!(text, "<tr{}><td>{}</td>", if row.mean { " class=\"mean\"" } else { "" }, escape(&row.name));
        for (name, entry) in table.columns.iter().zip(&row.entries) {
            text.push_str(&cell(entry.as_ref(), table.unit, name == SUBJECT));
        }
        if own {
            text.push_str(&standing(row));
        }
        text.push_str("</tr>");
    }
    text + "</table></div>"
}

fn cell(entry: Option<&Entry>, unit: Unit, own: bool) -> String {
    let mark = if own { "own" } else { "" };
    let Some(entry) = entry else { return format!("<td class=\"{mark}\">–</td>") };
    let figure = entry.figure.map_or(String::new(), |figure| unit.show(figure));
    let Some(ratio) = entry.ratio else { return format!("<td class=\"{mark}\">{figure}</td>") };
    let best = if ratio.median <= 1.0 { " best" } else { "" };
    let words = if figure.is_empty() {
        format!("{:.2}", ratio.median)
    } else {
        format!("{figure} <span class=\"of\">{:.2}</span>", ratio.median)
    };
    format!(
        "<td class=\"{mark}{best}\" style=\"{}\" title=\"{:.3}, 95 % {:.3} to {:.3}\">{words}</td>",
        heat(ratio.median),
        ratio.median,
        ratio.low,
        ratio.high
    )
}

fn standing(row: &Row) -> String {
    let Some(standing) = &row.standing else { return "<td>–</td>".into() };
    let ratio = standing.ratio;
    let rival = standing.rival.as_ref().map_or(String::new(), |rival| format!(" {}", escape(rival)));
    format!(
        "<td><i class=\"pill {}\">{:.2}</i> <small>{:.2} to {:.2}{rival}</small></td>",
        class(standing.verdict()),
        ratio.median,
        ratio.low,
        ratio.high
    )
}

/// Resident memory over time, a plot for each program.
fn memory(samples: &Samples, face: Face) -> String {
    let columns = samples.allocators(Suite::Memory, face);
    let mut figures = String::new();
    for subject in samples.subjects(Suite::Memory, face) {
        let lines: Vec<Line> = columns
            .iter()
            .filter_map(|name| {
                // Of several runs the one with the middle peak.
                let mut runs: Vec<_> = samples.of(&subject, name).iter().collect();
                let peak = |points: &[(f64, f64)]| points.iter().map(|point| point.1).fold(0.0, f64::max);
                runs.sort_by(|a, b| peak(&a.memory).total_cmp(&peak(&b.memory)));
                let run = runs.get(runs.len() / 2)?;
                Some(Line { allocator: name.clone(), points: run.memory.clone(), intervals: Vec::new() })
            })
            .collect();
        let axes = Axes {
            x: "seconds",
            y: "MiB",
            write_x: &|value| format!("{value:.1}"),
            write_y: &|value| format!("{value:.0}"),
            scale: Scale::Linear,
            ticks: 6,
        };
        if let Some(svg) = plots::lines(&lines, &axes, (380, 240)) {
            let _ = write!(
                figures,
                "<figure><figcaption>{} <span>{}</span></figcaption>{svg}</figure>",
                escape(&subject.item),
                what(&subject.item)
            );
        }
    }
    if figures.is_empty() {
        return String::new();
    }
    format!(
        "<h3>Resident memory over time</h3><p class=\"note\">Load first, then 2.5 seconds in which everything is dropped and the \
         program stands nearly idle. Four threads; the run with the middle peak.</p><div class=\"grid\">{figures}</div>"
    )
}

/// How long single calls take: curves and quantiles.
fn latency(samples: &Samples, face: Face) -> String {
    let found = times(samples, face);
    if found.is_empty() {
        return String::new();
    }
    let figures: String = found.iter().filter_map(curve).collect();
    let mut rows = String::new();
    for times in &found {
        let least = QUANTILES
            .map(|(share, _)| times.allocators.iter().map(|(_, all, _)| quantile(all, share)).fold(f64::MAX, f64::min));
        for (allocator, all, _) in &times.allocators {
            let _ = write!(
                rows,
                "<tr><td>{}: {}</td><td><i class=\"dot\" style=\"background:{}\"></i>{}</td><td>{}</td>",
                escape(&times.item),
                times.operation,
                colour(allocator),
                escape(allocator),
                Unit::Count.show(all.len() as f64)
            );
            for ((share, _), least) in QUANTILES.iter().zip(least) {
                let it = quantile(all, *share);
                let _ = write!(rows, "<td style=\"{}\">{}</td>", heat(it / least.max(0.1)), write_time(it));
            }
            rows.push_str("</tr>");
        }
    }
    let heads: String = QUANTILES.iter().map(|(_, name)| format!("<th>{name}</th>")).collect();
    let clock: Vec<f64> = samples
        .subjects(Suite::Latency, face)
        .iter()
        .flat_map(|subject| values(&samples.series(subject, SUBJECT, "clock_ns")))
        .filter(|cost| *cost > 0.0)
        .collect();
    let clock =
        median(&clock).map_or(String::new(), |cost| format!(" The clock's own cost, {cost:.0} ns, is taken off."));
    format!(
        "<h3>Times of single calls</h3><p class=\"note\">Measured in runs of their own, so that the clock disturbs no other \
         figure.{clock} Rows are warmed up first, so their times hold no page faults of fresh memory; those of whole programs do. \
         The farther right, the rarer.</p><div class=\"grid\">{figures}</div><details><summary>All quantiles</summary><div \
         class=\"panel\"><table><tr><th></th><th>allocator</th><th>calls</th>{heads}</tr>{rows}</table></div></details>"
    )
}

/// The curve of quantiles of one operation: x is the number of nines.
fn curve(times: &Times) -> Option<String> {
    let lines: Vec<Line> = times
        .allocators
        .iter()
        .map(|(name, all, _)| {
            let nines = (all.len() as f64).log10().min(7.0);
            let steps = (nines * 8.0) as u32;
            let point = |step: u32| {
                let nines = f64::from(step) / 8.0;
                (nines, quantile(all, 1.0 - 10_f64.powf(-nines)).max(1.0))
            };
            Line { allocator: name.clone(), points: (0..=steps).map(point).collect(), intervals: Vec::new() }
        })
        .collect();
    let axes = Axes {
        x: "per cent of the calls that are faster",
        y: "",
        write_x: &|nines| match nines {
            nines if nines < 0.5 => "0".into(),
            nines => format!("{:.*}", (nines.round() as usize).saturating_sub(2), 100.0 * (1.0 - 10_f64.powf(-nines))),
        },
        write_y: &write_time,
        scale: Scale::LogY,
        ticks: 8,
    };
    let svg = plots::lines(&lines, &axes, (380, 240))?;
    Some(format!(
        "<figure><figcaption>{} <span>{}</span></figcaption>{svg}</figure>",
        escape(&times.item),
        times.operation
    ))
}

fn machine(results: &Results) -> String {
    let mut facts = String::new();
    for (name, value) in &results.header.facts {
        let _ = write!(facts, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    for (name, value) in &results.header.settings {
        let _ = write!(facts, "<dt>setting: {}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    format!(
        "<section id=\"machine\"><h2>Machine and method</h2><p class=\"note\">Every sample is a process of its own. Samples are \
         interleaved: a round takes each program and row once on each allocator, starting with the next allocator each time. Ratios \
         are formed within a round. Figures are medians; intervals hold the true median with 95 % confidence, by the \
         bootstrap.</p><div class=\"panel\"><dl>{facts}</dl></div></section>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Cell, Header, Sample};
    use std::collections::BTreeMap;

    fn results() -> Results {
        let mut samples = Vec::new();
        for suite in [Suite::Programs, Suite::Memory, Suite::Latency] {
            for (threads, run) in [(1, 0), (1, 1), (4, 0), (4, 1)] {
                for (place, allocator) in ["terrace", "jemalloc"].into_iter().enumerate() {
                    let figures = [("wall_ns", 1e6), ("peak_kib", 5e3), ("rested_kib", 2e3)];
                    samples.push(Sample {
                        cell: Cell {
                            suite,
                            item: "server".into(),
                            threads,
                            face: Face::C,
                            allocator: allocator.into(),
                        },
                        run,
                        figures: figures.map(|(name, it)| (name.into(), it * (2.0 - place as f64))).into(),
                        checksum: None,
                        latency: BTreeMap::from([("free".into(), vec![(10.0, 1000), (500.0, 1)])]),
                        memory: vec![(0.0, 1.0), (1.0, 3.0)],
                        failed: (run == 1 && threads == 4 && place == 1).then(|| "it <broke>".into()),
                    });
                }
            }
        }
        let header =
            Header { facts: vec![("date".into(), "today".into())], missing: vec!["x".into()], ..Header::default() };
        Results { header, samples }
    }

    #[test]
    fn the_page_stands_alone_and_holds_what_was_measured() {
        let page = page(&results());
        for part in [
            "<svg",
            "server, 4",
            "Times of single calls",
            "Resident memory over time",
            "missed",
            "Losses: 4",
            "Wins: 0",
        ] {
            assert!(page.contains(part), "the page has no {part}");
        }
        assert!(!page.contains("http-equiv") && !page.contains("<script") && !page.contains("<link"));
    }

    #[test]
    fn troubles_are_shown_and_escaped() {
        let page = page(&results());
        assert!(page.contains("Not available: x") && page.contains("it &lt;broke&gt;") && !page.contains("<broke>"));
    }

    #[test]
    fn the_text_holds_the_same_tables() {
        let text = crate::markdown::page(&results());
        for part in
            ["### Whole programs: time", "| server, 4 |", "**loss**", "- Not available: x", "Times of single calls"]
        {
            assert!(text.contains(part), "the text has no {part}");
        }
    }

    #[test]
    fn the_best_is_green_and_the_worst_is_red() {
        assert!(heat(1.0).contains("#bbf7d0") && heat(9.0).contains("hsl(0 "));
    }

    #[test]
    fn nothing_measured_still_gives_a_page() {
        assert!(page(&Results::default()).contains("Machine"));
    }
}
