//! The general heap: runs of pages, by best fit, lowest address among equals, split and coalesced.
//!
//! ```text
//!  descriptors  │C····│M··│S···············│D··│C···│M│    M medium, S slab, C clean free run, D dirty one
//!  pages         5     3   16               3   4    1
//!  free before   0     5   0                0   3    4
//! ```
//!
//! Every run's first descriptor holds its length, and that of the free run before it (`free_before`), so that the
//! neighbour on either side is found without a search. All of it lies out of band and is guarded by the arena's lock.
//!
//! Free runs are of two kinds. *Dirty* ones were touched: they are used first, and stand in a list, oldest first, that the
//! purge takes them from. *Clean* ones hold no memory of the kernel's, and those that read as zero say so, for `calloc`. No
//! two free runs of one kind touch. Runs of different kinds stay apart, so that fresh pages stay known as fresh, and are
//! taken together when neither alone is long enough.
//!
//! The few runs that were freed last are *recent*: they stand in a short row, whole, until a request of just their length
//! takes one back, the latest first, or until anything else is asked for, which joins them with their neighbours. So a
//! buffer that comes and goes costs no split and no join, and all other requests find the heap as if there were no row.

use super::huge;
use super::length_index::LengthIndex;
use super::recent::Recent;
use super::segment::{HEADER_PAGES, MAX_RUN_PAGES, PAGE, PAGES, SEGMENT_SIZE, Segment, page_index};
use super::treap::{Links, Node};
use crate::layout::RunLayout;
use crate::os;
use crate::sync::{AtomicU8, Cell, Ordering};
use core::mem::offset_of;
use core::ops::Range;
use core::ptr::{self, NonNull};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum RunState {
    /// Not the first page of a run. Zero, so that fresh memory reads as this.
    Inner = 0,
    Free = 1,
    Medium = 2,
    Slab = 3,
    /// Free, and not joined with its neighbours yet.
    Recent = 4,
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
    /// The number of the run's first page in its segment.
    page: Cell<u16>,
    /// Length of the free run that ends where this page begins, in pages; 0 where none does.
    free_before: Cell<u16>,
    state: Cell<RunState>,
    dirty: Cell<bool>,
    zeroed: Cell<bool>,
    /// 1 while a thread keeps the medium block on its shelf, so that it is free though its state says that it is not; else 0. Written by
    /// the thread that has the block in its hands, read by others that ask what is where: `Relaxed`, since who is told late was late. Two
    /// threads that free a block at the same moment may both pass; that is found when the second gives it to the arena.
    shelved: AtomicU8,
}

const _: () = assert!(MAX_RUN_PAGES <= u16::MAX as usize);

impl Node for Run {
    fn links(&self) -> &Links<Self> {
        &self.links
    }
    /// By length, then by address.
    fn precedes(&self, other: &Self) -> bool {
        let key =
            |run: &Self| (run.pages.get(), ptr::from_ref(run).addr() & !(SEGMENT_SIZE - 1) | run.page.get() as usize);
        key(self) < key(other)
    }
}

impl Run {
    pub(crate) const LAYOUT: RunLayout = RunLayout {
        size: size_of::<Self>() as u32,
        stamp: offset_of!(Self, stamp) as u32,
        pages: offset_of!(Self, pages) as u32,
        state: offset_of!(Self, state) as u32,
        dirty: offset_of!(Self, dirty) as u32,
        zeroed: offset_of!(Self, zeroed) as u32,
        shelved: offset_of!(Self, shelved) as u32,
    };

    pub(crate) fn state(&self) -> RunState {
        self.state.get()
    }

    /// Length in pages; of a run's first descriptor.
    pub(crate) fn pages(&self) -> usize {
        self.pages.get() as usize
    }

    /// The number of its first page in its segment.
    pub(crate) fn page(&self) -> usize {
        self.page.get() as usize
    }

    /// Whether it is of just so many pages and begins at a multiple of `align` (a power of two) of them.
    pub(crate) fn fits(&self, pages: usize, align: usize) -> bool {
        self.pages() == pages && self.page() & (align - 1) == 0
    }

    pub(crate) fn is_zeroed(&self) -> bool {
        self.zeroed.get()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.get()
    }

    pub(crate) fn is_shelved(&self) -> bool {
        self.shelved.load(Ordering::Relaxed) != 0
    }

    /// Called by the thread that has the block in its hands.
    pub(crate) fn set_shelved(&self, is: bool) {
        self.shelved.store(u8::from(is), Ordering::Relaxed);
    }
}

/// Where a run begins: its segment and the number of its first page there.
#[derive(Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) segment: &'static Segment,
    pub(crate) page: usize,
}

impl Spot {
    pub(crate) fn of(run: &'static Run) -> Self {
        // SAFETY: descriptors lie at the head of registered segments.
        let segment = unsafe { Segment::containing(NonNull::from_ref(run).cast()) };
        Self { segment, page: run.page() }
    }

    /// # Safety
    /// The address must lie in a registered segment.
    pub(crate) unsafe fn containing(address: NonNull<u8>) -> Self {
        // SAFETY: the caller's promise.
        Self { segment: unsafe { Segment::containing(address) }, page: page_index(address) }
    }

    pub(crate) fn run(self) -> &'static Run {
        self.segment.run(self.page)
    }

    fn at(self, page: usize) -> Self {
        Self { page, ..self }
    }

    pub(crate) fn start(self) -> NonNull<u8> {
        self.segment.page(self.page)
    }
}

/// How many runs are kept from being joined.
const RECENT: usize = 8;

/// So many dirty runs are looked at with their neighbours before an arena grows.
const LOOKS_ACROSS: usize = 64;

/// So many pages are worth a system call that returns as many elsewhere.
const DEBT_PAGES: usize = 256;

/// A run that was taken from the free ones.
pub(crate) struct Taken {
    pub(crate) spot: Spot,
    /// Whether every byte of it is known to be zero.
    pub(crate) zeroed: bool,
}

pub(crate) struct GeneralHeap {
    clean: LengthIndex,
    dirty: LengthIndex,
    oldest: Cell<Option<&'static Run>>,
    newest: Cell<Option<&'static Run>>,
    /// The dirty run that `take_across` looks at next; the oldest if it is none.
    across: Cell<Option<&'static Run>>,
    recent: Recent<RECENT>,
    pub(crate) free_pages: Cell<usize>,
    pub(crate) dirty_pages: Cell<usize>,
    /// Pages that were clean when they were taken, since `take_debt` was called last.
    fresh_taken: Cell<usize>,
}

// SAFETY: guarded by its arena's lock; the references in it point at descriptors that the same lock guards.
unsafe impl Send for GeneralHeap {}

impl GeneralHeap {
    pub(crate) const fn new() -> Self {
        Self {
            clean: LengthIndex::new(),
            dirty: LengthIndex::new(),
            oldest: Cell::new(None),
            newest: Cell::new(None),
            across: Cell::new(None),
            recent: Recent::new(),
            free_pages: Cell::new(0),
            dirty_pages: Cell::new(0),
            fresh_taken: Cell::new(0),
        }
    }

    /// Takes in the pages of a segment that has no runs.
    pub(crate) fn add_segment(&self, segment: &'static Segment, zeroed: bool) {
        self.insert(Spot { segment, page: HEADER_PAGES }, MAX_RUN_PAGES, Kind::Clean { zeroed });
    }

    /// Takes out a segment that `is_wholly_clean`.
    pub(crate) fn remove_segment(&self, segment: &'static Segment) {
        self.withdraw(Spot { segment, page: HEADER_PAGES });
    }

    /// Whether a segment's pages are all free and without memory.
    pub(crate) fn is_wholly_clean(&self, segment: &'static Segment) -> bool {
        let run = segment.run(HEADER_PAGES);
        run.state() == RunState::Free && run.pages() == MAX_RUN_PAGES && !run.is_dirty()
    }

    /// Takes `pages` pages that start at a multiple of `align` (a power of two) pages: a recent run of just that length, or of the dirty runs,
    /// or else of the clean ones, the shortest that holds them, the lowest among equals. What is left over stays free.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn take(&self, pages: usize, align: usize, state: RunState) -> Option<Taken> {
        if let Some(run) = self.recent.take(pages, align) {
            self.count_recent(run, usize::wrapping_sub);
            run.state.set(state);
            return Some(Taken { spot: Spot::of(run), zeroed: false });
        }
        self.join_recent();
        let (run, start) = best_fit(&self.dirty, pages, align).or_else(|| best_fit(&self.clean, pages, align))?;
        Some(self.take_at(run, start, pages, state))
    }

    /// As `take`, of clean and dirty runs that lie side by side. Looks at a few dirty runs and their neighbours, and at the next ones when it
    /// is called again: what a look at all of them would save is not worth the time under the lock.
    pub(crate) fn take_across(&self, pages: usize, align: usize, state: RunState) -> Option<Taken> {
        for _ in 0..LOOKS_ACROSS {
            let run = self.across.get().or(self.oldest.get())?;
            self.across.set(run.newer.get());
            let first = first_of_row(Spot::of(run));
            let start = first.page.next_multiple_of(align);
            if start + pages <= end_of_row(first) {
                return Some(self.take_at(first, start, pages, state));
            }
        }
        None
    }

    /// Takes pages that are all free, of one run or of several that lie side by side, of which `piece` is the first or one
    /// before it.
    #[unsafe(link_section = ".text.terrace.common")]
    fn take_at(&self, mut piece: Spot, start: usize, pages: usize, state: RunState) -> Taken {
        let (end, mut zeroed) = (start + pages, true);
        while piece.page < end {
            let (run, piece_end) = (piece.run(), piece.page + piece.run().pages());
            if piece_end <= start {
                piece = piece.at(piece_end);
                continue;
            }
            let kind = Kind::of(run);
            zeroed &= run.is_zeroed();
            if !run.is_dirty() {
                self.fresh_taken.set(self.fresh_taken.get() + piece_end.min(end) - piece.page.max(start));
            }
            self.withdraw(piece);
            // What is left over is of the piece's kind, and stands among the dirty runs where the piece stood.
            if piece.page < start {
                self.insert(piece, start - piece.page, kind);
            }
            if piece_end > end {
                self.insert(piece.at(end), piece_end - end, kind);
            }
            piece = piece.at(piece_end);
        }
        let spot = piece.at(start);
        spot.run().page.set(start as u16);
        spot.run().pages.set(pages as u16);
        spot.run().state.set(state);
        Taken { spot, zeroed }
    }

    /// How many pages others have to return for the clean ones that were taken here: none until they are worth a system call,
    /// and then all since this was asked last.
    pub(crate) fn take_debt(&self) -> usize {
        if self.fresh_taken.get() < DEBT_PAGES {
            return 0;
        }
        self.fresh_taken.take()
    }

    /// Gives a run back.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn free(&self, spot: Spot) {
        if self.recent.is_full() {
            self.join_recent();
        }
        spot.run().state.set(RunState::Recent);
        self.recent.push(spot.run());
        self.count_recent(spot.run(), usize::wrapping_add);
    }

    /// Joins the recent runs with their dirty neighbours.
    fn join_recent(&self) {
        while let Some(run) = self.recent.pop() {
            self.count_recent(run, usize::wrapping_sub);
            self.free_pages_at(Spot::of(run), run.pages());
        }
    }

    fn count_recent(&self, run: &Run, count: fn(usize, usize) -> usize) {
        self.free_pages.set(count(self.free_pages.get(), run.pages()));
        self.dirty_pages.set(count(self.dirty_pages.get(), run.pages()));
    }

    #[unsafe(link_section = ".text.terrace.common")]
    fn free_pages_at(&self, spot: Spot, pages: usize) {
        let (mut first, mut len) = (spot.page, pages);
        spot.run().state.set(RunState::Inner);
        // The age of the largest part counts, so that a run does not stay young for ever by small additions.
        let (mut largest, mut oldest_part): (usize, Option<Age>) = (pages, None);
        for neighbour in [free_before(spot), free_at(spot.at(spot.page + pages))].into_iter().flatten() {
            let run = neighbour.run();
            let Kind::Dirty(age) = Kind::of(run) else { continue };
            self.withdraw(neighbour);
            // A run that has just left the list cannot mark a place in it.
            if let Some(part) = &mut oldest_part
                && part.before.is_some_and(|before| ptr::eq(before, run))
            {
                part.before = age.before;
            }
            if run.pages() > largest {
                (largest, oldest_part) = (run.pages(), Some(age));
            }
            first = first.min(neighbour.page);
            len += run.pages();
        }
        let young = || Age { stamp: os::clock_ms() as u32, before: self.newest.get() };
        self.insert(spot.at(first), len, Kind::Dirty(oldest_part.unwrap_or_else(young)));
    }

    /// Makes a medium run longer or shorter where it lies; `false`, and no change, when what follows it is not free
    /// enough.
    pub(crate) fn resize(&self, spot: Spot, pages: usize) -> bool {
        let run = spot.run();
        let old = run.pages();
        if pages < old {
            run.pages.set(pages as u16);
            self.free_pages_at(spot.at(spot.page + pages), old - pages);
        } else if pages > old {
            let next = spot.at(spot.page + old);
            self.join_recent();
            if end_of_row(next) < spot.page + pages {
                return false;
            }
            self.take_at(next, next.page, pages - old, RunState::Inner);
            run.pages.set(pages as u16);
        }
        true
    }

    /// Returns to the kernel the memory of dirty runs that are at least `age_ms` old, up to about `budget` pages; says how
    /// many pages those were. What a huge page keeps is looked at again when it is as old again;
    /// with an age of 0 it keeps nothing.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn purge(&self, now_ms: u64, age_ms: u32, budget: usize) -> usize {
        self.join_recent();
        let (mut purged, mut kept) = (0, 0);
        while let Some(run) = self.oldest.get() {
            if purged + kept >= budget || os::age_ms(now_ms as u32, run.stamp.get()) < age_ms {
                break;
            }
            let pages = run.pages();
            if age_ms > 0 && huge::keeps(Spot::of(run), pages) {
                self.unlist(run);
                run.stamp.set(now_ms as u32);
                self.enlist(run, self.newest.get());
                kept += pages;
            } else {
                purged += pages;
                huge::split(Spot::of(run), pages);
                self.clean(Spot::of(run));
            }
        }
        purged
    }

    /// Whether there is a recent run, or a dirty one that no huge page keeps.
    pub(crate) fn has_something_to_return(&self) -> bool {
        if !self.recent.is_empty() {
            return true;
        }
        let mut next = self.oldest.get();
        while let Some(run) = next {
            if !huge::keeps(Spot::of(run), run.pages()) {
                return true;
            }
            next = run.newer.get();
        }
        false
    }

    /// Returns the memory of a dirty run to the kernel and joins it with its clean neighbours. Where the kernel's pages are
    /// larger than ours, its edges go when what else lies in their pages is free as well: with the last of them to be
    /// cleaned.
    fn clean(&self, spot: Spot) {
        let (mut first, mut len) = (spot.page, spot.run().pages());
        let dirty = spot.start().addr().get()..spot.start().addr().get() + len * PAGE;
        self.withdraw(spot);
        let mut zeroed = true;
        for neighbour in [free_before(spot), free_at(spot.at(spot.page + len))].into_iter().flatten() {
            // A dirty run's free neighbours are clean.
            zeroed &= neighbour.run().is_zeroed();
            first = first.min(neighbour.page);
            len += neighbour.run().pages();
            self.withdraw(neighbour);
        }
        let joined = spot.at(first);
        let returned = kernel_pages(&dirty, joined.start(), len * PAGE).is_some_and(|(start, len)| {
            let begin = start.addr().get();
            os::discard(start, len) && begin <= dirty.start && dirty.end <= begin + len
        });
        self.insert(joined, len, Kind::Clean { zeroed: zeroed && returned });
    }

    #[unsafe(link_section = ".text.terrace.common")]
    fn insert(&self, spot: Spot, pages: usize, kind: Kind) {
        let run = spot.run();
        run.page.set(spot.page as u16);
        run.pages.set(pages as u16);
        run.state.set(RunState::Free);
        note_before(spot.at(spot.page + pages), pages);
        self.free_pages.set(self.free_pages.get() + pages);
        match kind {
            Kind::Clean { zeroed } => {
                run.zeroed.set(zeroed);
                run.dirty.set(false);
                self.clean.insert(run);
            }
            Kind::Dirty(age) => {
                run.zeroed.set(false);
                run.dirty.set(true);
                run.stamp.set(age.stamp);
                self.dirty.insert(run);
                self.enlist(run, age.before);
            }
        }
    }

    #[unsafe(link_section = ".text.terrace.common")]
    fn withdraw(&self, spot: Spot) {
        let run = spot.run();
        debug_assert_eq!(run.state(), RunState::Free);
        if run.is_dirty() {
            self.dirty.remove(run);
            self.unlist(run);
        } else {
            self.clean.remove(run);
        }
        self.free_pages.set(self.free_pages.get() - run.pages());
        run.state.set(RunState::Inner);
        note_before(spot.at(spot.page + run.pages()), 0);
    }

    /// Enters a run into the list of dirty ones, right behind `before`, which is the youngest of those that are older.
    fn enlist(&self, run: &'static Run, before: Option<&'static Run>) {
        let after = before.map_or(self.oldest.get(), |older| older.newer.get());
        run.older.set(before);
        run.newer.set(after);
        before.map_or(&self.oldest, |older| &older.newer).set(Some(run));
        after.map_or(&self.newest, |newer| &newer.older).set(Some(run));
        self.dirty_pages.set(self.dirty_pages.get() + run.pages());
    }

    /// Takes a run out of the list of dirty ones.
    fn unlist(&self, run: &'static Run) {
        let (before, after) = (run.older.take(), run.newer.take());
        if self.across.get().is_some_and(|next| ptr::eq(next, run)) {
            self.across.set(after);
        }
        before.map_or(&self.oldest, |older| &older.newer).set(after);
        after.map_or(&self.newest, |newer| &newer.older).set(before);
        self.dirty_pages.set(self.dirty_pages.get() - run.pages());
    }

    /// Checks what the head of this file promises, for one segment; returns its free pages. Panics where it does not hold.
    pub(crate) fn check_segment(&self, segment: &'static Segment) -> usize {
        let (mut page, mut free, mut before, mut length_before) = (HEADER_PAGES, 0, None, 0);
        while page < PAGES {
            let run = segment.run(page);
            assert!(run.state() != RunState::Inner && run.pages() > 0, "page {page} begins no run");
            assert_eq!(run.page.get() as usize, page, "a run lies elsewhere than it says");
            if run.state() == RunState::Recent {
                assert!(self.recent.contains(run), "a recent run is lost");
                free += run.pages();
            }
            let dirty = (run.state() == RunState::Free).then(|| run.is_dirty());
            assert!(dirty.is_none() || dirty != before, "two free runs of one kind touch at page {page}");
            assert_eq!(run.free_before.get() as usize, if before.is_some() { length_before } else { 0 });
            if let Some(dirty) = dirty {
                free += run.pages();
                let index = if dirty { &self.dirty } else { &self.clean };
                let mut found = index.first_of(run.pages());
                while let Some(other) = found
                    && other.precedes(run)
                {
                    found = index.after(other);
                }
                assert!(found.is_some_and(|found| ptr::eq(found, run)), "a free run is not in its index");
                assert!(!(dirty && run.is_zeroed()), "a dirty run is taken for zeroed");
            }
            let inner = (page + 1..page + run.pages()).map(|page| segment.run(page));
            assert!(inner.clone().all(|it| it.free_before.get() == 0), "a page inside a run follows a free one");
            (before, length_before) = (dirty, run.pages());
            page += run.pages();
        }
        assert_eq!(page, PAGES, "the last run ends beyond the segment");
        free
    }
}

/// The shortest of these runs that holds that many aligned pages, the lowest among equals, and the first of the pages.
#[unsafe(link_section = ".text.terrace.common")]
fn best_fit(runs: &LengthIndex, pages: usize, align: usize) -> Option<(Spot, usize)> {
    /// Runs that are long enough but lie badly are passed over this often before one is taken that fits anyway.
    const TRIES: usize = 16;
    let aligned = |run| {
        let spot = Spot::of(run);
        (spot, spot.page.next_multiple_of(align))
    };
    let mut candidate = runs.first_of(pages);
    for _ in 0..TRIES {
        let run = candidate?;
        let (spot, start) = aligned(run);
        if start + pages <= spot.page + run.pages() {
            return Some((spot, start));
        }
        candidate = runs.after(run);
    }
    runs.first_of(pages + align - 1).map(aligned)
}

/// The free run that ends where another run begins.
fn free_before(spot: Spot) -> Option<Spot> {
    let before = spot.run().free_before.get() as usize;
    (before > 0).then(|| spot.at(spot.page - before))
}

/// Notes how long the free run is that ends where another run begins, or the segment ends; 0 for none.
fn note_before(spot: Spot, pages: usize) {
    if spot.page < PAGES {
        spot.run().free_before.set(pages as u16);
    }
}

/// The free run that begins at a page where some run begins, or the segment ends.
fn free_at(spot: Spot) -> Option<Spot> {
    (spot.page < PAGES && spot.run().state() == RunState::Free).then_some(spot)
}

/// The first of the free runs that lie side by side with this one.
fn first_of_row(mut spot: Spot) -> Spot {
    while let Some(before) = free_before(spot) {
        spot = before;
    }
    spot
}

/// The page behind the free runs that follow each other from here.
fn end_of_row(mut spot: Spot) -> usize {
    while let Some(run) = free_at(spot) {
        spot.page += run.run().pages();
    }
    spot.page
}

/// What is known of the memory of a free run.
#[derive(Clone, Copy)]
enum Kind {
    Clean { zeroed: bool },
    Dirty(Age),
}

/// A run's place among the dirty ones.
#[derive(Clone, Copy)]
struct Age {
    stamp: u32,
    before: Option<&'static Run>,
}

impl Kind {
    fn of(run: &Run) -> Self {
        if run.is_dirty() {
            Self::Dirty(Age { stamp: run.stamp.get(), before: run.older.get() })
        } else {
            Self::Clean { zeroed: run.is_zeroed() }
        }
    }
}

/// The kernel's pages that hold a part of the dirty addresses and lie wholly inside the `len` bytes from `start`.
fn kernel_pages(dirty: &Range<usize>, start: NonNull<u8>, len: usize) -> Option<(NonNull<u8>, usize)> {
    let page = os::page_size();
    let free = start.addr().get()..start.addr().get() + len;
    let (down, up) = (|address: usize| address & !(page - 1), |address: usize| address.next_multiple_of(page));
    let begin = if down(dirty.start) < free.start { up(dirty.start) } else { down(dirty.start) };
    let end = if up(dirty.end) > free.end { down(dirty.end) } else { up(dirty.end) };
    // SAFETY: `begin` lies inside the range, since it is below an `end` that does.
    (begin < end).then(|| (unsafe { start.add(begin - free.start) }, end - begin))
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
        heap.join_recent();
        assert_eq!(take(&heap, 3).page, runs[2].page);
        assert_eq!(take(&heap, 2).page, runs[6].page);
        assert_eq!(take(&heap, 4).page, runs[4].page);
        assert_eq!(take(&heap, 6).page, runs[0].page);
    }

    #[test]
    fn what_was_freed_last_serves_its_own_length_and_joins_for_any_other() {
        let (heap, segment) = heap_with_a_segment();
        let runs: std::vec::Vec<_> = [3, 3, 1, 3, 1].into_iter().map(|pages| take(&heap, pages)).collect();
        [0, 1, 3].into_iter().for_each(|hole| heap.free(runs[hole]));
        assert_eq!(take(&heap, 3).page, runs[3].page, "not the latest");
        assert_eq!(take(&heap, 6).page, runs[0].page, "neighbours were not joined");
        let many: std::vec::Vec<_> = (0..2 + RECENT).map(|_| take(&heap, 2)).collect();
        many.iter().for_each(|&run| heap.free(run));
        assert_eq!(heap.check_segment(segment), MAX_RUN_PAGES - 11);
        assert_eq!(heap.dirty_pages.get(), 2 * many.len());
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
        assert_eq!(heap.check_segment(segment), MAX_RUN_PAGES);
        heap.purge(os::clock_ms() + 10, 0, usize::MAX);
        assert!(heap.is_wholly_clean(segment));
    }

    /// The kernel's page, in pages.
    fn unit() -> usize {
        os::page_size() / PAGE
    }

    #[test]
    fn runs_smaller_than_the_kernels_page_leave_nothing_behind() {
        let (heap, _) = heap_with_a_segment();
        let runs: std::vec::Vec<_> = (0..2 * unit()).map(|_| take(&heap, 1)).collect();
        let start = runs[0].start();
        for run in &runs {
            // SAFETY: a page was taken.
            unsafe { run.start().write_bytes(0xAA, PAGE) };
        }
        // From both ends, so that runs join clean ones before and behind them.
        from_both_ends(&runs, |run| {
            heap.free(run);
            heap.purge(os::clock_ms() + 10, 0, usize::MAX);
        });
        // SAFETY: the segment stays mapped.
        let bytes = unsafe { core::slice::from_raw_parts(start.as_ptr(), runs.len() * PAGE) };
        assert!(bytes.iter().all(|&byte| byte == 0), "freed memory was kept from the kernel");
    }

    fn from_both_ends(runs: &[Spot], mut each: impl FnMut(Spot)) {
        let (front, back) = runs.split_at(runs.len() / 2);
        front.iter().zip(back.iter().rev()).for_each(|(&first, &last)| {
            each(first);
            each(last);
        });
    }

    #[test]
    fn purged_memory_reads_as_zero_and_is_known_to() {
        let (heap, _) = heap_with_a_segment();
        let pages = 4 * unit();
        let run = take(&heap, pages);
        // SAFETY: so many pages were taken.
        unsafe { run.start().write_bytes(0xAA, pages * PAGE) };
        heap.free(run);
        assert!(!heap.take(pages, 1, RunState::Medium).unwrap().zeroed);
        assert!(!heap.has_something_to_return());
        heap.free(run);
        assert!(heap.has_something_to_return(), "recent");
        assert_eq!(heap.purge(os::clock_ms(), u32::MAX, usize::MAX), 0, "nothing is that old");
        assert!(heap.has_something_to_return(), "joined, and young");
        assert!(heap.purge(os::clock_ms() + 10, 0, usize::MAX) >= pages);
        assert!(!heap.has_something_to_return());
        let again = heap.take(pages, 1, RunState::Medium).unwrap();
        assert!(again.zeroed);
        // SAFETY: as above.
        assert_eq!(unsafe { again.spot.start().read() }, 0);
        assert_eq!(heap.dirty_pages.get(), 0);
    }

    #[test]
    fn fresh_pages_stay_fresh_beside_touched_ones_and_both_serve_what_neither_could() {
        let (heap, segment) = heap_with_a_segment();
        let unit = unit();
        let all = take(&heap, MAX_RUN_PAGES - 12 * unit);
        let touched = take(&heap, 4 * unit);
        heap.free(touched);
        assert_eq!((heap.dirty_pages.get(), heap.free_pages.get()), (4 * unit, 12 * unit));
        let fresh = heap.take(8 * unit, 1, RunState::Medium).unwrap();
        assert!(fresh.zeroed && fresh.spot.page == touched.page + 4 * unit);
        assert!(heap.resize(fresh.spot, 5 * unit));
        // Four touched units, five in use, three touched.
        assert!(heap.take_across(4 * unit, 1, RunState::Medium).is_some_and(|taken| taken.spot.page == touched.page));
        assert!(heap.take(4 * unit, 1, RunState::Medium).is_none());
        heap.purge(os::clock_ms() + 10, 0, usize::MAX);
        heap.free(fresh.spot);
        // Five touched units, three fresh ones.
        assert!(heap.take(7 * unit, 1, RunState::Medium).is_none());
        let both = heap.take_across(7 * unit, 1, RunState::Medium).unwrap();
        assert!(!both.zeroed && both.spot.page == fresh.spot.page);
        assert_eq!((heap.dirty_pages.get(), heap.free_pages.get()), (0, unit));
        assert!(heap.take(unit, 1, RunState::Medium).unwrap().zeroed);
        heap.free(all);
        heap.check_segment(segment);
    }

    #[test]
    fn a_search_across_runs_goes_on_where_the_last_one_stopped() {
        let (heap, segment) = heap_with_a_segment();
        let few = 2 + LOOKS_ACROSS;
        let holes: std::vec::Vec<_> = (0..few)
            .map(|_| {
                let hole = take(&heap, 1);
                take(&heap, 1);
                hole
            })
            .collect();
        holes.iter().for_each(|&hole| heap.free(hole));
        // The youngest dirty run lies before the clean rest.
        let rest = heap.take(1, 1, RunState::Medium).unwrap().spot;
        assert_eq!(rest.page, holes[few - 1].page, "taken whole");
        heap.free(rest);
        let last = take(&heap, 3);
        heap.free(last);
        let most = PAGES - last.page;
        assert!(heap.take(most, 1, RunState::Medium).is_none());
        assert!(heap.take_across(most, 1, RunState::Medium).is_none(), "looked at more runs than it says");
        let across = heap.take_across(most, 1, RunState::Medium).expect("the search began anew");
        assert_eq!(across.spot.page, last.page);
        heap.check_segment(segment);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn runs_never_overlap_and_free_ones_never_touch(
            steps in prop::collection::vec((0_u8..6, 1_usize..80, 0_u32..6, any::<prop::sample::Index>()), 1..150)
        ) {
            let (heap, segment) = heap_with_a_segment();
            let mut live: BTreeMap<usize, Spot> = BTreeMap::new();
            for (step, pages, align, which) in steps {
                let memory = |spot: Spot, page: usize| spot.at(spot.page + page).start().cast::<u64>();
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
                        for page in 0..spot.run().pages() {
                            // SAFETY: the page is the run's.
                            unsafe { memory(spot, page).write(1) };
                        }
                    }
                    (2, _) => {
                        heap.purge(os::clock_ms() + 10, 0, pages);
                    }
                    _ => {
                        let state = RunState::Medium;
                        let taken = heap.take(pages, 1 << align, state);
                        if let Some(taken) = taken.or_else(|| heap.take_across(pages, 1 << align, state)) {
                            prop_assert_eq!(taken.spot.page % (1 << align), 0);
                            for page in 0..pages {
                                let word = memory(taken.spot, page);
                                // SAFETY: the page is the run's.
                                let found = unsafe { word.read() };
                                prop_assert!(!taken.zeroed || found == 0);
                                // SAFETY: as above.
                                unsafe { word.write(1) };
                            }
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
