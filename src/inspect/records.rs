//! The visitor, and the records that it is given. All lengths are in bytes unless said otherwise.

use super::Unreadable;
use core::fmt;

/// What is told of a heap, in this order: the process, the arenas, the caches, then each segment with its zones, and the
/// mappings of large blocks, and what the checks know. Trouble is told where it is met. All methods do nothing unless they are overridden.
#[allow(unused_variables, reason = "the names tell what is given")]
pub trait Visitor {
    /// The process as a whole.
    fn process(&mut self, process: &Process) {}
    /// An arena that has segments.
    fn arena(&mut self, arena: &Arena) {}
    /// A thread cache, the one made last first.
    fn cache(&mut self, cache: &Cache<'_>) {}
    /// A segment; its zones follow.
    fn segment(&mut self, segment: &Segment) {}
    /// Pages of the segment last told of. Zones come by address and fill the segment without a gap.
    fn zone(&mut self, zone: &Zone) {}
    /// A large block, or a freed mapping.
    fn mapping(&mut self, mapping: &Mapping) {}
    /// A block that the checks know, which lies in a block, a run or a mapping that was told of, or will be.
    fn checked(&mut self, checked: &Checked) {}
    /// Something that could not be read, or cannot be what it should be.
    fn trouble(&mut self, trouble: Trouble) {}
}

/// What is known of the process as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Arenas in use.
    pub arenas: usize,
    /// Thread caches that were made.
    pub caches: usize,
    /// Bytes of the allocator's own structures outside of segments.
    pub metadata_bytes: usize,
    /// System calls made.
    pub system_calls: SystemCalls,
}

/// How often each system call that moves memory was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named after the calls")]
#[non_exhaustive]
pub struct SystemCalls {
    pub mmap: u64,
    pub munmap: u64,
    pub mremap: u64,
    pub madvise: u64,
    pub brk: u64,
}

/// An arena that has segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arena {
    /// Its number, from 0.
    pub number: usize,
    /// How many segments it has.
    pub segments: usize,
    /// Bytes of its free runs.
    pub free_bytes: usize,
    /// Bytes of those that were used before.
    pub dirty_bytes: usize,
}

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// Its first byte.
    pub start: usize,
    /// Its length.
    pub bytes: usize,
    /// The number of its arena.
    pub arena: usize,
    /// Whether the memory came from the break.
    pub from_break: bool,
}

/// Pages of a segment with one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Zone {
    /// Its first byte, a multiple of 4096.
    pub start: usize,
    /// Its length, a multiple of 4096.
    pub bytes: usize,
    /// The number of its segment's arena.
    pub arena: usize,
    /// What it is used for.
    pub content: Content,
}

/// What a zone is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// The segment's own tables.
    Header,
    /// Blocks of one size class.
    Slab(Slab),
    /// One block, with pages of its own.
    Medium,
    /// Free pages.
    Free {
        /// Whether they were used before and may have memory.
        dirty: bool,
        /// Whether they are known to read as zero.
        zeroed: bool,
        /// Whether a thread has them at hand, as a medium block that it freed.
        at_hand: bool,
        /// When they became dirty, in milliseconds of the coarse monotonic clock, modulo 2^32, if that is noted.
        stamp: Option<u32>,
    },
    /// What made no sense, even when it was looked at again.
    Unknown,
}

/// A slab: `capacity` = `out()` + `listed` + `bare` + `uncarved()`, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slab {
    /// Its first byte.
    pub start: usize,
    /// Its length.
    pub bytes: usize,
    /// The number of its size class.
    pub class: usize,
    /// The size of a block.
    pub block_size: usize,
    /// How many blocks it can hold.
    pub capacity: usize,
    /// How many blocks were made.
    pub carved: usize,
    /// Free blocks on its list.
    pub listed: usize,
    /// Free blocks that touch pages whose memory was returned.
    pub bare: usize,
    /// Those pages, a bit for each.
    pub bare_pages: u64,
    /// Where the cache that owns it lies; 0 if none does.
    pub owner: usize,
    /// Since when it has had blocks on its list, in milliseconds of the coarse monotonic clock, modulo 2^32.
    pub listed_since: Option<u32>,
    /// The first block on its list.
    pub(super) free: usize,
}

impl Slab {
    /// Blocks that the program holds, or that lie in magazines, outboxes and inboxes.
    pub fn out(&self) -> usize {
        self.carved - self.listed - self.bare
    }

    /// Blocks that were never made.
    pub fn uncarved(&self) -> usize {
        self.capacity - self.carved
    }
}

/// A thread cache.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Cache<'c> {
    /// Its number, in the order in which caches were made, from 0.
    pub number: usize,
    /// Where its record lies; slabs name their owner by it.
    pub address: usize,
    /// Whether its thread has ended, and another may take it.
    pub is_dormant: bool,
    /// The thread that has or had it, as the kernel numbers threads; 0 for the cache of threads that have none any more.
    pub thread: u32,
    /// When its thread last looked at the clock, in milliseconds of the coarse monotonic clock.
    pub seen_ms: u64,
    /// The number of the arena that its thread asks first, before it is reduced to those in use.
    pub arena: usize,
    /// Bytes that the outbox has room for; at least what is in it.
    pub outbox_granted_bytes: usize,
    /// Times a magazine was filled from slabs or from what other threads sent.
    pub refills: u64,
    /// Times a full magazine's older half went back to the slabs.
    pub flushes: u64,
    /// Freed blocks of other threads' caches that were sent home.
    pub remote_frees: u64,
    /// Chains in which those blocks went home.
    pub remote_batches: u64,
    /// What it holds of each size class.
    pub classes: &'c [CacheClass],
}

/// What a cache holds of one size class, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheClass {
    /// The size of a block, in bytes.
    pub block_size: usize,
    /// At hand in the magazine, in both of its lists.
    pub in_magazine: usize,
    /// Blocks of other caches that its thread freed and has not sent home yet.
    pub in_outbox: usize,
    /// Its own blocks that other threads sent home and nobody has used yet.
    pub in_inbox: usize,
    /// Blocks of its slabs that are out.
    pub out: usize,
    /// Blocks on its slabs' lists.
    pub listed: usize,
    /// Bytes of its slabs' pages where blocks were made and the memory was not returned.
    pub touched_bytes: usize,
}

/// A mapping for large blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mapping {
    /// Its first byte.
    pub start: usize,
    /// Its length.
    pub bytes: usize,
    /// Whether a block of the program lies in it; else it was freed and is kept.
    pub is_live: bool,
    /// When it was freed, in milliseconds of the coarse monotonic clock, modulo 2^32, if it was and that is noted.
    pub freed: Option<u32>,
    /// Whether it is a block of the checks with guard pages; freed, it is in quarantine.
    pub is_guarded: bool,
    /// Where the allocator's record of it lies.
    pub record: usize,
}

/// A block that the checks (`TERRACE_CHECK`) know: one of the program's, or one in quarantine. It lies in a place cut from a block
/// of the heap, or in a mapping of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The program's first byte.
    pub start: usize,
    /// What was asked for, in bytes.
    pub size: usize,
    /// The first byte of its place.
    pub base: usize,
    /// The length of its place.
    pub bytes: usize,
    /// The mapping with guard pages around it, if it has one, and its length.
    pub mapping: Option<(usize, usize)>,
    /// Whether the program has it; else it is in quarantine.
    pub is_live: bool,
    /// Where the allocator's record of it lies.
    pub record: usize,
}

/// Something that could not be read, or cannot be what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trouble {
    /// What it is, as the subject of a sentence.
    pub what: &'static str,
    /// Where it lies, or what could not be read.
    pub address: usize,
    /// Whether it could not be read; otherwise it was read and made no sense.
    pub unreadable: bool,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = if self.unreadable { "could not be read" } else { "made no sense" };
        write!(f, "{} at {:#x} {why}", self.what, self.address)
    }
}

impl Trouble {
    pub(super) fn unreadable(what: &'static str, unreadable: Unreadable) -> Self {
        Self { what, address: unreadable.address, unreadable: true }
    }

    pub(super) fn senseless(what: &'static str, address: usize) -> Self {
        Self { what, address, unreadable: false }
    }
}
