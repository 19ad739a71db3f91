//! What a thread's cache does while calls are attended (`src/attended/`): it keeps nothing where a fast path could reach it.
//!
//! The fast paths know nothing of it. Magazines are empty and have no room (`Magazine::set_room`), and outboxes hold no chains,
//! so that every call takes the slow path; a thread's free blocks lie in its old lists alone. A thread that runs when it is
//! switched on uses up first what it has at hand.

use super::magazine::{List, limit};
use super::paths::{freed_twice, known};
use super::{ThreadCache, lifecycle};
use crate::arena::slab_containing;
use crate::block::{BlockPtr, blocks_from};
use crate::size_class::SizeClass;
use core::ptr::NonNull;

/// Frees a block of a slab, past all magazines and outboxes.
///
/// # Safety
/// `start` must be the first byte of a live block of a slab, which the caller gives up.
pub(crate) unsafe fn give_back(start: NonNull<u8>) {
    // SAFETY: blocks of slabs lie in registered segments.
    let slab = unsafe { slab_containing(start) };
    // SAFETY: the caller gives the block up.
    let block = unsafe { BlockPtr::from_start(start) };
    let class = slab.class();
    let owner = known(slab.owner(), block, class);
    match lifecycle::own_or_attach() {
        Some(cache) if owner == cache.owner().as_ptr() => cache.keep_attended(class, block),
        _ => lifecycle::send_alone(owner, class, block),
    }
}

impl ThreadCache {
    /// Keeps a list as the old one and takes a block from it.
    pub(super) fn take_attended(&self, class: SizeClass, mut list: List) -> Option<BlockPtr> {
        let block = list.head?;
        list = List { head: block.next(), count: list.count - 1 };
        let magazine = self.magazine(class);
        if magazine.count(class) == 0 {
            // Makes the room anew, which is none.
            let _ = magazine.unload(class, 0);
        }
        // Fetching may have let the C library call back into the allocator, which left an old list meanwhile.
        for other in blocks_from(self.take_old(class).head) {
            other.set_next(list.head);
            list = List { head: Some(other), count: list.count + 1 };
        }
        self.put_old(class, list);
        self.note(class);
        Some(block)
    }

    /// Keeps a block of this cache's own out of the fast path's reach.
    fn keep_attended(&'static self, class: SizeClass, block: BlockPtr) {
        let mut list = self.take_old(class);
        if list.head == Some(block) {
            freed_twice(block, class.block_size());
        }
        block.set_next(list.head);
        list = List { head: Some(block), count: list.count + 1 };
        if list.count > limit(class) as usize {
            self.settle(list);
        } else {
            self.put_old(class, list);
        }
        self.note(class);
        self.tick();
    }
}
