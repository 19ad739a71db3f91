//! Whole programs: small ones, but written as programs are, with strings, vectors, maps and boxes from the global allocator.
//!
//! Each does a fixed amount of work that its number of threads shares, and returns a checksum that depends on the work
//! alone: the harness compares it between allocators, so a block that was handed out twice or lost its content shows. What
//! is allocated is written, and read again before it is freed.

use crate::rng::Rng;
use std::hash::{DefaultHasher, Hash, Hasher};

mod big_blocks;
mod dying;
mod exchange;
mod lru;
mod parser;
mod phases;
mod server;
mod sharing;
mod symbolic;

/// How much a program is to do.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Threads that do it.
    pub threads: usize,
    /// Factor on the amount; 1 is about half a second on two processors.
    pub scale: f64,
}

impl Work {
    /// The program's amount, scaled; at least one for each thread.
    fn amount(self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(self.threads as u64)
    }

    /// The part of `amount` that falls to a thread.
    fn share(self, amount: u64, thread: usize) -> u64 {
        let threads = self.threads as u64;
        amount / threads + u64::from((thread as u64) < amount % threads)
    }
}

/// What a program did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Operations, as the program counts them.
    pub operations: u64,
    /// A sum over all that was computed and read back.
    pub checksum: u64,
}

/// One whole program.
pub struct Program {
    /// Its name on the command line and in the tables.
    pub name: &'static str,
    /// What it imitates.
    pub what: &'static str,
    /// Does the work.
    pub run: fn(Work) -> Outcome,
}

/// All programs, in the order of the tables.
pub const PROGRAMS: &[Program] = &[
    Program { name: "server", what: "a server: each thread inherits the sessions of another", run: server::run },
    Program { name: "exchange", what: "producers send orders to consumers, which free them", run: exchange::run },
    Program { name: "dying", what: "threads die, a tenth of their blocks survives them", run: dying::run },
    Program {
        name: "phases",
        what: "blocks of up to 16 KiB, freed by any thread; growth, churn and decline",
        run: phases::run,
    },
    Program {
        name: "big-blocks",
        what: "buffers of 1 to 12 MiB that are filled, grown and dropped",
        run: big_blocks::run,
    },
    Program {
        name: "sharing-active",
        what: "each thread writes often to small blocks of its own",
        run: sharing::run_active,
    },
    Program {
        name: "sharing-passive",
        what: "the same with blocks that another thread's were the neighbours of",
        run: sharing::run_passive,
    },
    Program { name: "symbolic", what: "derivatives of formulas: many tiny short-lived boxes", run: symbolic::run },
    Program { name: "parser", what: "JSON texts parsed into trees, read and dropped", run: parser::run },
    Program { name: "lru", what: "a cache with a bound on bytes, under churn", run: lru::run },
];

/// The program of this name.
pub fn find(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}

/// A value that depends on all of `item`, to be added up in any order.
fn digest(item: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    item.hash(&mut hasher);
    hasher.finish()
}

/// A buffer of `length` bytes with a stamp at both ends, which [`open`] checks.
fn stamped(length: usize, stamp: u8) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(length);
    buffer.resize(length.min(64), stamp);
    // The rest is written sparsely: the programs compare allocators, not the speed of memory.
    buffer.resize(length, 0);
    if let Some(last) = buffer.last_mut() {
        *last = stamp;
    }
    buffer
}

/// Checks both ends of a stamped buffer and returns its stamp.
///
/// # Panics
/// If the ends differ: somebody else wrote to the buffer.
fn open(buffer: &[u8]) -> u64 {
    let (first, last) = (buffer.first().copied(), buffer.last().copied());
    assert_eq!(first, last, "a block of {} bytes was overwritten", buffer.len());
    u64::from(first.unwrap_or(0)) + buffer.len() as u64
}

/// A length between 16 bytes and `largest`, each doubling as frequent as the next.
fn length(rng: &mut Rng, largest: usize) -> usize {
    let doublings = (largest / 16).ilog2();
    let low = 16_usize << rng.below(doublings);
    low + rng.below(low as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_computes_the_same_in_every_run() {
        for program in PROGRAMS {
            for threads in [1, 2, 5] {
                let work = Work { threads, scale: 0.01 };
                let first = (program.run)(work);
                assert_eq!((program.run)(work), first, "{} with {threads} threads", program.name);
                assert!(first.operations > 0 && first.checksum != 0, "{} did nothing: {first:?}", program.name);
            }
        }
    }

    #[test]
    fn more_scale_is_more_work() {
        for program in PROGRAMS {
            let little = (program.run)(Work { threads: 2, scale: 0.01 });
            let more = (program.run)(Work { threads: 2, scale: 0.02 });
            assert!(more.operations > little.operations, "{}: {more:?} after {little:?}", program.name);
        }
    }

    #[test]
    #[should_panic(expected = "was overwritten")]
    fn a_damaged_block_is_noticed() {
        let mut buffer = stamped(100, 7);
        buffer[99] = 8;
        open(&buffer);
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let work = Work { threads: 7, scale: 1.0 };
        assert_eq!((0..7).map(|thread| work.share(1000, thread)).sum::<u64>(), 1000);
    }
}
