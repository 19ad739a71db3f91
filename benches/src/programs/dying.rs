//! Threads that die while some of their blocks survive in a shared store, and later threads free those.

use super::{Outcome, Work, length, open, stamped};
use crate::rng::Rng;
use std::thread;

const GENERATIONS: u64 = 40;
const STORE: usize = 40_000;

/// A thread's life: many blocks of its own, of which a tenth is handed on, and its part of the inheritance to free.
fn live(seed: u64, blocks: u64, inherited: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, u64) {
    let mut rng = Rng::new(seed);
    let mut checksum = inherited.iter().fold(0_u64, |sum, block| sum.wrapping_add(open(block)));
    drop(inherited);
    let mut mine: Vec<Vec<u8>> = Vec::new();
    let mut survivors = Vec::new();
    for number in 0..blocks {
        let size = length(&mut rng, 1024);
        mine.push(stamped(size, number as u8));
        if mine.len() >= 400 {
            for _ in 0..200 {
                let block = mine.swap_remove(rng.below(mine.len() as u32));
                checksum = checksum.wrapping_add(open(&block));
                if rng.below(10) == 0 {
                    survivors.push(block);
                }
            }
        }
    }
    (survivors, checksum)
}

pub fn run(work: Work) -> Outcome {
    let blocks = work.amount(6_000_000);
    let mut store: Vec<Vec<u8>> = Vec::new();
    let mut rng = Rng::new(9);
    let mut checksum = 1_u64;
    for generation in 0..GENERATIONS {
        let threads: Vec<_> = (0..work.threads)
            .map(|index| {
                let seed = generation * 1000 + index as u64;
                let share = work.share(blocks, index).div_ceil(GENERATIONS);
                // Each gets blocks from all over the store, which many threads of earlier generations made.
                let excess = store.len().saturating_sub(STORE / 2) / work.threads;
                let inherited = (0..excess).map(|_| store.swap_remove(rng.below(store.len() as u32))).collect();
                thread::spawn(move || live(seed, share, inherited))
            })
            .collect();
        for thread in threads {
            let (survivors, sum) = thread.join().expect("a thread ends well");
            store.extend(survivors);
            checksum = checksum.wrapping_add(sum);
        }
    }
    let rest = store.iter().fold(0_u64, |sum, block| sum.wrapping_add(open(block)));
    Outcome { operations: blocks, checksum: checksum.wrapping_add(rest) }
}
