//! The allowance: what a thread may keep at hand, and what all threads together.
//!
//! ```text
//!  pool of the process ──chunks──▶ reserve of a cache ──▶ granted to classes (room in magazines) and old lists
//!  (thread_cache_bytes)            + FLOOR, always            and the shelf
//! ```
//!
//! A class gets room in its magazine as it is used: a step at first, and twice as much whenever a push finds it full, up to its
//! limit. What a magazine has blocks and room for is *granted*, since the fast path may fill it without anybody's looking. Grants,
//! old lists and the shelf beyond [`FLOOR`] are covered by bytes that the cache has reserved from a pool of the process. When the pool has
//! no more, the cache settles what it has of other classes first. So all magazines together hold at most the pool and a floor for
//! each thread, also of threads that never call again.
//!
//! A thread's housekeeping takes the grants of idle classes back, and returns what is reserved for nothing.
//!
//! A class that is thin, that is, of which much memory is free, gets room for a few blocks at first, so that what is freed goes to its slab
//! before it is handed out again, and what is handed out comes from the fullest (decision 26).

use super::magazine::{List, limit};
use super::{CACHES, ThreadCache};
use crate::size_class::SizeClass;
use crate::sync::Cell;

/// What a thread may keep at hand in any case, in bytes. In the models more, since each step on the pool multiplies the schedules.
const FLOOR: usize = if cfg!(loom) { 256 << 10 } else { 64 << 10 };
/// Reserved from the pool at a time.
const CHUNK: usize = 64 << 10;
/// What a refill may fetch at once: all that a slab's list can have.
const FETCHED: usize = 64 << 10;
/// The same in a thread that has no more than its floor.
const FETCHED_POOR: usize = 16 << 10;
/// The first room of a class.
const STEP: usize = 4 << 10;
/// A thin class has room for so many blocks at most.
const FEW: usize = 8;

/// A cache's own account. Touched by the thread that has the cache.
pub(super) struct Account {
    /// Bytes that magazines have blocks and room for.
    granted: Cell<usize>,
    /// Bytes taken from the pool.
    reserved: Cell<usize>,
}

impl Account {
    pub(super) const fn new() -> Self {
        Self { granted: Cell::new(0), reserved: Cell::new(0) }
    }

    #[cfg(loom)]
    pub(super) fn reserved(&self) -> usize {
        self.reserved.get()
    }
}

/// How many blocks of a thin class are fetched at once, and freed before they go to their slabs: at most 4 KiB of them, or two.
pub(super) fn few(class: SizeClass) -> usize {
    class.blocks_in(STEP, 2, FEW)
}

impl ThreadCache {
    /// Bytes that were granted, or lie in old lists or on the shelf.
    fn at_hand(&self) -> usize {
        self.account.granted.get() + self.old_bytes.get() + self.shelf.bytes()
    }

    /// Whether the cache may hold so many bytes more than it has been granted, as things are.
    #[inline(always)]
    pub(super) fn is_covered(&self, more: usize) -> bool {
        self.at_hand() + more <= FLOOR + self.account.reserved.get()
    }

    /// Whether the cache may hold so many bytes more than it has been granted; reserves them if need be.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(super) fn may_hold(&self, more: usize) -> bool {
        self.is_covered(more) || self.reserve(more)
    }

    /// Takes from the pool what is missing for so many bytes more.
    #[cold]
    #[unsafe(link_section = ".text.terrace.common")]
    fn reserve(&self, more: usize) -> bool {
        let missing = self.at_hand() + more - (FLOOR + self.account.reserved.get());
        let bytes = missing.next_multiple_of(CHUNK);
        let reserved = CACHES.reserve(bytes);
        if reserved {
            self.account.reserved.set(self.account.reserved.get() + bytes);
        }
        reserved
    }

    fn set_grant(&self, class: SizeClass, blocks: usize) {
        let before = self.grants[class.index()].replace(blocks as u16) as usize;
        let size = class.block_size();
        self.account.granted.set(self.account.granted.get() + blocks * size - before * size);
    }

    /// How many blocks of a class a refill may fetch into its empty magazine. Must not be called with a lock held.
    pub(super) fn may_fetch(&'static self, class: SizeClass) -> usize {
        self.set_grant(class, 0);
        if self.may_hold(FETCHED) {
            return usize::MAX;
        }
        let bytes = FETCHED_POOR.max(class.block_size());
        if !self.may_hold(bytes) {
            self.strip();
        }
        bytes / class.block_size()
    }

    /// Grants a class room for what was fetched, and a step at least, or for a few blocks more if it is thin; the limit of the magazine.
    pub(super) fn grant_fetched(&self, class: SizeClass, list: &List) -> i32 {
        if self.thin[class.index()].get() {
            self.set_grant(class, list.count);
            if self.may_hold(few(class) * class.block_size()) {
                self.set_grant(class, list.count + few(class));
            }
            return i32::from(self.grants[class.index()].get());
        }
        let step = class.blocks_in(STEP, 1, limit(class) as usize);
        let had = self.grants[class.index()].get() as usize;
        // A list that was old, or was fetched, is accounted for; a step is less than what may be fetched.
        let blocks = list.count.max(if self.may_hold(step * class.block_size()) { step.max(had) } else { 1 });
        self.set_grant(class, blocks);
        blocks.min(limit(class) as usize) as i32
    }

    /// Grants a class whose magazine has no room more, if that is to be had; the limit of the magazine.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(super) fn enlarge(&'static self, class: SizeClass) -> i32 {
        let (had, most) = (self.grants[class.index()].get() as usize, limit(class) as usize);
        let least = if self.thin[class.index()].get() { few(class) } else { class.blocks_in(STEP, 1, most) };
        let wanted = (2 * had).max(least).min(most);
        if wanted <= had {
            if had > most {
                // A slab gave more, which is used up.
                self.set_grant(class, most);
            }
            return most as i32;
        }
        let more = (wanted - had) * class.block_size();
        if !self.may_hold(more) {
            if had > 0 {
                return had as i32;
            }
            self.strip();
        }
        self.set_grant(class, wanted);
        wanted as i32
    }

    /// The magazine of a class and its old list are empty, and get no room.
    pub(super) fn revoke(&self, class: SizeClass) {
        self.set_grant(class, 0);
    }

    /// After a young list has become the old one: settles old lists, if there is no allowance for them.
    pub(super) fn heed_allowance(&'static self, class: SizeClass) {
        if !self.may_hold(0) {
            self.clear_shelf();
            let others = SizeClass::all().filter(|&other| other != class);
            others.for_each(|other| self.settle(self.take_old(other)));
            if !self.may_hold(0) {
                self.settle(self.take_old(class));
            }
        }
    }

    /// Gives away all that is at hand.
    #[cold]
    fn strip(&'static self) {
        self.clear_shelf();
        let granted = SizeClass::all().filter(|&class| self.is_granted(class));
        granted.for_each(|class| self.settle_magazine(class));
    }

    /// Whether there are blocks of a class at hand, or room for them.
    pub(super) fn is_granted(&self, class: SizeClass) -> bool {
        self.grants[class.index()].get() > 0 || self.held(class) > 0
    }

    /// Whether there is anything at hand, or room for it.
    pub(super) fn has_at_hand(&self) -> bool {
        self.at_hand() > 0
    }

    /// In the child of a `fork`, for a thread that is not there and may have been at work on its account.
    pub(super) fn forget_account(&self) {
        self.grants.iter().for_each(|blocks| blocks.set(0));
        self.account.granted.set(0);
        self.return_reserve();
    }

    /// Returns what is reserved for nothing to the pool.
    pub(super) fn return_reserve(&self) {
        let needed = self.at_hand().saturating_sub(FLOOR).next_multiple_of(CHUNK);
        let surplus = self.account.reserved.get().saturating_sub(needed);
        if surplus > 0 {
            self.account.reserved.set(self.account.reserved.get() - surplus);
            CACHES.unreserve(surplus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap;

    #[test]
    fn what_threads_reserved_comes_back_when_they_have_ended_and_all_is_settled() {
        /// Takes and frees blocks of many classes, more than a floor of them.
        fn use_many_classes() {
            for class in SizeClass::all() {
                let blocks = [(); 3].map(|()| heap::allocate_c(class.block_size()));
                for block in blocks {
                    // SAFETY: the block was just allocated.
                    unsafe { heap::free(block) };
                }
            }
        }
        let threads: std::vec::Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    use_many_classes();
                    CACHES.reserved_bytes()
                })
            })
            .collect();
        for thread in threads {
            assert!(thread.join().unwrap() >= CHUNK, "nothing was reserved");
        }
        crate::tcache::flush();
        assert_eq!(CACHES.reserved_bytes(), 0, "what was reserved is lost");
    }
}
