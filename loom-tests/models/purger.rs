//! The purger (`src/tcache/purger.rs`) against a thread that puts something where it decays, and against the end of the last
//! thread that has a cache.

use super::blocks::{PAGE, allocate, check_at_rest, free};
use super::{Control, Model, spawn};
use crate::heap;
use crate::large::LARGE;
use crate::os::kernel;
use crate::size_class::SizeClass;
use crate::sync::model::thread;
use crate::tcache::{self, CACHES, PURGER};

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "what_is_put_while_the_purger_falls_asleep_is_returned_all_the_same",
        protocol: "purger",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("the purger falls asleep without another look"),
        body: put_and_sleep,
    },
    || Model {
        name: "a_chain_that_is_sent_while_the_purger_falls_asleep_is_settled_all_the_same",
        protocol: "purger",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("whoever sends a chain does not pass by the gate"),
        body: send_and_sleep,
    },
    || Model {
        name: "what_a_thread_leaves_that_ends_while_the_purger_falls_asleep_is_settled_all_the_same",
        protocol: "purger",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("a thread that ends does not tell the purger"),
        body: end_and_sleep,
    },
    || Model {
        name: "the_purger_ends_with_the_last_thread_that_has_a_cache",
        protocol: "purger",
        threads: 3,
        bound: Some(1),
        control: Control::Bug("the purger stays when all have gone"),
        body: last_thread,
    },
    || Model {
        name: "the_purger_ends_with_the_last_thread_though_it_has_a_cache_in_hand",
        protocol: "purger",
        threads: 2,
        bound: Some(1),
        control: Control::Bug("a cache that is being cooled is not counted as dormant"),
        body: last_thread_beside_a_warm_cache,
    },
    || Model {
        name: "whoever_ends_the_purger_waits_for_the_thread_that_another_started",
        protocol: "purger",
        threads: 3,
        bound: Some(1),
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

fn send_and_sleep() {
    // A cache that no thread has any more, with a block out, and not seen for a while.
    assert!(tcache::start());
    let own = kernel::stand_still();
    let block = allocate(PAGE);
    kernel::thread_ends();
    drop(kernel::stand_still());
    kernel::go_on(own);
    kernel::set_clock(1_000_000);
    begin();
    free(block);
    tcache::send_off();
    let class = SizeClass::of(PAGE).unwrap();
    await_purger(|| CACHES.iter().all(|cache| cache.ledger(class).arrivals == 0));
    PURGER.end_for_good();
    check_at_rest();
}

fn end_and_sleep() {
    assert!(tcache::start());
    let own = kernel::stand_still();
    let block = allocate(PAGE);
    free(block);
    begin();
    kernel::thread_ends();
    drop(kernel::stand_still());
    kernel::go_on(own);
    kernel::set_clock(1_000_000);
    let class = SizeClass::of(PAGE).unwrap();
    await_purger(|| CACHES.iter().all(|cache| cache.ledger(class).magazines == 0));
    PURGER.end_for_good();
    check_at_rest();
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

fn last_thread_beside_a_warm_cache() {
    assert!(tcache::start());
    let own = kernel::stand_still();
    free(allocate(PAGE));
    kernel::thread_ends();
    drop(kernel::stand_still());
    kernel::go_on(own);
    kernel::set_clock(1_000_000);
    begin();
    kernel::thread_ends();
    assert!(PURGER.is_none(), "the process would never end");
    check_at_rest();
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
