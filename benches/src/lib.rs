//! Workloads that compare memory allocators side by side.
//!
//! ```text
//!  bin/rust_face    each allocator through GlobalAlloc, statically dispatched  ─┐
//!  bin/c_face       whatever malloc the dynamic linker found (LD_PRELOAD)      ─┼─ catalogue ─ workloads ─ block ─ heaps
//!  benches/         all of them in one process, by criterion                   ─┘
//!  bin/program      whole programs on the global allocator                     ─── programs ─ global ─ heaps
//!  bin/launch       what any program uses
//! ```
//!
//! A workload is written once, generic over [`heaps::Heap`], and knows nothing of how it is timed: [`measure`] runs it and
//! [`catalogue`] gives it a name and a size. One process measures one workload on one allocator, so that no allocator
//! inherits another's caches or pages; the harness (`xtask`) interleaves the processes and forms the ratios.
//!
//! The harness keeps its own memory away from the heap under test: see [`harness_memory`].

pub mod block;
pub mod catalogue;
pub mod clock;
pub mod command;
pub mod global;
pub mod harness_memory;
pub mod heaps;
pub mod latency;
pub mod measure;
pub mod process;
pub mod programs;
pub mod ring;
pub mod rng;
pub mod scenarios;
pub mod sizes;
pub mod workloads;
