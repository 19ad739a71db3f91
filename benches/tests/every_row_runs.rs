//! Every row runs on every heap that the package was built with, does what it was asked to, and times it.

use terrace_bench::catalogue::rows;
use terrace_bench::heaps::{self, Heap};
use terrace_bench::measure::Plan;

fn every_row_runs<H: Heap>() {
    for row in rows::<H>() {
        let operations = (row.operations / 1000).clamp(2, 20_000);
        for timed in [true, false] {
            let report = row.run(Plan { operations, timed });
            assert!(report.operations >= operations, "{} did {} of {operations}", row.name, report.operations);
            assert!(report.ns > 0.0, "{} took no time", row.name);
            assert!(report.wall_ns > 0, "{} took no time", row.name);
        }
        assert!(!row.start()(operations).is_zero(), "{} took no time in parts", row.name);
    }
}

#[test]
fn on_the_c_librarys_allocator() {
    every_row_runs::<heaps::Glibc>();
}

#[test]
fn on_malloc_through_the_dynamic_symbol() {
    every_row_runs::<heaps::Preloaded>();
}

#[cfg(feature = "terrace")]
#[test]
fn on_terrace() {
    every_row_runs::<heaps::Terrace>();
}

#[cfg(feature = "mimalloc")]
#[test]
fn on_mimalloc() {
    every_row_runs::<heaps::Mimalloc>();
}

#[cfg(feature = "jemalloc")]
#[test]
fn on_jemalloc() {
    every_row_runs::<heaps::Jemalloc>();
}

#[cfg(feature = "snmalloc")]
#[test]
fn on_snmalloc() {
    every_row_runs::<heaps::Snmalloc>();
}

#[cfg(feature = "rusty-alloc")]
#[test]
fn on_rusty_alloc() {
    every_row_runs::<heaps::RustyAlloc>();
}

#[cfg(feature = "rallocator")]
#[test]
fn on_rallocator() {
    every_row_runs::<heaps::Rallocator>();
}
