//! The calls as a recording for `osmem-strategies`: a line each, pointers by name.

use crate::picture::Story;

pub fn write(story: &Story) -> String {
    // A call that gave or took nothing (NULL), or a pointer that nobody knows, says nothing about placement.
    let lines = story.scenes.iter().map(|scene| scene.recorded.as_str());
    lines.filter(|line| line.contains(" p")).map(|line| format!("{line}\n")).collect()
}
