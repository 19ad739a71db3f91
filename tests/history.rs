//! The history of blocks, by the C face: the cases of `tests/c/history.c` on the preloaded library.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{TIME_LIMIT, assert_fine, assert_reported, compile, library, preloaded, run_within};
use std::path::PathBuf;
use std::process::Output;
use std::sync::OnceLock;

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile("history.c", &[library().to_str().unwrap()]))
}

fn run(case: &str) -> Output {
    run_within(preloaded(program()).arg(case), TIME_LIMIT)
}

#[test]
fn each_case_holds() {
    let listed = common::program(program()).output().expect("the program can be started");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let quiet: Vec<&str> = listed.lines().take_while(|&case| case != "purges_are_recorded").collect();
    assert_eq!(quiet.len(), 7);
    quiet.iter().for_each(|case| assert_fine(&run(case)));
}

/// With checks on, blocks lie elsewhere, and so do the slabs that they are cut from.
#[test]
fn what_another_thread_frees_is_told_apart_with_checks_on() {
    for checks in ["red-zones", "quarantine", "all"] {
        let case = "what_another_thread_frees_is_in_the_history_when_that_thread_is_gone";
        let output = run_within(preloaded(program()).arg(case).env("TERRACE_CHECK", checks), TIME_LIMIT);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{checks}: {said}");
    }
}

#[test]
fn purges_are_recorded_and_printed_with_the_rest() {
    let output = run("purges_are_recorded");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let events: Vec<&str> = said.lines().map(|line| line.strip_prefix("terrace: history: ").expect(line)).collect();
    let position = |words: &[&str]| events.iter().position(|event| words.iter().all(|word| event.contains(word)));
    let allocation = position(&["  allocation   0x", "  3145728 bytes"]).expect(&said);
    let purge = position(&["  purge  ", " bytes returned to the kernel"]).expect(&said);
    assert!(allocation < purge, "{said}");
    let times: Vec<f64> = events.iter().map(|event| event.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(times.is_sorted(), "{said}");
}

#[test]
fn what_the_purger_returns_is_recorded() {
    let output = run("what_the_purger_returns_is_recorded");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let thread = |event: &str| event.split_once("  thread ").unwrap().1.split(' ').next().unwrap().to_owned();
    let of_kind = |kind: &str| said.lines().filter(|event| event.contains(kind)).map(thread).collect::<Vec<_>>();
    let (allocating, purging) = (of_kind("  allocation "), of_kind("  purge "));
    assert!(!allocating.is_empty() && purging.iter().any(|thread| !allocating.contains(thread)), "{said}");
}

#[test]
fn a_block_freed_twice_is_reported_with_its_history() {
    let output = run("a_block_freed_twice_is_reported_with_its_history");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    let [sentence, allocation, free] = lines[..] else { panic!("{said}") };
    assert!(sentence.contains("free memory of the heap"), "{said}");
    for (line, kind) in [(allocation, "allocation"), (free, "free")] {
        assert!(line.starts_with("terrace: history: ") && line.contains(kind) && line.contains("bytes"), "{said}");
    }
    // The first line is what any bad call says; the process ends as after any.
    assert_reported(&Output { stderr: format!("{sentence}\n").into_bytes(), ..output });
}
