//! The heap as text: its zones and blocks with their totals.

use super::blocks::{BlockState, walk_blocks};
use super::dump::Rows;
use super::records::{Arena, Cache, Checked, Content, Mapping, Process, Segment, Slab, Trouble, Visitor, Zone};
use super::walk::walk;
use super::{Error, Memory, Root};
use crate::report;
use crate::statistics::Bytes;
use core::fmt::{self, Write};

/// How much of the heap is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Arenas, segments, zones, mappings and totals.
    Zones,
    /// Each live block, too.
    Blocks,
    /// The first 64 bytes of each live block, too.
    Dumps,
}

/// Bytes of each live block that [`Detail::Dumps`] shows.
const SHOWN_BYTES: usize = 64;
/// The owners of slabs are named by number as far as there is room to remember them.
const REMEMBERED: usize = 64;

/// Writes the zones of a heap by address, the blocks if asked for, and the totals.
///
/// # Errors
/// When the text cannot be written.
pub fn write_map(memory: &dyn Memory, root: &Root, detail: Detail, out: &mut dyn Write) -> Result<(), Error> {
    let mut map =
        Map { memory, root, detail, out, owners: [0; REMEMBERED], caches: 0, totals: Totals::default(), done: Ok(()) };
    walk(memory, root, &mut map);
    let totals = map.totals;
    if let [(live, live_bytes), (kept, kept_bytes)] = totals.checked
        && live + kept > 0
    {
        map.write(format_args!(
            "checks: {} asked for in {}, {} in quarantine in {}; each with what lies around it is a live block above\n",
            Bytes::close(live_bytes),
            Blocks(live),
            Bytes::close(kept_bytes),
            Blocks(kept),
        ));
    }
    map.write(format_args!(
        "total: {} live in {}, {} free, {} in segments, {} mapped for large blocks\n",
        Bytes::close(totals.live),
        Blocks(totals.blocks),
        Bytes::close(totals.free),
        Bytes::close(totals.segments),
        Bytes::close(totals.large),
    ));
    map.done.map_err(|fmt::Error| Error::Unwritten)
}

/// A number of blocks, in words.
struct Blocks(usize);

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} block{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

#[derive(Clone, Copy, Default)]
struct Totals {
    live: usize,
    blocks: usize,
    free: usize,
    segments: usize,
    large: usize,
    /// Blocks that the checks know and the bytes that were asked for: those of the program, and those in quarantine.
    checked: [(usize, usize); 2],
}

struct Map<'m> {
    memory: &'m dyn Memory,
    root: &'m Root,
    detail: Detail,
    out: &'m mut dyn Write,
    /// Where the caches lie that were made first.
    owners: [usize; REMEMBERED],
    caches: usize,
    totals: Totals,
    /// The first failure ends all writing.
    done: fmt::Result,
}

impl Map<'_> {
    fn write(&mut self, text: fmt::Arguments<'_>) {
        if self.done.is_ok() {
            self.done = self.out.write_fmt(text);
        }
    }

    fn count(&mut self, bytes: usize, blocks: usize, all: usize) {
        self.totals.live += bytes;
        self.totals.blocks += blocks;
        self.totals.free += all - bytes;
    }

    fn slab(&mut self, slab: &Slab) {
        let (mut live, mut cached) = (0, 0);
        let Self { memory, root, .. } = *self;
        let mut troubles = 0;
        let mut count = |_, state| match state {
            BlockState::Live => live += 1,
            BlockState::Cached | BlockState::Arriving => cached += 1,
            _ => {}
        };
        walk_blocks(memory, root, slab, &mut count, &mut |_| troubles += 1);
        self.count(live * slab.block_size, live, slab.bytes);
        let owner = self.owners.iter().position(|&owner| owner == slab.owner);
        self.write(format_args!(
            "slab   {:>6} B  {live:>5} live {:>5} free {cached:>5} cached of {:>5}",
            slab.block_size,
            slab.listed + slab.bare,
            slab.capacity,
        ));
        match owner {
            Some(number) => self.write(format_args!("  cache {number}\n")),
            None => self.write(format_args!("  cache {:#x}\n", slab.owner)),
        }
        if troubles > 0 {
            let chains = if troubles == 1 { "chain" } else { "chains" };
            self.write(format_args!("      {troubles} {chains} of this slab's blocks could not be followed\n"));
        }
        if self.detail != Detail::Zones {
            let mut each = |start, state| {
                if state == BlockState::Live {
                    self.block(start, slab.block_size);
                }
            };
            walk_blocks(memory, root, slab, &mut each, &mut |_| {});
        }
    }

    fn block(&mut self, start: usize, bytes: usize) {
        self.write(format_args!("      {start:#014x} - {:#014x}  {}\n", start + bytes, report::Bytes(bytes)));
        if self.detail == Detail::Dumps && self.done.is_ok() {
            let memory = self.memory;
            let mut rows = Rows::new(memory, self.out, "        ");
            self.done = rows.write(start, bytes.min(SHOWN_BYTES), &mut |_| b'L');
        }
    }

    fn block_of_pages(&mut self, start: usize, bytes: usize) {
        self.count(bytes, 1, bytes);
        if self.detail != Detail::Zones {
            self.block(start, bytes);
        }
    }
}

impl Visitor for Map<'_> {
    fn process(&mut self, process: &Process) {
        let Process { caches, metadata_bytes, .. } = *process;
        self.write(format_args!("caches {caches}, metadata {}\n", Bytes::close(metadata_bytes)));
    }

    fn arena(&mut self, arena: &Arena) {
        self.write(format_args!(
            "arena {}: {} segment{}; {} in free runs, {} of that used before\n",
            arena.number,
            arena.segments,
            if arena.segments == 1 { "" } else { "s" },
            Bytes::close(arena.free_bytes),
            Bytes::close(arena.dirty_bytes),
        ));
    }

    fn cache(&mut self, cache: &Cache<'_>) {
        if let Some(place) = self.owners.get_mut(cache.number) {
            *place = cache.address;
        }
        self.caches += 1;
    }

    fn segment(&mut self, segment: &Segment) {
        self.totals.segments += segment.bytes;
        let (start, end) = (segment.start, segment.start + segment.bytes);
        let source = if segment.from_break { ", from the break" } else { "" };
        self.write(format_args!("segment {start:#014x} - {end:#014x}, arena {}{source}\n", segment.arena));
    }

    fn zone(&mut self, zone: &Zone) {
        self.write(format_args!("  {:#014x} - {:#014x} {}  ", zone.start, zone.start + zone.bytes, Bytes(zone.bytes)));
        match &zone.content {
            Content::Header => self.write(format_args!("header\n")),
            Content::Slab(slab) => self.slab(slab),
            Content::Medium => {
                self.write(format_args!("medium\n"));
                self.block_of_pages(zone.start, zone.bytes);
            }
            Content::Free { dirty, at_hand, .. } => {
                self.count(0, 0, zone.bytes);
                let what = match (at_hand, dirty) {
                    (true, _) => "at a thread's hand",
                    (false, true) => "used before",
                    (false, false) => "without memory",
                };
                self.write(format_args!("free, {what}\n"));
            }
            Content::Unknown => self.write(format_args!("unknown\n")),
        }
    }

    fn mapping(&mut self, mapping: &Mapping) {
        let (start, bytes) = (mapping.start, mapping.bytes);
        self.totals.large += bytes;
        let what = match (mapping.is_guarded, mapping.is_live) {
            (false, true) => "large",
            (false, false) => "freed, kept for reuse",
            (true, true) => "large, between guard pages",
            (true, false) => "freed, in quarantine",
        };
        self.write(format_args!("mapping {start:#014x} - {:#014x} {}  {what}\n", start + bytes, Bytes(bytes)));
        if mapping.is_guarded {
            // The block itself is told of next.
        } else if mapping.is_live {
            self.block_of_pages(start, bytes);
        } else {
            self.count(0, 0, bytes);
        }
    }

    fn checked(&mut self, checked: &Checked) {
        let totals = &mut self.totals.checked[usize::from(!checked.is_live)];
        *totals = (totals.0 + 1, totals.1 + checked.size);
        if checked.mapping.is_none() {
            return;
        }
        self.count(if checked.is_live { checked.bytes } else { 0 }, usize::from(checked.is_live), checked.bytes);
        if checked.is_live && self.detail != Detail::Zones {
            self.block(checked.start, checked.size);
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        self.write(format_args!("note: {trouble}\n"));
    }
}
