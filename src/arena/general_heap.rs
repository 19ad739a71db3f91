//! The general heap: runs of pages, by best fit, lowest address among equals, split and coalesced.
//!
//! ```text
//!  descriptors  │F····f│M··│S···············│F·f│M│     F free head, f its last page, M medium, S slab
//!  pages        ├──────┼───┼────────────────┼───┼─┤
//!                6      3    16               3  1
//! ```
//!
//! Every run's first descriptor holds its length; a free run's last descriptor holds it too (`free_behind`), so that the
//! neighbour on either side is found without a search. No two free runs of one segment touch. All of it lies out of band
//! and is guarded by the arena's lock.
//!
//! Free runs that were touched are *dirty* and stand, oldest first, in a list that the purge takes them from; a run that
//! reads as zero is *zeroed*, and `calloc` need not clear it.

use super::segment::{HEADER_PAGES, MAX_RUN_PAGES, PAGE, PAGES, Segment, page_index};
use super::treap::{Links, Node, Treap};
use crate::os;
use crate::sync::Cell;
use core::ptr::{self, NonNull};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum RunState {
    /// Not the first page of a run. Zero, so that fresh memory reads as this.
    Inner = 0,
    Free = 1,
    Medium = 2,
    Slab = 3,
}

/// The descriptor of a page; what it says counts for the whole run when it is the run's first.
#[repr(C)]
pub(crate) struct Run {
    /// Among the free runs, by length and address.
    links: Links<Run>,
    /// Among the dirty runs, by age.
    older: Cell<Option<&'static Run>>,
    newer: Cell<Option<&'static Run>>,
    /// When the run became dirty, in milliseconds of the coarse clock, modulo 2^32.
    stamp: Cell<u32>,
    /// Length in pages.
    pages: Cell<u16>,
    /// In the last page of a free run, the run's length; else 0.
    free_behind: Cell<u16>,
    state: Cell<RunState>,
    dirty: Cell<bool>,
    zeroed: Cell<bool>,
}

const _: () = assert!(MAX_RUN_PAGES <= u16::MAX as usize);

impl Node for Run {
    fn links(&self) -> &Links<Self> {
        &self.links
    }
    /// By length, then by address; descriptors lie in the order of their pages.
    fn precedes(&self, other: &Self) -> bool {
        (self.pages.get(), ptr::from_ref(self)) < (other.pages.get(), ptr::from_ref(other))
    }
}

impl Run {
    pub(crate) fn state(&self) -> RunState {
        self.state.get()
    }

    /// Length in pages; of a run's first descriptor.
    pub(crate) fn pages(&self) -> usize {
        self.pages.get() as usize
    }

    pub(crate) fn is_zeroed(&self) -> bool {
        self.zeroed.get()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.get()
    }
}

/// Where a run begins: its segment and the number of its first page there.
#[derive(Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) segment: &'static Segment,
    pub(crate) page: usize,
}

impl Spot {
    fn of(run: &'static Run) -> Self {
        // SAFETY: descriptors lie at the head of registered segments.
        let segment = unsafe { Segment::containing(NonNull::from_ref(run).cast()) };
        let page = (ptr::from_ref(run).addr() - segment.runs.as_ptr().addr()) / size_of::<Run>();
        Self { segment, page }
    }

    /// # Safety
    /// The address must lie in a registered segment.
    pub(crate) unsafe fn containing(address: NonNull<u8>) -> Self {
        // SAFETY: the caller's promise.
        Self { segment: unsafe { Segment::containing(address) }, page: page_index(address) }
    }

    pub(crate) fn run(self) -> &'static Run {
        &self.segment.runs[self.page]
    }

    fn at(self, page: usize) -> Self {
        Self { page, ..self }
    }

    pub(crate) fn start(self) -> NonNull<u8> {
        self.segment.page(self.page)
    }
}

/// A run that was taken from the free ones.
pub(crate) struct Taken {
    pub(crate) spot: Spot,
    /// Whether every byte of it is known to be zero.
    pub(crate) zeroed: bool,
}

pub(crate) struct GeneralHeap {
    free: Treap<Run>,
    oldest: Cell<Option<&'static Run>>,
    newest: Cell<Option<&'static Run>>,
    pub(crate) free_pages: Cell<usize>,
    pub(crate) dirty_pages: Cell<usize>,
}

// SAFETY: guarded by its arena's lock; the references in it point at descriptors that the same lock guards.
unsafe impl Send for GeneralHeap {}

impl GeneralHeap {
    pub(crate) const fn new() -> Self {
        Self {
            free: Treap::new(),
            oldest: Cell::new(None),
            newest: Cell::new(None),
            free_pages: Cell::new(0),
            dirty_pages: Cell::new(0),
        }
    }

    /// Takes in the pages of a segment that has no runs.
    pub(crate) fn add_segment(&self, segment: &'static Segment, zeroed: bool) {
        let freshness = Freshness { zeroed, age: None };
        self.insert(Spot { segment, page: HEADER_PAGES }, MAX_RUN_PAGES, freshness);
    }

    /// Takes out a segment that `is_wholly_free`.
    pub(crate) fn remove_segment(&self, segment: &'static Segment) {
        self.withdraw(Spot { segment, page: HEADER_PAGES });
    }

    pub(crate) fn is_wholly_free(&self, segment: &'static Segment) -> bool {
        let run = &segment.runs[HEADER_PAGES];
        run.state() == RunState::Free && run.pages() == MAX_RUN_PAGES
    }

    /// Takes `pages` pages that start at a multiple of `align` pages: the shortest free run that holds them, the lowest
    /// among equals. What is left over stays free.
    pub(crate) fn take(&self, pages: usize, align: usize, state: RunState) -> Option<Taken> {
        let (run, start) = self.best_fit(pages, align)?;
        let spot = Spot::of(run);
        let (len, freshness) = (run.pages(), Freshness::of(run));
        self.withdraw(spot);
        let (before, after) = (start - spot.page, len - (start - spot.page) - pages);
        // What is left over stands among the dirty runs where the whole stood.
        if before > 0 {
            self.insert(spot, before, freshness);
        }
        if after > 0 {
            self.insert(spot.at(start + pages), after, freshness);
        }
        let taken = spot.at(start);
        taken.run().pages.set(pages as u16);
        taken.run().state.set(state);
        Some(Taken { spot: taken, zeroed: freshness.zeroed })
    }

    fn best_fit(&self, pages: usize, align: usize) -> Option<(&'static Run, usize)> {
        /// Runs that are long enough but lie badly are passed over this often before one is taken that fits anyway.
        const TRIES: usize = 16;
        let mut candidate = self.free.first_where(|run| run.pages() >= pages);
        for _ in 0..TRIES {
            let run = candidate?;
            let spot = Spot::of(run);
            let start = spot.page.next_multiple_of(align);
            if start + pages <= spot.page + run.pages() {
                return Some((run, start));
            }
            candidate = self.free.after(run);
        }
        let run = self.free.first_where(|run| run.pages() >= pages + align - 1)?;
        Some((run, Spot::of(run).page.next_multiple_of(align)))
    }

    /// Gives a run back, joined with its free neighbours.
    pub(crate) fn free(&self, spot: Spot) {
        let pages = spot.run().pages();
        self.free_pages_at(spot, pages);
    }

    fn free_pages_at(&self, spot: Spot, pages: usize) {
        let (mut first, mut len) = (spot.page, pages);
        spot.run().state.set(RunState::Inner);
        // The age of the largest part counts, so that a run does not stay young for ever by small additions.
        let (mut largest, mut oldest_part): (usize, Option<Age>) = (pages, None);
        let behind = spot.segment.runs[first - 1].free_behind.get() as usize;
        let mut join = |neighbour: Spot| {
            let run = neighbour.run();
            let age = Age::of(run);
            self.withdraw(neighbour);
            // A run that has just left the list cannot mark a place in it.
            if let Some(part) = &mut oldest_part
                && part.before.is_some_and(|before| ptr::eq(before, run))
            {
                part.before = age.and_then(|age| age.before);
            }
            if run.pages() > largest && age.is_some() {
                (largest, oldest_part) = (run.pages(), age);
            }
            len += run.pages();
        };
        if behind > 0 {
            first -= behind;
            join(spot.at(first));
        }
        let end = spot.page + pages;
        if spot.segment.runs.get(end).is_some_and(|run| run.state() == RunState::Free) {
            join(spot.at(end));
        }
        let young = || Age { stamp: os::clock_ms() as u32, before: self.newest.get() };
        let age = Some(oldest_part.unwrap_or_else(young));
        self.insert(spot.at(first), len, Freshness { zeroed: false, age });
    }

    /// Makes a medium run longer or shorter where it lies; `false`, and no change, when what follows it is not free
    /// enough.
    pub(crate) fn resize(&self, spot: Spot, pages: usize) -> bool {
        let run = spot.run();
        let old = run.pages();
        if pages < old {
            run.pages.set(pages as u16);
            self.free_pages_at(spot.at(spot.page + pages), old - pages);
            return true;
        }
        let missing = pages - old;
        if missing == 0 {
            return true;
        }
        let next = spot.at(spot.page + old);
        let Some(follower) = spot.segment.runs.get(next.page) else { return false };
        if follower.state() != RunState::Free || follower.pages() < missing {
            return false;
        }
        let (len, freshness) = (follower.pages(), Freshness::of(follower));
        self.withdraw(next);
        if len > missing {
            self.insert(next.at(next.page + missing), len - missing, freshness);
        }
        run.pages.set(pages as u16);
        true
    }

    /// Returns to the kernel the memory of dirty runs that are at least `age_ms` old, up to about `budget` pages; says how
    /// many pages those were.
    pub(crate) fn purge(&self, now_ms: u64, age_ms: u32, budget: usize) -> usize {
        let mut purged = 0;
        while let Some(run) = self.oldest.get() {
            // A stamp can be younger than `now`, which was read before the lock was taken.
            let age = (now_ms as u32).wrapping_sub(run.stamp.get()) as i32;
            if purged >= budget || (age.max(0) as u32) < age_ms {
                break;
            }
            let spot = Spot::of(run);
            self.clean(run);
            purged += run.pages();
            let (start, len) = inner_pages(spot.start(), run.pages() * PAGE);
            let discarded = len == 0 || os::discard(start, len);
            run.zeroed.set(discarded && len == run.pages() * PAGE);
        }
        purged
    }

    fn insert(&self, spot: Spot, pages: usize, freshness: Freshness) {
        let run = spot.run();
        run.pages.set(pages as u16);
        run.state.set(RunState::Free);
        run.zeroed.set(freshness.zeroed);
        spot.segment.runs[spot.page + pages - 1].free_behind.set(pages as u16);
        self.free.insert(run);
        self.free_pages.set(self.free_pages.get() + pages);
        run.dirty.set(false);
        if let Some(age) = freshness.age {
            run.stamp.set(age.stamp);
            self.soil(run, age.before);
        }
    }

    fn withdraw(&self, spot: Spot) {
        let run = spot.run();
        debug_assert_eq!(run.state(), RunState::Free);
        self.free.remove(run);
        self.clean(run);
        self.free_pages.set(self.free_pages.get() - run.pages());
        run.state.set(RunState::Inner);
        spot.segment.runs[spot.page + run.pages() - 1].free_behind.set(0);
    }

    /// Enters a run into the list of dirty ones, right behind `before`, which is the youngest of those that are older.
    fn soil(&self, run: &'static Run, before: Option<&'static Run>) {
        let after = before.map_or(self.oldest.get(), |older| older.newer.get());
        run.older.set(before);
        run.newer.set(after);
        before.map_or(&self.oldest, |older| &older.newer).set(Some(run));
        after.map_or(&self.newest, |newer| &newer.older).set(Some(run));
        run.dirty.set(true);
        self.dirty_pages.set(self.dirty_pages.get() + run.pages());
    }

    /// Takes a run out of the list of dirty ones, if it stands there.
    fn clean(&self, run: &'static Run) {
        if !run.dirty.replace(false) {
            return;
        }
        let (before, after) = (run.older.take(), run.newer.take());
        before.map_or(&self.oldest, |older| &older.newer).set(after);
        after.map_or(&self.newest, |newer| &newer.older).set(before);
        self.dirty_pages.set(self.dirty_pages.get() - run.pages());
    }

    /// Checks what the head of this file promises, for one segment; returns its free pages. Panics where it does not hold.
    pub(crate) fn check_segment(&self, segment: &'static Segment) -> usize {
        let (mut page, mut free, mut after_free) = (HEADER_PAGES, 0, false);
        while page < PAGES {
            let run = &segment.runs[page];
            assert!(run.state() != RunState::Inner && run.pages() > 0, "page {page} begins no run");
            let is_free = run.state() == RunState::Free;
            assert!(!(is_free && after_free), "two free runs touch at page {page}");
            let last = &segment.runs[page + run.pages() - 1];
            assert_eq!(last.free_behind.get() as usize, if is_free { run.pages() } else { 0 });
            if is_free {
                free += run.pages();
                let found = self.free.first_where(|other| !other.precedes(run));
                assert!(found.is_some_and(|found| ptr::eq(found, run)), "a free run is not in the tree");
            }
            after_free = is_free;
            page += run.pages();
        }
        assert_eq!(page, PAGES, "the last run ends beyond the segment");
        free
    }
}

/// What is known of the memory of a free run.
#[derive(Clone, Copy)]
struct Freshness {
    zeroed: bool,
    /// Of a dirty run.
    age: Option<Age>,
}

/// A run's place among the dirty ones.
#[derive(Clone, Copy)]
struct Age {
    stamp: u32,
    before: Option<&'static Run>,
}

impl Age {
    fn of(run: &Run) -> Option<Self> {
        run.dirty.get().then(|| Self { stamp: run.stamp.get(), before: run.older.get() })
    }
}

impl Freshness {
    fn of(run: &Run) -> Self {
        Self { zeroed: run.zeroed.get(), age: Age::of(run) }
    }
}

/// The kernel's pages that lie wholly inside a range.
fn inner_pages(start: NonNull<u8>, len: usize) -> (NonNull<u8>, usize) {
    let page = os::page_size();
    let skip = start.addr().get().next_multiple_of(page) - start.addr().get();
    if skip >= len {
        return (start, 0);
    }
    // SAFETY: `skip` is less than the range's length.
    (unsafe { start.add(skip) }, (len - skip) & !(page - 1))
}

#[cfg(test)]
mod tests {
    use super::super::segment::SEGMENT_SIZE;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn heap_with_a_segment() -> (GeneralHeap, &'static Segment) {
        let memory = os::map_aligned(SEGMENT_SIZE, SEGMENT_SIZE, ptr::null_mut()).unwrap();
        // SAFETY: a fresh mapping, never returned.
        let segment = unsafe { Segment::create(memory, 0, false) };
        let heap = GeneralHeap::new();
        heap.add_segment(segment, true);
        (heap, segment)
    }

    fn take(heap: &GeneralHeap, pages: usize) -> Spot {
        heap.take(pages, 1, RunState::Medium).unwrap().spot
    }

    #[test]
    fn the_smallest_hole_that_fits_is_taken_and_the_lowest_among_equals() {
        let (heap, _) = heap_with_a_segment();
        let runs: std::vec::Vec<_> = [8, 1, 3, 1, 5, 1, 3, 1].into_iter().map(|pages| take(&heap, pages)).collect();
        for hole in [0, 2, 4, 6] {
            heap.free(runs[hole]);
        }
        assert_eq!(take(&heap, 3).page, runs[2].page);
        assert_eq!(take(&heap, 2).page, runs[6].page);
        assert_eq!(take(&heap, 4).page, runs[4].page);
        assert_eq!(take(&heap, 6).page, runs[0].page);
    }

    #[test]
    fn a_run_grows_into_the_free_run_behind_it_and_no_further() {
        let (heap, segment) = heap_with_a_segment();
        let (first, second, third) = (take(&heap, 2), take(&heap, 3), take(&heap, 1));
        heap.free(second);
        assert!(!heap.resize(first, 6));
        assert!(heap.resize(first, 4));
        assert_eq!(heap.check_segment(segment), MAX_RUN_PAGES - 5);
        assert!(heap.resize(first, 1));
        assert_eq!(heap.check_segment(segment), MAX_RUN_PAGES - 2);
        heap.free(first);
        heap.free(third);
        assert!(heap.is_wholly_free(segment));
    }

    #[test]
    fn purged_memory_reads_as_zero_and_is_known_to() {
        let (heap, _) = heap_with_a_segment();
        let run = take(&heap, 4);
        // SAFETY: four pages were taken.
        unsafe { run.start().write_bytes(0xAA, 4 * PAGE) };
        heap.free(run);
        assert!(!heap.take(4, 1, RunState::Medium).unwrap().zeroed);
        heap.free(run);
        assert_eq!(heap.purge(os::clock_ms(), u32::MAX, usize::MAX), 0, "nothing is that old");
        assert!(heap.purge(os::clock_ms() + 10, 0, usize::MAX) >= 4);
        let again = heap.take(4, 1, RunState::Medium).unwrap();
        assert!(again.zeroed);
        // SAFETY: as above.
        assert_eq!(unsafe { again.spot.start().read() }, 0);
        assert_eq!(heap.dirty_pages.get(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn runs_never_overlap_and_free_ones_never_touch(
            steps in prop::collection::vec((0_u8..4, 1_usize..80, 0_u32..6, any::<prop::sample::Index>()), 1..150)
        ) {
            let (heap, segment) = heap_with_a_segment();
            let mut live: BTreeMap<usize, Spot> = BTreeMap::new();
            for (step, pages, align, which) in steps {
                let chosen = (!live.is_empty()).then(|| *live.values().nth(which.index(live.len())).unwrap());
                match (step, chosen) {
                    (0, Some(spot)) => {
                        live.remove(&spot.page);
                        heap.free(spot);
                    }
                    (1, Some(spot)) => {
                        let old = spot.run().pages();
                        let done = heap.resize(spot, pages);
                        prop_assert_eq!(spot.run().pages(), if done { pages } else { old });
                    }
                    _ => {
                        if let Some(taken) = heap.take(pages, 1 << align, RunState::Medium) {
                            prop_assert_eq!(taken.spot.page % (1 << align), 0);
                            live.insert(taken.spot.page, taken.spot);
                        }
                    }
                }
                let used: usize = live.values().map(|spot| spot.run().pages()).sum();
                prop_assert_eq!(heap.check_segment(segment), MAX_RUN_PAGES - used);
                prop_assert_eq!(heap.free_pages.get(), MAX_RUN_PAGES - used);
                let mut end = 0;
                for spot in live.values() {
                    prop_assert!(spot.page >= end);
                    end = spot.page + spot.run().pages();
                }
            }
        }
    }
}
