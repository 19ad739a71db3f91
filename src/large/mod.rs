//! Large blocks: mappings of their own, above what an arena's run can hold or is asked to.
//!
//! One lock guards the registry and the cache of freed mappings; system calls are made outside of it. It ranks beside the
//! arenas' locks: neither is taken with the other held.

mod budget;
mod mapping_cache;
mod registry;

pub(crate) use registry::Mapping;

use crate::layout::LargeLayout;
use crate::limit::LIMIT;
use crate::options::OPTIONS;
use crate::os::{self, Occupancy, PageMove};
use crate::report;
use crate::sync::{AtomicU32, Mutex, Ordering};
use budget::{Budget, Verdict};
use core::mem::offset_of;
use core::ptr::{self, NonNull};
use mapping_cache::MappingCache;
use registry::Registry;

/// The large blocks of this process.
pub(crate) static LARGE: Large = Large::new();

/// Above this, no size is served; objects larger than this break pointer arithmetic.
const MAX_SIZE: usize = isize::MAX as usize;

/// Fewer bytes are not worth a system call that moves them.
const WORTH_MOVING: usize = 64 << 10;

pub(crate) struct Large {
    inner: Mutex<Inner>,
    /// 1 once the kernel has refused to move pages to a given place: it is not asked again. Written and read by any thread,
    /// `Relaxed`: it only saves system calls.
    kernel_refuses_moves: AtomicU32,
}

/// Maps `len` bytes by `map`, as far as the limit on memory allows.
fn counted(len: usize, map: impl FnOnce() -> Option<NonNull<u8>>) -> Option<NonNull<u8>> {
    if !LIMIT.charge(len) {
        return None;
    }
    let start = map();
    if start.is_none() {
        LIMIT.refund(len);
    }
    start
}

fn remap(old: Mapping, len: usize) -> Option<NonNull<u8>> {
    let remap = || os::remap(old.start, old.len, len, true);
    if len > old.len {
        return counted(len - old.len, remap);
    }
    remap().inspect(|_| LIMIT.refund(old.len - len))
}

/// Unmaps a block that is in no table. If the kernel keeps the addresses, their memory is gone all the same.
fn unmap(mapping: Mapping) {
    os::unmap(mapping.start, mapping.len);
    LIMIT.refund(mapping.len);
}

/// What became of pages that were to be moved to a place.
enum Moved {
    Done,
    /// They are lost, and the place is still the caller's, its contents undefined or zero.
    Refused,
    /// They are lost, and the place may belong to another by now: the caller must not touch or unmap it.
    PlaceLost,
}

/// What became of a fresh mapping that cached pages were to be moved into.
enum Furnished {
    /// Up to this offset there are pages; from there on it is fresh.
    UpTo(usize),
    /// A part of it, from this offset to that one, must not be touched any more. The rest is still the caller's.
    Lost(usize, usize),
}

/// Unmaps what is left of a mapping that has lost a part.
fn unmap_around(mapping: Mapping, (lost, end): (usize, usize)) {
    let (before, rest) = mapping.split_at(lost);
    let (_, after) = rest.split_at(end - lost);
    for part in [before, after] {
        if part.len > 0 {
            os::unmap(part.start, part.len);
        }
    }
}

/// A word written to the start of a place that pages are to be moved to: while it stands there the place is the caller's, and no
/// mapping that another thread was given when the kernel had cleared the place.
struct Mark {
    place: NonNull<usize>,
    word: usize,
}

impl Mark {
    /// # Safety
    /// The place is the caller's, reads as zero, and is aligned to a page.
    unsafe fn write(place: NonNull<u8>, from: Mapping) -> Self {
        // No number that others write: what was moved to the place instead had another address and another mark.
        let word = !from.start.addr().get() ^ place.addr().get().rotate_left(20);
        let mark = Self { place: place.cast(), word };
        // SAFETY: the caller's promise.
        unsafe { mark.place.write(word) };
        mark
    }

    /// Wipes the mark out; `false` when it is not there any more, and `otherwise` where the kernel does not tell.
    fn wipe(self, otherwise: bool) -> bool {
        let is_there = os::holds_word(self.place, self.word).unwrap_or(otherwise);
        if is_there {
            // SAFETY: the place is the caller's still.
            unsafe { self.place.write(0) };
        }
        is_there
    }
}

struct Inner {
    registry: Registry,
    cache: MappingCache,
    budget: Budget,
}

/// A large block that was just made.
pub(crate) struct Block {
    pub(crate) start: NonNull<u8>,
    /// Whether every byte is known to be zero.
    pub(crate) zeroed: bool,
    /// How many of its bytes had no memory yet.
    pub(crate) fresh: usize,
}

impl Large {
    pub(crate) const LAYOUT: LargeLayout = {
        const INNER: usize = offset_of!(Large, inner) + Mutex::<Inner>::VALUE;
        const REGISTRY: usize = INNER + offset_of!(Inner, registry);
        LargeLayout {
            buckets: (REGISTRY + Registry::BUCKETS) as u32,
            bucket_count: Registry::BUCKET_COUNT as u32,
            count: (REGISTRY + Registry::COUNT) as u32,
            entry_start: Registry::ENTRY_START as u32,
            entry_len: Registry::ENTRY_LEN as u32,
            entry_next: Registry::ENTRY_NEXT as u32,
            ranges: (INNER + offset_of!(Inner, cache) + MappingCache::RANGES) as u32,
            range_count: MappingCache::RANGE_COUNT as u32,
            range_size: MappingCache::RANGE_SIZE as u32,
            range_start: MappingCache::RANGE_START as u32,
            range_len: MappingCache::RANGE_LEN as u32,
            range_stamp: MappingCache::RANGE_STAMP as u32,
        }
    };

    pub(crate) const fn new() -> Self {
        let inner = Inner { registry: Registry::new(), cache: MappingCache::new(), budget: Budget::new() };
        Self { inner: Mutex::new(inner), kernel_refuses_moves: AtomicU32::new(0) }
    }

    /// Hides the books from memcheck, which would take the addresses in them for the program's own and the blocks for reachable.
    pub(crate) fn hide(&self) {
        os::valgrind::nobodys(NonNull::from_ref(self).cast(), size_of::<Self>());
    }

    /// Maps a block of at least `size` bytes, aligned to `align` (and to a page at least).
    pub(crate) fn allocate(&self, size: usize, align: usize) -> Option<Block> {
        if size > MAX_SIZE || align > MAX_SIZE {
            return None;
        }
        let len = os::whole_pages(size.max(1));
        let is_aligned = align > os::page_size();
        let mut inner = self.inner.lock();
        let cached = if is_aligned { inner.cache.take_aligned(len, align) } else { inner.cache.take(len) };
        let (mapping, fresh, registered) = match cached {
            // Entered under the same lock: another turn of it takes a twentieth of a pair's time.
            Some(mapping) => (mapping, 0, inner.registry.insert(mapping)),
            None => {
                drop(inner);
                let (mapping, fresh) = if is_aligned { self.map_aligned(len, align)? } else { self.map(len)? };
                inner = self.inner.lock();
                (mapping, fresh, inner.registry.insert(mapping))
            }
        };
        drop(inner);
        if !registered {
            unmap(mapping);
            return None;
        }
        Some(Block { start: mapping.start, zeroed: fresh == len, fresh })
    }

    /// A mapping that no cached range holds, and how many of its bytes have no memory yet.
    fn map(&self, len: usize) -> Option<(Mapping, usize)> {
        let mapping = Mapping { start: counted(len, || os::map(len))?, len };
        match self.furnish(mapping, 0) {
            Furnished::UpTo(used) => Some((mapping, len - used)),
            Furnished::Lost(from, to) => {
                unmap_around(mapping, (from, to));
                let start = os::map(len);
                if start.is_none() {
                    LIMIT.refund(len);
                }
                Some((Mapping { start: start?, len }, len))
            }
        }
    }

    fn map_aligned(&self, len: usize, align: usize) -> Option<(Mapping, usize)> {
        let start = counted(len, || os::map_aligned(len, align, ptr::null_mut()))?;
        Some((Mapping { start, len }, len))
    }

    /// Moves cached pages into a fresh mapping, from `offset` on: moving a page costs a fortieth of faulting in a new one.
    fn furnish(&self, mapping: Mapping, mut offset: usize) -> Furnished {
        /// Each piece stays a mapping of its own in the kernel's books.
        const PIECES: usize = 4;
        if self.is_crowded(PIECES + 1).1 {
            return Furnished::UpTo(offset);
        }
        for _ in 0..PIECES {
            if mapping.len - offset < WORTH_MOVING || self.kernel_refuses_moves.load(Ordering::Relaxed) != 0 {
                break;
            }
            let Some(piece) = self.inner.lock().cache.take_piece(mapping.len - offset) else { break };
            // SAFETY: the piece is no longer than what is left of the mapping.
            let place = unsafe { mapping.start.add(offset) };
            if piece.len < WORTH_MOVING {
                unmap(piece);
                break;
            }
            // Its addresses are gone, whatever becomes of the pages.
            LIMIT.refund(piece.len);
            match self.move_pages(piece, place) {
                Moved::Done => offset += piece.len,
                Moved::Refused => break,
                Moved::PlaceLost => return Furnished::Lost(offset, offset + piece.len),
            }
        }
        Furnished::UpTo(offset)
    }

    /// Moves the pages of a mapping to a place in another one, which is fresh.
    fn move_pages(&self, from: Mapping, place: NonNull<u8>) -> Moved {
        // SAFETY: the place is the caller's, and fresh.
        let mark = unsafe { Mark::write(place, from) };
        let is_still_the_caller_s = match os::move_pages(from.start, from.len, place) {
            PageMove::Done => return Moved::Done,
            PageMove::NoMemory => {
                // What could not be moved goes, which may make room for the place. Before it clears that, the kernel looks whether it
                // has the memory for a move: where it does not tell about the mark, the place will be there.
                os::unmap(from.start, from.len);
                mark.wipe(true)
            }
            PageMove::Refused => {
                // Some kernels do not move what they keep as several mappings, and find out when they have cleared the place;
                // others may give up half-way. So the old range cannot be trusted to be the caller's alone, and what is left of the
                // pages is given up for lost: it happens once.
                self.kernel_refuses_moves.store(1, Ordering::Relaxed);
                mark.wipe(false)
            }
        };
        if is_still_the_caller_s || os::map_again(place, from.len) == Occupancy::Mapped {
            return Moved::Refused;
        }
        Moved::PlaceLost
    }

    /// Takes the block that starts here out of the registry and gives its memory back; `false` when there is none.
    #[inline(always)]
    pub(crate) fn free(&self, start: NonNull<u8>) -> bool {
        let now = os::clock_ms() as u32;
        let mut inner = self.inner.lock();
        let Some(mapping) = inner.registry.remove(start) else { return false };
        if OPTIONS.purge_delay_ms() == 0 {
            // Nothing is kept for later.
            drop(inner);
            unmap(mapping);
            return true;
        }
        while inner.cache.is_full_for(mapping.len)
            && let Some(old) = inner.cache.evict_oldest(now, 0)
        {
            drop(inner);
            unmap(old);
            inner = self.inner.lock();
        }
        if !inner.cache.put(mapping, now) {
            drop(inner);
            unmap(mapping);
        }
        true
    }

    /// The block that starts here.
    pub(crate) fn find(&self, start: NonNull<u8>) -> Option<Mapping> {
        self.inner.lock().registry.find(start)
    }

    /// The block that an address lies in; slow, for reports.
    pub(crate) fn find_around(&self, address: NonNull<u8>) -> Option<Mapping> {
        self.inner.lock().registry.find_around(address)
    }

    /// The range of freed mappings, still kept, that an address lies in; for reports.
    pub(crate) fn find_freed(&self, address: NonNull<u8>) -> Option<Mapping> {
        self.inner.lock().cache.find_around(address)
    }

    /// Makes the block that starts here hold `size` bytes, moving it if need be; `None`, and no change, if that cannot be
    /// done by remapping.
    pub(crate) fn resize(&self, start: NonNull<u8>, size: usize) -> Option<Block> {
        if size > MAX_SIZE {
            return None;
        }
        let len = os::whole_pages(size);
        let mut inner = self.inner.lock();
        let (entry, old) = inner.registry.detach(start)?;
        if len > old.len && inner.cache.take_behind(old.end(), len - old.len) {
            inner.registry.attach(entry, Mapping { start, len });
            return Some(Block { start, zeroed: false, fresh: 0 });
        }
        drop(inner);
        // The block is in no table while it moves: its old address may be another thread's as soon as the kernel has it.
        let moved = if len == old.len { Some(start) } else { remap(old, len) };
        let (now, fresh) = match moved {
            Some(start) if len > old.len => self.furnish_tail(Mapping { start, len }, old.len),
            Some(start) => (Mapping { start, len }, 0),
            None => (old, 0),
        };
        self.inner.lock().registry.attach(entry, now);
        moved.map(|_| Block { start: now.start, zeroed: false, fresh })
    }

    /// Moves cached pages behind the contents of a block that has grown from `used` bytes; the block as it is then, and how
    /// many of its bytes have no memory yet.
    fn furnish_tail(&self, block: Mapping, used: usize) -> (Mapping, usize) {
        let lost = match self.furnish(block, used) {
            Furnished::UpTo(furnished) => return (block, block.len - furnished),
            Furnished::Lost(from, to) => (from - used, to - used),
        };
        // A part of what lies behind the contents may belong to another by now. The contents move to a place of their own.
        let (contents, tail) = block.split_at(used);
        unmap_around(tail, lost);
        let Some(start) = os::map(block.len) else {
            report::fatal("the kernel took back a part of a block that was growing, and has no memory for another");
        };
        // SAFETY: both have that many bytes, and they are different mappings.
        unsafe { start.copy_from_nonoverlapping(contents.start, used) };
        os::unmap(contents.start, used);
        (Mapping { start, len: block.len }, block.len - used)
    }

    /// Unmaps the cached mappings that are at least `age_ms` old; says how many bytes those were.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn purge(&self, age_ms: u32) -> usize {
        let (now, mut purged) = (os::clock_ms() as u32, 0);
        while let Some(old) = self.evict(now, age_ms) {
            purged += old.len;
            unmap(old);
        }
        purged
    }

    fn evict(&self, now_ms: u32, age_ms: u32) -> Option<Mapping> {
        self.inner.lock().cache.evict_oldest(now_ms, age_ms)
    }

    /// Makes the cache smaller by about `len` bytes, before as many are touched elsewhere that have no memory yet.
    #[inline]
    pub(crate) fn yield_bytes(&self, len: usize) {
        if len > 0 {
            self.yield_some(len);
        }
    }

    #[cold]
    #[unsafe(link_section = ".text.terrace.common")]
    fn yield_some(&self, len: usize) {
        let now = os::clock_ms() as u32;
        let mut yielded = 0;
        while yielded < len {
            let Some(old) = self.inner.lock().cache.evict_some(now, len - yielded) else { break };
            yielded += old.len;
            unmap(old);
        }
    }

    /// Whether so many blocks have mappings of their own that the next is better held by an arena.
    pub(crate) fn is_budget_spent(&self) -> bool {
        let (count, crowded) = self.is_crowded(1);
        crowded || count >= OPTIONS.mmap_max()
    }

    /// How many blocks there are, and whether they have all the mappings that they may, if each has so many.
    fn is_crowded(&self, mappings_each: usize) -> (usize, bool) {
        loop {
            let inner = self.inner.lock();
            let count = inner.registry.totals().0;
            match inner.budget.judge(count * mappings_each) {
                Verdict::Enough => return (count, false),
                Verdict::Spent => return (count, true),
                Verdict::Unknown => drop(inner),
            }
            let allowed = os::max_mappings();
            self.inner.lock().budget.tell(allowed);
        }
    }

    /// How many blocks there are, their bytes, and the bytes in the cache.
    pub(crate) fn totals(&self) -> (usize, usize, usize) {
        let inner = self.inner.lock();
        let (count, bytes) = inner.registry.totals();
        (count, bytes, inner.cache.bytes())
    }

    pub(crate) fn lock_for_fork(&self) {
        self.inner.lock_for_fork();
    }

    pub(crate) fn unlock_after_fork(&self) {
        self.inner.unlock_after_fork();
    }

    pub(crate) fn renew_in_child(&self) {
        self.inner.renew_in_child();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_block_is_reused_and_then_known_not_to_be_zero() {
        let large = Large::new();
        let first = large.allocate(3 << 20, 16).unwrap();
        assert!(first.zeroed);
        assert!(large.free(first.start));
        assert!(!large.free(first.start), "freed twice");
        let second = large.allocate(2 << 20, 16).unwrap();
        assert_eq!(second.start, first.start);
        assert!(!second.zeroed);
        assert_eq!(large.totals(), (1, 2 << 20, 1 << 20));
        assert!(large.free(second.start));
        large.purge(0);
        assert_eq!(large.totals(), (0, 0, 0));
    }

    #[test]
    fn a_block_that_no_cached_range_holds_is_put_together_from_several() {
        let large = Large::new();
        let blocks: std::vec::Vec<_> = (0..5).map(|_| large.allocate(2 << 20, 16).unwrap().start).collect();
        for (number, block) in blocks.iter().enumerate() {
            // SAFETY: the block is larger than that.
            unsafe { block.write_bytes(number as u8 + 1, 4096) };
        }
        // Every second block, so that the freed ones do not touch.
        [0, 2, 4].into_iter().for_each(|i| assert!(large.free(blocks[i])));
        let block = large.allocate(5 << 20, 16).unwrap();
        assert!(!block.zeroed);
        assert_eq!(large.totals(), (3, 9 << 20, 1 << 20));
        for i in [1, 3] {
            // SAFETY: the block is live.
            assert_eq!(unsafe { blocks[i].read() }, i as u8 + 1, "a neighbour was overwritten");
        }
        // SAFETY: the block has 5 MiB.
        unsafe { block.start.write_bytes(7, 5 << 20) };
        // The kernel does not resize what it keeps as several mappings; then the block is as it was.
        let grown = large.resize(block.start, 9 << 20).map_or(block.start, |block| block.start);
        // SAFETY: the first 5 MiB came along.
        let bytes = unsafe { core::slice::from_raw_parts(grown.as_ptr(), 5 << 20) };
        assert!(bytes.iter().all(|&byte| byte == 7));
        assert!(large.free(grown));
        large.purge(0);
        assert_eq!(large.totals(), (2, 4 << 20, 0));
    }

    #[test]
    fn resizing_keeps_the_contents_and_the_registry() {
        let large = Large::new();
        let start = large.allocate(2 << 20, 16).unwrap().start;
        // SAFETY: the block is larger than that.
        unsafe { start.write_bytes(9, 4096) };
        let start = large.resize(start, 40 << 20).unwrap().start;
        // SAFETY: as above.
        assert_eq!(unsafe { start.read() }, 9);
        assert_eq!(large.find(start).unwrap().len, 40 << 20);
        assert!(large.resize(start, usize::MAX).is_none());
        assert_eq!(large.find(start).unwrap().len, 40 << 20);
        assert!(large.free(start));
    }

    #[test]
    fn alignments_beyond_a_page_are_kept() {
        let large = Large::new();
        for shift in [13, 16, 22, 26] {
            let start = large.allocate(5 << 20, 1 << shift).unwrap().start;
            assert!(start.addr().get().is_multiple_of(1 << shift));
            assert!(large.free(start));
        }
    }
}
