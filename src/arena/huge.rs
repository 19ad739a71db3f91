//! Huge pages for memory that has long been in dense use, where the option `huge_pages` wants them.
//!
//! A segment has room for two. They are never asked for when memory is new: a huge page is resident as a whole, and most memory is
//! never used so densely. A half that has had next to no free page for ten purge delays is put into one by the kernel, at once and by
//! copying (`MADV_COLLAPSE`), outside of all locks. From then on its free pages stay while more than half of it is in use: returning
//! one would split it. A slab in it returns pages only if most of its own are free. A purge of everything, and memory that another part of
//! the heap takes anew, spare nothing.

use super::general_heap::{RunState, Spot};
use super::residency::Residency;
use super::segment::{HEADER_PAGES, PAGE, PAGES, PAGES_PER_SLICE, Segment};
use super::{Arena, Arenas, Heap};
use crate::options::OPTIONS;
use crate::os;
use crate::sync::{Cell, Counter};
use core::ptr::NonNull;

const HALVES: usize = 2;
const HALF_PAGES: usize = PAGES / HALVES;
/// So many pages of a half may be free, and it counts as densely used.
const FREE_AT_MOST: usize = HALF_PAGES / 16;
/// For how many purge delays a half has to be in dense use.
const DELAYS: u32 = 10;
/// Halves that are put into huge pages at a time, or found not to be in memory as a whole: each takes the kernel about a millisecond.
const AT_A_TIME: usize = 4;
/// Segments of an arena that are looked at in one go.
const SEGMENTS_AT_A_TIME: usize = 32;

/// What is known of the halves of a segment; zeroes at first. Written under the arena's lock.
pub(super) struct Halves {
    /// A bit for each half that the kernel was asked to put into a huge page. Read by any thread, `Relaxed`: what it keeps from being
    /// returned is returned later. The models of the arenas leave the option off: one writer at a time and readers that
    /// may be late leave no order to verify.
    huge: Counter,
    /// When the half was first seen in dense use, in milliseconds and never 0; 0 when it was not last time.
    dense_since: [Cell<u32>; HALVES],
}

impl Halves {
    fn any(&self) -> bool {
        self.huge.get() != 0
    }

    fn is_huge(&self, half: usize) -> bool {
        self.huge.get() >> half & 1 != 0
    }

    fn set_huge(&self, half: usize, is: bool) {
        if is != self.is_huge(half) {
            if is { self.huge.add(1 << half) } else { self.huge.sub(1 << half) }
        }
    }
}

/// The halves that a run lies in.
fn halves_of(spot: Spot, pages: usize) -> impl Iterator<Item = usize> {
    spot.page / HALF_PAGES..=(spot.page + pages - 1) / HALF_PAGES
}

/// Whether the memory of a free run stays, since a huge page that it lies in is mostly in use. Asked with the arena's lock held.
pub(super) fn keeps(spot: Spot, pages: usize) -> bool {
    let halves = &spot.segment.header.halves;
    halves.any() && {
        let free = free_pages(spot.segment);
        halves_of(spot, pages).any(|half| halves.is_huge(half) && free[half] < HALF_PAGES / 2)
    }
}

/// Notes that the memory of a run goes back to the kernel, which splits the huge pages that it lies in. With the arena's lock held.
pub(super) fn split(spot: Spot, pages: usize) {
    let halves = &spot.segment.header.halves;
    if halves.any() {
        halves_of(spot, pages).for_each(|half| halves.set_huge(half, false));
    }
}

/// Whether a slab with so many free pages, of the slices that it has, keeps them for the sake of a huge page.
pub(super) fn slab_keeps(slab_start: NonNull<u8>, slices: usize, free_pages: usize) -> bool {
    // SAFETY: slabs lie in registered segments.
    let segment = unsafe { Segment::containing(slab_start) };
    let half = (slab_start.addr().get() - segment.start().addr().get()) / (HALF_PAGES * PAGE);
    segment.header.halves.is_huge(half) && free_pages < slices * PAGES_PER_SLICE * 3 / 4
}

/// The pages of free runs in each half.
fn free_pages(segment: &'static Segment) -> [usize; HALVES] {
    let mut free = [0; HALVES];
    segment.for_each_run(|page, run| {
        if matches!(run.state(), RunState::Free | RunState::Recent) {
            let end = page + run.pages();
            free[0] += end.min(HALF_PAGES).saturating_sub(page);
            free[1] += end - page.max(HALF_PAGES).min(end);
        }
    });
    free
}

impl Arenas {
    /// Has the kernel put what has long been in dense use into huge pages, if that is wanted: some, each time. For slow paths.
    #[inline]
    pub(crate) fn gather_huge_pages(&self) {
        if !OPTIONS.huge_pages() || os::page_size() != PAGE || OPTIONS.purge_delay_ms() == 0 {
            return;
        }
        self.gather_some();
    }

    #[inline(never)]
    fn gather_some(&self) {
        let mut chosen = [None; AT_A_TIME];
        let mut places = chosen.iter_mut();
        for (number, arena) in self.arenas.iter().enumerate().filter(|(_, arena)| arena.segments.get() > 0) {
            if let Some(heap) = arena.heap.try_lock() {
                choose(&heap, &mut places, number);
            }
        }
        for (arena, segment, half) in chosen.into_iter().flatten() {
            self.arenas[arena].gather(segment, half);
        }
    }
}

/// What is to be put into a huge page: half a segment, of the arena with that number.
type Chosen = (usize, NonNull<u8>, usize);

/// Notes which halves of some segments are in dense use, and marks those as huge that have been for long, while there are places for
/// them. The next call goes on with the segments behind.
fn choose(heap: &Heap, places: &mut core::slice::IterMut<'_, Option<Chosen>>, arena: usize) {
    let now = (os::clock_ms() as u32).max(1);
    let mut looked = 0;
    for segment in heap.segments().skip(heap.looked.get()).take(SEGMENTS_AT_A_TIME) {
        let halves = &segment.header.halves;
        looked += 1;
        if (0..HALVES).all(|half| halves.is_huge(half)) {
            continue;
        }
        let free = free_pages(segment);
        for half in (0..HALVES).filter(|&half| !halves.is_huge(half)) {
            let since = &halves.dense_since[half];
            if free[half] > FREE_AT_MOST {
                since.set(0);
            } else if since.get() == 0 {
                since.set(now);
            } else if os::age_ms(now, since.get()) >= OPTIONS.purge_delay_ms().saturating_mul(DELAYS) {
                let Some(place) = places.next() else { return };
                // Whatever comes of it, the next time is as far away.
                since.set(now);
                if is_resident(segment, half) {
                    halves.set_huge(half, true);
                    *place = Some((arena, segment.start(), half));
                }
            }
        }
    }
    heap.looked.set(if looked < SEGMENTS_AT_A_TIME { 0 } else { heap.looked.get() + looked });
}

/// Whether all of a half is in memory, but for the segment's tables: what was not would be, as a part of a huge page.
fn is_resident(segment: &'static Segment, half: usize) -> bool {
    let first = (half * HALF_PAGES).max(HEADER_PAGES);
    let pages = (half + 1) * HALF_PAGES - first;
    Residency::of(segment).bytes(first, pages, false) == pages * PAGE
}

impl Arena {
    /// Puts a half into a huge page. It was marked; meanwhile its segment may have gone back to the kernel, and be anything: what lies
    /// there keeps its contents.
    fn gather(&self, segment: NonNull<u8>, half: usize) {
        let offset = half * HALF_PAGES * PAGE;
        if os::collapse(segment.map_addr(|start| start.saturating_add(offset)), HALF_PAGES * PAGE) {
            return;
        }
        let heap = self.heap.lock();
        if let Some(segment) = heap.segments().find(|known| known.start() == segment) {
            // Refused: there may be one later.
            segment.header.halves.set_huge(half, false);
        }
    }
}
