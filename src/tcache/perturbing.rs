//! Perturbing: blocks filled when they are handed out and when they are freed, to bring reads of stale memory to light.
//!
//! The fast paths know nothing of it. While it is on, magazines are empty and have no room (`Magazine::set_room`), and outboxes
//! hold no chains, so that every call takes the slow path, which fills the block and keeps a thread's free blocks in its old
//! lists alone. A thread that runs when it is switched on uses up first what it has at hand.

use super::magazine::{List, limit};
use super::{ThreadCache, freed_twice};
use crate::block::{BlockPtr, blocks_from};
use crate::size_class::SizeClass;

impl ThreadCache {
    /// Keeps a list as the old one, takes a block from it and fills that.
    pub(super) fn take_perturbed(&self, class: SizeClass, mut list: List, byte: u8) -> Option<BlockPtr> {
        let block = list.head?;
        list = List { head: block.next(), count: list.count - 1 };
        let magazine = self.magazine(class);
        if magazine.count(class) == 0 {
            // Makes the room anew, which is none.
            let _ = magazine.unload(class);
        }
        // Fetching may have let the C library call back into the allocator, which left an old list meanwhile.
        for other in blocks_from(self.take_old(class).head) {
            other.set_next(list.head);
            list = List { head: Some(other), count: list.count + 1 };
        }
        self.put_old(class, list);
        self.note(class);
        block.fill(!byte, class.block_size());
        Some(block)
    }

    /// Fills a block of this cache's own and keeps it out of the fast path's reach.
    pub(super) fn push_perturbed(&'static self, class: SizeClass, block: BlockPtr, byte: u8) {
        let mut list = self.take_old(class);
        if list.head == Some(block) {
            freed_twice(block, class.block_size());
        }
        block.fill(byte, class.block_size());
        // The refused push took of the room.
        let _ = self.magazine(class).make_room(class);
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
