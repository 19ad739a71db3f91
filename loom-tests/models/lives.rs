//! A thread's life (`src/tcache/lifecycle.rs`): caches made, left dormant, taken up again; frees to a cache whose thread ends
//! meanwhile; slabs that change hands. In each model every block has contents that only its holder may see change, and in the
//! end every block must be home.

use super::blocks::{LARGEST, PAGE, allocate, check_all_came_home, check_at_rest, free, free_known};
use super::{Control, Model, join, spawn};
use crate::os::kernel;
use crate::size_class::SizeClass;
use crate::sync::model;
use crate::tcache::{self, CACHES};

const FILE: &str = "src/tcache/lifecycle.rs";
const CLAIM: Control = Control::Relaxed(FILE, "self.state.compare_exchange(state, LIVE,", 0);
const LEAVE: Control = Control::Relaxed(FILE, "self.state.store(if is_warm", 0);
const PUBLISH: Control = Control::Relaxed(FILE, "self.newest.store(", 0);
const UNLOCK: Control = Control::Relaxed("src/sync/mutex.rs", "self.state.swap(FREE,", 0);
const PUSH: Control = Control::Relaxed("src/tcache/inbox.rs", "self.head.compare_exchange_weak", 0);

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "two_threads_get_caches_at_once_and_leave_them",
        protocol: "lives",
        threads: 3,
        bound: Some(1),
        control: UNLOCK,
        body: two_attach,
    },
    || Model {
        name: "of_two_threads_one_claims_the_dormant_cache",
        protocol: "lives",
        threads: 3,
        bound: Some(1),
        control: CLAIM,
        body: claim_and_claim,
    },
    || Model {
        name: "a_cache_is_claimed_as_its_thread_left_it",
        protocol: "lives",
        threads: 2,
        bound: Some(2),
        control: LEAVE,
        body: leave_and_claim,
    },
    || Model {
        name: "a_cache_goes_from_a_thread_that_leaves_to_one_that_comes",
        protocol: "lives",
        threads: 2,
        bound: Some(2),
        control: LEAVE,
        body: leave_and_come,
    },
    || Model {
        name: "a_warm_cache_is_claimed_while_another_empties_it",
        protocol: "lives",
        threads: 2,
        bound: Some(1),
        control: Control::Bug("a warm cache is emptied without being claimed"),
        body: claim_and_cool,
    },
    || Model {
        name: "two_threads_cool_a_cache_at_once",
        protocol: "lives",
        threads: 2,
        bound: Some(1),
        control: Control::Relaxed(FILE, "self.state.compare_exchange(WARM, COOLING", 0),
        body: cool_and_cool,
    },
    || Model {
        name: "a_walk_over_the_caches_reaches_all_while_one_is_made",
        protocol: "lives",
        threads: 2,
        bound: Some(1),
        control: PUBLISH,
        body: make_and_walk,
    },
    || Model {
        name: "the_last_block_of_a_slab_is_freed_by_another_while_its_owner_exits",
        protocol: "lives",
        threads: 2,
        bound: Some(2),
        control: PUSH,
        body: last_block,
    },
    || Model {
        name: "blocks_sent_while_their_owner_exits_reach_whoever_takes_the_slab",
        protocol: "lives",
        threads: 3,
        bound: Some(1),
        control: PUSH,
        body: push_exit_adopt,
    },
    || Model {
        name: "a_block_freed_to_a_dormant_cache_comes_home",
        protocol: "lives",
        threads: 3,
        bound: Some(1),
        control: PUSH,
        body: free_to_dormant,
    },
    || Model {
        name: "a_thread_exits_with_a_full_outbox",
        protocol: "lives",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("an exit forgets its outbox"),
        body: full_outbox,
    },
    || Model {
        name: "a_thread_without_a_cache_still_allocates_and_frees",
        protocol: "lives",
        threads: 2,
        bound: Some(2),
        control: UNLOCK,
        body: orphans,
    },
    || Model {
        name: "an_attaching_thread_is_called_back_by_the_c_library",
        protocol: "lives",
        threads: 3,
        bound: Some(1),
        control: Control::Bug("a thread registers before it has its cache"),
        body: called_back,
    },
    || Model {
        name: "how_many_caches_are_dormant_never_goes_below_zero",
        protocol: "lives",
        threads: 3,
        bound: Some(2),
        control: Control::Bug("a cache is counted as dormant after it can be claimed"),
        body: dormant_count,
    },
    || Model {
        name: "what_two_threads_reserve_of_the_pool_is_within_it_and_comes_back",
        protocol: "lives",
        threads: 2,
        bound: Some(1),
        control: Control::Bug("a thread reserves without a look at the pool"),
        body: reserve,
    },
];

fn short_life() {
    let block = allocate(PAGE);
    block.check();
    free(block);
}

fn two_attach() {
    let life = || assert!(tcache::start());
    join([spawn(life), spawn(life)]);
    check_all_came_home();
    assert!(CACHES.counts().0 <= 2);
}

fn claim_and_claim() {
    spawn(short_life).join().unwrap();
    join([spawn(short_life), spawn(short_life)]);
    check_all_came_home();
    assert!(CACHES.counts().0 <= 2);
}

fn leave_and_claim() {
    spawn(short_life).join().unwrap();
    let leaving = spawn(short_life);
    short_life();
    leaving.join().unwrap();
    kernel::thread_ends();
    check_all_came_home();
}

fn leave_and_come() {
    spawn(short_life).join().unwrap();
    let leaving = spawn(tcache::start);
    assert!(tcache::start());
    leaving.join().unwrap();
    kernel::thread_ends();
    check_all_came_home();
}

fn claim_and_cool() {
    // The main thread has a cache of its own.
    assert!(tcache::start());
    spawn(short_life).join().unwrap();
    let class = SizeClass::of(PAGE).unwrap();
    assert_eq!(CACHES.iter().map(|cache| cache.ledger(class).magazines).sum::<usize>(), 1);
    let claimer = spawn(short_life);
    tcache::reclaim();
    claimer.join().unwrap();
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

fn cool_and_cool() {
    // With a cache of its own, but without a slab of the class.
    assert!(tcache::start());
    let leaving = spawn(|| [PAGE, LARGEST].map(allocate).into_iter().for_each(free));
    leaving.join().unwrap();
    let other = spawn(tcache::reclaim);
    // Has the blocks of this class settled, to take their slab.
    let block = allocate(PAGE);
    other.join().unwrap();
    free(block);
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

fn make_and_walk() {
    assert!(tcache::start());
    let first = CACHES.iter().last().map(core::ptr::from_ref);
    let other = spawn(tcache::start);
    // Whatever cache a walk begins with, it reaches all that were made before.
    assert_eq!(CACHES.iter().last().map(core::ptr::from_ref), first);
    other.join().unwrap();
    let block = allocate(PAGE);
    let statistics = crate::statistics();
    assert_eq!((statistics.live_bytes, statistics.thread_caches), (PAGE, (2, 1)));
    free(block);
}

fn last_block() {
    let block = allocate(PAGE);
    let other = spawn(move || {
        free(block);
        tcache::send_off();
    });
    kernel::thread_ends();
    other.join().unwrap();
    check_all_came_home();
}

fn push_exit_adopt() {
    let (first, second) = (allocate(PAGE), allocate(PAGE));
    let sender = spawn(move || free_known(first, PAGE));
    let taker = spawn(|| {
        let blocks = [allocate(PAGE), allocate(PAGE)];
        blocks.into_iter().for_each(free);
    });
    free(second);
    kernel::thread_ends();
    sender.join().unwrap();
    taker.join().unwrap();
    check_all_came_home();
}

fn free_to_dormant() {
    let blocks = [allocate(LARGEST), allocate(LARGEST)];
    kernel::thread_ends();
    let threads = blocks.map(|block| spawn(move || free(block)));
    join(threads);
    check_all_came_home();
}

fn full_outbox() {
    // More than a chain of one class, one of another, and blocks of the second slice of a slab of several.
    let pages = [(); 5].map(|()| allocate(PAGE));
    let largest = [(); 2].map(|()| allocate(LARGEST));
    let sender = spawn(move || {
        pages.into_iter().for_each(free);
        largest.into_iter().for_each(|block| free_known(block, LARGEST));
    });
    let own = allocate(PAGE);
    free(own);
    sender.join().unwrap();
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

fn orphans() {
    let kept = allocate(PAGE);
    kernel::thread_ends();
    // The main thread's cache is gone; so is the other's after its end.
    let other = spawn(|| {
        short_life();
        kernel::thread_ends();
        let late = allocate(PAGE);
        free(late);
    });
    let late = allocate(PAGE);
    free(kept);
    free(late);
    other.join().unwrap();
    check_at_rest();
}

fn called_back() {
    kernel::call_back(|| {
        let block = allocate(PAGE);
        free(block);
    });
    let threads = [spawn(short_life), spawn(short_life)];
    join(threads);
    check_all_came_home();
    // The library is unloaded: threads that end later keep their caches.
    short_life();
    tcache::stop();
    kernel::thread_ends();
    check_at_rest();
}

fn dormant_count() {
    spawn(short_life).join().unwrap();
    // The main thread's cache: the newer one, if the first is taken meanwhile.
    let other = spawn(|| assert!(tcache::start()));
    assert!(tcache::start());
    other.join().unwrap();
    let claimers = [(); 2].map(|()| {
        model::thread::spawn(|| {
            assert!(tcache::start());
            let (made, dormant) = CACHES.counts();
            assert!(dormant <= made, "{dormant} of {made} caches are dormant");
        })
    });
    kernel::thread_ends();
    claimers.into_iter().for_each(|claimer| claimer.join().unwrap());
    check_at_rest();
}

fn reserve() {
    const POOL: usize = 64 << 10;
    /// Whether just the whole pool can be had.
    fn pool_is_whole() -> bool {
        let (all, more) = (CACHES.reserve(POOL), CACHES.reserve(1));
        CACHES.unreserve(POOL);
        all && !more
    }
    assert!(CACHES.reserve(1), "without a word of the options there is a pool");
    CACHES.unreserve(1);
    crate::options::OPTIONS.set(b"thread_cache_bytes", b"65536").unwrap();
    let taken = model::keep(core::cell::Cell::new(0));
    let life = move || {
        if CACHES.reserve(POOL) {
            taken.set(taken.get() + 1);
            assert_eq!(taken.get(), 1, "the pool gave more than it has");
            model::thread::yield_now();
            taken.set(taken.get() - 1);
            CACHES.unreserve(POOL);
        }
    };
    let other = spawn(life);
    life();
    other.join().unwrap();
    assert!(pool_is_whole());
    assert_eq!(CACHES.reserved_bytes(), 0);
}
