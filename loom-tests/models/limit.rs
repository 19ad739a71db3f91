//! Limits on memory (`src/limit.rs`): charges of several threads against the hard limit, and the soft one, which is heeded once.

use super::{Control, Model, join, spawn};
use crate::limit::{LIMIT, Limit};
use crate::options::OPTIONS;
use crate::sync::model::keep;
use crate::sync::{AtomicUsize, Ordering};

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "what_threads_map_together_is_within_the_hard_limit",
        protocol: "limit",
        threads: 3,
        bound: Some(2),
        control: Control::Bug("a charge is compared with the limit and added in two steps"),
        body: hard,
    },
    || Model {
        name: "a_soft_limit_that_is_crossed_is_heeded_once",
        protocol: "limit",
        threads: 2,
        bound: None,
        control: Control::Bug("every thread that finds the soft limit crossed heeds it"),
        body: soft,
    },
];

fn hard() {
    OPTIONS.set(b"limit", b"100").unwrap();
    let limit: &'static Limit = keep(Limit::new());
    let granted: &'static AtomicUsize = keep(AtomicUsize::new(0));
    let map = move || {
        if limit.charge(60) {
            let before = granted.fetch_add(60, Ordering::Relaxed);
            assert!(before + 60 <= 100, "more is mapped than the limit allows");
            granted.fetch_sub(60, Ordering::Relaxed);
            limit.refund(60);
        }
    };
    let threads = [spawn(map), spawn(map)];
    join(threads);
    assert!(limit.charge(100) && !limit.charge(1), "bytes were lost");
}

std::thread_local! {
    static CALLED: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

extern "C" fn called(mapped: usize, limit: usize) {
    assert!(mapped > limit);
    CALLED.set(CALLED.get() + 1);
}

fn soft() {
    CALLED.set(0);
    OPTIONS.set(b"soft_limit", b"64").unwrap();
    LIMIT.set_callback(Some(called));
    let cross = || {
        assert!(LIMIT.charge(64));
        LIMIT.heed();
    };
    let other = spawn(cross);
    cross();
    other.join().unwrap();
    assert_eq!(CALLED.get(), 1, "the program was not told, or twice");
    // Below the limit, and beyond it again.
    LIMIT.refund(128);
    cross();
    assert_eq!(CALLED.get(), 1, "the limit was not crossed");
    cross();
    assert_eq!(CALLED.get(), 2);
    LIMIT.renew();
    LIMIT.heed();
    assert_eq!(CALLED.get(), 3, "a limit that was just set is looked at");
    LIMIT.refund(128);
}
