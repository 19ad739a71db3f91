//! Runs that were freed last, kept whole for the next request of their length: those of a general heap, and those of a thread.

use super::general_heap::{Run, Spot};
use crate::sync::Cell;

pub(crate) struct Recent<const ROOM: usize> {
    /// The first `count` are there, the latest last.
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
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        self.runs[last].take()
    }

    /// Takes out the latest run that has this length and alignment (a power of two), in pages.
    pub(crate) fn take(&self, pages: usize, align: usize) -> Option<Spot> {
        let mut present = self.runs[..self.count.get()].iter().rev();
        let (place, spot) = present.find_map(|place| {
            let run = place.get().filter(|run| run.pages() == pages)?;
            let spot = Spot::of(run);
            (spot.page & (align - 1) == 0).then_some((place, spot))
        })?;
        // The last run moves to its place.
        place.set(self.pop());
        Some(spot)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static Run> {
        self.runs[..self.count.get()].iter().filter_map(Cell::get)
    }

    pub(crate) fn contains(&self, run: &Run) -> bool {
        self.runs.iter().any(|place| place.get().is_some_and(|other| core::ptr::eq(other, run)))
    }
}
