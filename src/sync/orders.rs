//! Which accesses of atomics have to be tried in all their orders (`cfg(loom)` only).
//!
//! The order of two accesses of a word makes a difference only if different threads make them, and one of them writes. A first,
//! short round finds out which words those are; loads of the others need no exchange (see `Loads` in `model.rs`). Where locks are
//! wholes (see `whole_locks.rs`), it does so as well only if the two threads hold no lock in common: else the lock's order is
//! theirs, and what one wrote the other sees.
//!
//! What was found counts from the next round on, and a round that finds more is made again. So the last one knew all. This is exact:
//! up to the first access of a kind that was not known, all that mattered was tried, so a complete round reaches that access.

use super::{model, whole_locks};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

/// As many threads as loom has.
const THREADS: usize = 5;

/// What happened to the word at an address while several threads ran.
#[derive(Clone, Copy)]
pub(super) enum Fact {
    Written(usize),
    ReadBy(usize, usize),
    /// Several threads had it, one wrote, and no lock was common to them.
    Unguarded(usize),
    /// The lock of this word was tried.
    Attempted(usize),
}

/// For each word, by its address, the bits of what is known of it.
type Facts = BTreeMap<usize, u32>;

impl Fact {
    /// The word, and the bit of the fact.
    fn of(self) -> (usize, u32) {
        match self {
            Self::Written(address) => (address, 1),
            Self::Unguarded(address) => (address, 1 << 1),
            Self::Attempted(address) => (address, 1 << 2),
            Self::ReadBy(address, thread) => (address, 1 << (2 + thread)),
        }
    }
}

/// What an operation does to its word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Written,
}

/// The accesses of a word in one execution, while several threads ran.
struct History {
    thread: usize,
    by_several: bool,
    written: bool,
    /// The locks that were held at each of them.
    locks: Vec<usize>,
}

std::thread_local! {
    /// What was found out in the rounds before, and in this one.
    static FOUND: RefCell<(Facts, Facts)> = RefCell::default();
    static HISTORIES: RefCell<BTreeMap<usize, History>> = RefCell::default();
    static WRITTEN: RefCell<BTreeSet<usize>> = RefCell::default();
    /// Whether this round counts no race: some word was taken for one whose accesses a lock orders, which it is not.
    static VOID: Cell<bool> = const { Cell::new(false) };
}

/// Begins an execution.
pub(super) fn begin() {
    HISTORIES.take();
    WRITTEN.take();
}

/// Forgets everything.
pub(super) fn forget() {
    FOUND.take();
    VOID.set(false);
}

/// Whether what looks like a race is none: this round is made again.
pub(super) fn is_void() -> bool {
    VOID.get()
}

/// From here on what was found counts; whether that is anything.
pub(super) fn learn() -> bool {
    VOID.set(false);
    FOUND.with_borrow_mut(|(known, found)| {
        let more = !found.is_empty();
        for (address, bits) in std::mem::take(found) {
            *known.entry(address).or_default() |= bits;
        }
        more
    })
}

/// The bits of what is known of a word.
fn known_of(address: usize) -> u32 {
    FOUND.with_borrow(|(known, _)| known.get(&address).copied().unwrap_or_default())
}

pub(super) fn is_known(fact: Fact) -> bool {
    let (address, bit) = fact.of();
    known_of(address) & bit != 0
}

/// Notes what happens, if several threads run.
pub(super) fn note(fact: Fact) {
    if !model::several_run() {
        return;
    }
    let (address, bit) = fact.of();
    // What a model keeps lies elsewhere in other executions: its words are taken for contested.
    if model::is_kept(address) {
        return;
    }
    if let Fact::Written(address) = fact {
        WRITTEN.with_borrow_mut(|written| written.insert(address));
    }
    if !is_known(fact) {
        FOUND.with_borrow_mut(|(_, found)| *found.entry(address).or_default() |= bit);
    }
}

/// Whether the order of the accesses of a word matters, as far as is known.
pub(super) fn is_contested(address: usize) -> bool {
    is_known(Fact::Written(address)) || model::is_kept(address)
}

/// Whether the word was written in this execution, while several threads ran.
pub(super) fn was_written(address: usize) -> bool {
    WRITTEN.with_borrow(|written| written.contains(&address))
}

/// The threads that read the word while others run, as far as is known.
pub(super) fn readers(address: usize) -> impl Iterator<Item = usize> {
    let known = known_of(address);
    (1..=THREADS).filter(move |&thread| known & Fact::ReadBy(address, thread).of().1 != 0)
}

pub(super) fn is_read(address: usize) -> bool {
    readers(address).next().is_some()
}

/// Notes an access, and says whether those of the word have one order anyway, as far as is known.
pub(super) fn is_ordered_anyway(address: usize, access: Access) -> bool {
    if model::several_run() {
        let own = model::thread_number();
        note(if access == Access::Written { Fact::Written(address) } else { Fact::ReadBy(address, own) });
        let unguarded = HISTORIES.with_borrow_mut(|histories| {
            let held = whole_locks::held();
            let history = histories.entry(address).or_insert_with(|| History {
                thread: own,
                by_several: false,
                written: false,
                locks: held.clone(),
            });
            history.by_several |= history.thread != own;
            history.written |= access == Access::Written;
            history.locks.retain(|lock| held.contains(lock));
            history.by_several && history.written && history.locks.is_empty()
        });
        if unguarded {
            note(Fact::Unguarded(address));
            VOID.set(VOID.get() || !is_known(Fact::Unguarded(address)));
        }
    }
    !is_known(Fact::Unguarded(address))
}
