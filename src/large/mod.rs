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
        self.evict_bytes(len);
        let start = os::map(len).or_else(|| {
            // The kernel is out of addresses, memory or mappings: give it back all that is kept for later.
            self.purge(0);
            os::map(len)
        })?;
        Some((Mapping { start, len }, true))
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
        let (entry, old) = self.inner.lock().registry.detach(start)?;
        // The block is in no table while it moves: its old address may be another thread's as soon as the kernel has it.
        let moved = if len == old.len { Some(start) } else { os::remap(start, old.len, len, true) };
        let now = moved.map_or(old, |start| Mapping { start, len });
        self.inner.lock().registry.attach(entry, now);
        moved
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

    /// Makes the cache smaller by about `len` bytes, before that many are mapped.
    fn evict_bytes(&self, len: usize) {
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
