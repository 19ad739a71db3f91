//! The heap as text: its zones and blocks with their totals, and hex dumps with the state of each byte beside it.
//!
//! ```text
//! 7f3c5a410540  000000  48 65 6c 6c 6f 00 00 00 ... 00  |Hello...........|  LLLLLLLLLLLLLLLL
//! address       offset  sixteen bytes                    as ASCII            their states
//! ```
//!
//! States: `L` live, `p` padding (no block reaches there), `f` free, `.` never touched or returned to the kernel, `m` metadata
//! (the allocator's own tables, and the link in a free block).

use super::blocks::{BlockState, walk_blocks};
use super::reader::Reader;
use super::records::{Arena, Cache, Content, Mapping, Process, Segment, Slab, Trouble, Visitor, Zone};
use super::walk::walk;
use super::{Error, Memory, Root};
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

/// What a dump shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The block that the address lies in; where there is none, the zone.
    Block,
    /// The zone, such as a slab, that the address lies in.
    Zone,
}

/// A dump has no more rows than this; what is left out is counted.
const MAX_ROWS: usize = 4096;
/// Bytes of each live block that [`Detail::Dumps`] shows.
const SHOWN_BYTES: usize = 64;
/// The owners of slabs are named by number as far as there is room to remember them.
const REMEMBERED: usize = 64;
const LEGEND: &str = "L live, p padding, f free, . never touched or returned, m metadata";

/// Writes the zones of a heap by address, the blocks if asked for, and the totals.
///
/// # Errors
/// When the text cannot be written.
pub fn write_map(memory: &dyn Memory, root: &Root, detail: Detail, out: &mut dyn Write) -> Result<(), Error> {
    let mut map =
        Map { memory, root, detail, out, owners: [0; REMEMBERED], caches: 0, totals: Totals::default(), done: Ok(()) };
    walk(memory, root, &mut map);
    let totals = map.totals;
    map.write(format_args!(
        "total: {} live in {} blocks, {} free, {} in segments, {} mapped for large blocks\n",
        Bytes::close(totals.live),
        totals.blocks,
        Bytes::close(totals.free),
        Bytes::close(totals.segments),
        Bytes::close(totals.large),
    ));
    map.done.map_err(|fmt::Error| Error::Unwritten)
}

#[derive(Clone, Copy, Default)]
struct Totals {
    live: usize,
    blocks: usize,
    free: usize,
    segments: usize,
    large: usize,
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
            self.write(format_args!("      {troubles} chains of this slab's blocks could not be followed\n"));
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
        self.write(format_args!("      {start:#014x} - {:#014x}  {bytes} bytes\n", start + bytes));
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
            "arena {}: {} segments; {} in free runs, {} of that used before\n",
            arena.number,
            arena.segments,
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
            Content::Free { dirty, .. } => {
                self.count(0, 0, zone.bytes);
                self.write(format_args!("free, {}\n", if *dirty { "used before" } else { "without memory" }));
            }
            Content::Unknown => self.write(format_args!("unknown\n")),
        }
    }

    fn mapping(&mut self, mapping: &Mapping) {
        let (start, bytes) = (mapping.start, mapping.bytes);
        self.totals.large += bytes;
        let what = if mapping.freed.is_none() { "large" } else { "freed, kept for reuse" };
        self.write(format_args!("mapping {start:#014x} - {:#014x} {}  {what}\n", start + bytes, Bytes(bytes)));
        if mapping.freed.is_none() {
            self.block_of_pages(start, bytes);
        } else {
            self.count(0, 0, bytes);
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        self.write(format_args!("note: {trouble}\n"));
    }
}

/// Writes a dump of what lies at an address of the heap, with a line above that says what it is, and the legend below.
///
/// # Errors
/// When there is nothing of the heap at the address, or the text cannot be written.
pub fn write_dump(
    memory: &dyn Memory,
    root: &Root,
    address: usize,
    extent: Extent,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut finder = Finder { address, found: None };
    walk(memory, root, &mut finder);
    let place = finder.found.ok_or(Error::NoHeap(address))?;
    let mut states = [BlockState::Uncarved; super::blocks::MAX_BLOCKS];
    if let Place::Zone(Zone { content: Content::Slab(slab), .. }) = &place {
        let mut places = states.iter_mut();
        let mut each = |_, state| {
            if let Some(place) = places.next() {
                *place = state;
            }
        };
        walk_blocks(memory, root, slab, &mut each, &mut |_| {});
    }
    let dump = Dump { root, place: &place, states: &states };
    dump.write(memory, address, extent, out).map_err(|fmt::Error| Error::Unwritten)
}

/// What an address lies in.
enum Place {
    Zone(Zone),
    Mapping(Mapping),
}

struct Finder {
    address: usize,
    found: Option<Place>,
}

impl Visitor for Finder {
    fn zone(&mut self, zone: &Zone) {
        if (zone.start..zone.start + zone.bytes).contains(&self.address) {
            self.found = Some(Place::Zone(*zone));
        }
    }

    fn mapping(&mut self, mapping: &Mapping) {
        if (mapping.start..mapping.start + mapping.bytes).contains(&self.address) {
            self.found = Some(Place::Mapping(*mapping));
        }
    }
}

struct Dump<'d> {
    root: &'d Root,
    place: &'d Place,
    /// Of the blocks, if the place is a slab.
    states: &'d [BlockState],
}

impl Dump<'_> {
    fn write(&self, memory: &dyn Memory, address: usize, extent: Extent, out: &mut dyn Write) -> fmt::Result {
        let (start, bytes) = match self.place {
            Place::Zone(zone) => (zone.start, zone.bytes),
            Place::Mapping(mapping) => (mapping.start, mapping.bytes),
        };
        match self.place {
            Place::Zone(Zone { content: Content::Slab(slab), .. }) => {
                let index = (address - start) / slab.block_size;
                if extent == Extent::Block && index < slab.carved {
                    let (start, bytes) = (start + index * slab.block_size, slab.block_size);
                    writeln!(out, "block of {bytes} bytes at {start:#x}, {}", in_words(self.states[index]))?;
                    return self.rows(memory, start, bytes, out);
                }
                writeln!(out, "slab at {start:#x}, {} blocks of {} bytes", slab.capacity, slab.block_size)?;
            }
            Place::Zone(Zone { content: Content::Medium, .. }) | Place::Mapping(Mapping { freed: None, .. }) => {
                writeln!(out, "block of {bytes} bytes at {start:#x}, live")?;
            }
            Place::Zone(Zone { content: Content::Header, .. }) => writeln!(out, "header of the segment at {start:#x}")?,
            _ => writeln!(out, "{bytes} bytes of free memory at {start:#x}")?,
        }
        self.rows(memory, start, bytes, out)
    }

    fn rows(&self, memory: &dyn Memory, start: usize, bytes: usize, out: &mut dyn Write) -> fmt::Result {
        Rows::new(memory, out, "").write(start, bytes, &mut |address| self.state(address))?;
        writeln!(out, "{LEGEND}")
    }

    /// The letter for a byte.
    fn state(&self, address: usize) -> u8 {
        let zone = match self.place {
            Place::Zone(zone) => zone,
            Place::Mapping(mapping) => return if mapping.freed.is_none() { b'L' } else { b'f' },
        };
        match &zone.content {
            Content::Header => b'm',
            Content::Medium => b'L',
            Content::Free { dirty: true, .. } => b'f',
            Content::Free { .. } => b'.',
            Content::Slab(slab) => self.state_in_slab(slab, address - slab.start),
            Content::Unknown => b'?',
        }
    }

    fn state_in_slab(&self, slab: &Slab, offset: usize) -> u8 {
        let (index, inside) = (offset / slab.block_size, offset % slab.block_size);
        let page = offset / self.root.layout.segment.page as usize;
        match self.states.get(index).filter(|_| index < slab.capacity) {
            None => b'p',
            Some(BlockState::Live) => b'L',
            Some(BlockState::Uncarved) => b'.',
            Some(BlockState::Bare) if page < 64 && slab.bare_pages >> page & 1 != 0 => b'.',
            Some(BlockState::Bare) => b'f',
            Some(_) if inside < size_of::<usize>() => b'm',
            Some(_) => b'f',
        }
    }
}

fn in_words(state: BlockState) -> &'static str {
    match state {
        BlockState::Live => "live",
        BlockState::Cached => "free, in a thread's hands",
        BlockState::Arriving => "free, sent home by another thread",
        BlockState::Listed => "free, on its slab's list",
        BlockState::Bare => "free, its memory returned to the kernel",
        BlockState::Uncarved => "never made",
    }
}

/// What a dump looks at, at most, in bytes: rows that are left out have to be read as well.
const MOST_READ: usize = 16 << 20;

/// Rows of sixteen bytes. Rows like the one above are left out, as a line with a star.
struct Rows<'r> {
    reader: Reader<'r>,
    out: &'r mut dyn Write,
    indent: &'static str,
}

impl<'r> Rows<'r> {
    fn new(memory: &'r dyn Memory, out: &'r mut dyn Write, indent: &'static str) -> Self {
        Self { reader: Reader::new(memory), out, indent }
    }

    fn write(&mut self, start: usize, bytes: usize, state: &mut dyn FnMut(usize) -> u8) -> fmt::Result {
        let (mut above, mut starred, mut rows) = (None, false, 0);
        for offset in (0..bytes).step_by(16) {
            if offset >= MOST_READ {
                return writeln!(self.out, "{}and {} bytes more", self.indent, bytes - offset);
            }
            let (at, len) = (start + offset, (bytes - offset).min(16));
            let mut row = [(None, b' '); 16];
            for (index, cell) in row[..len].iter_mut().enumerate() {
                *cell = (self.reader.u8(at + index, 0).ok(), state(at + index));
            }
            if above == Some(row) && offset + 16 < bytes {
                if !starred {
                    writeln!(self.out, "{}*", self.indent)?;
                    starred = true;
                }
                continue;
            }
            (above, starred, rows) = (Some(row), false, rows + 1);
            if rows > MAX_ROWS {
                return writeln!(self.out, "{}and {} bytes more", self.indent, bytes - offset);
            }
            self.row(at, offset, &row[..len])?;
        }
        Ok(())
    }

    fn row(&mut self, address: usize, offset: usize, row: &[(Option<u8>, u8)]) -> fmt::Result {
        write!(self.out, "{}{address:012x}  {offset:06x} ", self.indent)?;
        for index in 0..16 {
            let gap = if index == 8 { " " } else { "" };
            match row.get(index) {
                Some((Some(byte), _)) => write!(self.out, "{gap} {byte:02x}")?,
                Some((None, _)) => write!(self.out, "{gap} ??")?,
                None => write!(self.out, "{gap}   ")?,
            }
        }
        self.out.write_str("  |")?;
        for index in 0..16 {
            let byte = row.get(index).map(|(byte, _)| byte.unwrap_or(b'?'));
            self.out.write_char(match byte {
                Some(byte @ b' '..=b'~') => char::from(byte),
                Some(_) => '.',
                None => ' ',
            })?;
        }
        self.out.write_str("|  ")?;
        row.iter().try_for_each(|&(_, state)| self.out.write_char(char::from(state)))?;
        self.out.write_str("\n")
    }
}
