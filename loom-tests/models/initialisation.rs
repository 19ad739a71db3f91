//! One-time initialisation (`src/sync/once.rs`) entered by several threads, and the counters of the statistics
//! (`src/sync/mod.rs`). That a thread which initialises is called back by the C library, and comes by again itself, is a model of
//! `lives.rs`; statistics as a whole are one of `slabs.rs`.

use super::{Control, Model, join, spawn};
use crate::sync::model::{keep, track_read, track_write};
use crate::sync::{Counter, Once};
use core::cell::UnsafeCell;

const FILE: &str = "src/sync/once.rs";

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "one_of_two_threads_initialises_and_both_see_it_done",
        protocol: "initialisation",
        threads: 3,
        bound: None,
        control: Control::Relaxed(FILE, "self.state.store(DONE,", 0),
        body: once::<2>,
    },
    || Model {
        name: "who_sees_it_done_without_having_asked_sees_what_was_written",
        protocol: "initialisation",
        threads: 3,
        bound: None,
        control: Control::Relaxed(FILE, "self.state.load(", 0),
        body: bystander,
    },
    || Model {
        name: "an_initialiser_that_failed_is_run_again_and_then_is_done",
        protocol: "initialisation",
        threads: 3,
        bound: None,
        control: Control::Relaxed(FILE, "self.state.store(DONE,", 0),
        body: second_attempt,
    },
    || Model {
        name: "shared_additions_are_never_lost_and_a_reader_sees_no_sum_that_never_was",
        protocol: "initialisation",
        threads: 4,
        bound: Some(3),
        control: Control::Bug("a shared counter is read and written in two steps"),
        body: counters,
    },
];

struct Initialised {
    once: Once,
    value: UnsafeCell<u32>,
}

// SAFETY: that nobody reads the value before it was written is what the models check.
unsafe impl Sync for Initialised {}

impl Initialised {
    fn new() -> &'static Self {
        keep(Self { once: Once::new(), value: UnsafeCell::new(0) })
    }

    fn initialise(&self) {
        self.once.call(|| {
            track_write(self.value.get());
            // SAFETY: the access was reported, so it is the only one.
            unsafe { *self.value.get() += 1 };
        });
    }

    fn check(&self) {
        track_read(self.value.get());
        // SAFETY: as above.
        assert_eq!(unsafe { *self.value.get() }, 1);
    }
}

fn bystander() {
    let it = Initialised::new();
    let threads = [spawn(|| it.initialise()), spawn(|| it.initialise())];
    if it.once.is_done() {
        it.check();
    }
    join(threads);
    it.check();
}

fn once<const THREADS: usize>() {
    let it = Initialised::new();
    let threads = [(); THREADS].map(|()| {
        spawn(|| {
            it.initialise();
            assert!(it.once.is_done());
            it.check();
        })
    });
    join(threads);
}

fn second_attempt() {
    let (it, tries) = (Initialised::new(), keep(Counter::new()));
    let attempt = || {
        it.once.attempt(|| {
            tries.add_shared(1);
            if tries.get() == 1 {
                return false;
            }
            track_write(it.value.get());
            // SAFETY: the access was reported, so it is the only one.
            unsafe { *it.value.get() += 1 };
            true
        });
        if it.once.is_done() {
            it.check();
        }
    };
    join([spawn(attempt), spawn(attempt)]);
    attempt();
    attempt();
    assert!(it.once.is_done());
    it.check();
}

fn counters() {
    let (shared, single) = (keep(Counter::new()), keep(Counter::new()));
    let adders = [3, 5].map(|n| spawn(move || shared.add_shared(n)));
    let writer = spawn(move || {
        single.add(7);
        single.sub(2);
    });
    // Never torn, never below zero, never backwards.
    assert!([0, 3, 5, 8].contains(&shared.get()));
    let (first, second) = (single.get(), single.get());
    assert!([(0, 0), (0, 7), (0, 5), (7, 7), (7, 5), (5, 5)].contains(&(first, second)));
    join(adders);
    writer.join().unwrap();
    assert_eq!((shared.get(), single.get()), (8, 5));
}
