//! The lock (`src/sync/mutex.rs`): mutual exclusion, visibility of what the last holder wrote, no lost wake-up (a thread that
//! sleeps for ever is a deadlock, which loom reports), and the passing of the thread that forks.

use super::{Control, Model, join, spawn, together};
use crate::sync::model::{keep, set_spins, track_read, track_write};
use crate::sync::{Mutex, set_forking};
use core::cell::UnsafeCell;

const FILE: &str = "src/sync/mutex.rs";
const UNLOCK: Control = Control::Relaxed(FILE, "self.state.swap(FREE,", 0);

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "two_threads_exclude_each_other_and_see_what_the_other_wrote",
        protocol: "locks",
        threads: 3,
        bound: None,
        control: UNLOCK,
        body: || exclusion::<2>(1),
    },
    || Model {
        name: "a_lock_taken_again_and_again_wakes_every_sleeper",
        protocol: "locks",
        threads: 3,
        bound: Some(3),
        control: Control::Relaxed(FILE, "self.state.swap(CONTENDED,", 0),
        body: || exclusion::<2>(2),
    },
    || Model {
        name: "three_threads_exclude_each_other_and_none_sleeps_for_ever",
        protocol: "locks",
        threads: 4,
        bound: Some(2),
        control: Control::Bug("the lock wakes nobody"),
        body: || exclusion::<3>(1),
    },
    || Model {
        name: "whoever_tries_a_lock_has_it_alone_or_not_at_all",
        protocol: "locks",
        threads: 3,
        bound: None,
        control: UNLOCK,
        body: trying,
    },
    || Model {
        name: "the_thread_that_forks_passes_through_its_locks_and_no_other_does",
        protocol: "locks",
        threads: 3,
        bound: None,
        control: UNLOCK,
        body: passing,
    },
];

/// A number that only the lock's holder may touch.
struct Guarded {
    lock: Mutex<u32>,
    beside: UnsafeCell<u32>,
}

// SAFETY: that no two threads touch it at once is what the models check.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn new() -> &'static Self {
        set_spins(1);
        keep(Self { lock: Mutex::new(0), beside: UnsafeCell::new(0) })
    }

    fn bump(&self, inside: &mut u32) {
        *inside += 1;
        track_write(self.beside.get());
        // SAFETY: the access was reported, so it is the only one.
        unsafe { *self.beside.get() += 1 };
    }

    fn sum(&self) -> u32 {
        let inside = *self.lock.lock();
        track_read(self.beside.get());
        // SAFETY: as above.
        assert_eq!(inside, unsafe { *self.beside.get() });
        inside
    }
}

fn exclusion<const THREADS: usize>(times: u32) {
    let guarded = Guarded::new();
    let threads =
        [(); THREADS].map(|()| spawn(move || (0..times).for_each(|_| guarded.bump(&mut guarded.lock.lock()))));
    join(threads);
    assert_eq!(guarded.sum(), THREADS as u32 * times);
}

fn trying() {
    let guarded = Guarded::new();
    let threads = [(); 2].map(|()| {
        spawn(move || {
            if let Some(mut inside) = guarded.lock.try_lock() {
                guarded.bump(&mut inside);
            }
        })
    });
    join(threads);
    assert!((1..=2).contains(&guarded.sum()));
}

fn passing() {
    static GUARDED: Mutex<u32> = Mutex::new(0);
    *GUARDED.lock() = 0;
    together([
        || {
            GUARDED.lock_for_fork();
            set_forking(true);
            *GUARDED.lock() += 1;
            assert!(GUARDED.try_lock().is_none());
            *GUARDED.lock() += 1;
            set_forking(false);
            GUARDED.unlock_after_fork();
        },
        || {
            let mut inside = GUARDED.lock();
            assert!(matches!(*inside, 0 | 2), "a lock was entered while a fork held it");
            *inside += 10;
        },
    ]);
    assert_eq!(*GUARDED.lock(), 12);
}
