//! Segments, slabs and runs (`src/arena/`): claimed, released and purged at once; a run purged while another thread takes its
//! neighbour; the segment map; growth by the break while the program calls `sbrk` itself.

use super::blocks::{Held, PAGE};
use super::{Control, Model, spawn};
use crate::arena::{self, ARENAS, Growth, MAX_RUN_PAGES, Owner, RunState, SEGMENT_SIZE, Source};
use crate::os::{self, kernel};
use crate::size_class::SizeClass;
use crate::sync::Cell;
use crate::sync::model::keep;
use core::ptr::NonNull;
use std::cell::RefCell;
use std::vec::Vec;

const UNLOCK: Control = Control::Relaxed("src/sync/mutex.rs", "self.state.swap(FREE,", 0);

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "a_slab_is_taken_while_another_is_released_and_purged",
        protocol: "arenas",
        threads: 2,
        bound: Some(3),
        control: UNLOCK,
        body: claim_release_purge,
    },
    || Model {
        name: "a_run_is_purged_while_another_thread_takes_its_neighbour",
        protocol: "arenas",
        threads: 3,
        bound: Some(2),
        control: UNLOCK,
        body: purge_beside,
    },
    || Model {
        name: "a_run_is_resized_while_another_thread_takes_what_follows_it",
        protocol: "arenas",
        threads: 2,
        bound: Some(3),
        control: UNLOCK,
        body: resize_beside,
    },
    || Model {
        name: "two_arenas_grow_and_give_back_at_once",
        protocol: "arenas",
        threads: 2,
        bound: Some(2),
        control: UNLOCK,
        body: two_grow,
    },
    || Model {
        name: "two_arenas_grow_at_once_and_one_borrows",
        protocol: "arenas",
        threads: 2,
        bound: Some(2),
        control: UNLOCK,
        body: only_grow,
    },
    || Model {
        name: "an_address_is_known_as_long_as_its_segment_is_there",
        protocol: "arenas",
        threads: 2,
        bound: Some(3),
        control: Control::Bug("a slot of the segment map is taken without a look"),
        body: known_address,
    },
    || Model {
        name: "a_foreign_address_is_looked_up_while_segments_come_and_go",
        protocol: "arenas",
        threads: 2,
        bound: Some(3),
        control: UNLOCK,
        body: foreign_look_up,
    },
    || Model {
        name: "the_break_grows_against_a_foreign_sbrk",
        protocol: "arenas",
        threads: 2,
        bound: None,
        control: Control::Bug("the break is believed to be where it was"),
        body: foreign_sbrk,
    },
];

fn take(arena: usize, pages: usize, state: RunState) -> arena::Pages {
    let hint = Cell::new(arena);
    let take = |growth| ARENAS.take(&hint, pages, 1, state, growth);
    take(Growth::Denied).or_else(|| take(Growth::Allowed)).expect("there is memory")
}

/// A medium block, with contents.
fn medium(pages: usize) -> Held {
    let run = take(0, pages, RunState::Medium);
    Held::new(run.start.as_ptr(), pages * PAGE, 77).expect("no run begins at address 0")
}

fn free(block: Held) {
    ARENAS.free_medium(block.give_up()).unwrap_or_else(|_| panic!("a block is not known"));
}

fn all_is_free() {
    ARENAS.check(|_| panic!("a slab is left"));
    ARENAS.purge(0, usize::MAX, true);
    let totals = ARENAS.totals(|_| {});
    assert_eq!((totals.mapped, totals.segments), (0, 0), "a segment was not given back");
}

fn claim_release_purge() {
    let (owner, class) = (NonNull::<Owner>::dangling(), SizeClass::of(PAGE).unwrap());
    let slab = |owner| ARENAS.take_slab(&Cell::new(0), class, owner, Growth::Allowed).expect("there is memory").0;
    let first = slab(owner);
    let other = spawn(move || {
        ARENAS.release_slab(first);
        ARENAS.purge(0, usize::MAX, false);
    });
    let second = slab(owner);
    let (block, count) = second.carve(1).expect("a fresh slab has blocks");
    assert_eq!(count, 1);
    assert!(second.list(block, &mut std::iter::empty().peekable()).is_ok());
    ARENAS.release_slab(second);
    other.join().unwrap();
    all_is_free();
}

fn purge_beside() {
    let [left, middle, right] = [medium(2), medium(3), medium(2)];
    free(middle);
    let purger = spawn(|| ARENAS.purge(0, usize::MAX, false));
    let freer = spawn(move || free(right));
    let again = medium(3);
    left.check();
    free(left);
    free(again);
    purger.join().unwrap();
    freer.join().unwrap();
    all_is_free();
}

fn resize_beside() {
    let block = medium(2);
    let other = spawn(|| free(medium(2)));
    let grew = ARENAS.resize_medium(block.start(), 4);
    block.check();
    assert_eq!(ARENAS.medium_size(block.start()), Some(if grew { 4 } else { 2 } * PAGE));
    other.join().unwrap();
    free(block);
    all_is_free();
}

fn two_grow() {
    ARENAS.set_count(2);
    // Who asks for it first is no matter of the arenas'.
    let _ = os::page_size();
    let work = |arena| {
        let run = take(arena, MAX_RUN_PAGES, RunState::Medium);
        assert!(arena::contains(run.start.as_ptr()));
        let block = Held::new(run.start.as_ptr(), MAX_RUN_PAGES * PAGE, 5).unwrap();
        free(block);
        ARENAS.purge(0, usize::MAX, false);
    };
    let other = spawn(move || work(1));
    work(0);
    other.join().unwrap();
    all_is_free();
}

fn only_grow() {
    ARENAS.set_count(2);
    let _ = os::page_size();
    let runs = keep(RefCell::new(Vec::new()));
    let work = |arena, pages| {
        let run = take(arena, pages, RunState::Medium);
        let held = Held::new(run.start.as_ptr(), pages * PAGE, 5).unwrap();
        runs.borrow_mut().push(held);
    };
    let other = spawn(move || {
        // Borrowed, if the other arena has a segment by now.
        work(1, 1);
        work(1, MAX_RUN_PAGES);
    });
    work(0, MAX_RUN_PAGES);
    other.join().unwrap();
    runs.take().into_iter().for_each(free);
    all_is_free();
}

fn known_address() {
    let foreign = 0_usize;
    let first = medium(1);
    let place = first.start().as_ptr();
    free(first);
    let other = spawn(|| ARENAS.purge(0, usize::MAX, true));
    // The segment may be there or not; what never was in one is never taken for it.
    let _ = arena::contains(place);
    assert!(!arena::contains(core::ptr::from_ref(&foreign).cast()));
    other.join().unwrap();
    assert!(!arena::contains(place) && arena::find_descriptor(place).is_none());
    all_is_free();
}

fn foreign_look_up() {
    let foreign = 0_usize;
    let other = spawn(|| {
        let block = medium(1);
        assert!(arena::contains(block.start().as_ptr()));
        free(block);
        ARENAS.purge(0, usize::MAX, true);
    });
    let address = core::ptr::from_ref(&foreign).cast::<u8>();
    for address in [address, core::ptr::null(), core::ptr::without_provenance(usize::MAX)] {
        assert!(!arena::contains(address));
        assert!(arena::find_descriptor(address.cast_mut()).is_none());
    }
    let own = medium(1);
    assert!(arena::contains(own.start().as_ptr()));
    other.join().unwrap();
    free(own);
    all_is_free();
}

fn foreign_sbrk() {
    ARENAS.initialise(Source::Break);
    let keep_pieces = keep(RefCell::new(None::<[Held; 2]>));
    let other = spawn(|| {
        // The program's own: two pieces, with contents.
        let pieces = [1000, 3000].map(|len| {
            // SAFETY: growing the break is always allowed.
            let start = unsafe { kernel::sbrk(len) };
            Held::new(start.cast(), len as usize, 9).unwrap()
        });
        pieces.iter().for_each(Held::check);
        *keep_pieces.borrow_mut() = Some(pieces);
    });
    let blocks = [medium(MAX_RUN_PAGES), medium(MAX_RUN_PAGES)];
    for block in &blocks {
        block.check();
        assert!(block.start().addr().get() % SEGMENT_SIZE != 0 && arena::contains(block.start().as_ptr()));
    }
    other.join().unwrap();
    for piece in keep_pieces.take().unwrap() {
        piece.check();
        assert!(!arena::contains(piece.start().as_ptr()), "a segment lies over the program's memory");
    }
    blocks.into_iter().for_each(free);
    ARENAS.check(|_| panic!("a slab is left"));
}
