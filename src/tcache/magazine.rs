//! Magazines: the free blocks of one class that a thread has at hand, last freed, first handed out.
//!
//! ```text
//!            young                          old
//!   top ──▶ □ ─▶ □ ─▶ □          head ──▶ □ ─▶ □ ─▶ □ ─▶ □
//!   blocks in young = limit − room − taken         at most one full young list
//!   (what a class is granted below its limit, see `allowance`, counts as taken)
//! ```
//!
//! Allocation pops from the young list and free pushes onto it. A push takes of the room, and a pop does not give it back but
//! counts by itself; so after as many frees as the list may hold the slow path has its turn, whatever the mix, and with it
//! the housekeeping. It makes room anew, or finds the list full: then it becomes the old list, or, where there is one already, goes back to
//! the slabs. When the young list is empty the old one becomes young again. So a thread that swings around a limit moves lists
//! in O(1) and settles at most one block for each that was freed. Only the thread that owns the cache touches it.

use crate::block::{BlockPtr, Chain};
use crate::layout::MagazineLayout;
use crate::options::OPTIONS;
use crate::size_class::{self, SizeClass};
use crate::sync::Cell;
use core::mem::offset_of;

/// Blocks in one list of a magazine: at most this many bytes and this many blocks, and at least a few blocks.
const LIST_BYTES: usize = 32 << 10;
const LIST_BLOCKS: usize = 1024;
const LIST_MIN: usize = 4;

static LIMITS: [u16; size_class::COUNT] = limits();

/// How many blocks one list of each class holds.
pub(crate) const fn limits() -> [u16; size_class::COUNT] {
    let (mut limits, mut i) = ([0; size_class::COUNT], 0);
    while i < size_class::COUNT {
        limits[i] = limit_of(SizeClass::from_index(i));
        i += 1;
    }
    limits
}

const fn limit_of(class: SizeClass) -> u16 {
    class.blocks_in(LIST_BYTES, LIST_MIN, LIST_BLOCKS) as u16
}

/// How many blocks of the class one list of a magazine holds.
#[inline(always)]
pub(crate) fn limit(class: SizeClass) -> i32 {
    i32::from(LIMITS[class.index()])
}

/// The young list: all that the fast paths touch.
#[repr(C)]
pub(crate) struct Magazine {
    top: Cell<Option<BlockPtr>>,
    /// How many blocks may be pushed before the slow path looks.
    room: Cell<i32>,
    /// How many blocks were popped since the room was made, and how many the class has no room for; negative when a slab gave
    /// more than the limit.
    taken: Cell<i32>,
}

const _: () = assert!(size_of::<Magazine>() == SizeClass::SCALE);

impl Magazine {
    pub(crate) const LAYOUT: MagazineLayout = MagazineLayout {
        size: size_of::<Self>() as u32,
        top: offset_of!(Self, top) as u32,
        room: offset_of!(Self, room) as u32,
        taken: offset_of!(Self, taken) as u32,
    };

    /// An empty one without room.
    pub(crate) const fn none() -> Self {
        Self { top: Cell::new(None), room: Cell::new(0), taken: Cell::new(0) }
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<BlockPtr> {
        let block = self.top.get()?;
        let next = block.next();
        BlockPtr::fetch(next);
        self.top.set(next);
        self.taken.set(self.taken.get() + 1);
        Some(block)
    }

    /// Puts a block on top. Refuses one that is on top already, which is being freed twice, and any when there is no room;
    /// that leaves the room one too small, which saves the fast path a step: the caller makes good for it by `restore_room`.
    #[inline(always)]
    pub(crate) fn push(&self, block: BlockPtr) -> bool {
        let top = self.top.get();
        if top == Some(block) {
            return false;
        }
        let room = self.room.get() - 1;
        self.room.set(room);
        if room < 0 {
            return false;
        }
        block.set_next(top);
        self.top.set(Some(block));
        true
    }

    #[inline(always)]
    pub(crate) fn has_room(&self) -> bool {
        self.room.get() > 0
    }

    /// Puts a block on top, for which there must be room.
    #[inline(always)]
    pub(crate) fn put(&self, block: BlockPtr) {
        debug_assert!(self.room.get() > 0 && self.top.get() != Some(block));
        self.room.set(self.room.get() - 1);
        block.set_next(self.top.get());
        self.top.set(Some(block));
    }

    /// Gives back the room that a push took which was refused for the want of it.
    pub(crate) fn restore_room(&self) {
        self.room.set(self.room.get() + 1);
    }

    /// Makes room anew for up to `most` blocks; `false`, and none, if the list has three quarters of that.
    pub(crate) fn make_room(&self, class: SizeClass, most: i32) -> bool {
        let count = self.count(class) as i32;
        let ample = 4 * count < 3 * most;
        if ample {
            self.set_room(class, count, most);
        }
        ample
    }

    /// Makes room for so many blocks that there are `most`, and none while calls are attended. What is missing to the limit
    /// of the class counts as popped.
    fn set_room(&self, class: SizeClass, count: i32, most: i32) {
        let most = if OPTIONS.attended() { 0 } else { most };
        let room = (most - count).max(0);
        self.room.set(room);
        self.taken.set(limit(class) - count - room);
    }

    /// Puts a whole list into an empty magazine, which may grow to `most` blocks.
    pub(crate) fn load(&self, class: SizeClass, list: List, most: i32) {
        debug_assert!(self.top.get().is_none());
        self.top.set(list.head);
        self.set_room(class, list.count as i32, most);
    }

    /// Takes everything out; there is room for `most` blocks then.
    pub(crate) fn unload(&self, class: SizeClass, most: i32) -> List {
        let count = self.count(class);
        let head = self.top.take();
        self.set_room(class, 0, most);
        List { head, count }
    }

    pub(crate) fn top(&self) -> Option<BlockPtr> {
        self.top.get()
    }

    pub(crate) fn count(&self, class: SizeClass) -> usize {
        (limit(class) - self.room.get() - self.taken.get()) as usize
    }
}

/// A list of blocks of one class and its length.
#[derive(Clone, Copy, Default)]
pub(crate) struct List {
    pub(crate) head: Option<BlockPtr>,
    pub(crate) count: usize,
}

impl List {
    pub(crate) fn of(chain: Chain) -> Self {
        Self { head: Some(chain.head), count: usize::from(chain.count) }
    }

    /// Makes one list of chains, of as many as it takes to have so many blocks.
    pub(crate) fn join(mut next: impl FnMut() -> Option<Chain>, least: usize) -> Option<Self> {
        let mut last = next()?;
        let mut list = Self::of(last);
        while list.count < least
            && let Some(chain) = next()
        {
            // All chains but the last hold less than is wanted.
            if let Some(end) = last.blocks().last() {
                end.set_next(Some(chain.head));
            }
            list.count += usize::from(chain.count);
            last = chain;
        }
        Some(list)
    }

    /// Leaves the first `most` blocks, of more, and gives the others.
    pub(crate) fn cut(&mut self, most: usize) -> Self {
        let last = (1..most).fold(self.head, |block, _| block?.next());
        let rest = Self { head: last.and_then(BlockPtr::next), count: self.count - most };
        if let Some(last) = last {
            last.set_next(None);
        }
        self.count = most;
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;

    fn block() -> BlockPtr {
        // SAFETY: a fresh, leaked allocation of the test's own.
        unsafe { BlockPtr::from_start(NonNull::from(std::boxed::Box::leak(std::boxed::Box::new([0_u64; 2]))).cast()) }
    }

    fn with_room(class: SizeClass) -> Magazine {
        let magazine = Magazine::none();
        magazine.set_room(class, 0, limit(class));
        magazine
    }

    #[test]
    fn the_block_freed_last_is_handed_out_first() {
        let class = SizeClass::of(16).unwrap();
        let magazine = with_room(class);
        let (a, b) = (block(), block());
        assert!(magazine.push(a));
        assert!(magazine.push(b));
        assert_eq!(magazine.pop(), Some(b));
        assert_eq!(magazine.pop(), Some(a));
        assert_eq!(magazine.pop(), None);
    }

    #[test]
    fn a_block_is_refused_while_it_is_on_top() {
        let class = SizeClass::of(16).unwrap();
        let magazine = with_room(class);
        let a = block();
        assert!(magazine.push(a));
        assert!(!magazine.push(a));
        assert_eq!((magazine.top(), magazine.count(class)), (Some(a), 1), "and nothing has changed");
    }

    #[test]
    fn a_magazine_holds_its_limit_and_no_more() {
        let class = SizeClass::of(8192).unwrap();
        let magazine = with_room(class);
        for _ in 0..limit(class) {
            assert!(magazine.push(block()));
        }
        assert!(!magazine.push(block()));
        magazine.restore_room();
        assert!(!magazine.make_room(class, limit(class)));
        let list = magazine.unload(class, 0);
        assert_eq!(list.count, limit(class) as usize);
        assert_eq!(crate::block::blocks_from(list.head).count(), list.count);
        assert_eq!(magazine.count(class), 0);
    }

    #[test]
    fn a_magazine_that_is_granted_less_holds_less_and_counts_right() {
        let class = SizeClass::of(1024).unwrap();
        let magazine = with_room(class);
        assert_eq!(magazine.unload(class, 3).count, 0);
        for granted in [3, 1] {
            for _ in 0..granted {
                assert!(magazine.push(block()));
            }
            assert!(!magazine.push(block()));
            magazine.restore_room();
            assert!(!magazine.make_room(class, granted));
            assert_eq!(magazine.count(class), granted as usize);
            assert_eq!(magazine.unload(class, 1).count, granted as usize);
        }
    }

    #[test]
    fn room_is_made_for_what_was_popped_and_the_slow_path_has_its_turn() {
        let class = SizeClass::of(1024).unwrap();
        let magazine = with_room(class);
        let a = block();
        for _ in 0..3 {
            for _ in 0..limit(class) {
                assert!(magazine.push(a));
                assert_eq!(magazine.pop(), Some(a));
            }
            assert!(!magazine.push(a));
            magazine.restore_room();
            assert!(magazine.make_room(class, limit(class)));
            assert_eq!(magazine.count(class), 0);
        }
    }
}
