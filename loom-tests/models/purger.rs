//! The purger (`src/tcache/purger.rs`) against a thread that puts something where it decays, and against the end of the last
//! thread that has a cache.

use super::blocks::{PAGE, allocate, check_at_rest, free};
use super::{Control, Model, spawn};
use crate::heap;
use crate::large::LARGE;
use crate::os::kernel;
use crate::sync::model::thread;
use crate::tcache::{self, PURGER};

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "what_is_put_while_the_purger_falls_asleep_is_returned_all_the_same",
        protocol: "purger",
        threads: 2,
        bounds: [Some(2), Some(3)],
        control: Control::Bug("the purger falls asleep without another look"),
        body: put_and_sleep,
    },
    || Model {
        name: "the_purger_ends_with_the_last_thread_that_has_a_cache",
        protocol: "purger",
        threads: 3,
        bounds: [Some(1), Some(2)],
        control: Control::Bug("the purger stays when all have gone"),
        body: last_thread,
    },
    || Model {
        name: "whoever_ends_the_purger_waits_for_the_thread_that_another_started",
        protocol: "purger",
        threads: 3,
        bounds: [Some(1), Some(2)],
        control: Control::Relaxed("src/tcache/purger.rs", "self.state.compare_exchange(STARTING, next", 0),
        body: ended_by_another,
    },
];

fn begin() {
    // With a delay of nothing, nothing would be kept.
    for (name, value) in [("background", "1"), ("purge_delay_ms", "1")] {
        heap::set_option(name.as_bytes(), value.as_bytes()).unwrap();
    }
    PURGER.start_if_wanted();
}

/// Gives the purger its turn until a condition holds; a wake-up that was lost shows in that it never does.
fn await_purger(met: impl Fn() -> bool) {
    for _ in 0..50 {
        if met() {
            return;
        }
        thread::yield_now();
    }
    panic!("the purger sleeps while there is something to return");
}

fn put_and_sleep() {
    begin();
    for _ in 0..2 {
        let block = LARGE.allocate(PAGE, 16).expect("there is memory");
        assert!(LARGE.free(block.start));
        PURGER.note();
        await_purger(|| LARGE.totals().2 == 0);
    }
    heap::set_option(b"background", b"0").unwrap();
    assert!(PURGER.is_none());
    heap::set_option(b"background", b"1").unwrap();
    PURGER.end_for_good();
    // A thread that started now would be waited for in vain.
    PURGER.start_if_wanted();
}

fn ended_by_another() {
    for (name, value) in [("background", "1"), ("purge_delay_ms", "0")] {
        heap::set_option(name.as_bytes(), value.as_bytes()).unwrap();
    }
    let other = spawn(|| PURGER.end());
    PURGER.start_if_wanted();
    other.join().unwrap();
    PURGER.end();
    assert!(PURGER.is_none());
}

fn last_thread() {
    begin();
    let block = allocate(PAGE);
    let other = spawn(move || free(block));
    kernel::thread_ends();
    other.join().unwrap();
    assert!(PURGER.is_none(), "the process would never end");
    tcache::start();
    check_at_rest();
}
