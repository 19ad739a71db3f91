//! A failing system call says where and what, and ends the program with its errno.

use std::fs;
use std::process::Command;

use crate::library::{EDITIONS, scratch};

/// Runs `errors.c` under strace: what it wrote to standard error, and the calls after it said "now".
fn fail(which: &str, call: &str, errno: i32, reason: &str) {
    for edition in EDITIONS {
        let program = edition.program("errors.c");
        let log = scratch().join(format!("errors-{which}-{}.trace", edition.header));
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-e", "trace=brk,mmap,munmap,write", "-o"]).arg(&log).arg(program).arg(which);
        let output = strace.output().expect("strace cannot be started; is its package installed?");
        assert_eq!(output.status.code(), Some(errno), "{which}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "now\nhandlers ran\n", "it ends by exit()");

        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.starts_with("libosmem: ") && message.contains("os.rs:"), "where: {message}");
        assert!(message.ends_with(&format!(": {call}: {reason}\n")), "what: {message}");
        assert_eq!(message.lines().count(), 1, "one line: {message}");

        let trace = fs::read_to_string(&log).expect("a trace");
        let (_, since) = trace.split_once("\"now").expect("the program got so far");
        let asked: Vec<&str> = since.lines().skip(1).filter(|line| !line.starts_with("write")).collect();
        let last = asked.last().expect("the library asked for something");
        assert!(last.starts_with(&format!("{call}(")), "the message allocates nothing: {trace}");
    }
}

#[test]
fn the_heap_cannot_begin() {
    fail("first-use", "brk", libc::ENOMEM, "Cannot allocate memory");
}

#[test]
fn the_heap_cannot_grow() {
    fail("growth", "brk", libc::ENOMEM, "Cannot allocate memory");
}

#[test]
fn the_last_block_cannot_grow() {
    fail("grow-in-place", "brk", libc::ENOMEM, "Cannot allocate memory");
}

#[test]
fn a_mapping_is_refused() {
    fail("mmap", "mmap", libc::ENOMEM, "Cannot allocate memory");
}

#[test]
fn a_mapping_cannot_be_given_back() {
    fail("munmap", "munmap", libc::EINVAL, "Invalid argument");
}
