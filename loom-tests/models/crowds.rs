//! Larger scenarios for shuttle: four to eight threads on the whole allocator, schedules at random.

use super::blocks::{Held, LARGEST, PAGE, allocate, check_all_came_home, free};
use super::spawn;
use crate::sync::model::keep;
use crate::tcache;
use std::cell::RefCell;
use std::vec::Vec;

/// A scenario.
pub struct Crowd {
    /// What it shows.
    pub name: &'static str,
    /// The seeded bug under which it must fail.
    pub control: &'static str,
    /// The first thread.
    pub body: fn(),
}

/// All scenarios. Shuttle knows neither orderings nor races, so their controls are bugs of the logic.
pub const CROWDS: &[Crowd] = &[
    Crowd {
        name: "four threads pass blocks round and exit",
        control: "a failed push goes on with the link that it made before",
        body: round::<4>,
    },
    Crowd {
        name: "eight threads pass blocks round and exit",
        control: "an inbox is emptied in two steps",
        body: round::<8>,
    },
    Crowd {
        name: "six threads live one after the other and at once",
        control: "a dormant cache is claimed without asking again",
        body: generations,
    },
    Crowd {
        name: "four threads send to one owner that exits",
        control: "a push drops what was there",
        body: many_senders,
    },
];

/// Where threads leave blocks for each other.
type Table = RefCell<Vec<Held>>;

fn work(table: &'static Table, rounds: usize) {
    for round in 0..rounds {
        let size = if round % 2 == 0 { PAGE } else { LARGEST };
        let fresh = allocate(size);
        table.borrow_mut().push(fresh);
        let number = table.borrow().len();
        if number > 2 {
            let old = table.borrow_mut().swap_remove(round % number);
            free(old);
        }
        if round == rounds / 2 {
            // What the thread kept of others goes home now.
            tcache::flush();
        }
    }
}

fn empty(table: &'static Table) {
    // Another thread's life frees what is left, so that every cache is dormant in the end.
    spawn(move || table.take().into_iter().for_each(free)).join().unwrap();
    check_all_came_home();
}

fn round<const THREADS: usize>() {
    let table: &'static Table = keep(Table::default());
    let threads: Vec<_> = (0..THREADS).map(|_| spawn(move || work(table, 6))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    empty(table);
}

fn generations() {
    let table: &'static Table = keep(Table::default());
    for _ in 0..2 {
        let threads: Vec<_> = (0..3).map(|_| spawn(move || work(table, 4))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    empty(table);
}

fn many_senders() {
    let senders = keep(RefCell::new(Vec::new()));
    let owner = spawn(move || {
        let mut blocks: Vec<Held> = (0..14).map(|_| allocate(PAGE)).collect();
        for _ in 0..4 {
            let sent = blocks.split_off(blocks.len() - 3);
            senders.borrow_mut().push(spawn(move || sent.into_iter().for_each(free)));
        }
        blocks.into_iter().for_each(free);
    });
    owner.join().unwrap();
    senders.take().into_iter().for_each(|thread| thread.join().unwrap());
    empty(keep(Table::default()));
}
