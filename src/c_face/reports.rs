//! What the C face says of the heap: `mallinfo`, `malloc_stats`, `malloc_info`.

use crate::arena::{ARENAS, ArenaTotals, MAX_ARENAS, PAGE};
use crate::exposition;
use crate::history;
use crate::inspect::{self, Detail, Extent};
use crate::os;
use crate::statistics::{self, Statistics, statistics};
use core::fmt::{self, Write};

/// `struct mallinfo2`. Sizes in bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs, reason = "the fields are those of mallinfo(3)")]
pub struct Mallinfo2 {
    /// What the arenas have mapped, and the allocator's own structures.
    pub arena: usize,
    /// Free runs of pages.
    pub ordblks: usize,
    /// Free blocks in magazines.
    pub smblks: usize,
    /// Blocks with a mapping of their own, and their bytes.
    pub hblks: usize,
    pub hblkhd: usize,
    /// Always 0, as in glibc.
    pub usmblks: usize,
    /// Bytes in magazines.
    pub fsmblks: usize,
    /// Bytes of blocks in use, but for those with a mapping of their own.
    pub uordblks: usize,
    /// The rest of `arena`.
    pub fordblks: usize,
    /// Bytes of free runs that a trim would return.
    pub keepcost: usize,
}

/// `struct mallinfo`: the same in the type `int`; what is larger is given as the largest.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the fields are those of mallinfo2")]
pub struct Mallinfo {
    pub arena: i32,
    pub ordblks: i32,
    pub smblks: i32,
    pub hblks: i32,
    pub hblkhd: i32,
    pub usmblks: i32,
    pub fsmblks: i32,
    pub uordblks: i32,
    pub fordblks: i32,
    pub keepcost: i32,
}

impl From<Mallinfo2> for Mallinfo {
    fn from(wide: Mallinfo2) -> Self {
        let narrow = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        Self {
            arena: narrow(wide.arena),
            ordblks: narrow(wide.ordblks),
            smblks: narrow(wide.smblks),
            hblks: narrow(wide.hblks),
            hblkhd: narrow(wide.hblkhd),
            usmblks: narrow(wide.usmblks),
            fsmblks: narrow(wide.fsmblks),
            uordblks: narrow(wide.uordblks),
            fordblks: narrow(wide.fordblks),
            keepcost: narrow(wide.keepcost),
        }
    }
}

/// `mallinfo2`.
pub fn mallinfo2() -> Mallinfo2 {
    let found = statistics();
    let (hblks, hblkhd) = found.large;
    let arena = found.mapped_bytes - hblkhd - found.large_cached_bytes;
    let uordblks = (found.live_bytes - hblkhd).min(arena);
    Mallinfo2 {
        arena,
        ordblks: ARENAS.each().map(|(_, totals)| totals.free_runs).sum(),
        smblks: blocks_at_hand(&found),
        hblks,
        hblkhd,
        usmblks: 0,
        fsmblks: found.cached_bytes,
        uordblks,
        fordblks: arena - uordblks,
        keepcost: found.dirty_bytes,
    }
}

fn blocks_at_hand(found: &Statistics) -> usize {
    found.classes.iter().map(|class| class.cached).sum()
}

/// `malloc_stats`: the statistics as text, on standard error.
pub fn malloc_stats() {
    statistics::print(os::write_standard_error);
}

/// `malloc_info`: the statistics as XML. 0; or -1 with `errno` at `EINVAL` if `options` is not 0, or as the stream set it.
///
/// # Safety
/// `stream` must be an open stream of the C library's.
pub unsafe fn malloc_info(options: i32, stream: *mut libc::FILE) -> i32 {
    if options != 0 {
        os::set_errno(libc::EINVAL);
        return -1;
    }
    // Everything is gathered before the first byte is written: the stream may allocate.
    let found = statistics();
    let mut arenas = [(0, ArenaTotals::default()); MAX_ARENAS];
    let mut count = 0;
    for (place, arena) in arenas.iter_mut().zip(ARENAS.each()) {
        *place = arena;
        count += 1;
    }
    let document = Document { found: &found, arenas: &arenas[..count] };
    if write!(Stream(stream), "{document}").is_ok() { 0 } else { -1 }
}

/// Writes to an open file by `write`, without a buffer of the heap's: whether all of it was written. Keeps `errno` if so.
fn to_file(file: i32, write: impl FnOnce(&mut os::FileWriter) -> bool) -> bool {
    let mut out = os::FileWriter::new(file);
    write(&mut out) & out.finish().is_ok()
}

/// `show_alloc_mem`: the zones and their live blocks with the totals, on standard output.
pub fn show_alloc_mem() {
    to_file(libc::STDOUT_FILENO, |out| said(out, |out| inspect::write_own_map(Detail::Blocks, out)));
}

/// `show_alloc_mem_ex`: the same with the first bytes of each block, and then the history.
pub fn show_alloc_mem_ex() {
    to_file(libc::STDOUT_FILENO, |out| {
        said(out, |out| inspect::write_own_map(Detail::Dumps, out)) & (history::write(out).is_ok())
    });
}

/// `terrace_dump`: the block, or the zone, that an address lies in, as hexadecimal numbers on standard output. 0; or -1 with
/// `errno` at `EINVAL` if there is nothing of the heap.
pub fn dump(address: *const u8) -> i32 {
    let done =
        to_file(libc::STDOUT_FILENO, |out| said(out, |out| inspect::write_own_dump(address, Extent::Block, out)));
    if !done {
        os::set_errno(libc::EINVAL);
        return -1;
    }
    0
}

/// `terrace_stats_json`: the statistics as JSON. Whether all of it was written.
pub fn stats_json(file: i32) -> bool {
    to_file(file, |out| exposition::write_statistics_json(out).is_ok())
}

/// `terrace_stats_prometheus`: the statistics in the text format of Prometheus. Whether all of it was written.
pub fn stats_prometheus(file: i32) -> bool {
    to_file(file, |out| exposition::write_statistics_prometheus(out).is_ok())
}

/// Writes what goes wrong as the last line; whether nothing did.
fn said(out: &mut os::FileWriter, write: impl FnOnce(&mut os::FileWriter) -> Result<(), inspect::Error>) -> bool {
    let Err(error) = write(out) else { return true };
    let _ = writeln!(out, "terrace: {error}");
    false
}

/// A stream of the C library's, open as long as this is used.
struct Stream(*mut libc::FILE);

impl Write for Stream {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the stream is open.
        if unsafe { os::write_to_stream(self.0, text.as_bytes()) } { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Elements that glibc's document has too mean what they mean there.
struct Document<'s> {
    found: &'s Statistics,
    arenas: &'s [(usize, ArenaTotals)],
}

impl fmt::Display for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "<malloc version=\"1\">")?;
        for (number, totals) in self.arenas {
            let free = totals.free_dirty + totals.free_clean;
            writeln!(f, "<heap nr=\"{number}\">")?;
            writeln!(f, "<total type=\"rest\" count=\"{}\" size=\"{free}\"/>", totals.free_runs)?;
            writeln!(f, "<system type=\"current\" size=\"{}\"/>", totals.mapped)?;
            writeln!(f, "</heap>")?;
        }
        writeln!(f, "<sizes>")?;
        let mut from = 1;
        for class in &self.found.classes {
            let (to, count) = (class.block_size, class.cached);
            if count + class.live > 0 {
                let (total, live) = (count * to, class.live);
                writeln!(f, "<size from=\"{from}\" to=\"{to}\" total=\"{total}\" count=\"{count}\" live=\"{live}\"/>")?;
            }
            from = to + 1;
        }
        writeln!(f, "</sizes>")?;
        let found = self.found;
        let runs: usize = self.arenas.iter().map(|(_, totals)| totals.free_runs).sum();
        let pages: usize = self.arenas.iter().map(|(_, totals)| totals.free_dirty + totals.free_clean).sum();
        writeln!(f, "<total type=\"fast\" count=\"{}\" size=\"{}\"/>", blocks_at_hand(found), found.cached_bytes)?;
        writeln!(f, "<total type=\"rest\" count=\"{runs}\" size=\"{pages}\"/>")?;
        writeln!(f, "<total type=\"medium\" count=\"{}\" size=\"{}\"/>", found.medium.0, found.medium.1)?;
        writeln!(f, "<total type=\"mmap\" count=\"{}\" size=\"{}\"/>", found.large.0, found.large.1)?;
        writeln!(f, "<total type=\"live\" size=\"{}\"/>", found.live_bytes)?;
        writeln!(f, "<system type=\"current\" size=\"{}\"/>", found.mapped_bytes)?;
        writeln!(f, "<page size=\"{PAGE}\"/>")?;
        writeln!(f, "</malloc>")
    }
}
