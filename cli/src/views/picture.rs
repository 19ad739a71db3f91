//! The heap's addresses as lines of 4 MiB, so that equal areas are equal amounts of memory, and the colour of each piece.
//!
//! The page (`map.js`) draws by the same rules.

use crate::snapshot::{Content, Large, Snapshot, Zone};
use clap::ValueEnum;

/// The bytes of a line.
pub const LINE: u64 = 4 << 20;

/// Lines that one mapping has at most: of larger blocks the first 4 GiB are drawn.
const MOST_LINES: u64 = 1024;

/// What the colours tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Colouring {
    /// How much of a slab is in use, and what is free.
    #[default]
    Occupancy,
    /// The size class.
    Class,
    /// How long free memory has been free.
    Age,
    /// The thread cache that owns a slab.
    Owner,
}

impl Colouring {
    /// All of them, in the order in which a person goes through them.
    pub const ALL: [Self; 4] = [Self::Occupancy, Self::Class, Self::Age, Self::Owner];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Occupancy => "occupancy",
            Self::Class => "class",
            Self::Age => "age",
            Self::Owner => "owner",
        }
    }
}

/// Up to 4 MiB of addresses: a segment, or a part of a mapping for large blocks.
pub struct Line<'a> {
    /// Its first byte.
    pub start: u64,
    /// What fills it, by address and without a gap; together at most [`LINE`].
    pub pieces: Vec<Piece<'a>>,
}

/// A part of a line with one use.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes, as far as it lies in the line.
    pub bytes: u64,
    /// What it is a part of.
    pub part: Part<'a>,
}

/// What a piece is a part of.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    Zone(&'a Zone),
    Large(&'a Large),
}

/// All lines: segments by arena, then mappings for large blocks, each by address.
pub fn lines<'a>(snapshot: &'a Snapshot) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for arena in &snapshot.arenas {
        for segment in &arena.segments {
            let piece = |zone: &'a Zone| Piece { start: zone.start, bytes: zone.bytes, part: Part::Zone(zone) };
            let pieces = segment.zones.iter().map(piece).collect();
            if !segment.zones.is_empty() {
                lines.push(Line { start: segment.start, pieces });
            }
        }
    }
    for large in &snapshot.large {
        let mut start = large.start;
        let end = large.start + large.bytes.min(MOST_LINES * LINE);
        while start < end {
            let bytes = LINE.min(end - start);
            let pieces = vec![Piece { start, bytes, part: Part::Large(large) }];
            lines.push(Line { start, pieces });
            start += bytes;
        }
    }
    lines
}

/// Red, green and blue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Colour(pub u8, pub u8, pub u8);

impl std::fmt::Display for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// In use, wholly.
pub const FULL: Colour = Colour(0x1f, 0x78, 0x9b);
/// In use, hardly.
pub const EMPTY: Colour = Colour(0xf2, 0xc1, 0x4e);
/// Free, with memory.
pub const DIRTY: Colour = Colour(0xd9, 0x53, 0x4f);
/// Free, without memory.
pub const CLEAN: Colour = Colour(0xc9, 0xd1, 0xd6);
/// The allocator's tables.
pub const TABLES: Colour = Colour(0x7b, 0x5e, 0xa7);
/// What a colouring says nothing about.
pub const NEUTRAL: Colour = Colour(0x8a, 0x97, 0xa0);

impl Part<'_> {
    /// How long it has been free, in milliseconds.
    pub fn free_ms(self) -> Option<u64> {
        match self {
            Self::Large(large) => large.free_ms,
            Self::Zone(zone) => match &zone.content {
                Content::Slab(slab) => slab.free_ms,
                Content::Dirty { free_ms } => *free_ms,
                _ => None,
            },
        }
    }

    /// The colour in which it is shown.
    pub fn colour(self, by: Colouring) -> Colour {
        let zone = match self {
            Self::Large(large) if !large.is_live => return self.colour_of_free(by, DIRTY),
            Self::Large(_) => return if by == Colouring::Occupancy { FULL } else { NEUTRAL },
            Self::Zone(zone) => zone,
        };
        match (&zone.content, by) {
            (Content::Header, _) => TABLES,
            (Content::Clean | Content::Unknown, _) => CLEAN,
            (Content::Dirty { .. }, _) => self.colour_of_free(by, DIRTY),
            (Content::Medium, Colouring::Occupancy) => FULL,
            (Content::Medium, _) => NEUTRAL,
            (Content::Slab(slab), Colouring::Occupancy) => {
                mix(EMPTY, FULL, f64::from(slab.out) / f64::from(slab.capacity.max(1)))
            }
            (Content::Slab(slab), Colouring::Class) => {
                hue(slab.block_bytes.max(1).ilog2() * 47 + slab.block_bytes as u32 % 97)
            }
            (Content::Slab(_), Colouring::Age) => self.colour_of_free(by, NEUTRAL),
            (Content::Slab(slab), Colouring::Owner) => slab.owner.map_or(NEUTRAL, |owner| hue(owner * 137 + 200)),
        }
    }

    /// By age from a tenth of a second to ten minutes, where that is asked for and known.
    fn colour_of_free(self, by: Colouring, otherwise: Colour) -> Colour {
        match self.free_ms() {
            Some(age) if by == Colouring::Age => mix(EMPTY, DIRTY, ((age.max(100) as f64).log10() - 2.0) / 3.8),
            _ => otherwise,
        }
    }
}

/// From one colour to another; `by` is cut to 0 to 1.
fn mix(from: Colour, to: Colour, by: f64) -> Colour {
    let by = by.clamp(0.0, 1.0);
    let part = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * by).round() as u8;
    Colour(part(from.0, to.0), part(from.1, to.1), part(from.2, to.2))
}

/// A colour of medium lightness by its angle on the wheel, in degrees.
fn hue(degrees: u32) -> Colour {
    let angle = f64::from(degrees % 360) / 60.0;
    let channel = |shift: f64| {
        let place = (angle + shift).rem_euclid(6.0);
        let strength = (place.min(4.0 - place)).clamp(0.0, 1.0);
        (70.0 + 130.0 * strength) as u8
    };
    Colour(channel(2.0), channel(0.0), channel(4.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::sample;

    #[test]
    fn pieces_fill_each_line_and_a_long_mapping_has_several() {
        let snapshot = sample();
        let lines = lines(&snapshot);
        for line in &lines {
            let mut at = line.start;
            for piece in &line.pieces {
                assert_eq!(piece.start, at);
                at += piece.bytes;
            }
            let is_segment = matches!(line.pieces[0].part, Part::Zone(_));
            assert!(if is_segment { at == line.start + LINE } else { at <= line.start + LINE });
        }
        let of_first = lines
            .iter()
            .filter(|line| matches!(line.pieces[0].part, Part::Large(large) if large.start == snapshot.large[0].start));
        assert_eq!(of_first.map(|line| line.pieces[0].bytes).collect::<Vec<_>>(), [4 << 20, 2 << 20]);
    }

    #[test]
    fn of_a_huge_block_the_first_lines_are_drawn() {
        let mut snapshot = sample();
        let before = lines(&snapshot).len();
        snapshot.large[0].bytes = 1 << 46;
        assert_eq!(lines(&snapshot).len(), before - 2 + MOST_LINES as usize);
    }

    #[test]
    fn a_slab_is_the_bluer_the_fuller_it_is() {
        let snapshot = sample();
        let mut zone =
            crate::ledger::zones(&snapshot).find(|zone| matches!(zone.content, Content::Slab(_))).unwrap().clone();
        let mut with = |out| {
            let Content::Slab(slab) = &mut zone.content else { unreachable!() };
            slab.out = out * slab.capacity / 4;
            Part::Zone(&zone).colour(Colouring::Occupancy)
        };
        let [empty, half, full] = [0, 2, 4].map(&mut with);
        assert_eq!((empty, full), (EMPTY, FULL));
        assert!(empty.2 < half.2 && half.2 < full.2);
    }

    #[test]
    fn the_wheel_passes_through_the_six_colours() {
        let strong = [0, 60, 120, 180, 240, 300].map(|degrees| {
            let Colour(red, green, blue) = hue(degrees);
            [red, green, blue].map(|channel| channel > 100)
        });
        let (on, off) = (true, false);
        let wanted = [[on, off, off], [on, on, off], [off, on, off], [off, on, on], [off, off, on], [on, off, on]];
        assert_eq!(strong, wanted);
    }
}
