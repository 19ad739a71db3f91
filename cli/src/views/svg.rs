//! `terrace map --svg`: the map as a picture, with the ledger as a bar above it.

use super::picture::{self, Colour, Colouring, Part};
use crate::ledger::Ledger;
use crate::snapshot::{Content, Snapshot};
use crate::units::{Many, Milliseconds, Share, Size};
use std::fmt::{self, Write};

/// Where the lines begin, and how long a whole one is, in user units.
const LEFT: f64 = 150.0;
const LENGTH: f64 = 900.0;
const WIDTH: f64 = LEFT + LENGTH + 20.0;
/// Where the first line stands.
const TOP: f64 = 112.0;

/// The picture as the text of an SVG file.
pub fn picture(snapshot: &Snapshot, colouring: Colouring) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_picture(&mut text, snapshot, colouring);
    text
}

fn write_picture(text: &mut String, snapshot: &Snapshot, colouring: Colouring) -> fmt::Result {
    let lines = picture::lines(snapshot);
    // Many lines are thin ones, so that the picture stays one that can be looked at.
    let pitch = (2400.0 / lines.len().max(1) as f64).clamp(4.0, 24.0);
    let height = TOP + pitch * lines.len() as f64 + 16.0;
    writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"ui-monospace, monospace\" \
         font-size=\"11\">\n\
         <style>rect.page{{fill:#fff}}text{{fill:#1d2730}}\
         @media(prefers-color-scheme:dark){{rect.page{{fill:#14191d}}text{{fill:#dbe3e8}}}}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\"/>"
    )?;
    let process = &snapshot.process;
    writeln!(
        text,
        "<text x=\"20\" y=\"24\" font-size=\"15\">{} (process {}): {} resident; colour by {}</text>",
        Escaped(&process.name),
        process.pid,
        Size(process.resident_bytes),
        colouring.name()
    )?;
    write_ledger(text, &Ledger::of(snapshot))?;
    for (index, line) in lines.iter().enumerate() {
        let y = TOP + pitch * index as f64;
        if pitch >= 11.0 || index % (11.0 / pitch).ceil() as usize == 0 {
            writeln!(text, "<text x=\"20\" y=\"{:.1}\">{:#x}</text>", y + pitch.min(18.0) * 0.7, line.start)?;
        }
        for piece in &line.pieces {
            let x = LEFT + (piece.start - line.start) as f64 / picture::LINE as f64 * LENGTH;
            let width = piece.bytes as f64 / picture::LINE as f64 * LENGTH;
            write_rectangle(text, [x, y, width, pitch * 0.85], piece.part.colour(colouring), &title(piece.part))?;
        }
    }
    writeln!(text, "</svg>")
}

/// The accounts of resident memory, each with its colour.
pub fn accounts(ledger: &Ledger) -> [(&'static str, u64, Colour); 6] {
    [
        ("held by the program", ledger.live(), picture::FULL),
        ("thread caches", ledger.caches(), Colour(0x4f, 0xa3, 0x6c)),
        ("fragmentation", ledger.fragmentation(), picture::EMPTY),
        ("free, soon returned", ledger.decaying(), picture::DIRTY),
        ("allocator's tables", ledger.metadata + ledger.stray, picture::TABLES),
        ("not the heap", ledger.outside(), picture::NEUTRAL),
    ]
}

fn write_ledger(text: &mut String, ledger: &Ledger) -> fmt::Result {
    let accounts = accounts(ledger);
    let whole: u64 = accounts.iter().map(|account| account.1).sum();
    let mut x = 20.0;
    for (index, &(name, bytes, colour)) in accounts.iter().enumerate() {
        let width = bytes as f64 / whole.max(1) as f64 * (WIDTH - 40.0);
        let words = format!("{name}: {} ({})", Size(bytes), Share(bytes, whole));
        write_rectangle(text, [x, 36.0, width, 18.0], colour, &words)?;
        x += width;
        let (column, row) = (index % 3, index / 3);
        let (left, top) = (20.0 + column as f64 * 345.0, 64.0 + row as f64 * 18.0);
        write_rectangle(text, [left, top, 10.0, 10.0], colour, name)?;
        writeln!(text, "<text x=\"{:.0}\" y=\"{:.0}\">{words}</text>", left + 16.0, top + 9.0)?;
    }
    Ok(())
}

fn write_rectangle(text: &mut String, place: [f64; 4], colour: Colour, title: &str) -> fmt::Result {
    let [x, y, width, height] = place;
    writeln!(
        text,
        "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{colour}\"><title>{}</title></rect>",
        Escaped(title)
    )
}

/// What a piece is, in a line.
pub fn title(part: Part<'_>) -> String {
    let (start, bytes, resident, what) = match part {
        Part::Large(large) => (
            large.start,
            large.bytes,
            large.resident_bytes,
            match (large.is_live, large.is_guarded) {
                (true, false) => "a large block",
                (true, true) => "a large block between guard pages",
                (false, false) => "large, freed",
                (false, true) => "large, freed, in quarantine",
            }
            .to_owned(),
        ),
        Part::Zone(zone) => {
            let what = match &zone.content {
                Content::Slab(slab) => format!(
                    "slab of {} bytes, {} of {} out ({}), {} listed, {} bare, owner {}",
                    slab.block_bytes,
                    slab.out,
                    Many(slab.capacity.into(), "block"),
                    Share(slab.out.into(), slab.capacity.into()),
                    slab.listed,
                    slab.bare,
                    slab.owner.map_or_else(|| "unknown".to_owned(), |owner| format!("cache {owner}")),
                ),
                Content::Header => "the segment's tables".to_owned(),
                Content::Medium => "a medium block".to_owned(),
                Content::Dirty { .. } => "free pages, kept for reuse".to_owned(),
                Content::Clean => "free pages without memory".to_owned(),
                Content::Unknown => "unknown".to_owned(),
            };
            (zone.start, zone.bytes, zone.resident_bytes, what)
        }
    };
    let age = part.free_ms().map_or_else(String::new, |age| format!(", free for {}", Milliseconds(age)));
    format!("{start:#x}: {what}, {} ({} resident){age}", Size(bytes), Size(resident))
}

/// Text as markup shows it.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            // No control character may stand in a document, not even as a reference.
            control if control.is_control() => f.write_char('\u{fffd}'),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;

    #[test]
    fn each_zone_and_mapping_is_drawn_in_its_place_with_what_it_is() {
        let snapshot = sample();
        let text = picture(&snapshot, Colouring::Occupancy);
        let zone = &snapshot.arenas[0].segments[1].zones[1];
        let place = format!("<rect x=\"{:.2}\" y=\"{:.2}\"", LEFT + LENGTH / 64.0, TOP + 24.0);
        let line = text.lines().find(|line| line.contains(&format!("<title>{:#x}: ", zone.start))).unwrap();
        assert!(line.starts_with(&place), "{line} should begin with {place}");
        let pieces: usize = picture::lines(&snapshot).iter().map(|line| line.pieces.len()).sum();
        assert_eq!(text.matches("<title>0x").count(), pieces);
    }

    #[test]
    fn a_name_cannot_become_markup() {
        let mut snapshot = sample();
        snapshot.process.name = "<b>&\"\u{1}".to_owned();
        let text = picture(&snapshot, Colouring::Class);
        assert!(text.contains(">&lt;b&gt;&amp;&quot;\u{fffd} (process 4711)"), "{}", &text[..600]);
    }
}
