//! Large blocks: mappings of their own, above what an arena's run can hold or is asked to.
//!
//! One lock guards the registry and the cache of freed mappings; system calls are made outside of it. It ranks beside the
//! arenas' locks: neither is taken with the other held.

mod mapping_cache;
mod registry;

pub(crate) use registry::Mapping;

use crate::os;
use crate::sync::Mutex;
use core::ptr::{self, NonNull};
use mapping_cache::MappingCache;
use registry::Registry;

/// The large blocks of this process.
pub(crate) static LARGE: Large = Large::new();

/// Above this, no size is served; objects larger than this break pointer arithmetic.
const MAX_SIZE: usize = isize::MAX as usize;

pub(crate) struct Large {
    inner: Mutex<Inner>,
}

struct Inner {
    registry: Registry,
    cache: MappingCache,
}

/// A large block that was just made.
pub(crate) struct Block {
    pub(crate) start: NonNull<u8>,
    /// Whether every byte is known to be zero.
    pub(crate) zeroed: bool,
}

impl Large {
    pub(crate) const fn new() -> Self {
        Self { inner: Mutex::new(Inner { registry: Registry::new(), cache: MappingCache::new() }) }
    }

    /// Maps a block of at least `size` bytes, aligned to `align` (and to a page at least).
    pub(crate) fn allocate(&self, size: usize, align: usize) -> Option<Block> {
        if size > MAX_SIZE || align > MAX_SIZE {
            return None;
        }
        let len = size.next_multiple_of(os::page_size());
        let align = align.max(os::page_size());
        let (mapping, zeroed) =
            if align == os::page_size() { self.map_or_reuse(len)? } else { (map_aligned(len, align)?, true) };
        if !self.inner.lock().registry.insert(mapping) {
            os::unmap(mapping.start, mapping.len);
            return None;
        }
        Some(Block { start: mapping.start, zeroed })
    }

    fn map_or_reuse(&self, len: usize) -> Option<(Mapping, bool)> {
        if let Some(mapping) = self.inner.lock().cache.take(len) {
            return Some((mapping, false));
        }
        let start = os::map(len).or_else(|| {
            // The kernel is out of addresses, memory or mappings: give it back all that is kept for later.
            self.purge(0);
            os::map(len)
        })?;
        let mapping = Mapping { start, len };
        Some((mapping, !self.furnish(mapping, 0)))
    }

    /// Moves cached pages into a fresh mapping, from `offset` on: moving a page costs a fortieth of faulting in a new one.
    /// `false` if there were none.
    fn furnish(&self, mapping: Mapping, mut offset: usize) -> bool {
        /// Each piece stays a mapping of its own in the kernel's books.
        const PIECES: usize = 4;
        /// Smaller pieces are not worth a system call, in bytes.
        const LEAST: usize = 64 << 10;
        let from = offset;
        for _ in 0..PIECES {
            if mapping.len - offset < LEAST {
                break;
            }
            let Some(piece) = self.inner.lock().cache.take_piece(mapping.len - offset) else { break };
            // SAFETY: the piece is no longer than what is left of the mapping.
            let place = unsafe { mapping.start.add(offset) };
            if piece.len < LEAST || !os::move_pages(piece.start, piece.len, place) {
                os::unmap(piece.start, piece.len);
                break;
            }
            offset += piece.len;
        }
        offset > from
    }

    /// Takes the block that starts here out of the registry and gives its memory back; `false` when there is none.
    pub(crate) fn free(&self, start: NonNull<u8>) -> bool {
        let now = os::clock_ms() as u32;
        let mut inner = self.inner.lock();
        let Some(mapping) = inner.registry.remove(start) else { return false };
        while inner.cache.is_full_for(mapping.len)
            && let Some(old) = inner.cache.evict_oldest(now, 0)
        {
            drop(inner);
            os::unmap(old.start, old.len);
            inner = self.inner.lock();
        }
        if !inner.cache.put(mapping, now) {
            drop(inner);
            os::unmap(mapping.start, mapping.len);
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

    /// Makes the block that starts here hold `size` bytes, moving it if need be; `None`, and no change, if that cannot be
    /// done by remapping.
    pub(crate) fn resize(&self, start: NonNull<u8>, size: usize) -> Option<NonNull<u8>> {
        if size > MAX_SIZE {
            return None;
        }
        let len = size.next_multiple_of(os::page_size());
        let mut inner = self.inner.lock();
        let (entry, old) = inner.registry.detach(start)?;
        if len > old.len && inner.cache.take_behind(old.end(), len - old.len) {
            inner.registry.attach(entry, Mapping { start, len });
            return Some(start);
        }
        let furnish = inner.cache.bytes() > 0 && len > old.len;
        drop(inner);
        // The block is in no table while it moves: its old address may be another thread's as soon as the kernel has it.
        let moved = if furnish { self.move_and_furnish(old, len) } else { None };
        let moved = moved.or_else(|| os::remap(start, old.len, len, true));
        let now = moved.map_or(old, |start| Mapping { start, len });
        self.inner.lock().registry.attach(entry, now);
        moved
    }

    /// Moves a block to the front of a longer mapping, and cached pages behind it.
    fn move_and_furnish(&self, old: Mapping, len: usize) -> Option<NonNull<u8>> {
        let new = Mapping { start: os::map(len)?, len };
        if !os::move_pages(old.start, old.len, new.start) {
            os::unmap(new.start, new.len);
            return None;
        }
        self.furnish(new, old.len);
        Some(new.start)
    }

    /// Unmaps the cached mappings that are at least `age_ms` old.
    pub(crate) fn purge(&self, age_ms: u32) {
        let now = os::clock_ms() as u32;
        while let Some(old) = self.evict(now, age_ms) {
            os::unmap(old.start, old.len);
        }
    }

    fn evict(&self, now_ms: u32, age_ms: u32) -> Option<Mapping> {
        self.inner.lock().cache.evict_oldest(now_ms, age_ms)
    }

    /// Makes the cache smaller by about `len` bytes, before an arena grows by as many.
    pub(crate) fn yield_bytes(&self, len: usize) {
        let now = os::clock_ms() as u32;
        let mut evicted = 0;
        while evicted < len
            && let Some(old) = self.evict(now, 0)
        {
            evicted += old.len;
            os::unmap(old.start, old.len);
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

fn map_aligned(len: usize, align: usize) -> Option<Mapping> {
    let start = os::map_aligned(len, align, ptr::null_mut())?;
    Some(Mapping { start, len })
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
        let grown = large.resize(block.start, 9 << 20).unwrap();
        // SAFETY: the first 5 MiB came along.
        let bytes = unsafe { core::slice::from_raw_parts(grown.as_ptr(), 5 << 20) };
        assert!(bytes.iter().all(|&byte| byte == 7));
        assert_eq!(large.totals(), (3, 13 << 20, 0));
        assert!(large.free(grown));
        large.purge(0);
    }

    #[test]
    fn resizing_keeps_the_contents_and_the_registry() {
        let large = Large::new();
        let start = large.allocate(2 << 20, 16).unwrap().start;
        // SAFETY: the block is larger than that.
        unsafe { start.write_bytes(9, 4096) };
        let start = large.resize(start, 40 << 20).unwrap();
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
