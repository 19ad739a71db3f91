//! How a look at a process is shown: each form is a module, and none of them knows where the look came from.

pub mod html;
pub mod live;
pub mod picture;
pub mod svg;
pub mod text;
pub mod top;
pub mod why;

use crate::snapshot::Snapshot;
use std::fmt::{self, Write};

/// The whole look, on one line.
pub fn json(snapshot: &Snapshot) -> String {
    serde_json::to_string(snapshot).unwrap_or_else(|error| unreachable!("numbers and strings can be written: {error}"))
}

/// Ends a text with what could not be read or did not fit.
fn write_notes(text: &mut String, snapshot: &Snapshot) -> fmt::Result {
    if !snapshot.process.is_residency_exact {
        writeln!(text, "\nWhich pages are in memory was not to be learned; what the file holds counts as resident.")?;
    }
    snapshot.notes.iter().try_for_each(|note| write!(text, "\nNote: {note}"))?;
    if snapshot.notes.is_empty() { Ok(()) } else { writeln!(text) }
}

/// Compares a text with the file that says how it should be; with `BLESS=1` in the environment writes the file anew.
#[cfg(test)]
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect").join(name);
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    if text != wanted && std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        panic!("{name} was written anew: look at it");
    }
    assert!(text == wanted, "{name} differs (BLESS=1 writes it anew); now it is:\n{text}");
}
