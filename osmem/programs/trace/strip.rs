//! The same lines as a picture: a strip of boxes for each call, with the headers drawn too.

use crate::picture::{Kind, Story};
use crate::svg::Svg;

const ROW: f64 = 26.0;
const BOX: f64 = 20.0;
const HEADER: f64 = 4.0;
/// Where the boxes begin, right of the calls.
const LEFT: f64 = 240.0;

pub fn draw(story: &Story) -> String {
    let mut svg = Svg::default();
    let mut y = 14.0;
    svg.text(6.0, y + 4.0, "title", "call");
    svg.text(LEFT, y + 4.0, "title", "the heap after it, by address, then the mappings; wider is larger, not to scale");
    for scene in &story.scenes {
        y += ROW;
        svg.text(6.0, y + 4.0, "", &scene.call);
        let mut x = LEFT;
        for block in &scene.boxes {
            let (class, gap) = match block.kind {
                Kind::Used => ("used", 0.0),
                Kind::Free => ("free", 0.0),
                Kind::Mapped => ("mapped", 8.0),
            };
            let label = format!("{} {}", block.name, block.size);
            let label = label.trim();
            let width = (6.4 * label.len() as f64 + 8.0).max(6.0 * f64::from(block.size.ilog2()));
            x += gap;
            svg.rectangle(x, y - BOX / 2.0, HEADER, BOX, "header");
            svg.rectangle(x + HEADER, y - BOX / 2.0, width, BOX, class);
            svg.text(x + HEADER + 4.0, y + 4.0, "small", label);
            x += HEADER + width;
        }
        if scene.grown > 0 {
            svg.text(x + 8.0, y + 4.0, "small", format!("break +{}", scene.grown));
        }
    }
    svg.finish()
}
