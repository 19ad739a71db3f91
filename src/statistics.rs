//! Statistics: what the heap holds and what it did, gathered on demand from counters that the slow paths keep.

use crate::arena::ARENAS;
use crate::attended;
use crate::history;
use crate::large::LARGE;
use crate::metadata::METADATA_BYTES;
use crate::options::{OPTIONS, STATS_LEN};
use crate::os;
use crate::os::valgrind::Unreported;
use crate::size_class::{self, SizeClass};
use crate::sync::{AtomicU32, Ordering};
use crate::tcache::{self, CACHES};
use core::fmt::{self, Write};

/// Blocks of one size class.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStatistics {
    /// The size of a block, in bytes.
    pub block_size: usize,
    /// Blocks that the program holds, or that another thread has freed and not sent home yet.
    pub live: usize,
    /// Blocks at hand in magazines: of the calling thread as of now, of other threads as of their last slow call.
    pub cached: usize,
    /// Blocks that other threads have sent home and nobody has taken yet.
    pub in_transit: usize,
    /// Free blocks on the lists of their slabs.
    pub listed: usize,
}

/// How often each system call that moves memory was made.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named after the calls")]
pub struct SystemCallStatistics {
    pub mmap: u64,
    pub munmap: u64,
    pub mremap: u64,
    pub madvise: u64,
    pub brk: u64,
}

/// What the heap holds (in bytes and blocks, at the time of the call) and what it did since the process began.
///
/// `Display` writes it as text of several lines. Threads go on while it is gathered, so figures of different lines can be
/// some calls apart.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Statistics {
    /// Bytes of blocks that the program holds, rounded up to the sizes of their blocks.
    pub live_bytes: usize,
    /// Bytes of address space that the allocator has mapped.
    pub mapped_bytes: usize,
    /// Bytes of the whole process that are in memory, as the kernel counts them.
    pub resident_bytes: usize,
    /// Bytes of free blocks in magazines.
    pub cached_bytes: usize,
    /// Bytes of freed blocks on their way home: in inboxes, and what outboxes have room for.
    pub in_transit_bytes: usize,
    /// Bytes of free blocks on the lists of their slabs.
    pub listed_bytes: usize,
    /// Bytes of slabs' pages that have memory and hold no block: what is left over at the end of a slab or was not carved
    /// yet, and parts of blocks whose other pages were returned.
    pub slack_bytes: usize,
    /// Bytes of free runs that are in memory: they were used before and are kept for reuse.
    pub dirty_bytes: usize,
    /// Bytes of free runs that are not in memory.
    pub clean_bytes: usize,
    /// Bytes of freed large mappings that are kept: for reuse, or, if they have guard pages, in quarantine.
    pub large_cached_bytes: usize,
    /// Bytes of the allocator's own structures, with the history and the books of the checks.
    pub metadata_bytes: usize,
    /// Blocks with a run of pages of their own, and their bytes.
    pub medium: (usize, usize),
    /// Blocks with a mapping of their own, and their bytes.
    pub large: (usize, usize),
    /// Size classes, smallest first.
    pub classes: [ClassStatistics; size_class::COUNT],
    /// Freed blocks of other threads' caches that were sent home.
    pub remote_frees: u64,
    /// Chains in which those blocks went home.
    pub remote_batches: u64,
    /// Times a magazine was filled from slabs or from what other threads sent.
    pub refills: u64,
    /// Times a full magazine's older half went back to the slabs.
    pub flushes: u64,
    /// Thread caches that exist, and how many of them no thread has.
    pub thread_caches: (usize, usize),
    /// Arenas in use.
    pub arenas: usize,
    /// Segments of 4 MiB that the arenas hold.
    pub segments: usize,
    /// System calls made.
    pub system_calls: SystemCallStatistics,
}

impl Statistics {
    /// Bytes that the allocator holds of the kernel's memory, on whatever account: the sum of live, cached, in-transit and
    /// listed blocks, slack, dirty runs, cached large mappings, and metadata.
    ///
    /// If the program has touched all of its blocks, this is the resident memory of the allocator's mappings.
    pub fn held_bytes(&self) -> usize {
        self.live_bytes
            + self.cached_bytes
            + self.in_transit_bytes
            + self.listed_bytes
            + self.slack_bytes
            + self.dirty_bytes
            + self.large_cached_bytes
            + self.metadata_bytes
    }
}

/// Gathers the statistics. Takes the allocator's locks one after the other; meant for a person or a monitor, not for a hot
/// loop.
///
/// The calling thread's outbox is emptied and what waits in inboxes is settled first, as far as their owners are not at work.
pub fn statistics() -> Statistics {
    let _unreported = Unreported::begin();
    tcache::send_off();
    tcache::settle_sent();
    let arenas = ARENAS.totals(|_| {});
    let (mut large_blocks, mut large_bytes, mut large_cached_bytes) = LARGE.totals();
    let (guarded_blocks, guarded_bytes, quarantined_bytes) = attended::guarded();
    large_blocks += guarded_blocks;
    large_bytes += guarded_bytes;
    large_cached_bytes += quarantined_bytes;
    let (rings_mapped, rings) = history::bytes();
    let own = METADATA_BYTES.get() as usize + attended::table_bytes();
    let calls = &os::SYSTEM_CALLS;
    let mut statistics = Statistics {
        live_bytes: arenas.medium + large_bytes,
        mapped_bytes: arenas.mapped + large_bytes + large_cached_bytes + own + rings_mapped,
        resident_bytes: resident_bytes(),
        cached_bytes: 0,
        in_transit_bytes: 0,
        listed_bytes: 0,
        slack_bytes: arenas.uncarved,
        dirty_bytes: arenas.free_dirty,
        clean_bytes: arenas.free_clean,
        large_cached_bytes,
        metadata_bytes: own + rings + arenas.headers,
        medium: (arenas.medium_blocks, arenas.medium),
        large: (large_blocks, large_bytes),
        classes: [ClassStatistics::default(); size_class::COUNT],
        remote_frees: 0,
        remote_batches: 0,
        refills: 0,
        flushes: 0,
        thread_caches: CACHES.counts(),
        arenas: ARENAS.count(),
        segments: arenas.segments,
        system_calls: SystemCallStatistics {
            mmap: calls.mmap.get(),
            munmap: calls.munmap.get(),
            mremap: calls.mremap.get(),
            madvise: calls.madvise.get(),
            brk: calls.brk.get(),
        },
    };
    let mut outboxes = 0;
    for cache in CACHES.iter() {
        statistics.remote_frees += cache.counters.remote_frees.get();
        statistics.remote_batches += cache.counters.chains_sent.get();
        statistics.refills += cache.counters.refills.get();
        statistics.flushes += cache.counters.settled_lists.get();
        let outbox_bytes = cache.outbox_bytes();
        statistics.in_transit_bytes += outbox_bytes;
        outboxes += outbox_bytes;
        for (index, class) in statistics.classes.iter_mut().enumerate() {
            let ledger = cache.ledger(SizeClass::from_index(index));
            class.live += ledger.slabs.out;
            class.cached += ledger.magazines;
            class.in_transit += ledger.arrivals;
            class.listed += ledger.slabs.listed;
            statistics.slack_bytes += ledger.slabs.touched;
        }
    }
    for (index, class) in statistics.classes.iter_mut().enumerate() {
        class.block_size = SizeClass::from_index(index).block_size();
        statistics.slack_bytes = statistics.slack_bytes.saturating_sub((class.live + class.listed) * class.block_size);
        // A cache may hold blocks of slabs that have passed to another: only the sums over all caches compare.
        class.live = class.live.saturating_sub(class.cached + class.in_transit);
        statistics.live_bytes += class.live * class.block_size;
        statistics.cached_bytes += class.cached * class.block_size;
        statistics.in_transit_bytes += class.in_transit * class.block_size;
        statistics.listed_bytes += class.listed * class.block_size;
    }
    // By class, what lies in outboxes counts as live.
    statistics.live_bytes = statistics.live_bytes.saturating_sub(outboxes);
    statistics
}

fn resident_bytes() -> usize {
    let mut buffer = [0; 128];
    os::read_file(c"/proc/self/statm", &mut buffer)
        .and_then(|text| core::str::from_utf8(text).ok())
        .and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok())
        .map_or(0, |pages| pages * os::page_size())
}

/// A number of bytes with the unit that suits it, in a column of its own.
pub(crate) struct Bytes(pub(crate) usize);

/// The same within a sentence.
pub(crate) struct CloseBytes(usize);

impl Bytes {
    pub(crate) fn close(bytes: usize) -> CloseBytes {
        CloseBytes(bytes)
    }
}

/// Tenths of the unit, and the unit.
fn in_unit(bytes: usize) -> (usize, &'static str) {
    let (divisor, unit) = match bytes {
        0..0x10_0000 => (0x400, "KiB"),
        0x10_0000..0x4000_0000 => (0x10_0000, "MiB"),
        _ => (0x4000_0000, "GiB"),
    };
    (bytes.saturating_mul(10) / divisor, unit)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0x400 {
            return write!(f, "{:>8} B  ", self.0);
        }
        let (tenths, unit) = in_unit(self.0);
        write!(f, "{:>6}.{} {unit}", tenths / 10, tenths % 10)
    }
}

impl fmt::Display for CloseBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0x400 {
            return write!(f, "{} B", self.0);
        }
        let (tenths, unit) = in_unit(self.0);
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "live       {}", Bytes(self.live_bytes))?;
        writeln!(f, "cached     {}  (magazines)", Bytes(self.cached_bytes))?;
        writeln!(f, "           {}  (on their way home from other threads)", Bytes(self.in_transit_bytes))?;
        writeln!(f, "           {}  (free in slabs)", Bytes(self.listed_bytes))?;
        writeln!(f, "           {}  (left over in slabs)", Bytes(self.slack_bytes))?;
        writeln!(f, "           {}  (free runs)", Bytes(self.dirty_bytes))?;
        writeln!(f, "           {}  (large mappings)", Bytes(self.large_cached_bytes))?;
        writeln!(f, "metadata   {}", Bytes(self.metadata_bytes))?;
        writeln!(f, "held       {}  (the sum)", Bytes(self.held_bytes()))?;
        writeln!(f, "resident   {}  (whole process)", Bytes(self.resident_bytes))?;
        writeln!(f, "mapped     {}", Bytes(self.mapped_bytes))?;
        let blocks = |count| if count == 1 { "block" } else { "blocks" };
        writeln!(f, "medium     {}  in {} {}", Bytes(self.medium.1), self.medium.0, blocks(self.medium.0))?;
        writeln!(f, "large      {}  in {} {}", Bytes(self.large.1), self.large.0, blocks(self.large.0))?;
        let plural = |count, one, many| if count == 1 { one } else { many };
        let (frees, batches) =
            (plural(self.remote_frees, "free", "frees"), plural(self.remote_batches, "batch", "batches"));
        writeln!(f, "remote     {} {frees} in {} {batches}", self.remote_frees, self.remote_batches)?;
        let (refills, flushes) = (plural(self.refills, "refill", "refills"), plural(self.flushes, "flush", "flushes"));
        writeln!(f, "slow paths {} {refills}, {} {flushes}", self.refills, self.flushes)?;
        let (caches, dormant) = self.thread_caches;
        writeln!(f, "caches     {caches}, {dormant} of them dormant")?;
        let segments = if self.segments == 1 { "segment" } else { "segments" };
        writeln!(f, "arenas     {}, {} {segments}", self.arenas, self.segments)?;
        let calls = &self.system_calls;
        writeln!(
            f,
            "system     {} mmap, {} munmap, {} mremap, {} madvise, {} brk",
            calls.mmap, calls.munmap, calls.mremap, calls.madvise, calls.brk
        )?;
        writeln!(f, "  block size       live     cached     listed")?;
        for class in self.classes.iter().filter(|class| class.live + class.cached + class.listed > 0) {
            writeln!(f, "  {:>10} {:>10} {:>10} {:>10}", class.block_size, class.live, class.cached, class.listed)?;
        }
        Ok(())
    }
}

/// Has the statistics, or the history, printed at exit, if the options, which must have been read, ask for it by then. May allocate.
pub(crate) fn register_exit_report() {
    /// 1 once the function is registered. Set and read by any thread; `Relaxed`, since it only keeps the second one away.
    static REGISTERED: AtomicU32 = AtomicU32::new(0);
    let wanted = OPTIONS.stats(&mut [0; STATS_LEN]).is_some() || OPTIONS.history_at_exit() > 0;
    if wanted && REGISTERED.swap(1, Ordering::Relaxed) == 0 {
        // Where there is no memory to remember the function, nothing is printed.
        let _ = os::on_exit(report_at_exit);
    }
}

/// Text on the stack; what does not fit is cut off.
struct Page {
    bytes: [u8; 6 << 10],
    len: usize,
}

impl Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let part = &text.as_bytes()[..text.len().min(self.bytes.len() - self.len)];
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
        Ok(())
    }
}

extern "C" fn report_at_exit() {
    if let last @ 1.. = OPTIONS.history_at_exit() {
        let mut name = [0; 32];
        let name = core::str::from_utf8(os::process_name(&mut name)).unwrap_or("?");
        history::tell_end(last, name);
    }
    let mut place = [0; STATS_LEN];
    let Some(place) = OPTIONS.stats(&mut place) else { return };
    print(
        |text| if place.to_bytes() == b"1" { os::write_standard_error(text) } else { os::append_to_file(place, text) },
    );
}

/// Hands the statistics over as text, with a line of its own that names the process.
pub(crate) fn print(write: impl FnOnce(&[u8])) {
    let mut name = [0; 32];
    let name = core::str::from_utf8(os::process_name(&mut name)).unwrap_or("?");
    let mut page = Page { bytes: [0; 6 << 10], len: 0 };
    // Writing into the buffer cannot fail.
    let _ = write!(page, "terrace: process {} ({name})\n{}", os::process_id(), statistics());
    write(&page.bytes[..page.len]);
}
