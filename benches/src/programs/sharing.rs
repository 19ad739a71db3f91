//! False sharing: two threads that write to different blocks of one cache line slow each other down, and it is the allocator
//! that put the blocks there. *Active*: blocks of one line go to two threads. *Passive*: one thread allocates neighbours and
//! hands them out; who frees such a block and allocates another should not get a neighbour back.

use super::{Outcome, Work};
use crate::rng::Rng;
use std::hint::black_box;
use std::thread;

const WRITES: u64 = 200;

/// Small blocks of 8 to 40 bytes.
fn cell(rng: &mut Rng) -> Box<[u64]> {
    vec![0; 1 + rng.below(5)].into_boxed_slice()
}

/// Writes to the block many times, in memory each time, and returns what it holds in the end.
fn write(block: &mut [u64], times: u64) -> u64 {
    for _ in 0..times {
        let block = black_box(&mut *block);
        block[0] = block[0].wrapping_add(1);
    }
    block[0]
}

/// A thread's work: it writes to the block it has, frees it, allocates another, and so on.
fn work_through(seed: u64, mut block: Box<[u64]>, rounds: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let mut checksum = 1_u64;
    for _ in 0..rounds {
        checksum = checksum.wrapping_add(write(&mut block, WRITES));
        drop(block);
        block = cell(&mut rng);
    }
    checksum
}

fn run(work: Work, passive: bool) -> Outcome {
    let rounds = work.amount(2_000_000);
    let mut rng = Rng::new(3);
    // All at once and by one thread, so that they are neighbours.
    let mut neighbours: Vec<_> = (0..work.threads).map(|_| cell(&mut rng)).collect();
    let threads: Vec<_> = (0..work.threads)
        .map(|index| {
            let (given, share) = (neighbours.pop(), work.share(rounds, index));
            thread::spawn(move || {
                let seed = index as u64;
                let own = cell(&mut Rng::new(seed));
                work_through(seed, if passive { given.unwrap_or(own) } else { own }, share)
            })
        })
        .collect();
    let checksum =
        threads.into_iter().fold(0_u64, |sum, thread| sum.wrapping_add(thread.join().expect("a thread ends well")));
    Outcome { operations: rounds, checksum }
}

pub fn run_active(work: Work) -> Outcome {
    run(work, false)
}

pub fn run_passive(work: Work) -> Outcome {
    run(work, true)
}
