//! How long single calls of an allocator take: an allocator around another that times each call.
//!
//! ```text
//!  thread ── TLS: number of its table ──▶ TABLES[number] ── one counter a bucket, for each operation
//! ```
//! The tables are static memory, so that recording allocates nothing; only what is used becomes resident. Buckets are
//! log-linear, 32 a doubling, so a recorded time is exact to 3 %. The clock's own cost is taken off each time. Recording
//! happens after the clock has stopped.

use crate::clock::{self, Calibration};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `alloc` and `alloc_zeroed`.
    Alloc,
    /// `dealloc`.
    Free,
    /// `realloc`.
    Realloc,
}

const OPERATIONS: [(Operation, &str); 3] =
    [(Operation::Alloc, "alloc"), (Operation::Free, "free"), (Operation::Realloc, "realloc")];

const SUB_BITS: u32 = 5;
const HIGHEST_BIT: u32 = 40;
const BUCKETS: usize = ((HIGHEST_BIT - SUB_BITS + 2) << SUB_BITS) as usize;
const TABLES_IN_ALL: usize = 128;

/// The bucket of a number of cycles: linear below 32, then 32 buckets a doubling.
#[inline(always)]
fn bucket_of(cycles: u64) -> usize {
    let top = (63 - (cycles | 1).leading_zeros()).min(HIGHEST_BIT);
    if top < SUB_BITS {
        return cycles as usize;
    }
    let shift = top - SUB_BITS;
    let capped = cycles.min((2 << HIGHEST_BIT) - 1);
    (((shift + 1) << SUB_BITS) as u64 + (capped >> shift) - (1 << SUB_BITS)) as usize
}

/// The middle of a bucket, in cycles.
fn middle_of(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let (row, column) = (bucket >> SUB_BITS, bucket & ((1 << SUB_BITS) - 1));
    if row == 0 {
        return column as f64;
    }
    let shift = row - 1;
    let low = ((1 << SUB_BITS) + column) << shift;
    low as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

/// Counters of one thread, or of several one after the other. More live threads than tables share them: hence atomic
/// additions, relaxed, since a counter orders nothing and is read when all threads are done.
struct Table([[AtomicU64; BUCKETS]; OPERATIONS.len()]);

static TABLES: [Table; TABLES_IN_ALL] =
    [const { Table([const { [const { AtomicU64::new(0) }; BUCKETS] }; OPERATIONS.len()]) }; TABLES_IN_ALL];

/// The clock's cost in cycles; written once by [`begin`], read by every thread that is started later (relaxed: the start of
/// a thread orders it).
static CLOCK_COST: AtomicU64 = AtomicU64::new(0);

/// Hands out the tables in turn; relaxed, since only the number counts.
static NEXT: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// One more than the thread's table, or zero. It has no destructor, so that reading it never allocates.
    static MINE: Cell<u32> = const { Cell::new(0) };
}

#[inline(always)]
fn record(operation: Operation, cycles: u64) {
    let number = MINE.with(|mine| {
        if mine.get() == 0 {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % TABLES_IN_ALL as u32 + 1);
        }
        mine.get() - 1
    });
    let bucket = bucket_of(cycles.saturating_sub(CLOCK_COST.load(Ordering::Relaxed)));
    TABLES[number as usize].0[operation as usize][bucket].fetch_add(1, Ordering::Relaxed);
}

/// Measures the clock's cost and forgets what was recorded so far.
pub fn begin() -> Calibration {
    CLOCK_COST.store(clock::cost(), Ordering::Relaxed);
    for counter in TABLES.iter().flat_map(|table| table.0.iter().flatten()) {
        // Looking first keeps untouched pages untouched.
        if counter.load(Ordering::Relaxed) != 0 {
            counter.store(0, Ordering::Relaxed);
        }
    }
    Calibration::begin()
}

/// What was recorded since [`begin`], as an object of JSON: the clock's cost, and for each operation pairs of nanoseconds and
/// how often.
pub fn report(calibration: &Calibration) -> String {
    let factor = calibration.nanoseconds_per_cycle();
    let mut sums = vec![[0_u64; BUCKETS]; OPERATIONS.len()];
    for table in &TABLES {
        for (sum, counters) in sums.iter_mut().zip(&table.0) {
            for (total, counter) in sum.iter_mut().zip(counters) {
                *total += counter.load(Ordering::Relaxed);
            }
        }
    }
    let mut text = format!("{{\"clock_ns\": {:.2}", CLOCK_COST.load(Ordering::Relaxed) as f64 * factor);
    for (sum, (_, name)) in sums.iter().zip(OPERATIONS) {
        let pairs = sum.iter().enumerate().filter(|(_, count)| **count > 0);
        let pairs: Vec<_> =
            pairs.map(|(bucket, count)| format!("[{:.1}, {count}]", middle_of(bucket) * factor)).collect();
        let _ = write!(text, ", \"{name}\": [{}]", pairs.join(", "));
    }
    text + "}"
}

/// An allocator that times each call of another.
pub struct TimedAlloc<A: 'static>(pub &'static A);

// SAFETY: every call is passed on as it is.
unsafe impl<A: GlobalAlloc> GlobalAlloc for TimedAlloc<A> {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let begin = clock::cycles();
        // SAFETY: as the caller promises.
        let block = unsafe { self.0.alloc(layout) };
        record(Operation::Alloc, clock::cycles() - begin);
        block
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let begin = clock::cycles();
        // SAFETY: as the caller promises.
        unsafe { self.0.dealloc(block, layout) };
        record(Operation::Free, clock::cycles() - begin);
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let begin = clock::cycles();
        // SAFETY: as the caller promises.
        let block = unsafe { self.0.alloc_zeroed(layout) };
        record(Operation::Alloc, clock::cycles() - begin);
        block
    }

    #[inline(always)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let begin = clock::cycles();
        // SAFETY: as the caller promises.
        let moved = unsafe { self.0.realloc(block, layout, new_size) };
        record(Operation::Realloc, clock::cycles() - begin);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    fn every_time_falls_into_a_bucket_whose_middle_is_within_three_per_cent() {
        for exponent in 0..40 {
            for odd in [1.0, 1.1, 1.5, 1.99] {
                let cycles = ((1_u64 << exponent) as f64 * odd) as u64;
                let middle = middle_of(bucket_of(cycles));
                assert!((middle - cycles as f64).abs() <= 0.5 + cycles as f64 * 0.032, "{cycles} became {middle}");
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn each_call_is_counted_once_under_its_own_name() {
        let span = begin();
        let timed = TimedAlloc(&System);
        let layout = Layout::from_size_align(64, 8).expect("a valid layout");
        // SAFETY: the layout is not of size zero.
        let block = unsafe { timed.alloc(layout) };
        // SAFETY: the block is of this layout, and the new size is valid.
        let block = unsafe { timed.realloc(block, layout, 128) };
        let layout = Layout::from_size_align(128, 8).expect("a valid layout");
        // SAFETY: the block is of this layout, and nobody uses it.
        unsafe { timed.dealloc(block, layout) };
        let text = report(&span);
        assert_eq!(text.matches(", 1]").count(), 3, "one call each: {text}");
    }
}
