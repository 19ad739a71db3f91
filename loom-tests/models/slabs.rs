//! What an owner keeps about its slabs (`src/tcache/slab_sets.rs`, `src/arena/slab.rs`): the aging list, the spare slab, the pages
//! that were given back; while blocks come home and slabs change hands. All of it is guarded by the owner's lock: who touches it
//! by another right has a race.

use super::blocks::{Held, LARGEST, PAGE, allocate, check_all_came_home, check_at_rest, free};
use super::{Control, Model, spawn};
use crate::os::kernel;
use crate::sync::model::keep;
use crate::tcache;
use std::cell::RefCell;
use std::vec::Vec;

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "pages_are_given_back_while_blocks_of_their_slab_come_home",
        protocol: "slabs",
        threads: 2,
        bound: Some(1),
        control: Control::Bug("pages are given back under blocks that are out"),
        body: give_back,
    },
    || Model {
        name: "a_dormant_cache_is_claimed_while_its_slab_goes_to_another",
        protocol: "slabs",
        threads: 2,
        bound: Some(1),
        control: Control::Bug("a slab that changes hands stays in the aging list"),
        body: hand_over,
    },
    || Model {
        name: "statistics_asked_for_meanwhile_are_never_torn_and_exact_at_rest",
        protocol: "slabs",
        threads: 2,
        bound: Some(1),
        control: Control::Relaxed("src/sync/mutex.rs", "self.state.swap(FREE,", 0),
        body: statistics,
    },
];

fn give_back() {
    let [own, sent, kept] = [(); 3].map(|()| allocate(PAGE));
    let sender = spawn(move || {
        free(sent);
        tcache::send_off();
    });
    free(own);
    // Settles the block and whatever arrived, and gives back the pages that are free.
    tcache::flush();
    let again = [(); 3].map(|()| allocate(PAGE));
    kept.check();
    sender.join().unwrap();
    again.into_iter().for_each(free);
    check_at_rest();
    free(kept);
    kernel::thread_ends();
    check_all_came_home();
}

fn hand_over() {
    let table: &'static RefCell<Vec<Held>> = keep(RefCell::default());
    // The main thread has a cache, and no slab of the class.
    let own = allocate(PAGE);
    spawn(move || {
        let [sent, settled] = [(); 2].map(|()| allocate(LARGEST));
        free(settled);
        table.borrow_mut().push(sent);
    })
    .join()
    .unwrap();
    // The slab's last block goes home to a dormant cache, which makes the slab its spare one.
    table.take().into_iter().for_each(free);
    tcache::send_off();
    let claimer = spawn(|| {
        assert!(tcache::start());
        tcache::flush();
    });
    let taken = [(); 2].map(|()| allocate(LARGEST));
    taken.iter().for_each(Held::check);
    claimer.join().unwrap();
    check_at_rest();
    taken.into_iter().for_each(free);
    free(own);
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

fn statistics() {
    let own = allocate(PAGE);
    let other = spawn(|| {
        let block = allocate(PAGE);
        free(block);
    });
    let meanwhile = crate::statistics();
    // A figure that went below zero would be near 2^64.
    let figures = [
        meanwhile.live_bytes,
        meanwhile.cached_bytes,
        meanwhile.in_transit_bytes,
        meanwhile.listed_bytes,
        meanwhile.slack_bytes,
        meanwhile.mapped_bytes,
        meanwhile.held_bytes(),
    ];
    assert!(figures.iter().all(|&bytes| bytes < 1 << 30), "{figures:?}");
    assert!((1..=2).contains(&meanwhile.thread_caches.0) && meanwhile.segments <= 2);
    other.join().unwrap();
    let after = crate::statistics();
    assert_eq!((after.live_bytes, after.in_transit_bytes, after.thread_caches), (PAGE, 0, (2, 1)));
    free(own);
    check_at_rest();
}
