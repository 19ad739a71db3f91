//! The workloads: what each does to the heap, and nothing of how it is timed.

pub mod extents;
pub mod growth;
pub mod pairs;
pub mod paths;
pub mod sets;
pub mod threads;
pub mod typed_sets;
pub mod zeroed;

/// A workload of one thread. It is prepared once, then run in slices that continue where the last one stopped.
pub trait Workload {
    /// Allocates what the workload starts from.
    fn prepare() -> Self;

    /// Does at least `operations` more operations, and returns how many.
    fn run(&mut self, operations: u64) -> u64;
}
