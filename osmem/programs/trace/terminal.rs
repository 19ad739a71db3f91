//! A call and its boxes as one line of text, wider boxes for larger blocks.

use crate::picture::{Box, Kind, Scene};

/// Columns for the call, and for the boxes; what does not fit is counted.
const CALL: usize = 30;
const BOXES: usize = 150;

pub fn line(scene: &Scene, color: bool) -> String {
    let mut line = format!("{:CALL$} ", scene.call);
    let mut used = 0;
    for (i, block) in scene.boxes.iter().enumerate() {
        let text = boxed(block);
        used += text.chars().count();
        if used > BOXES {
            line += &format!(" and {} more", scene.boxes.len() - i);
            break;
        }
        line += &if color { format!("\x1b[{}m{text}\x1b[0m", code(block.kind)) } else { text };
    }
    if scene.grown > 0 {
        line += &format!("  break +{}", scene.grown);
    }
    line
}

/// A column more for each doubling of the size.
fn boxed(block: &Box) -> String {
    let (left, right) = match block.kind {
        Kind::Used => ('[', ']'),
        Kind::Free => ('(', ')'),
        Kind::Mapped => ('{', '}'),
    };
    let label = format!("{} {}", block.name, block.size);
    let width = block.size.ilog2() as usize + 1;
    format!("{left}{:^width$}{right}", label.trim())
}

/// Black on green, on light grey, and on blue.
fn code(kind: Kind) -> &'static str {
    match kind {
        Kind::Used => "30;42",
        Kind::Free => "30;47",
        Kind::Mapped => "30;46",
    }
}
