//! Runs that were freed last, kept whole for the next request of their length: those of a general heap, and those of a thread.

use super::general_heap::Run;
use crate::sync::Cell;

pub(crate) struct Recent<const ROOM: usize> {
    /// The first `count` are there, the latest last, and no other: a child of `fork` may see a row in the midst of a change.
    runs: [Cell<Option<&'static Run>>; ROOM],
    count: Cell<usize>,
}

impl<const ROOM: usize> Recent<ROOM> {
    pub(crate) const fn new() -> Self {
        Self { runs: [const { Cell::new(None) }; ROOM], count: Cell::new(0) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count.get() == ROOM
    }

    /// Adds a run; there must be room.
    pub(crate) fn push(&self, run: &'static Run) {
        let count = self.count.get();
        self.runs[count].set(Some(run));
        self.count.set(count + 1);
    }

    pub(crate) fn pop(&self) -> Option<&'static Run> {
        let place = self.runs.get(self.count.get().wrapping_sub(1))?;
        self.count.set(self.count.get() - 1);
        place.take()
    }

    /// Takes out the latest run if it has this length in pages.
    #[inline(always)]
    pub(crate) fn take_latest(&self, pages: usize) -> Option<&'static Run> {
        let latest = self.runs.get(self.count.get().wrapping_sub(1))?;
        let run = latest.get().filter(|run| run.pages() == pages)?;
        self.count.set(self.count.get() - 1);
        latest.set(None);
        Some(run)
    }

    /// Takes out the latest run that has this length and alignment (a power of two), in pages.
    #[inline]
    pub(crate) fn take(&self, pages: usize, align: usize) -> Option<&'static Run> {
        let mut present = self.runs[..self.count.get()].iter().rev();
        let (place, run) =
            present.find_map(|place| Some((place, place.get().filter(|run| run.fits(pages, align))?)))?;
        // The latest moves to its place.
        place.set(self.pop());
        Some(run)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static Run> {
        self.runs[..self.count.get()].iter().filter_map(Cell::get)
    }

    pub(crate) fn contains(&self, run: &Run) -> bool {
        self.iter().any(|other| core::ptr::eq(other, run))
    }
}
