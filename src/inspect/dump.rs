//! Hex dumps, with the state of each byte beside it.
//!
//! ```text
//! 7f3c5a410540  000000  48 65 6c 6c 6f 00 00 00 ... 00  |Hello...........|  LLLLLLLLLLLLLLLL
//! address       offset  sixteen bytes                    as ASCII            their states
//! ```
//!
//! States: `L` live, `r` red zone, `g` guard, `p` padding (no block reaches there), `f` free, `.` never touched or returned to the
//! kernel, `m` metadata (the allocator's own tables, and the link in a free block).

use super::blocks::{BlockState, MAX_BLOCKS, walk_blocks};
use super::checked::{each_checked, has_red_zones};
use super::reader::Reader;
use super::records::{Checked, Content, Mapping, Slab, Visitor, Zone};
use super::walk::walk;
use super::{Error, Memory, Root};
use crate::os;
use crate::report::Bytes;
use core::fmt::{self, Write};

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
const LEGEND: &str = "L live, r red zone, g guard, p padding, f free, . never touched or returned, m metadata";

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
    let mut states = [BlockState::Uncarved; MAX_BLOCKS];
    if let Place::Zone(Zone { content: Content::Slab(slab), .. }) = &place {
        let mut places = states.iter_mut();
        let mut each = |_, state| {
            if let Some(place) = places.next() {
                *place = state;
            }
        };
        walk_blocks(memory, root, slab, &mut each, &mut |_| {});
    }
    // Too much for the stack of a thread.
    let len = size_of::<[Inner; MAX_BLOCKS]>().next_multiple_of(os::page_size());
    let table = os::map(len).ok_or(Error::Unwritten)?;
    // SAFETY: fresh memory of that size, which nobody else knows, reads as zeroes: valid, and no block of the checks.
    let inner = unsafe { table.cast::<[Inner; MAX_BLOCKS]>().as_mut() };
    each_checked(memory, root, &mut |found| {
        if let Ok(checked) = found {
            place.take(checked, inner);
        }
    });
    let red_zone = if has_red_zones(memory, root) { root.layout.books.red_zone_bytes as usize } else { 0 };
    let dump = Dump { root, place: &place, states: &states, inner, red_zone };
    let written = dump.write(memory, address, extent, out).map_err(|fmt::Error| Error::Unwritten);
    os::unmap(table, len);
    written
}

/// What an address lies in.
enum Place {
    Zone(Zone),
    Mapping(Mapping),
}

impl Place {
    /// Its first byte, its length, and the size of the blocks in it.
    fn extent(&self) -> (usize, usize, usize) {
        match self {
            Self::Zone(Zone { content: Content::Slab(slab), start, bytes, .. }) => (*start, *bytes, slab.block_size),
            Self::Zone(Zone { start, bytes, .. }) | Self::Mapping(Mapping { start, bytes, .. }) => {
                (*start, *bytes, *bytes)
            }
        }
    }

    /// Notes a block of the checks that lies here.
    fn take(&self, checked: &Checked, inner: &mut [Inner; MAX_BLOCKS]) {
        let (start, bytes, size) = self.extent();
        let offset = checked.base.wrapping_sub(start);
        if offset < bytes
            && size > 0
            && let Some(inner) = inner.get_mut(offset / size)
        {
            let front = checked.start.wrapping_sub(start + offset / size * size);
            let base = offset % size;
            *inner = Inner { base, front, size: checked.size, len: checked.bytes, is_live: checked.is_live };
        }
    }
}

/// A block of the checks within a block of the heap: where its place begins and how long that is, where the program's bytes begin
/// and how many there are, in bytes from the first of the block around it.
#[derive(Clone, Copy)]
struct Inner {
    base: usize,
    len: usize,
    front: usize,
    size: usize,
    is_live: bool,
}

impl Inner {
    /// The letter for a byte of the block around it, with red zones of so many bytes at most.
    fn state(&self, offset: usize, red_zone: usize) -> u8 {
        let end = self.front.saturating_add(self.size);
        if offset.wrapping_sub(self.base) >= self.len {
            return b'p';
        }
        match offset {
            offset if (self.front..end).contains(&offset) => {
                if self.is_live {
                    b'L'
                } else {
                    b'f'
                }
            }
            offset if offset < self.front && self.front - offset <= red_zone => b'r',
            offset if offset >= end && offset - end < red_zone => b'r',
            _ => b'p',
        }
    }
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
    /// What the checks know of the blocks; of a place that is no slab the first.
    inner: &'d [Inner],
    /// Bytes of a red zone, at most; 0 if there are none.
    red_zone: usize,
}

impl Dump<'_> {
    fn write(&self, memory: &dyn Memory, address: usize, extent: Extent, out: &mut dyn Write) -> fmt::Result {
        let (start, bytes, size) = self.place.extent();
        let index = (address - start) / size.max(1);
        if extent == Extent::Block
            && let Some(inner) = self.inner.get(index).filter(|inner| inner.len > 0)
        {
            let (block, what) = (start + index * size, if inner.is_live { "live" } else { "freed, in quarantine" });
            let place = block + inner.base;
            writeln!(
                out,
                "block of {} at {:#x}, {what}; with what the checks put around it {} at {place:#x}",
                Bytes(inner.size),
                block + inner.front,
                Bytes(inner.len),
            )?;
            return self.rows(memory, place, inner.len, out);
        }
        match self.place {
            Place::Zone(Zone { content: Content::Slab(slab), .. }) => {
                if extent == Extent::Block && index < slab.carved {
                    let (start, bytes) = (start + index * slab.block_size, slab.block_size);
                    writeln!(out, "block of {} at {start:#x}, {}", Bytes(bytes), in_words(self.states[index]))?;
                    return self.rows(memory, start, bytes, out);
                }
                let blocks = if slab.capacity == 1 { "block" } else { "blocks" };
                writeln!(out, "slab at {start:#x}, {} {blocks} of {}", slab.capacity, Bytes(slab.block_size))?;
            }
            Place::Zone(Zone { content: Content::Medium, .. }) | Place::Mapping(Mapping { is_live: true, .. }) => {
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
            Place::Mapping(mapping) => {
                return match &self.inner[0] {
                    inner if !mapping.is_guarded && inner.len == 0 => {
                        if mapping.is_live {
                            b'L'
                        } else {
                            b'f'
                        }
                    }
                    inner => match address - mapping.start {
                        offset if mapping.is_guarded && offset.wrapping_sub(inner.base) >= inner.len => b'g',
                        offset => inner.state(offset, self.red_zone),
                    },
                };
            }
        };
        match &zone.content {
            Content::Header => b'm',
            Content::Medium if self.inner[0].len > 0 => self.inner[0].state(address - zone.start, self.red_zone),
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
            Some(BlockState::Live) => match &self.inner[index] {
                inner if inner.len > 0 => inner.state(inside, self.red_zone),
                _ => b'L',
            },
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
pub(super) struct Rows<'r> {
    reader: Reader<'r>,
    out: &'r mut dyn Write,
    indent: &'static str,
}

impl<'r> Rows<'r> {
    pub(super) fn new(memory: &'r dyn Memory, out: &'r mut dyn Write, indent: &'static str) -> Self {
        Self { reader: Reader::new(memory), out, indent }
    }

    pub(super) fn write(&mut self, start: usize, bytes: usize, state: &mut dyn FnMut(usize) -> u8) -> fmt::Result {
        let (mut above, mut starred, mut rows) = (None, false, 0);
        for offset in (0..bytes).step_by(16) {
            if offset >= MOST_READ {
                return writeln!(self.out, "{}and {} more", self.indent, Bytes(bytes - offset));
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
                return writeln!(self.out, "{}and {} more", self.indent, Bytes(bytes - offset));
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
