//! The whole of caches and slabs over arenas of modelled memory: two threads run small programs (allocate, free, free the
//! other's blocks, exit), and a shadow oracle knows which blocks are held and what stands in them.

use super::blocks::{Held, LARGEST, PAGE, allocate, check_all_came_home, check_at_rest, free, free_known};
use super::{Control, Model, Thread, join, spawn};
use crate::arena::{ARENAS, Growth, MAX_RUN_PAGES, RunState};
use crate::options::OPTIONS;
use crate::os::kernel;
use crate::sync::Cell;
use crate::tcache;
use std::vec::Vec;

const PUSH: Control = Control::Relaxed("src/tcache/inbox.rs", "self.head.compare_exchange_weak", 0);
const TAKE: Control = Control::Relaxed("src/tcache/inbox.rs", "self.head.swap(", 0);

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "a_block_freed_by_another_is_handed_out_again_by_its_owner",
        protocol: "composed",
        threads: 2,
        bound: Some(2),
        control: TAKE,
        body: ping,
    },
    || Model {
        name: "two_threads_free_each_others_blocks",
        protocol: "composed",
        threads: 2,
        bound: Some(2),
        control: PUSH,
        body: exchange,
    },
    || Model {
        name: "a_full_magazine_is_settled_while_blocks_come_home",
        protocol: "composed",
        threads: 2,
        bound: Some(2),
        control: PUSH,
        body: overflow,
    },
    || Model {
        name: "a_slab_is_taken_from_an_idle_cache_while_its_blocks_come_home",
        protocol: "composed",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("a settled block is listed without a look at its owner"),
        body: idle_owner,
    },
    || Model {
        name: "housekeeping_purges_while_the_other_thread_allocates",
        protocol: "composed",
        threads: 2,
        bound: Some(1),
        control: Control::Relaxed("src/sync/mutex.rs", "self.state.swap(FREE,", 0),
        body: housekeeping,
    },
    || Model {
        name: "a_block_on_a_shelf_is_its_threads_whatever_others_take_and_purge",
        protocol: "composed",
        threads: 2,
        bound: Some(3),
        control: Control::Bug("a block on a shelf goes to its arena as well"),
        body: shelf,
    },
    || Model {
        name: "chains_of_two_senders_that_wait_are_used_one_after_the_other",
        protocol: "composed",
        threads: 3,
        bound: Some(1),
        control: Control::Bug("a batch that waits is dropped when the next is taken"),
        body: two_senders,
    },
    || Model {
        name: "chains_of_three_owners_that_want_one_place_of_an_outbox_all_come_home",
        protocol: "composed",
        threads: 2,
        bound: Some(1),
        control: Control::Bug("a chain that is in the way is dropped"),
        body: collisions,
    },
    || Model {
        name: "blocks_come_home_one_by_one_while_calls_are_attended",
        protocol: "composed",
        threads: 2,
        bound: Some(1),
        control: PUSH,
        body: attended,
    },
    || Model {
        name: "blocks_that_wait_for_their_owner_go_to_whichever_thread_needs_them",
        protocol: "composed",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("what waited for another owner is dropped"),
        body: in_need,
    },
    || Model {
        name: "a_thread_in_need_uses_again_what_it_freed_of_anothers",
        protocol: "composed",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("what was taken back is dropped"),
        body: taken_back,
    },
    || Model {
        name: "a_block_that_another_thread_kept_goes_home_when_both_have_ended",
        protocol: "composed",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("a settled block is listed without a look at its owner"),
        body: kept,
    },
    || Model {
        name: "three_threads_pass_blocks_round_and_exit",
        protocol: "composed",
        threads: 3,
        bound: Some(1),
        control: Control::Bug("a settled block is listed without a look at its owner"),
        body: round,
    },
];

/// Frees blocks of another thread's, and sends them home at once.
fn free_and_send<const N: usize>(blocks: [Held; N]) {
    blocks.into_iter().for_each(free);
    tcache::send_off();
}

fn ping() {
    let blocks = [(); 2].map(|()| allocate(LARGEST));
    let other = spawn(move || free_and_send(blocks));
    // What came home meanwhile is among these, or not.
    let more = [(); 3].map(|()| allocate(LARGEST));
    more.iter().for_each(Held::check);
    other.join().unwrap();
    more.into_iter().for_each(|block| free_known(block, LARGEST));
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

fn exchange() {
    let mine = [allocate(PAGE), allocate(LARGEST)];
    let (tell, told) = std::sync::mpsc::channel();
    let other = spawn(move || {
        // A thread that takes no such blocks yet keeps none.
        free_and_send(mine);
        let theirs = [allocate(PAGE), allocate(LARGEST)];
        tell.send(theirs).unwrap();
    });
    let own = allocate(PAGE);
    free(own);
    other.join().unwrap();
    // The other's cache is dormant now.
    told.recv().unwrap().into_iter().for_each(free);
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

fn overflow() {
    let sent = [allocate(LARGEST), allocate(LARGEST)];
    let other = spawn(move || free_and_send(sent));
    let blocks = [(); 9].map(|()| allocate(LARGEST));
    blocks.into_iter().for_each(free);
    other.join().unwrap();
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

/// Uses up a slab of the calling thread's; so many of its blocks are to be freed by another thread.
fn whole_slab<const FREED: usize>() -> ([Held; FREED], Vec<Held>) {
    let mut kept: Vec<Held> = (0..8).map(|_| allocate(LARGEST)).collect();
    let freed = [(); FREED].map(|()| kept.pop().expect("a slab has eight blocks"));
    (freed, kept)
}

/// Takes a block more while another thread is at work, and ends with that and those that were kept.
fn allocate_beside(other: Thread, kept: Vec<Held>) {
    let own = allocate(LARGEST);
    own.check();
    other.join().unwrap();
    kept.into_iter().chain([own]).for_each(free);
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

fn in_need() {
    let (sent, kept) = whole_slab::<3>();
    let other = spawn(move || {
        free_and_send(sent);
        // From the owner's inbox, if the owner has not been there before, or else from a slab.
        let again = [(); 2].map(|()| allocate(LARGEST));
        again.iter().for_each(Held::check);
        again.into_iter().for_each(free);
    });
    allocate_beside(other, kept);
}

fn taken_back() {
    let (freed, kept) = whole_slab::<3>();
    let other = spawn(move || {
        let places = freed.each_ref().map(Held::address);
        freed.into_iter().for_each(free);
        let again = [(); 2].map(|()| allocate(LARGEST));
        assert!(again.iter().all(|block| places.contains(&block.address())), "fresh memory was taken");
        again.iter().for_each(Held::check);
        // One stays at hand until the thread ends, and is sent home then.
        free_and_send(again);
    });
    allocate_beside(other, kept);
}

fn kept() {
    let [own, sent] = [(); 2].map(|()| allocate(LARGEST));
    let other = spawn(move || {
        let taken = allocate(LARGEST);
        let place = sent.address();
        free(sent);
        let again = allocate(LARGEST);
        assert_eq!(again.address(), place, "who takes such blocks itself keeps what it frees");
        again.check();
        [taken, again].into_iter().for_each(free);
    });
    free(own);
    kernel::thread_ends();
    other.join().unwrap();
    check_all_came_home();
}

fn idle_owner() {
    // The main thread has a slab with a free block, a block of it at hand, and is not seen for a while; no page is free.
    let [kept, sent, listed, at_hand] = [(); 4].map(|()| allocate(LARGEST));
    let rest =
        ARENAS.take(&Cell::new(0), MAX_RUN_PAGES - 64, 1, RunState::Medium, Growth::Denied).expect("there is a run");
    free(listed);
    tcache::flush();
    free(at_hand);
    kernel::set_clock(1_000_000);
    let other = spawn(move || {
        let taken = allocate(LARGEST);
        free_and_send([sent]);
        free(taken);
    });
    tcache::flush();
    other.join().unwrap();
    free(kept);
    ARENAS.free_medium(rest.start).unwrap_or_else(|_| panic!("a block is not known"));
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

fn shelf() {
    let medium = || allocate(9 * PAGE);
    let first = medium();
    // With a delay of nothing, as the models have it, nothing is kept.
    OPTIONS.set(b"purge_delay_ms", b"1000").unwrap();
    free(first);
    let other = spawn(move || {
        let taken = medium();
        ARENAS.purge(0, usize::MAX, true);
        assert!(ARENAS.totals(|_| {}).medium <= 3 * 9 * PAGE);
        taken.check();
        free(taken);
    });
    // One from the shelf, and one from the arena.
    let again = [medium(), medium()];
    other.join().unwrap();
    again.iter().for_each(Held::check);
    again.into_iter().for_each(free);
    assert_eq!(ARENAS.totals(|_| {}).medium, 0, "what lies on a shelf is free");
    kernel::thread_ends();
    check_all_came_home();
}

fn housekeeping() {
    let block = allocate(PAGE);
    let other = spawn(|| {
        let run = allocate(9 * PAGE);
        free(run);
        kernel::set_clock(10_000);
        // The clock is looked at every fourth time.
        (0..4).for_each(|_| tcache::tick());
    });
    let run = allocate(10 * PAGE);
    free(block);
    free(run);
    other.join().unwrap();
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}

fn round() {
    let mine = [allocate(PAGE), allocate(PAGE)];
    let threads = mine.map(|block| {
        spawn(move || {
            let own = allocate(PAGE);
            free(block);
            free(own);
        })
    });
    kernel::thread_ends();
    join(threads);
    check_all_came_home();
}

fn collisions() {
    // Three owners, two of whom stand still, and two places: whoever frees blocks of all three has chains in each other's way.
    let live = || {
        let blocks = [allocate(PAGE), allocate(PAGE), allocate(LARGEST)];
        (kernel::stand_still(), blocks)
    };
    let [(first, a), (second, b), (third, c)] = [live(), live(), live()];
    kernel::go_on(third);
    let freer = spawn(move || {
        // The second block of an owner finds its chain, and room there; the next owner's finds another's.
        for blocks in [a, b, c] {
            blocks.into_iter().for_each(free);
        }
        tcache::send_off();
    });
    // What came home meanwhile is among these, or not.
    let more = [(); 3].map(|()| allocate(PAGE));
    more.iter().for_each(Held::check);
    freer.join().unwrap();
    more.into_iter().for_each(free);
    check_at_rest();
    for owner in [first, second] {
        kernel::thread_ends();
        kernel::go_on(owner);
    }
    kernel::thread_ends();
    check_all_came_home();
}

fn attended() {
    // SAFETY: the threads of a model are coroutines of one real thread.
    unsafe { std::env::set_var("TERRACE_PERTURB", "9") };
    let blocks = [(); 2].map(|()| allocate(LARGEST));
    assert!(OPTIONS.attended());
    let other = spawn(move || blocks.into_iter().for_each(free));
    let more = [(); 3].map(|()| allocate(LARGEST));
    more.iter().for_each(Held::check);
    other.join().unwrap();
    more.into_iter().for_each(free);
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
    // SAFETY: as above.
    unsafe { std::env::remove_var("TERRACE_PERTURB") };
}

fn two_senders() {
    let blocks = [(); 3].map(|()| allocate(LARGEST));
    let [first, second, third] = blocks;
    let senders = [first, second].map(|block| spawn(move || free(block)));
    let more = allocate(LARGEST);
    join(senders);
    // What came home is used up chain by chain.
    let rest = [(); 3].map(|()| allocate(LARGEST));
    rest.into_iter().chain([third, more]).for_each(free);
    check_at_rest();
    kernel::thread_ends();
    check_all_came_home();
}
