//! Magazines: the free blocks of one class that a thread has at hand, last freed, first handed out.
//!
//! ```text
//!            young                          old
//!   top ──▶ □ ─▶ □ ─▶ □          head ──▶ □ ─▶ □ ─▶ □ ─▶ □
//!   room = limit − blocks in young         at most one full young list
//! ```
//!
//! Allocation pops from the young list and free pushes onto it. When it is full it becomes the old list and what was old
//! goes back to the slabs; when it is empty the old list becomes young again. So a thread that swings around a limit moves
//! lists in O(1) and settles at most one block for each that was freed. Only the thread that owns the cache touches it.

use crate::block::BlockPtr;
use crate::size_class::SizeClass;
use crate::sync::Cell;

/// Blocks in one list of a magazine: at most this many bytes and this many blocks, and at least a few blocks.
const LIST_BYTES: usize = 32 << 10;
const LIST_BLOCKS: usize = 1024;
const LIST_MIN: usize = 4;

/// How many blocks of the class one list of a magazine holds.
pub(crate) const fn limit(class: SizeClass) -> i32 {
    class.blocks_in(LIST_BYTES, LIST_MIN, LIST_BLOCKS) as i32
}

/// The young list: all that the fast paths touch.
#[repr(C)]
pub(crate) struct Magazine {
    top: Cell<Option<BlockPtr>>,
    /// How many blocks may still be pushed. Negative when a slab gave more than the limit; the next push then rotates.
    room: Cell<i32>,
}

const _: () = assert!(size_of::<Magazine>() == SizeClass::SCALE);

/// Why a block could not be pushed.
pub(crate) enum Refusal {
    /// The block is on top already: it is being freed twice.
    OnTop,
    Full,
}

impl Magazine {
    pub(crate) const fn new(class: SizeClass) -> Self {
        Self { top: Cell::new(None), room: Cell::new(limit(class)) }
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<BlockPtr> {
        let block = self.top.get()?;
        self.top.set(block.next());
        self.room.set(self.room.get() + 1);
        Some(block)
    }

    /// Puts a block on top. A refusal as `Full` leaves the room one too small, which saves the fast path a step: the caller
    /// makes good for it by `restore_room`.
    #[inline(always)]
    pub(crate) fn push(&self, block: BlockPtr) -> Result<(), Refusal> {
        let top = self.top.get();
        if top == Some(block) {
            return Err(Refusal::OnTop);
        }
        let room = self.room.get() - 1;
        self.room.set(room);
        if room < 0 {
            return Err(Refusal::Full);
        }
        block.set_next(top);
        self.top.set(Some(block));
        Ok(())
    }

    /// Takes back what a push that was refused as `Full` took of the room.
    pub(crate) fn restore_room(&self) {
        self.room.set(self.room.get() + 1);
    }

    /// Puts a whole list into an empty magazine.
    pub(crate) fn load(&self, class: SizeClass, list: List) {
        debug_assert!(self.top.get().is_none());
        self.top.set(list.head);
        self.room.set(limit(class) - list.count as i32);
    }

    /// Takes everything out.
    pub(crate) fn unload(&self, class: SizeClass) -> List {
        let count = self.count(class);
        let head = self.top.take();
        self.room.set(limit(class));
        List { head, count }
    }

    pub(crate) fn top(&self) -> Option<BlockPtr> {
        self.top.get()
    }

    pub(crate) fn count(&self, class: SizeClass) -> usize {
        (limit(class) - self.room.get()) as usize
    }
}

/// A list of blocks of one class and its length.
#[derive(Clone, Copy, Default)]
pub(crate) struct List {
    pub(crate) head: Option<BlockPtr>,
    pub(crate) count: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;

    fn block() -> BlockPtr {
        // SAFETY: a fresh, leaked allocation of the test's own.
        unsafe { BlockPtr::from_start(NonNull::from(std::boxed::Box::leak(std::boxed::Box::new([0_u64; 2]))).cast()) }
    }

    #[test]
    fn the_block_freed_last_is_handed_out_first() {
        let class = SizeClass::of(16).unwrap();
        let magazine = Magazine::new(class);
        let (a, b) = (block(), block());
        assert!(magazine.push(a).is_ok());
        assert!(magazine.push(b).is_ok());
        assert_eq!(magazine.pop(), Some(b));
        assert_eq!(magazine.pop(), Some(a));
        assert_eq!(magazine.pop(), None);
    }

    #[test]
    fn a_block_is_refused_while_it_is_on_top() {
        let magazine = Magazine::new(SizeClass::of(16).unwrap());
        let a = block();
        assert!(magazine.push(a).is_ok());
        assert!(matches!(magazine.push(a), Err(Refusal::OnTop)));
    }

    #[test]
    fn a_magazine_holds_its_limit_and_no_more() {
        let class = SizeClass::of(8192).unwrap();
        let magazine = Magazine::new(class);
        for _ in 0..limit(class) {
            assert!(magazine.push(block()).is_ok());
        }
        assert!(matches!(magazine.push(block()), Err(Refusal::Full)));
        magazine.restore_room();
        let list = magazine.unload(class);
        assert_eq!(list.count, limit(class) as usize);
        assert_eq!(crate::block::blocks_from(list.head).count(), list.count);
        assert_eq!(magazine.count(class), 0);
    }
}
