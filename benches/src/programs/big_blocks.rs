//! Buffers of several MiB, as picture and sound programs use them: filled in part, grown, kept for a while and dropped.

use super::{Outcome, Work};
use crate::rng::Rng;
use std::collections::VecDeque;
use std::thread;

const MIB: usize = 1 << 20;
const KEPT: usize = 3;
const PAGE: usize = 4096;

/// Writes a word in each page of the part and returns their sum as read back.
fn touch(buffer: &mut [u64], stamp: u64) -> u64 {
    let words = PAGE / size_of::<u64>();
    buffer.iter_mut().step_by(words).for_each(|word| *word = stamp);
    buffer.iter().step_by(words).fold(0, |sum, word| sum.wrapping_add(*word))
}

fn process(seed: u64, frames: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let mut kept = VecDeque::new();
    let mut checksum = 1_u64;
    for frame in 0..frames {
        let words = (MIB + rng.below(8 * MIB as u32)) / size_of::<u64>();
        // A buffer of zeroes, as most such programs ask for.
        let mut buffer = vec![0_u64; words];
        checksum = checksum.wrapping_add(touch(&mut buffer, frame + 1));
        if frame % 4 == 0 {
            buffer.reserve_exact(words / 2);
            buffer.resize(words + words / 2, 0);
        }
        assert_eq!(buffer[0], frame + 1, "a large block lost its content");
        kept.push_back(buffer);
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
    checksum
}

pub fn run(work: Work) -> Outcome {
    let frames = work.amount(1_200);
    let threads: Vec<_> = (0..work.threads)
        .map(|index| {
            let share = work.share(frames, index);
            thread::spawn(move || process(index as u64, share))
        })
        .collect();
    let checksum =
        threads.into_iter().fold(0_u64, |sum, thread| sum.wrapping_add(thread.join().expect("a thread ends well")));
    Outcome { operations: frames, checksum }
}
