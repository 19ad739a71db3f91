//! The library loaded late with `dlopen`, as it is and in the build that does without static thread-local storage.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{TIME_LIMIT, build_library, compile, folder, library, run_within};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The library built with the feature `late-load`.
fn late_library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build_library(&folder().join("late-load"), &["--features", "late-load"]))
}

fn run(library: &Path, how: &str) -> Output {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let path = PROGRAM.get_or_init(|| compile("late.c", &[]));
    run_within(common::program(path).arg(library).arg(how).env("TERRACE_STATS", "1"), TIME_LIMIT)
}

/// How many caches the threads of the program had in all, by the statistics at its end.
fn caches(output: &Output) -> usize {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.starts_with("caches")).expect("the statistics are printed at exit");
    line.split([' ', ',']).find_map(|word| word.parse().ok()).expect("the line has a number")
}

#[test]
fn the_late_build_needs_no_static_storage() {
    let dump = Command::new("readelf").arg("-d").arg(late_library()).output().expect("readelf can be started");
    let dump = String::from_utf8_lossy(&dump.stdout);
    assert!(dump.contains("FLAGS") && !dump.contains("STATIC_TLS"), "{dump}");
}

#[test]
fn caches_of_threads_that_end_are_taken_up_again() {
    for library in [late_library(), library()] {
        let output = run(library, "keep");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(caches(&output) <= 4, "500 threads, one after the other, had {} caches", caches(&output));
    }
}

#[test]
fn a_thread_may_outlive_the_library() {
    for library in [late_library(), library()] {
        let output = run(library, "unload");
        assert!(output.status.success(), "{:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
}
