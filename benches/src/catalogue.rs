//! The list of workloads: names, sizes, and how each is started on a heap.

use crate::heaps::Heap;
use crate::measure::{self, Plan, Report};
use crate::workloads::Workload;
use crate::workloads::extents::Extents;
use crate::workloads::growth::{Appending, Doubling};
use crate::workloads::pairs::{Bursts, ConstantPairs, MixedPairs, RandomPairs};
use crate::workloads::paths::{AlignedPairs, AlignedSet, PlainPairs, Reallocation, ZeroedPairs};
use crate::workloads::sets::VariableSet;
use crate::workloads::threads::{fan_in, fan_out, handover, mailboxes, remote_frees, ring, thread_lives};
use crate::workloads::typed_sets::TypedSet;
use crate::workloads::zeroed::Zeroed;
use std::time::{Duration, Instant};

/// One row of the tables.
pub struct Row {
    /// The name on the command line and in the tables.
    pub name: &'static str,
    /// The rows that share a geometric mean.
    pub group: &'static str,
    /// Threads that run at once.
    pub threads: u32,
    /// Operations of a full run: about a tenth of a second on a fast allocator.
    pub operations: u64,
    /// What the workload is.
    pub what: &'static str,
    runner: Runner,
}

enum Runner {
    Single { run: fn(Plan) -> Report, start: fn() -> Timer },
    Threaded(fn(u64) -> Duration),
}

/// Does so many operations of a prepared workload and returns how long that took.
pub type Timer = Box<dyn FnMut(u64) -> Duration>;

/// A single-threaded workload, prepared; where it does more operations than asked, their share of the time is returned.
fn prepared<W: Workload + 'static>() -> Timer {
    let mut workload = W::prepare();
    Box::new(move |operations| {
        let begin = Instant::now();
        let done = workload.run(operations);
        begin.elapsed().mul_f64(operations as f64 / done as f64)
    })
}

impl Row {
    /// Runs the row's workload.
    pub fn run(&self, plan: Plan) -> Report {
        match self.runner {
            Runner::Single { run, .. } => run(plan),
            Runner::Threaded(run) => measure::threaded(run, plan),
        }
    }

    /// Prepares the row's workload, to be timed from outside in parts.
    pub fn start(&self) -> Timer {
        match self.runner {
            Runner::Single { start, .. } => start(),
            Runner::Threaded(run) => Box::new(run),
        }
    }
}

fn steady<W: Workload + 'static>(name: &'static str, group: &'static str, operations: u64, what: &'static str) -> Row {
    Row {
        name,
        group,
        threads: 1,
        operations,
        what,
        runner: Runner::Single { run: measure::steady::<W>, start: prepared::<W> },
    }
}

fn path<W: Workload + 'static>(name: &'static str, operations: u64, what: &'static str) -> Row {
    steady::<W>(name, "paths", operations, what)
}

fn bursty<W: Workload + 'static>(name: &'static str, group: &'static str, operations: u64, what: &'static str) -> Row {
    Row {
        name,
        group,
        threads: 1,
        operations,
        what,
        runner: Runner::Single { run: measure::bursty::<W>, start: prepared::<W> },
    }
}

fn threaded(name: &'static str, threads: u32, operations: u64, what: &'static str, run: fn(u64) -> Duration) -> Row {
    Row { name, group: "threads", threads, operations, what, runner: Runner::Threaded(run) }
}

/// All rows for one heap, in the order of the tables.
pub fn rows<H: Heap>() -> Vec<Row> {
    vec![
        steady::<ConstantPairs<H>>("pairs-64", "pairs", 20_000_000, "a 64-byte block taken and given back"),
        steady::<MixedPairs<H>>("pairs-mixed", "pairs", 20_000_000, "eight constant sizes in turn"),
        steady::<RandomPairs<H>>("pairs-random", "pairs", 20_000_000, "random sizes, 16 bytes to 1 KiB"),
        steady::<Bursts<H, 1>>("burst-1", "bursts", 16_000_000, "64-byte blocks, one at a time"),
        steady::<Bursts<H, 10>>("burst-10", "bursts", 16_000_000, "10 at a time, first in, first out"),
        steady::<Bursts<H, 100>>("burst-100", "bursts", 16_000_000, "100 at a time"),
        steady::<Bursts<H, 1000>>("burst-1000", "bursts", 16_000_000, "1,000 at a time"),
        steady::<VariableSet<H, 1_000>>("set-1k", "sets", 10_000_000, "1,000 live, variable layouts"),
        steady::<VariableSet<H, 10_000>>("set-10k", "sets", 8_000_000, "10,000 live, variable layouts"),
        steady::<VariableSet<H, 100_000>>("set-100k", "sets", 5_000_000, "100,000 live, variable layouts"),
        steady::<TypedSet<H, 1_000>>("typed-1k", "typed sets", 10_000_000, "1,000 live, constant layouts"),
        steady::<TypedSet<H, 10_000>>("typed-10k", "typed sets", 8_000_000, "10,000 live, constant layouts"),
        steady::<TypedSet<H, 100_000>>("typed-100k", "typed sets", 5_000_000, "100,000 live, constant layouts"),
        bursty::<Doubling<H, 32_768, 8>>("realloc-small", "realloc", 60_000, "8 vectors doubling to 32 KiB"),
        bursty::<Doubling<H, 16_777_216, 2>>("realloc-large", "realloc", 80, "2 vectors doubling to 16 MiB"),
        bursty::<Appending<H>>("realloc-append", "realloc", 32_000, "2 buffers by 1,000 bytes to 1 MiB"),
        steady::<Zeroed<H, false, 1000>>("zeroed-small", "zeroed", 5_000_000, "1,000 live of up to 1 KiB"),
        steady::<AlignedSet<H, 1000>>("aligned", "aligned", 4_000_000, "1,000 live, aligned to 32 bytes to a page"),
        bursty::<Zeroed<H, true, 16>>("zeroed-medium", "zeroed", 8_000, "16 live of 32 KiB to 1 MiB"),
        bursty::<Extents<H, 64, 32, 1024>>("medium", "extents", 40_000, "64 live of 32 KiB to 1 MiB"),
        bursty::<Extents<H, 8, 2048, 16_384>>("large", "extents", 360, "8 live of 2 to 16 MiB"),
        threaded("ring", 2, 6_000_000, "producer to consumer", ring::<H>),
        threaded("fan-out", 4, 4_000_000, "one producer to three consumers", fan_out::<H>),
        threaded("fan-in", 4, 4_000_000, "three producers to one consumer", fan_in::<H>),
        threaded("remote-frees", 2, 6_000_000, "batches of 1,000, pure remote frees", remote_frees::<H>),
        threaded("mailboxes", 4, 4_000_000, "four threads, all to all", mailboxes::<H>),
        path::<Bursts<H, 20_000>>("refill-flush", 8_000_000, "64-byte blocks, 20,000 at a time"),
        path::<PlainPairs<H, 65_536>>("pairs-medium", 4_000_000, "a 64 KiB block, its first word written"),
        path::<PlainPairs<H, 4_194_304>>("pairs-large", 100_000, "a 4 MiB block, its first word written"),
        path::<ZeroedPairs<H, 256>>("pairs-zeroed", 8_000_000, "256 zeroed bytes"),
        path::<Reallocation<H, 64>>("realloc-same", 8_000_000, "64 bytes taken, reallocated to 64, given back"),
        path::<Reallocation<H, 1000>>("realloc-moves", 4_000_000, "64 bytes taken, reallocated to 1,000, given back"),
        path::<AlignedPairs<H, 64>>("pairs-aligned-64", 8_000_000, "100 bytes aligned to a cache line"),
        path::<AlignedPairs<H, 4096>>("pairs-aligned-4k", 4_000_000, "100 bytes aligned to a page"),
        Row {
            group: "paths",
            ..threaded("handover", 2, 4_000_000, "1,000 allocated here, then freed there", handover::<H>)
        },
        Row {
            group: "paths",
            ..threaded("thread-lives", 1, 3_000, "a thread with 100 blocks, half left", thread_lives::<H>)
        },
    ]
}
