//! `fork` (`src/tcache/fork.rs`): the order of the locks, while other threads are on slow paths that take several; the
//! program's own handlers, which allocate while the locks are held; and the child's first steps.

use super::blocks::{LARGEST, PAGE, allocate, check_at_rest, free};
use super::{Control, Model, spawn};
use crate::os::kernel::{self, Side};

pub(super) const MODELS: &[fn() -> Model] = &[
    || Model {
        name: "a_fork_takes_all_locks_while_another_thread_is_on_a_slow_path",
        protocol: "fork",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("a fork takes the arenas' locks before the caches'"),
        body: beside_a_slow_path,
    },
    || Model {
        name: "two_forks_and_an_exit_do_not_wait_for_each_other",
        protocol: "fork",
        threads: 3,
        bound: Some(1),
        control: Control::Bug("a fork forgets a lock"),
        body: two_forks,
    },
    || Model {
        name: "the_child_goes_on_with_what_the_parent_had",
        protocol: "fork",
        threads: 2,
        bound: Some(2),
        control: Control::Bug("a child keeps a lock"),
        body: child,
    },
];

fn work() {
    let blocks = [allocate(PAGE), allocate(LARGEST)];
    blocks.into_iter().for_each(free);
}

fn beside_a_slow_path() {
    let block = allocate(PAGE);
    let other = spawn(work);
    kernel::fork(work, Side::Parent);
    other.join().unwrap();
    free(block);
    check_at_rest();
}

fn two_forks() {
    let block = allocate(PAGE);
    let forker = spawn(|| kernel::fork(|| (), Side::Parent));
    let worker = spawn(move || free(block));
    kernel::fork(|| (), Side::Parent);
    forker.join().unwrap();
    worker.join().unwrap();
    check_at_rest();
}

fn child() {
    let block = allocate(PAGE);
    // A thread that the child does not have: it ended here, where no other can be stopped half-way.
    spawn(work).join().unwrap();
    kernel::fork(work, Side::Child);
    block.check();
    free(block);
    let other = spawn(work);
    work();
    other.join().unwrap();
    check_at_rest();
}
