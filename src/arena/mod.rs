//! Arenas: where slabs and medium blocks get their runs of pages.
//!
//! A few arenas (by the processors that the process may use), each with its segments, its general heap, and its lock. A
//! thread asks the arena that it is hinted to and moves on when it finds it busy. Any thread gives a run back to the arena
//! whose segment it lies in.
//!
//! The lock of an arena ranks below that of a thread cache: it is taken with a cache's lock held, never the other way
//! round, and no two arenas' locks are held at once except by `fork`, in the order of their numbers.

mod general_heap;
mod huge;
mod length_index;
mod recent;
mod residency;
mod segment;
mod segment_map;
mod slab;
mod source;
mod totals;
mod treap;

pub(crate) use general_heap::{Run, RunState, Spot};
pub(crate) use recent::Recent;
pub(crate) use segment::{
    Descriptor, MAX_RUN_PAGES, PAGE, PAGES_PER_SLICE, SEGMENT_SIZE, Segment, slab_containing, slice_index,
};
pub(crate) use segment_map::SEGMENTS;
pub(crate) use slab::{AgingList, Owner, Place, Slab, capacity_for, slices_for};
pub(crate) use source::Source;
pub(crate) use totals::ArenaTotals;
pub(crate) use treap::Treap;

use crate::layout::ArenasLayout;
use crate::options::OPTIONS;
use crate::os;
use crate::sync::{AtomicUsize, Cell, Counter, Guard, Mutex, Ordering};
use core::mem::offset_of;
use core::ptr::NonNull;
use general_heap::GeneralHeap;
use segment::{HEADER_PAGES, PAGES};
use segment_map::Tag;
use source::Supply;

/// No more arenas than this, however many processors there are.
pub(crate) const MAX_ARENAS: usize = if cfg!(loom) { 2 } else { 16 };

/// While an arena has so many dirty pages, 16 MiB, no other grows.
const SPARE_PAGES: usize = 4096;

/// So many pages, 1 MiB, an arena takes from others before it has a segment: a segment's tables take a few pages themselves.
const BORROWED_PAGES: usize = 256;

/// The arenas of this process.
pub(crate) static ARENAS: Arenas = Arenas::new();

pub(crate) struct Arenas {
    arenas: [Arena; MAX_ARENAS],
    /// How many of them are used: 1 until there is a second thread, and 0 before there is a first, so that all of this is zero
    /// and takes no room in the file. Grows once, by whoever attaches the second thread; read by any thread, `Relaxed`, since
    /// every arena is ready from the start.
    count: AtomicUsize,
}

struct Arena {
    heap: Mutex<Heap>,
    /// Segments held. Written under the lock; read by any thread, which may be told a number of a moment ago.
    segments: Counter,
}

/// What an arena's lock guards.
struct Heap {
    general: GeneralHeap,
    supply: Supply,
    /// How many pages others lent, until there was a segment.
    borrowed: Cell<usize>,
    segments: Cell<Option<&'static Segment>>,
    /// How many segments from the first `huge` has looked at in this round.
    looked: Cell<usize>,
}

// SAFETY: the references point at headers that the same lock guards.
unsafe impl Send for Heap {}

/// Pages for a slab or a medium block.
pub(crate) struct Pages {
    pub(crate) start: NonNull<u8>,
    /// Whether every byte is known to be zero.
    pub(crate) zeroed: bool,
    /// How many bytes without memory the arena has handed out since it last said so, if they are many: others that keep free
    /// memory for later are to return as many, so that what is kept does not add to the peak.
    pub(crate) owed: usize,
}

impl Pages {
    fn of(taken: general_heap::Taken, heap: &GeneralHeap) -> Self {
        Self { start: taken.spot.start(), zeroed: taken.zeroed, owed: heap.take_debt() * PAGE }
    }
}

/// Whether an address lies in a segment of any arena.
#[inline(always)]
pub(crate) fn contains(address: *const u8) -> bool {
    SEGMENTS.contains(address, Tag::of(address))
}

/// Where the descriptor of the slice that an address lies in is found, if that is in a segment.
#[inline(always)]
pub(crate) fn find_descriptor(address: *const u8) -> Option<Descriptor> {
    let tag = Tag::of(address);
    SEGMENTS.contains(address, tag).then(|| Descriptor::of(tag, address))
}

/// The descriptor of the medium block that starts at an address in a segment; `None` for anything else, and for what lies on a shelf.
///
/// Takes no lock: what is looked at is the block's own, as the block is the caller's. What a program gets that asks for an address that is
/// not its own may be late.
#[inline(always)]
pub(crate) fn medium_at(start: NonNull<u8>) -> Option<&'static Run> {
    // SAFETY: callers pass addresses that they found to lie in a registered segment.
    let spot = unsafe { Spot::containing(start) };
    let run = spot.run();
    let starts = spot.page >= HEADER_PAGES && start.addr().get().is_multiple_of(PAGE);
    (starts && run.state() == RunState::Medium && !run.is_shelved()).then_some(run)
}

/// Whether an arena that has no run long enough may ask for another segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    Denied,
    Allowed,
}

/// What an address outside of slabs is.
pub(crate) enum PageUse {
    /// The first byte of a medium block of this many bytes.
    Medium(usize),
    /// The first byte of a medium block of this many bytes that a thread keeps on its shelf.
    Shelved(usize),
    /// Inside a medium block of this many bytes, so many bytes after its start.
    InsideMedium { size: usize, offset: usize },
    /// In free pages, or in the segment's own tables.
    Nothing,
}

impl Arenas {
    pub(crate) const LAYOUT: ArenasLayout = {
        const HEAP: usize = offset_of!(Arena, heap) + Mutex::<Heap>::VALUE;
        ArenasLayout {
            arenas: offset_of!(Self, arenas) as u32,
            count: MAX_ARENAS as u32,
            used: offset_of!(Self, count) as u32,
            size: size_of::<Arena>() as u32,
            segments: offset_of!(Arena, segments) as u32,
            free_pages: (HEAP + offset_of!(Heap, general.free_pages)) as u32,
            dirty_pages: (HEAP + offset_of!(Heap, general.dirty_pages)) as u32,
        }
    };

    pub(crate) const fn new() -> Self {
        Self { arenas: [const { Arena::new() }; MAX_ARENAS], count: AtomicUsize::new(0) }
    }

    /// Sets where arena 0 gets its memory from now on.
    pub(crate) fn initialise(&self, source_of_first: Source) {
        self.arenas[0].heap.lock().supply.set_source(source_of_first);
        if self.count() == 0 {
            self.set_count(1);
        }
    }

    pub(crate) fn set_count(&self, count: usize) {
        self.count.store(count.clamp(1, MAX_ARENAS), Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes `pages` pages aligned to `align` pages from the arena that `hint` names, or from another if that one is busy;
    /// `hint` then changes.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn take(
        &self,
        hint: &Cell<usize>,
        pages: usize,
        align: usize,
        state: RunState,
        growth: Growth,
    ) -> Option<Pages> {
        let count = self.count();
        // A hint may be older than a lower count.
        let first = if hint.get() < count { hint.get() } else { 0 };
        if ((HEADER_PAGES + align - 1) & !(align - 1)) + pages > PAGES {
            // Not even an empty segment has such a run.
            return None;
        }
        if growth == Growth::Allowed {
            let mut others = self.arenas[..count].iter().enumerate().filter(|&(index, _)| index != first);
            return (others.clone().find_map(|(_, other)| other.take_spare(pages, align, state)))
                .or_else(|| self.arenas[first].take_or_grow(first, pages, align, state))
                .or_else(|| others.find_map(|(_, other)| other.take(pages, align, state)));
        }
        if let Some(heap) = self.arenas[first].heap.try_lock() {
            hint.set(first);
            let taken = heap.take(pages, align, state);
            if taken.is_some() || !heap.may_borrow(pages) {
                // Short of pages it grows, though another has some: threads that take each other's wait for each other at each free, and
                // so do not until there is much to be had.
                return taken;
            }
            drop(heap);
            return self.take_elsewhere(&Cell::new(first), first, pages, align, state);
        }
        self.take_elsewhere(hint, first, pages, align, state)
    }

    /// Takes a run from an arena that is not busy, other than the first that was asked.
    #[cold]
    #[unsafe(link_section = ".text.terrace.common")]
    fn take_elsewhere(
        &self,
        hint: &Cell<usize>,
        first: usize,
        pages: usize,
        align: usize,
        state: RunState,
    ) -> Option<Pages> {
        for index in (first + 1..self.count()).chain(0..first) {
            if let Some(taken) = self.arenas[index].try_take(pages, align, state) {
                hint.set(index);
                return Some(taken);
            }
        }
        None
    }

    /// Makes a slab of the class for `owner`; with it what `Pages::owed` says.
    pub(crate) fn take_slab(
        &self,
        hint: &Cell<usize>,
        class: crate::size_class::SizeClass,
        owner: NonNull<Owner>,
        growth: Growth,
    ) -> Option<(&'static Slab, usize)> {
        let pages = slices_for(class) * PAGES_PER_SLICE;
        let run = self.take(hint, pages, PAGES_PER_SLICE, RunState::Slab, growth)?;
        Some((Slab::create(run.start, class, owner), run.owed))
    }

    /// Takes back a slab whose blocks are all on its list.
    pub(crate) fn release_slab(&self, slab: &'static Slab) {
        let start = slab.dissolve();
        let (spot, heap) = self.heap_of(start);
        debug_assert_eq!(spot.run().state(), RunState::Slab);
        free_run(&heap, spot);
    }

    /// Frees the medium block that starts at an address in a segment.
    #[inline(always)]
    pub(crate) fn free_medium(&self, start: NonNull<u8>) -> Result<(), PageUse> {
        let (spot, heap) = self.heap_of(start);
        match page_use(spot, start) {
            PageUse::Medium(_) => {
                free_run(&heap, spot);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Frees a block that lay on a shelf; `false`, and no change, if it is none.
    pub(crate) fn free_shelved(&self, run: &'static Run) -> bool {
        let (spot, heap) = self.heap_of(Spot::of(run).start());
        let is_shelved = run.state() == RunState::Medium && run.is_shelved();
        if is_shelved {
            run.set_shelved(false);
            free_run(&heap, spot);
        }
        is_shelved
    }

    /// What an address in a segment, but in no slab, is.
    pub(crate) fn page_use(&self, address: NonNull<u8>) -> PageUse {
        let (spot, _heap) = self.heap_of(address);
        page_use(spot, address)
    }

    /// The size of the medium block that starts at `start` and that the caller holds.
    pub(crate) fn medium_size(&self, start: NonNull<u8>) -> Option<usize> {
        match self.page_use(start) {
            PageUse::Medium(size) => Some(size),
            _ => None,
        }
    }

    /// Makes a medium block longer or shorter where it lies, if what follows it allows.
    pub(crate) fn resize_medium(&self, start: NonNull<u8>, pages: usize) -> bool {
        let (spot, heap) = self.heap_of(start);
        pages <= MAX_RUN_PAGES && heap.general.resize(spot, pages)
    }

    /// Returns the memory of runs that have been free for `age_ms` to the kernel, at most about `budget` pages an arena,
    /// and the addresses of segments that are free altogether. With `wait`, also from arenas that are busy.
    pub(crate) fn purge(&self, age_ms: u32, budget: usize, wait: bool) {
        self.purge_keeping(0, age_ms, budget, wait);
    }

    /// As `purge`, but each arena keeps about `kept` pages that were used before. Says how many pages lost their memory or
    /// their addresses.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn purge_keeping(&self, kept: usize, age_ms: u32, budget: usize, wait: bool) -> usize {
        let (now, mut returned) = (os::clock_ms(), 0);
        for arena in self.used() {
            let Some(heap) = (if wait { Some(arena.heap.lock()) } else { arena.heap.try_lock() }) else { continue };
            let budget = budget.min(heap.general.dirty_pages.get().saturating_sub(kept));
            let purged = heap.general.purge(now, age_ms, budget);
            returned += purged;
            if purged > 0 || wait || OPTIONS.purge_delay_ms() == 0 {
                let before = arena.segments.get();
                arena.release_free_segments(&heap);
                returned += (before - arena.segments.get()) as usize * PAGES;
            }
        }
        returned
    }

    /// Returns about `bytes` of what the arenas keep for later, the oldest first, before others take as much: so what is kept
    /// does not add to the peak. Each arena keeps a segment's worth.
    pub(crate) fn yield_bytes(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.purge_keeping(PAGES.max(OPTIONS.kept_pages()), 0, bytes / PAGE, false);
    }

    /// Whether an arena has more than about `kept` pages that were used before.
    pub(crate) fn has_something_to_return(&self, kept: usize) -> bool {
        self.used().any(|arena| {
            let general = &arena.heap.lock().general;
            general.dirty_pages.get() > kept && general.has_something_to_return()
        })
    }

    /// All arenas that can have segments: the number in use only grows.
    fn used(&self) -> impl Iterator<Item = &Arena> {
        self.arenas.iter().filter(|arena| arena.segments.get() > 0)
    }

    fn heap_of(&self, address: NonNull<u8>) -> (Spot, Guard<'_, Heap>) {
        // SAFETY: callers pass addresses that they found to lie in a registered segment.
        let spot = unsafe { Spot::containing(address) };
        let arena = spot.segment.header.arena.get() as usize;
        (spot, self.arenas[arena].heap.lock())
    }

    /// The locks, in the order in which `fork` takes them.
    pub(crate) fn lock_for_fork(&self) {
        self.arenas.iter().for_each(|arena| arena.heap.lock_for_fork());
    }

    pub(crate) fn unlock_after_fork(&self) {
        self.arenas.iter().for_each(|arena| arena.heap.unlock_after_fork());
    }

    pub(crate) fn renew_in_child(&self) {
        self.arenas.iter().for_each(|arena| arena.heap.renew_in_child());
    }
}

/// Gives a run back, and its memory at once where nothing is kept for later.
#[inline(always)]
fn free_run(heap: &Heap, spot: Spot) {
    heap.general.free(spot);
    if OPTIONS.purge_delay_ms() == 0 {
        return_all(heap);
    }
}

#[cold]
#[inline(never)]
fn return_all(heap: &Heap) {
    let most = heap.general.dirty_pages.get().saturating_sub(OPTIONS.kept_pages());
    heap.general.purge(os::clock_ms(), 0, most);
}

fn page_use(spot: Spot, address: NonNull<u8>) -> PageUse {
    if spot.page < HEADER_PAGES {
        return PageUse::Nothing;
    }
    let mut first = spot.page;
    while first > HEADER_PAGES && spot.segment.run(first).state() == RunState::Inner {
        first -= 1;
    }
    let run = spot.segment.run(first);
    if run.state() != RunState::Medium || first + run.pages() <= spot.page {
        return PageUse::Nothing;
    }
    let (size, offset) = (run.pages() * PAGE, address.addr().get() - spot.segment.page(first).addr().get());
    match (offset, run.is_shelved()) {
        (0, false) => PageUse::Medium(size),
        (0, true) => PageUse::Shelved(size),
        (_, false) => PageUse::InsideMedium { size, offset },
        (_, true) => PageUse::Nothing,
    }
}

impl Arena {
    const fn new() -> Self {
        let heap = Heap {
            general: GeneralHeap::new(),
            supply: Supply::new(Source::Mappings),
            borrowed: Cell::new(0),
            segments: Cell::new(None),
            looked: Cell::new(0),
        };
        Self { heap: Mutex::new(heap), segments: Counter::new() }
    }

    /// As `take`, unless the arena is busy.
    #[inline(always)]
    fn try_take(&self, pages: usize, align: usize, state: RunState) -> Option<Pages> {
        self.heap.try_lock()?.take(pages, align, state)
    }

    /// As `take`, if the arena is not busy and has so many dirty pages that another is not to grow.
    fn take_spare(&self, pages: usize, align: usize, state: RunState) -> Option<Pages> {
        if (self.segments.get() as usize) < SPARE_PAGES / PAGES {
            return None;
        }
        let heap = self.heap.try_lock()?;
        (heap.general.dirty_pages.get() >= SPARE_PAGES).then(|| heap.take(pages, align, state))?
    }

    fn take(&self, pages: usize, align: usize, state: RunState) -> Option<Pages> {
        self.heap.lock().take(pages, align, state)
    }

    fn take_or_grow(&self, index: usize, pages: usize, align: usize, state: RunState) -> Option<Pages> {
        let mut heap = self.heap.lock();
        loop {
            if let Some(taken) = heap.take(pages, align, state) {
                return Some(taken);
            }
            if let Some(taken) = heap.general.take_across(pages, align, state) {
                return Some(Pages::of(taken, &heap.general));
            }
            if !self.grow(index, &mut heap) {
                return None;
            }
        }
    }

    fn grow(&self, index: usize, heap: &mut Heap) -> bool {
        /// Places that are refused before the arena gives up: each lies elsewhere.
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            let Some(supplied) = heap.supply.next_segment() else { return false };
            // SAFETY: the supply gives fresh, aligned, zeroed segments, and they stay until they are given back.
            let segment = unsafe { Segment::create(supplied.memory, index as u32, supplied.from_break) };
            if os::valgrind::is_memcheck() {
                segment.announce();
            }
            if SEGMENTS.register(segment) {
                self.link(heap, segment, true);
                return true;
            }
            source::give_back(supplied.memory, supplied.from_break);
            // The break would only come to the same place again.
            heap.supply.set_source(Source::Mappings);
        }
        false
    }

    fn link(&self, heap: &Heap, segment: &'static Segment, zeroed: bool) {
        let next = heap.segments.replace(Some(segment));
        segment.header.next.set(next);
        segment.header.previous.set(None);
        if let Some(next) = next {
            next.header.previous.set(Some(segment));
        }
        heap.general.add_segment(segment, zeroed);
        self.segments.add(1);
    }

    fn unlink(&self, heap: &Heap, segment: &'static Segment) {
        heap.general.remove_segment(segment);
        let (previous, next) = (segment.header.previous.take(), segment.header.next.take());
        previous.map_or(&heap.segments, |previous| &previous.header.next).set(next);
        if let Some(next) = next {
            next.header.previous.set(previous);
        }
        self.segments.sub(1);
    }

    fn release_free_segments(&self, heap: &Heap) {
        let mut next = heap.segments.get();
        while let Some(segment) = next {
            next = segment.header.next.get();
            if !heap.general.is_wholly_clean(segment) {
                continue;
            }
            let (arena, from_break) = (segment.header.arena.get(), segment.header.from_break.get());
            let (memory, zeroed) = (segment.start(), segment.run(HEADER_PAGES).is_zeroed());
            self.unlink(heap, segment);
            SEGMENTS.unregister(segment);
            if !source::give_back(memory, from_break) {
                // The kernel keeps the addresses (a foreign break above ours, or no more mappings): so does the arena.
                // SAFETY: the segment is still mapped; what its tables hold describes no run, or they read as zero.
                let segment = unsafe { Segment::create(memory, arena, from_break) };
                if SEGMENTS.register(segment) {
                    self.link(heap, segment, zeroed);
                }
            }
        }
    }
}

impl Heap {
    /// Whether so few pages more are better had from another arena than from a first segment of this one's own; counts them.
    fn may_borrow(&self, pages: usize) -> bool {
        let borrowed = self.borrowed.get() + pages;
        let may = self.segments.get().is_none() && borrowed <= BORROWED_PAGES;
        if may {
            self.borrowed.set(borrowed);
        }
        may
    }

    #[inline(always)]
    fn take(&self, pages: usize, align: usize, state: RunState) -> Option<Pages> {
        let taken = self.general.take(pages, align, state)?;
        Some(Pages::of(taken, &self.general))
    }

    fn segments(&self) -> impl Iterator<Item = &'static Segment> + use<> {
        core::iter::successors(self.segments.get(), |segment| segment.header.next.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size_class::SizeClass;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn arenas() -> &'static Arenas {
        let arenas = std::boxed::Box::leak(std::boxed::Box::new(Arenas::new()));
        arenas.initialise(Source::Mappings);
        arenas
    }

    #[test]
    fn a_medium_block_is_known_by_its_first_byte_alone() {
        let arenas = arenas();
        let start = arenas.take(&Cell::new(0), 10, 1, RunState::Medium, Growth::Allowed).unwrap().start;
        assert!(contains(start.as_ptr()));
        // SAFETY: the block has ten pages.
        let inside = unsafe { start.add(5 * PAGE + 8) };
        assert!(matches!(arenas.page_use(inside), PageUse::InsideMedium { size: 40960, offset: 20488 }));
        assert!(arenas.free_medium(inside).is_err());
        assert!(arenas.free_medium(start).is_ok());
        assert!(arenas.free_medium(start).is_err(), "freed twice");
    }

    #[test]
    fn a_source_that_is_set_later_leaves_the_number_of_arenas() {
        let arenas = Arenas::new();
        arenas.initialise(Source::Mappings);
        assert_eq!(arenas.count(), 1);
        arenas.set_count(4);
        arenas.initialise(Source::Break);
        assert_eq!(arenas.count(), 4);
    }

    #[test]
    fn an_arena_that_is_short_grows_unless_another_has_much_to_spare() {
        const MUCH: usize = SPARE_PAGES / 4;
        let arenas = arenas();
        arenas.set_count(2);
        let (here, there) = (Cell::new(0), Cell::new(1));
        let take = |hint, growth| Some(arenas.take(hint, MUCH - 24, 1, RunState::Medium, growth)?.start);
        for hint in [&here, &there] {
            take(hint, Growth::Allowed).unwrap();
        }
        let spare: Vec<_> = (0..5).map(|_| take(&there, Growth::Allowed).unwrap()).collect();
        for &start in &spare {
            arenas.free_medium(start).unwrap_or_else(|_| panic!("it is a block"));
        }
        let mapped = arenas.totals(|_| {}).mapped;
        assert!(take(&here, Growth::Denied).is_none(), "taken from another though this one may grow");
        let taken = take(&here, Growth::Allowed).unwrap();
        assert!(spare.contains(&taken) && arenas.totals(|_| {}).mapped == mapped, "grown beside so much");
        let taken = take(&here, Growth::Allowed).unwrap();
        assert!(!spare.contains(&taken) && arenas.totals(|_| {}).mapped == mapped + SEGMENT_SIZE);
        assert_eq!((here.get(), there.get()), (0, 1));
    }

    #[test]
    fn an_arena_borrows_a_little_before_it_has_a_segment() {
        let arenas = arenas();
        arenas.set_count(2);
        let (here, there) = (Cell::new(0), Cell::new(1));
        let take = |hint, pages| Some(arenas.take(hint, pages, 1, RunState::Medium, Growth::Denied)?.start);
        arenas.take(&there, 1, 1, RunState::Medium, Growth::Allowed).unwrap();
        for _ in 0..2 {
            assert!(take(&here, BORROWED_PAGES / 2).is_some(), "the first segment for so little");
        }
        assert!(take(&here, 1).is_none(), "borrowed for ever");
        assert_eq!(here.get(), 0);
        assert!(take(&there, BORROWED_PAGES).is_some(), "what has a segment borrows");
    }

    #[test]
    fn a_thread_leaves_an_arena_that_is_busy() {
        let arenas = arenas();
        arenas.set_count(2);
        let (here, there) = (Cell::new(0), Cell::new(1));
        for hint in [&here, &there] {
            arenas.take(hint, 1, 1, RunState::Medium, Growth::Allowed).unwrap();
        }
        let busy = arenas.arenas[0].heap.lock();
        let taken = arenas.take(&here, 1, 1, RunState::Medium, Growth::Denied).unwrap().start;
        drop(busy);
        assert_eq!(here.get(), 1);
        // SAFETY: the run lies in a segment.
        assert_eq!(unsafe { Segment::containing(taken) }.header.arena.get(), 1);
    }

    #[test]
    fn a_wholly_free_segment_goes_back_to_the_kernel() {
        let arenas = arenas();
        let hint = Cell::new(0);
        let start = arenas.take(&hint, 100, 1, RunState::Medium, Growth::Allowed).unwrap().start;
        assert_eq!(arenas.totals(|_| {}).mapped, SEGMENT_SIZE);
        arenas.free_medium(start).unwrap_or_else(|_| panic!("it is a block"));
        arenas.purge(0, usize::MAX, true);
        assert_eq!(arenas.totals(|_| {}).mapped, 0);
        assert!(!contains(start.as_ptr()));
        assert!(arenas.take(&hint, 1, 1, RunState::Medium, Growth::Denied).is_none());
    }

    #[test]
    fn slabs_divide_into_blocks_that_know_where_they_start() {
        let arenas = arenas();
        let owner = NonNull::<Owner>::dangling();
        for index in 0..crate::size_class::COUNT {
            let class = SizeClass::from_index(index);
            let slab = arenas.take_slab(&Cell::new(0), class, owner, Growth::Allowed).unwrap().0;
            let mut carved = 0;
            while let Some((head, count)) = slab.carve(7) {
                for block in crate::block::blocks_from(Some(head)) {
                    // SAFETY: blocks lie in registered segments.
                    let found = unsafe { slab_containing(block.start()) };
                    assert!(core::ptr::eq(found.first(), slab));
                    assert!(found.is_block_start(block.start()));
                    // SAFETY: still inside the block.
                    let inside = unsafe { block.start().add(class.block_size() - 8) };
                    // SAFETY: as above.
                    let found = unsafe { slab_containing(inside) };
                    assert!(!found.is_block_start(inside));
                    assert!(matches!(found.place_of(inside), Place::Inside(n) if n == class.block_size() - 8));
                }
                let mut blocks = crate::block::blocks_from(Some(head)).peekable();
                assert!(slab.list(blocks.next().unwrap(), &mut blocks).is_ok());
                assert!(blocks.next().is_none(), "blocks of one slab go on its list together");
                carved += count;
            }
            assert_eq!(carved, slab.capacity());
            assert!(slab.is_empty());
            arenas.release_slab(slab);
        }
    }

    #[test]
    fn a_slab_lists_its_own_blocks_together_and_no_more_than_were_out() {
        let (arenas, hint, owner) = (arenas(), Cell::new(0), NonNull::<Owner>::dangling());
        let class = SizeClass::from_index(20);
        let mut slabs = [0, 1].map(|_| arenas.take_slab(&hint, class, owner, Growth::Allowed).unwrap().0);
        slabs.sort_by_key(|slab| slab.start());
        assert_eq!(
            slabs[1].start().addr().get() - slabs[0].start().addr().get(),
            slices_for(class) * PAGES_PER_SLICE * PAGE
        );
        let blocks = slabs.map(|slab| crate::block::blocks_from(slab.carve(3).map(|(head, _)| head)));
        let blocks: std::vec::Vec<_> = blocks.into_iter().flatten().collect();
        for (mine, after) in [(0..3, 3), (3..6, 6)] {
            let mut rest = blocks.iter().copied().peekable();
            rest.by_ref().take(mine.start).for_each(drop);
            let slab = slabs[mine.start / 3];
            assert!(slab.list(rest.next().unwrap(), &mut rest).is_ok());
            assert_eq!((slab.free_count(), rest.next()), (3, blocks.get(after).copied()));
            slab.check();
        }
        let again = slabs[0].list(blocks[1], &mut core::iter::empty().peekable());
        assert_eq!((again, slabs[0].free_count()), (Err(blocks[1]), 3));
        slabs.into_iter().for_each(|slab| arenas.release_slab(slab));
    }

    fn resident(start: NonNull<u8>, pages: usize) -> usize {
        // The kernel's own page, also where a larger one is simulated.
        // SAFETY: sysconf of a known name has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let mut flags = std::vec![0_u8; pages * PAGE / page];
        // SAFETY: the range is mapped, and there is a byte for each of its pages.
        assert_eq!(unsafe { libc::mincore(start.as_ptr().cast(), pages * PAGE, flags.as_mut_ptr()) }, 0);
        flags.iter().filter(|&&flag| flag & 1 != 0).count() * page / PAGE
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn free_pages_of_a_slab_lose_their_memory_and_no_block_its_place(
            class in 0..crate::size_class::COUNT,
            carved in 0.0..1.0_f64,
            rounds in prop::collection::vec((0.5..1.0_f64, any::<u64>()), 1..4),
        ) {
            let arenas = arenas();
            let class = SizeClass::from_index(class);
            let slab = arenas.take_slab(&Cell::new(0), class, NonNull::dangling(), Growth::Allowed).unwrap().0;
            let pages = slices_for(class) * PAGES_PER_SLICE;
            let mut out = std::collections::BTreeSet::new();
            for (round, (freed, seed)) in rounds.into_iter().enumerate() {
                // All that there is to be had goes out, in the first round of a part of the slab only.
                let most = if round == 0 { 1 + (carved * slab.capacity() as f64) as usize } else { usize::MAX };
                while out.len() < most
                    && let Some((head, _)) = slab.take_list(most - out.len()).or_else(|| slab.carve(most - out.len()))
                {
                    for block in crate::block::blocks_from(Some(head)) {
                        prop_assert!(out.insert(block.start().addr().get()), "a block was given twice");
                    }
                }
                prop_assert_eq!(out.len(), slab.out_count());
                if round > 0 {
                    prop_assert_eq!(out.len(), slab.capacity());
                }
                for &start in &out {
                    // SAFETY: the block is this test's.
                    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(start).write_bytes(0xA5, class.block_size()) };
                }
                let mut random = seed | 1;
                out.retain(|&start| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let keep = (random >> 33) as f64 / (1_u64 << 31) as f64 >= freed;
                    if !keep {
                        let start = NonNull::new(core::ptr::with_exposed_provenance_mut(start)).unwrap();
                        // SAFETY: the block is this test's, and leaves its set.
                        let block = unsafe { crate::block::BlockPtr::from_start(start) };
                        assert!(slab.list(block, &mut core::iter::empty().peekable()).is_ok());
                    }
                    keep
                });
                slab.check();
                slab.return_free_pages(true);
                slab.check();
                prop_assert_eq!(slab.return_free_pages(true), Some(0), "a second look found more");
                // Just the pages with a block that is out are in memory.
                let base = slab.start().addr().get();
                let mut held: Vec<usize> = out
                    .iter()
                    .flat_map(|start| (start - base) / os::page_size()..=(start - base + class.block_size() - 1) / os::page_size())
                    .collect();
                held.dedup();
                let (resident, held) = (resident(slab.start(), pages), held.len() * os::page_size() / PAGE);
                // Of a simulated page the kernel holds only what was touched.
                prop_assert!(resident == held || cfg!(simulated_page) && resident < held, "{resident} pages, not {held}");
                for &start in &out {
                    let start = core::ptr::with_exposed_provenance::<u8>(start);
                    // SAFETY: the block is this test's.
                    let bytes = unsafe { core::slice::from_raw_parts(start, class.block_size()) };
                    prop_assert!(bytes.iter().all(|&byte| byte == 0xA5), "a live block lost its contents");
                }
            }
        }
    }
}
