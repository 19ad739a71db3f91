//! What the arenas hold: their accounts, and the check that their structures are whole. A walk over every run of every segment.

use super::general_heap::RunState;
use super::residency::Residency;
use super::segment::{HEADER_PAGES, PAGE, PAGES_PER_SLICE, Segment};
use super::slab::Slab;
use super::{Arena, Arenas, SEGMENT_SIZE};

/// What the arenas hold, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct ArenaTotals {
    pub(crate) mapped: usize,
    /// Segments' tables, as far as they are in memory.
    pub(crate) headers: usize,
    /// Free runs, as far as they are in memory.
    pub(crate) free_dirty: usize,
    pub(crate) free_clean: usize,
    /// Uncarved parts of slabs, as far as they are in memory.
    pub(crate) uncarved: usize,
    pub(crate) free_runs: usize,
    pub(crate) medium: usize,
    pub(crate) medium_blocks: usize,
    pub(crate) slabs: usize,
    pub(crate) segments: usize,
}

impl Arenas {
    /// What each arena that has segments holds, and its number.
    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, ArenaTotals)> {
        let used = self.arenas.iter().enumerate().filter(|(_, arena)| arena.segments.get() > 0);
        used.map(|(number, arena)| {
            let mut totals = ArenaTotals::default();
            arena.add_to(&mut totals, &mut |_| {});
            (number, totals)
        })
    }

    /// Adds up what all arenas hold; calls `visit` for each slab, with its arena's lock held.
    pub(crate) fn totals(&self, mut visit: impl FnMut(&'static Slab)) -> ArenaTotals {
        let mut totals = ArenaTotals::default();
        self.used().for_each(|arena| arena.add_to(&mut totals, &mut visit));
        totals
    }

    /// Checks the runs of every segment and calls `check` for each slab. Panics where a structure is not whole.
    pub(crate) fn check(&self, mut check: impl FnMut(&'static Slab)) {
        for arena in self.used() {
            let heap = arena.heap.lock();
            let mut free = 0;
            for segment in heap.segments() {
                free += heap.general.check_segment(segment);
                segment.for_each_run(|page, run| {
                    if run.state() == RunState::Slab {
                        check(segment.slab(page / PAGES_PER_SLICE));
                    }
                });
            }
            assert_eq!(free, heap.general.free_pages.get(), "free pages are miscounted");
        }
    }
}

impl Arena {
    fn add_to(&self, totals: &mut ArenaTotals, visit: &mut impl FnMut(&'static Slab)) {
        let heap = self.heap.lock();
        for segment in heap.segments() {
            totals.segments += 1;
            totals.mapped += SEGMENT_SIZE;
            add_segment(segment, totals, visit);
        }
    }
}

fn add_segment(segment: &'static Segment, totals: &mut ArenaTotals, visit: &mut impl FnMut(&'static Slab)) {
    let residency = Residency::of(segment);
    totals.headers += residency.bytes(0, HEADER_PAGES, true);
    segment.for_each_run(|page, run| {
        let bytes = run.pages() * PAGE;
        let state = if run.is_shelved() { RunState::Recent } else { run.state() };
        match state {
            RunState::Free | RunState::Recent => {
                totals.free_runs += 1;
                let touched = state == RunState::Recent || run.is_dirty();
                let resident = residency.bytes(page, run.pages(), touched);
                totals.free_dirty += resident;
                totals.free_clean += bytes - resident;
            }
            RunState::Medium => {
                totals.medium += bytes;
                totals.medium_blocks += 1;
            }
            RunState::Slab => {
                totals.slabs += bytes;
                let slab = segment.slab(page / PAGES_PER_SLICE);
                let carved = slab.carved_pages();
                totals.uncarved += residency.bytes(page + carved, run.pages() - carved, false);
                visit(slab);
            }
            RunState::Inner => unreachable!("a run begins where the last one ends"),
        }
    });
}
