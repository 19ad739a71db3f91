//! Times one workload on one heap, and writes what it saw as one line of JSON.

use crate::process::{Resident, Usage};
use crate::workloads::Workload;
use std::fmt;
use std::time::{Duration, Instant};

/// Parts of a single-threaded run that are timed separately, so that a disturbance spoils one of them.
const SLICES: u64 = 7;

/// How a run is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Operations in all; rounded up to what the workload can do.
    pub operations: u64,
    /// Whether a slice is run before the clock starts, and the rest is cut into slices. Without it the operations are run
    /// once, as counting instructions needs it.
    pub timed: bool,
}

/// The measurement of one run.
#[derive(Debug)]
pub struct Report {
    /// Nanoseconds an operation.
    pub ns: f64,
    /// Operations that were done, warm-up included.
    pub operations: u64,
    /// Wall time under the clock, in nanoseconds.
    pub wall_ns: u64,
    /// Processor time, its system share, and page faults under the clock.
    pub usage: Usage,
    /// Resident memory after the run, with what the workload keeps live.
    pub resident: Resident,
}

/// Runs a single-threaded workload whose operations are alike: the median slice counts, and a disturbance does not.
pub fn steady<W: Workload>(plan: Plan) -> Report {
    let (mut report, mut slices) = run_slices::<W>(plan);
    slices.sort_by(f64::total_cmp);
    report.ns = slices[slices.len() / 2];
    report
}

/// Runs a single-threaded workload whose cost comes in bursts, as that of returning memory to the kernel and faulting it in
/// again does: the mean counts.
pub fn bursty<W: Workload>(plan: Plan) -> Report {
    run_slices::<W>(plan).0
}

/// The report with the mean of all slices, and nanoseconds an operation of each.
fn run_slices<W: Workload>(plan: Plan) -> (Report, Vec<f64>) {
    let mut workload = W::prepare();
    let (warm_up, slices) = if plan.timed { (1, SLICES) } else { (0, 1) };
    let slice = plan.operations.div_ceil(warm_up + slices);
    let untimed = workload.run(warm_up * slice);
    let before = Usage::now();
    let (mut wall_ns, mut timed) = (0, 0);
    let mut figures = Vec::with_capacity(slices as usize);
    for _ in 0..slices {
        let start = Instant::now();
        let done = workload.run(slice);
        let elapsed = start.elapsed().as_nanos() as u64;
        figures.push(elapsed as f64 / done as f64);
        wall_ns += elapsed;
        timed += done;
    }
    let usage = Usage::now().since(before);
    let ns = wall_ns as f64 / timed as f64;
    (Report { ns, operations: untimed + timed, wall_ns, usage, resident: resident() }, figures)
}

/// Runs a workload of several threads, which times itself.
pub fn threaded(run: fn(u64) -> Duration, plan: Plan) -> Report {
    let before = Usage::now();
    let wall_ns = run(plan.operations).as_nanos() as u64;
    let usage = Usage::now().since(before);
    let ns = wall_ns as f64 / plan.operations as f64;
    Report { ns, operations: plan.operations, wall_ns, usage, resident: resident() }
}

fn resident() -> Resident {
    Resident::of("self").unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "\"ns\": {:.4}, \"operations\": {}, \"wall_ns\": {}, \"cpu_ns\": {}, \"system_ns\": {}, \"faults\": {}, \
             \"peak_kib\": {}, \"resident_kib\": {}",
            self.ns,
            self.operations,
            self.wall_ns,
            self.usage.cpu_ns,
            self.usage.system_ns,
            self.usage.faults,
            self.resident.peak_kib,
            self.resident.total_kib,
        )
    }
}
