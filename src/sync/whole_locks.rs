//! Locks as wholes, in place of the code in `mutex.rs`, for the models that only use them (`cfg(loom)` only).
//!
//! The lock's own models show, in all schedules, that one thread at a time holds it, that the next holder sees what the last one
//! wrote, and that no sleeper is forgotten. Here a lock is just that: one step takes it, and whoever finds it held waits. Where the
//! deep set explores a model with all schedules at once, this leaves out what happens inside each lock: who slept, who was woken,
//! who came between. CI explores the same models with the lock's own code.
//!
//! Loom does not try both orders of a lock's release and an attempt at it (`try_lock`). So where a lock is tried, both exchange
//! a word beside it.

use super::model::{self, AtomicU32, Guard, Mutex, Word};
use super::orders::{self, Fact};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

/// How many locks a pool has, until it is doubled.
const LOCKS: usize = 24;

struct Lock {
    mutex: Mutex<()>,
    beside: Word,
}

#[derive(Default)]
struct Locks {
    /// The thread that holds each lock, by the address of its word, with the right to it. Dropped before the locks.
    held: BTreeMap<usize, (usize, Guard<'static>)>,
    known: BTreeMap<usize, Rc<Lock>>,
    spare: Vec<Rc<Lock>>,
}

std::thread_local! {
    static LOCKS_OF_EXECUTION: RefCell<Locks> = RefCell::default();
}

pub(super) fn begin() {
    let count = if model::locks_are_whole() { LOCKS << model::enlarged() } else { 0 };
    let made = || Rc::new(Lock { mutex: Mutex::new(()), beside: Word::new(0) });
    LOCKS_OF_EXECUTION.set(Locks { spare: (0..count).map(|_| made()).collect(), ..Locks::default() });
}

pub(super) fn end() {
    drop(LOCKS_OF_EXECUTION.take());
}

fn lock_at(address: usize) -> Rc<Lock> {
    LOCKS_OF_EXECUTION.with_borrow_mut(|locks| {
        let Locks { known, spare, .. } = locks;
        let made = || spare.pop().unwrap_or_else(|| model::used_up("locks"));
        Rc::clone(known.entry(address).or_insert_with(made))
    })
}

/// Notes that the calling thread holds the lock.
fn enter(address: usize, guard: Guard<'_>) {
    // SAFETY: the lock that the guard points to is dropped after it, when the execution ends.
    let guard = unsafe { core::mem::transmute::<Guard<'_>, Guard<'static>>(guard) };
    LOCKS_OF_EXECUTION.with_borrow_mut(|locks| locks.held.insert(address, (model::thread_number(), guard)));
}

fn is_own(address: usize) -> bool {
    let own = model::thread_number();
    LOCKS_OF_EXECUTION.with_borrow(|locks| locks.held.get(&address).is_some_and(|(holder, _)| *holder == own))
}

/// The locks that the calling thread holds.
pub(super) fn held() -> Vec<usize> {
    let own = model::thread_number();
    let of_own = |locks: &Locks| {
        locks.held.iter().filter(|(_, (holder, _))| *holder == own).map(|(&address, _)| address).collect()
    };
    LOCKS_OF_EXECUTION.with_borrow(of_own)
}

fn is_attempted(address: usize) -> bool {
    orders::is_known(Fact::Attempted(address)) || model::is_kept(address)
}

/// Takes the lock of this word. `Some(false)` if the thread holds it already, on account of a `fork`; `None` where locks are not
/// wholes.
pub(super) fn lock(word: &AtomicU32) -> Option<bool> {
    if !model::locks_are_whole() {
        return None;
    }
    let address = word.address();
    if is_own(address) {
        assert!(super::is_forking(), "a thread waits for a lock that it holds");
        return Some(false);
    }
    let lock = lock_at(address);
    enter(address, lock.mutex.lock().unwrap());
    Some(true)
}

/// Takes the lock of this word, if nobody holds it; `None` where locks are not wholes.
pub(super) fn try_lock(word: &AtomicU32) -> Option<bool> {
    if !model::locks_are_whole() {
        return None;
    }
    let address = word.address();
    let lock = lock_at(address);
    orders::note(Fact::Attempted(address));
    model::exchange_nothing(&lock.beside);
    if is_own(address) {
        return Some(false);
    }
    let guard = lock.mutex.try_lock().ok();
    Some(guard.map(|guard| enter(address, guard)).is_some())
}

/// Gives the lock back; `false` where locks are not wholes.
pub(super) fn unlock(word: &AtomicU32) -> bool {
    if !model::locks_are_whole() {
        return false;
    }
    let address = word.address();
    if is_attempted(address) {
        model::exchange_nothing(&lock_at(address).beside);
    }
    let given = LOCKS_OF_EXECUTION.with_borrow_mut(|locks| locks.held.remove(&address));
    assert!(given.is_some(), "a lock is given back that nobody holds");
    drop(given);
    true
}

/// In the child of a `fork`: whoever held the lock, nobody does.
pub(super) fn renew(word: &AtomicU32) {
    if model::locks_are_whole() {
        drop(LOCKS_OF_EXECUTION.with_borrow_mut(|locks| locks.held.remove(&word.address())));
    }
}
