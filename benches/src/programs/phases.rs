//! Blocks of random sizes of up to 16 KiB in shared places, where any thread frees what any other put there. The program
//! grows, then churns, then declines, and again with other sizes.

use super::{Outcome, Work, length, open, stamped};
use crate::rng::Rng;
use std::sync::Mutex;
use std::thread;

const PLACES: usize = 12_288;
const ROUNDS: [usize; 3] = [16_384, 1_024, 16_384];

#[derive(Clone, Copy)]
enum Phase {
    Growth,
    Churn,
    Decline,
}

type Places = Vec<Mutex<Option<Vec<u8>>>>;

fn swap(places: &Places, place: usize, fresh: Option<Vec<u8>>) -> u64 {
    let old = std::mem::replace(&mut *places[place].lock().expect("no thread panics"), fresh);
    old.map_or(0, |block| open(&block))
}

/// One step: whatever lies in a random place is read and freed, and a fresh block put there or not. Each block is read once,
/// whoever frees it, so the sum over all threads and the rest at the end depends on the work alone.
fn step(places: &Places, rng: &mut Rng, phase: Phase, largest: usize) -> u64 {
    let place = rng.below(PLACES as u32);
    let grows = match phase {
        Phase::Growth => rng.below(8) != 0,
        Phase::Churn => rng.below(2) == 0,
        Phase::Decline => rng.below(8) == 0,
    };
    let fresh = grows.then(|| {
        let size = length(rng, largest);
        stamped(size, size as u8)
    });
    swap(places, place, fresh)
}

fn work_through(places: &Places, seed: u64, steps: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let mut sum = 0_u64;
    for largest in ROUNDS {
        for phase in [Phase::Growth, Phase::Churn, Phase::Decline] {
            for _ in 0..steps.div_ceil(9) {
                sum = sum.wrapping_add(step(places, &mut rng, phase, largest));
            }
        }
    }
    sum
}

pub fn run(work: Work) -> Outcome {
    let steps = work.amount(2_400_000);
    let places: Places = (0..PLACES).map(|_| Mutex::new(None)).collect();
    let freed = thread::scope(|scope| {
        let threads: Vec<_> = (0..work.threads)
            .map(|index| {
                let (places, share) = (&places, work.share(steps, index));
                scope.spawn(move || work_through(places, index as u64, share))
            })
            .collect();
        threads.into_iter().fold(1_u64, |sum, thread| sum.wrapping_add(thread.join().expect("a thread ends well")))
    });
    let checksum = (0..PLACES).fold(freed, |sum, place| sum.wrapping_add(swap(&places, place, None)));
    Outcome { operations: steps, checksum }
}
