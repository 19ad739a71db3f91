//! Writes the report of a run: `report.html`, which stands alone, and `report.md`.

use crate::results::Results;
use crate::{html, markdown};
use std::path::Path;

/// Writes both files beside the raw results.
///
/// # Errors
/// A sentence.
pub fn write(results: &Results, folder: &Path) -> Result<(), String> {
    for (name, text) in [("report.html", html::page(results)), ("report.md", markdown::page(results))] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// What went wrong, each once, as sentences.
pub fn failures(results: &Results) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for sample in &results.samples {
        if let Some(reason) = &sample.failed {
            let cell = &sample.cell;
            let face = crate::tables::face_name(cell.face);
            let words =
                format!("{} in {} with {} threads, {face} face: {reason}", cell.allocator, cell.item, cell.threads);
            if !found.contains(&words) {
                found.push(words);
            }
        }
    }
    found
}

/// How many runs the samples of time have, at most.
pub fn runs(results: &Results) -> u32 {
    results.samples.iter().map(|sample| sample.run + 1).max().unwrap_or(0)
}
