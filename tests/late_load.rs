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
    run_beside(None, library, how)
}

/// Runs the program, which loads the library late, with another one preloaded.
fn run_beside(preloaded: Option<&Path>, library: &Path, how: &str) -> Output {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let path = PROGRAM.get_or_init(|| compile("late.c", &[]));
    let mut command = common::program(path);
    if let Some(preloaded) = preloaded {
        command.env("LD_PRELOAD", preloaded);
    }
    run_within(command.arg(library).arg(how).env("TERRACE_STATS", "1"), TIME_LIMIT)
}

/// How many caches the threads of the program had in all, by the statistics at its end.
fn caches(output: &Output) -> usize {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.starts_with("caches")).expect("the statistics are printed at exit");
    line.split([' ', ',']).find_map(|word| word.parse().ok()).expect("the line has a number")
}

/// The types of the library's relocations for thread-local storage. The flag `STATIC_TLS` would not tell: GNU's linker sets it for
/// x86-64 alone.
fn of_thread_local_storage(library: &Path) -> Vec<String> {
    let output = Command::new("readelf").arg("-rW").arg(library).output().expect("readelf can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let types = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with("R_")));
    types
        .filter(|name| ["TPOFF", "TPREL", "DTP", "TLS"].iter().any(|part| name.contains(part)))
        .map(String::from)
        .collect()
}

#[test]
fn the_late_build_needs_no_static_storage() {
    let types = of_thread_local_storage(late_library());
    assert!(!types.is_empty() && types.iter().all(|name| name.ends_with("TLSDESC")), "{types:?}");
}

/// What a call pays for thread-local storage: an offset from the thread pointer, and a load.
#[test]
fn the_usual_build_has_static_storage() {
    let types = of_thread_local_storage(library());
    let by_offset = ["R_X86_64_TPOFF64", "R_AARCH64_TLS_TPREL64"];
    assert!(!types.is_empty() && types.iter().all(|name| by_offset.contains(&name.as_str())), "{types:?}");
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
fn two_copies_in_one_process_do_not_disturb_each_other() {
    // The copy has an own heap beside that of the library that was preloaded; both move the break.
    let copy = folder().join(format!("libterrace-copy-{}.so", std::process::id()));
    std::fs::copy(library(), &copy).unwrap();
    for (first, second) in [(library(), copy.as_path()), (library(), late_library()), (copy.as_path(), library())] {
        for how in ["keep", "unload"] {
            let output = run_beside(Some(first), second, how);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{how}: {said}");
            assert_eq!(said.matches("terrace: process ").count(), 2, "each copy reports at exit: {said}");
        }
    }
    std::fs::remove_file(&copy).unwrap();
}

#[test]
fn a_thread_may_outlive_the_library() {
    for library in [late_library(), library()] {
        let output = run(library, "unload");
        assert!(output.status.success(), "{:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
}
