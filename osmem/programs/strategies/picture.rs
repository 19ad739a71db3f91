//! The four heaps as bars of one scale, with their figures.

use crate::simulation::Outcome;
use crate::svg::Svg;

const LEFT: f64 = 100.0;
const WIDTH: f64 = 1000.0;
const ROW: f64 = 64.0;
const BAR: f64 = 26.0;

pub fn draw(outcomes: &[Outcome]) -> String {
    let largest = outcomes.iter().map(|outcome| outcome.needed).max().unwrap_or(0).max(1);
    let scale = WIDTH / largest as f64;
    let mut svg = Svg::default();
    svg.text(6.0, 18.0, "title", "The heap after the last call: in use (green), free (grey)");
    for (i, outcome) in outcomes.iter().enumerate() {
        let y = 36.0 + ROW * i as f64;
        svg.text(6.0, y + 17.0, "", outcome.placement.name());
        let mut x = LEFT;
        for stretch in &outcome.stretches {
            let width = stretch.bytes as f64 * scale;
            svg.rectangle(x, y, width, BAR, if stretch.free { "free" } else { "used" });
            x += width;
        }
        let holes = outcome.holes();
        let figures = format!(
            "{} bytes needed; {} free blocks, the largest of {} bytes; {} holes examined",
            outcome.needed,
            holes.len(),
            holes.iter().max().unwrap_or(&0),
            outcome.examined
        );
        svg.text(LEFT, y + BAR + 14.0, "small", figures);
    }
    svg.finish()
}
