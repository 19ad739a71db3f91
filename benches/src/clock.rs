//! A clock for single calls: the processor's time stamp counter, which costs a few nanoseconds and no system call.

use std::time::Instant;

/// Cycles of the time stamp counter now; whatever stands before the call in the program is done.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn cycles() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every x86-64 processor has both instructions; neither touches memory.
    unsafe { _mm_lfence() };
    // SAFETY: likewise.
    let now = unsafe { _rdtsc() };
    // SAFETY: likewise.
    unsafe { _mm_lfence() };
    now
}

/// Nanoseconds of the monotonic clock, where the processor's counter is not written for.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn cycles() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a structure of the right type.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The least number of cycles between two readings: what the clock itself adds to each measurement.
pub fn cost() -> u64 {
    (0..10_000)
        .map(|_| {
            let begin = cycles();
            cycles() - begin
        })
        .min()
        .unwrap_or(0)
}

/// Relates cycles to nanoseconds over a span of time.
pub struct Calibration {
    cycles: u64,
    instant: Instant,
}

impl Calibration {
    /// Begins the span.
    pub fn begin() -> Self {
        Self { cycles: cycles(), instant: Instant::now() }
    }

    /// Nanoseconds of a cycle, over the span that ends now. A span of some milliseconds gives three digits.
    pub fn nanoseconds_per_cycle(&self) -> f64 {
        let elapsed = self.instant.elapsed().as_nanos() as f64;
        elapsed / (cycles() - self.cycles).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn cycles_run_forward_and_the_calibration_fits_the_wall_clock() {
        let span = Calibration::begin();
        let begin = cycles();
        std::thread::sleep(Duration::from_millis(30));
        let nanoseconds = (cycles() - begin) as f64 * span.nanoseconds_per_cycle();
        assert!((29e6..2e9).contains(&nanoseconds), "{nanoseconds} ns for a sleep of 30 ms");
    }
}
