//! The shelf: the medium blocks that a thread freed last, as they are, for its next requests of the same lengths.
//!
//! To the arena a block on a shelf is one in use, which nobody joins with its neighbours: taking and putting need no lock. Its
//! descriptor says that it is shelved, so that it is known to be free: to whoever frees it once more, and to whoever counts.
//! Only the thread that has the cache touches its shelf. What lies there counts towards what the thread may have at hand, and goes
//! to the arenas when it does not fit, when nothing was put or taken between two turns of the housekeeping, when the thread can
//! have no more at hand or finds no memory elsewhere, and when it ends.

use super::{PURGER, ThreadCache};
use crate::arena::{ARENAS, PAGE, Recent, Run, Spot};
use crate::options::OPTIONS;
use crate::report::{self, Fault};
use crate::sync::Cell;
use core::ptr::NonNull;

/// How many blocks a shelf has room for.
const ROOM: usize = 4;
/// How many bytes, in all.
pub(super) const MOST: usize = 256 << 10;

/// A block that is put there counts as so many slow calls, so that the clock is looked at every 16th time.
const CALLS_OF_A_BLOCK: u32 = 2;

pub(super) struct Shelf {
    runs: Recent<ROOM>,
    bytes: Cell<usize>,
    /// How many they may be: 0 in a stand-in, which so keeps nothing.
    most: Cell<usize>,
    /// Whether anything was put or taken since the last housekeeping.
    used: Cell<bool>,
}

impl Shelf {
    /// All of it is zeroes.
    pub(super) const fn new() -> Self {
        Self { runs: Recent::new(), bytes: Cell::new(0), most: Cell::new(0), used: Cell::new(false) }
    }

    /// For a cache that a thread gets.
    pub(super) fn open(&self) {
        self.most.set(MOST);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Counts a block out, and says where it starts.
    #[inline(always)]
    fn hand_out(&self, run: &'static Run) -> NonNull<u8> {
        run.set_shelved(false);
        self.bytes.set(self.bytes.get() - run.pages() * PAGE);
        self.used.set(true);
        Spot::of(run).start()
    }

    /// Checks that it holds as many bytes as it counts, all of them shelved. Panics otherwise.
    pub(super) fn check(&self) {
        assert!(self.runs.iter().all(Run::is_shelved), "a block on a shelf is not marked");
        assert_eq!(self.runs.iter().map(Run::pages).sum::<usize>() * PAGE, self.bytes.get(), "a shelf is miscounted");
    }

    /// In the child of a `fork`, for a thread that is not there and may have been at work here: what is marked as shelved was free.
    pub(super) fn abandon(&self) {
        while let Some(run) = self.runs.pop() {
            let _ = ARENAS.free_shelved(run);
        }
        self.bytes.set(0);
    }
}

impl ThreadCache {
    /// Keeps a medium block that is being freed if the shelf has room, and the thread may have so much more at hand, as things are.
    #[inline(always)]
    pub(super) fn try_shelve(&'static self, run: &'static Run) -> bool {
        let (shelf, bytes) = (&self.shelf, run.pages() * PAGE);
        let fits = shelf.bytes.get() + bytes <= shelf.most.get()
            && !shelf.runs.is_full()
            && OPTIONS.purge_delay_ms() > 0
            && self.is_covered(bytes);
        if fits {
            self.put_on_shelf(run);
        }
        fits
    }

    /// The same after making room; `false` if the block has to go to its arena.
    pub(super) fn shelve(&'static self, run: &'static Run) -> bool {
        let (shelf, bytes) = (&self.shelf, run.pages() * PAGE);
        if bytes > shelf.most.get() {
            return false;
        }
        let is_kept = OPTIONS.purge_delay_ms() > 0;
        if !is_kept || shelf.runs.is_full() || shelf.bytes.get() + bytes > shelf.most.get() {
            self.clear_shelf();
        }
        let fits = is_kept && self.may_hold(bytes);
        if fits {
            self.put_on_shelf(run);
        }
        fits
    }

    #[inline(always)]
    fn put_on_shelf(&'static self, run: &'static Run) {
        let shelf = &self.shelf;
        run.set_shelved(true);
        shelf.runs.push(run);
        shelf.bytes.set(shelf.bytes.get() + run.pages() * PAGE);
        shelf.used.set(true);
        self.count_calls(CALLS_OF_A_BLOCK);
    }

    /// Takes the block that was put there last, if it has just so many pages.
    #[inline(always)]
    pub(super) fn unshelve_latest(&self, pages: usize) -> Option<NonNull<u8>> {
        Some(self.shelf.hand_out(self.shelf.runs.take_latest(pages)?))
    }

    /// Takes a block of just so many pages, at a multiple of `align` (a power of two) pages.
    #[inline(always)]
    pub(super) fn unshelve(&self, pages: usize, align: usize) -> Option<NonNull<u8>> {
        Some(self.shelf.hand_out(self.shelf.runs.take(pages, align)?))
    }

    /// Gives all that lies there to the arenas.
    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text.terrace.common")]
    pub(super) fn clear_shelf(&self) {
        let shelf = &self.shelf;
        if shelf.bytes.get() == 0 {
            // Each turn of the housekeeping comes by: the purger is not to be woken for nothing.
            return;
        }
        while let Some(run) = shelf.runs.pop() {
            let bytes = run.pages() * PAGE;
            shelf.bytes.set(shelf.bytes.get() - bytes);
            if !ARENAS.free_shelved(run) {
                // Two threads freed it at once.
                report::harm_done("free", Spot::of(run).start().as_ptr(), Fault::Freed { size: bytes });
            }
        }
        PURGER.note();
    }

    /// As [`Self::clear_shelf`], unless it was used since this was asked last.
    pub(super) fn clear_idle_shelf(&self) {
        if !self.shelf.used.replace(false) {
            self.clear_shelf();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::medium_at;
    use crate::heap;
    use std::vec::Vec;

    fn take(size: usize) -> NonNull<u8> {
        NonNull::new(heap::allocate_c(size)).expect("there is memory")
    }

    fn free(block: NonNull<u8>) {
        // SAFETY: the block was taken, and is given up.
        unsafe { heap::free(block.as_ptr()) };
    }

    /// Runs `f` in a thread of its own, whose shelf is empty.
    fn apart(f: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            scope.spawn(f);
        });
    }

    fn shelf() -> &'static Shelf {
        &super::super::lifecycle::own().expect("the thread has a cache").shelf
    }

    #[test]
    fn the_block_freed_last_of_just_that_length_is_handed_out_again() {
        apart(|| {
            let [a, b, c] = [40_000, 40_000, 50_000].map(take);
            [a, b, c].into_iter().for_each(free);
            assert_eq!(shelf().bytes(), 2 * (40 << 10) + (52 << 10));
            assert_eq!(take(39_000), b);
            assert_eq!(take(49_200), c);
            assert_eq!(take(40_960), a);
            assert_eq!(shelf().bytes(), 0);
            [a, b, c].into_iter().for_each(free);
        });
    }

    #[test]
    fn it_keeps_a_few_blocks_and_bytes_and_nothing_once_it_is_idle() {
        apart(|| {
            for (size, count) in [(40_000, ROOM + 1), (200_000, 2), (MOST, 2)] {
                let blocks: Vec<_> = (0..count).map(|_| take(size)).collect();
                for block in blocks {
                    free(block);
                    assert!(shelf().bytes() <= MOST);
                }
                assert!(medium_at(take(size)).is_some_and(|run| !run.is_shelved()));
            }
            let cache = super::super::lifecycle::own().unwrap();
            free(take(40_000));
            cache.clear_idle_shelf();
            assert!(shelf().bytes() > 0, "it was used since");
            cache.clear_idle_shelf();
            assert_eq!(shelf().bytes(), 0);
            free(take(MOST + 1));
            assert_eq!(shelf().bytes(), 0, "that is too long");
        });
    }

    #[test]
    fn alignment_is_heeded() {
        apart(|| {
            let aligned = |align| NonNull::new(heap::allocate_aligned(40_000, align)).expect("there is memory");
            let blocks: Vec<_> = (0..ROOM).map(|_| take(40_000)).collect();
            blocks.iter().copied().for_each(free);
            let wide = aligned(64 << 10);
            assert!(wide.addr().get().is_multiple_of(64 << 10));
            free(wide);
            assert_eq!(aligned(64 << 10), wide);
        });
    }
}
