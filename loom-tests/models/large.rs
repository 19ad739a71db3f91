//! Large blocks (`src/large/`): the registry's insertions, look-ups and removals by several threads, a look-up of a foreign
//! address meanwhile, and the cache of freed mappings against its decay.

use super::blocks::{Held, PAGE};
use super::{Control, Model, join, spawn};
use crate::large::LARGE;
use crate::os::kernel;
use core::ptr::NonNull;

const UNLOCK: Control = Control::Relaxed("src/sync/mutex.rs", "self.state.swap(FREE,", 0);

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "large_blocks_come_and_go_while_a_foreign_address_is_looked_up",
        protocol: "large",
        threads: 3,
        bound: Some(2),
        control: UNLOCK,
        body: come_and_go,
    },
    || Model {
        name: "a_kept_mapping_is_taken_by_one_thread_while_it_decays",
        protocol: "large",
        threads: 3,
        bound: Some(2),
        control: Control::Bug("a mapping that is kept is unmapped all the same"),
        body: decay,
    },
    || Model {
        name: "a_block_grows_while_another_thread_takes_what_lies_behind_it",
        protocol: "large",
        threads: 2,
        bound: Some(3),
        control: UNLOCK,
        body: resize,
    },
    || Model {
        name: "a_block_grows_beside_one_that_comes_or_goes",
        protocol: "large",
        threads: 2,
        bound: Some(3),
        control: UNLOCK,
        body: resize_beside,
    },
    || Model {
        name: "a_block_is_put_together_while_the_pieces_are_wanted_elsewhere",
        protocol: "large",
        threads: 2,
        bound: Some(3),
        control: UNLOCK,
        body: pieces,
    },
    || Model {
        name: "a_kernel_that_refuses_to_move_pages_is_asked_once",
        protocol: "large",
        threads: 2,
        bound: Some(2),
        control: UNLOCK,
        body: refused,
    },
];

fn block(pages: usize) -> Held {
    let made = LARGE.allocate(pages * PAGE, 16).expect("there is memory");
    assert_eq!(LARGE.find(made.start).map(|mapping| mapping.len), Some(pages * PAGE));
    Held::new(made.start.as_ptr(), pages * PAGE, 3).unwrap()
}

fn free(block: Held) {
    let start = block.give_up();
    assert!(LARGE.free(start), "a block is not known");
}

fn nothing_is_left() {
    LARGE.purge(0);
    assert_eq!(LARGE.totals(), (0, 0, 0));
}

fn come_and_go() {
    let foreign = 0_usize;
    let kept = block(2);
    let threads = [1, 2].map(|pages| spawn(move || free(block(pages))));
    let address = NonNull::from_ref(&foreign).cast();
    assert!(LARGE.find(address).is_none() && LARGE.find_around(address).is_none() && !LARGE.free(address));
    kept.check();
    join(threads);
    free(kept);
    nothing_is_left();
}

fn decay() {
    free(block(3));
    let purger = spawn(|| LARGE.purge(0));
    let yielder = spawn(|| LARGE.yield_bytes(PAGE));
    let taken = block(2);
    taken.check();
    purger.join().unwrap();
    yielder.join().unwrap();
    taken.check();
    free(taken);
    nothing_is_left();
}

fn resize() {
    let first = block(1);
    free(block(2));
    let other = spawn(|| {
        let second = block(1);
        second.check();
        free(second);
    });
    let contents = first.give_up();
    let moved = LARGE.resize(contents, 3 * PAGE).expect("there is memory").start;
    let grown = Held::again(moved, 3 * PAGE, 3);
    grown.check();
    other.join().unwrap();
    grown.check();
    free(grown);
    nothing_is_left();
}

fn resize_beside() {
    let (first, second) = (block(1), block(2));
    let other = spawn(move || free(second));
    let moved = LARGE.resize(first.give_up(), 3 * PAGE).expect("there is memory").start;
    other.join().unwrap();
    let grown = Held::again(moved, 3 * PAGE, 3);
    free(grown);
    nothing_is_left();
}

fn pieces() {
    // Two kept ranges that do not touch, each worth moving.
    let [first, between, second] = [block(16), block(1), block(16)];
    free(first);
    free(second);
    let other = spawn(|| free(block(16)));
    let whole = block(40);
    whole.check();
    between.check();
    other.join().unwrap();
    free(whole);
    free(between);
    nothing_is_left();
}

fn refused() {
    let [first, between, second] = [block(16), block(1), block(16)];
    free(first);
    free(second);
    let other = spawn(|| {
        kernel::refuse(1);
        if let Some(made) = LARGE.allocate(40 * PAGE, 16) {
            free(Held::new(made.start.as_ptr(), 40 * PAGE, 4).unwrap());
        }
        kernel::refuse(0);
    });
    if let Some(made) = LARGE.allocate(36 * PAGE, 16) {
        free(Held::new(made.start.as_ptr(), 36 * PAGE, 5).unwrap());
    }
    between.check();
    other.join().unwrap();
    free(between);
    nothing_is_left();
}
