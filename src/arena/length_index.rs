//! Free runs by length and address: the shortest that is long enough, the lowest among equals, in a few steps.
//!
//! ```text
//!  lengths in pages    1  2  3 … 63 │ 64–71  72–79 … 120–127 │ 128–143 …      … 960–1023
//!  bins                each its own │ eight to a doubling
//!  occupied            0  1  0 …    │ a bit a bin
//! ```
//!
//! A bin is a tree by length and address; most hold a run or two, so the bits do the work that a single tree would do in a
//! walk from the root.

use super::general_heap::Run;
use super::treap::Treap;
use crate::sync::Cell;

const EXACT: usize = 64;
const BINS_PER_DOUBLING: usize = 8;
/// Runs are shorter than 1,024 pages: 64 exact bins and four doublings.
const BINS: usize = EXACT + 4 * BINS_PER_DOUBLING;

pub(crate) struct LengthIndex {
    occupied: Cell<u128>,
    bins: [Treap<Run>; BINS],
}

const fn bin_of(pages: usize) -> usize {
    if pages < EXACT {
        return pages;
    }
    let doubling = (pages / EXACT).ilog2();
    EXACT + doubling as usize * BINS_PER_DOUBLING + (pages >> (doubling + 3)) - BINS_PER_DOUBLING
}

const _: () = {
    let mut pages = 1;
    while pages <= super::segment::MAX_RUN_PAGES {
        let (bin, next) = (bin_of(pages), bin_of(pages + 1));
        assert!(next == bin || next == bin + 1, "longer runs stand in the same bin or the next");
        assert!(bin < BINS && BINS <= u128::BITS as usize);
        pages += 1;
    }
};

impl LengthIndex {
    pub(crate) const fn new() -> Self {
        Self { occupied: Cell::new(0), bins: [const { Treap::new() }; BINS] }
    }

    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn insert(&self, run: &'static Run) {
        let bin = bin_of(run.pages());
        self.bins[bin].insert(run);
        self.occupied.set(self.occupied.get() | 1 << bin);
    }

    /// Takes out a run that is in this index, under the length that it was entered with.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn remove(&self, run: &'static Run) {
        let bin = bin_of(run.pages());
        self.bins[bin].remove(run);
        if self.bins[bin].is_empty() {
            self.occupied.set(self.occupied.get() & !(1 << bin));
        }
    }

    /// The first run, by length and address, of at least that many pages; `None` for lengths that no run has.
    pub(crate) fn first_of(&self, pages: usize) -> Option<&'static Run> {
        let bin = bin_of(pages);
        let here = self.bins.get(bin)?.first_where(|run| run.pages() >= pages);
        here.or_else(|| self.first_beyond(bin))
    }

    /// The run that follows `run` in order.
    pub(crate) fn after(&self, run: &Run) -> Option<&'static Run> {
        let bin = bin_of(run.pages());
        self.bins[bin].after(run).or_else(|| self.first_beyond(bin))
    }

    fn first_beyond(&self, bin: usize) -> Option<&'static Run> {
        let longer = self.occupied.get() & (u128::MAX << bin << 1);
        self.bins.get(longer.trailing_zeros() as usize)?.first()
    }
}
