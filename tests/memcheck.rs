//! Under valgrind's memcheck: what it reports of a program on the library is what it would report of the system's `malloc`.
//!
//! The program is `tests/c/memcheck.c`; the Rust ones are this test program, started again under valgrind. The library announces its
//! blocks wherever memcheck does not put a `malloc` of its own in the library's place, which it does by default for C programs.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{compile, library, run_within};
use std::alloc::{GlobalAlloc, Layout};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use terrace::Terrace;

#[global_allocator]
static GLOBAL: Terrace = Terrace;

/// Has memcheck leave `malloc` to the library.
const LEFT_ALONE: &str = "--soname-synonyms=somalloc=nouserintercepts";

/// The exit status of a program in which memcheck found an error.
const ERRORS: i32 = 9;

/// For the programs in C, so that blocks which are not very large have mappings of their own; see there.
const MMAP_THRESHOLD: &str = "36864";

/// Set in the process of a Rust program.
const ROLE: &str = "ROLE_IN_TEST";

fn valgrind(arguments: &[&str]) -> Command {
    let mut command = Command::new("valgrind");
    command.arg("--leak-check=full").arg(format!("--error-exitcode={ERRORS}")).args(arguments);
    command
}

/// What memcheck says of a run, after it was found to end as one with so many errors does. Leaks count by where they came from,
/// which is not the same in both modes.
#[track_caller]
fn report(command: &mut Command, errors: RangeInclusive<usize>) -> String {
    let output = run_within(command, Duration::from_secs(300));
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(if *errors.end() == 0 { 0 } else { ERRORS }), "{report}");
    let count = report.split("ERROR SUMMARY: ").last().and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(count.is_some_and(|count| errors.contains(&count)), "not {errors:?} errors: {report}");
    assert!(!report.contains("terrace: "), "it was reported twice: {report}");
    report
}

#[track_caller]
fn says(report: &str, facts: &[&str]) {
    for fact in facts {
        assert!(report.contains(fact), "{fact:?} is missing: {report}");
    }
}

/// Runs a case of the C program with the library preloaded.
#[track_caller]
fn c_program(case: &str, arguments: &[&str], errors: RangeInclusive<usize>, facts: &[&str]) {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| compile("memcheck.c", &[]));
    let mut command = valgrind(arguments);
    command.arg(program).arg(case).env("LD_PRELOAD", library()).env("TERRACE_MMAP_THRESHOLD", MMAP_THRESHOLD);
    says(&report(&mut command, errors), facts);
}

/// A test for each case of the C program: with blocks announced, and with memcheck's own `malloc` in place, there are as many
/// errors.
macro_rules! cases {
    ($($case:ident: $errors:expr, $facts:expr;)*) => {
        $(
            #[test]
            fn $case() {
                c_program(stringify!($case), &[LEFT_ALONE], $errors, &$facts);
                c_program(stringify!($case), &[], $errors, &$facts);
            }
        )*

        #[test]
        fn every_case_is_run() {
            let listed = Command::new(compile("memcheck.c", &[])).output().expect("the program can be started");
            let listed = String::from_utf8(listed.stdout).unwrap();
            assert_eq!(listed.lines().collect::<Vec<_>>(), [$(stringify!($case)),*]);
        }
    };
}

cases! {
    leaks_a_block_of_every_layer: 1..=2, ["definitely lost: 110,933 bytes in 9 blocks", "lose (memcheck.c:"];
    leaks_a_large_block_in_memory_that_was_used_before: 1..=1, ["definitely lost: 40,000 bytes in 1 blocks"];
    reads_a_byte_behind_each_block: 10..=10, ["Invalid read of size 1", "is 0 bytes after a block of size 0 alloc'd"];
    writes_a_byte_before_each_block: 8..=8, ["Invalid write of size 1", "is 1 bytes before a block of size "];
    reads_blocks_that_were_freed: 18..=18, ["Invalid read of size 1", "is 0 bytes inside a block of size 1 free'd"];
    reads_a_block_after_many_others_came_and_went: 1..=1, ["is 0 bytes inside a block of size 100 free'd"];
    reads_blocks_that_were_moved: 9..=9, ["Invalid read of size 1", "is 0 bytes inside a block of size 1 free'd"];
    frees_blocks_twice: 10..=10, ["Invalid free()", "block of size 0 free'd", "frees_blocks_twice (memcheck.c:"];
    frees_what_is_no_block: 2..=2, ["Invalid free()", "is 16 bytes inside a block of size 100 alloc'd"];
    looks_at_what_nobody_wrote: 9..=9, ["Conditional jump or move depends on uninitialised value"];
    does_nothing_wrong: 0..=0, ["All heap blocks were freed -- no leaks are possible"];
}

#[test]
fn a_program_with_the_static_library_is_seen_as_well() {
    let target = common::folder().parent().unwrap();
    common::build(target, &["--package", "terrace-static"]);
    let program = compile("memcheck_static.c", &[target.join("release/libterrace.a").to_str().unwrap(), "-rdynamic"]);
    let run = |case: &str, errors| {
        report(
            valgrind(&[LEFT_ALONE])
                .env("ANY_MALLOC", "1")
                .env("TERRACE_MMAP_THRESHOLD", MMAP_THRESHOLD)
                .arg(&program)
                .arg(case),
            errors,
        )
    };
    says(&run("reads_blocks_that_were_freed", 18..=18), &["is 0 bytes inside a block of size 1 free'd"]);
    run("does_nothing_wrong", 0..=0);
}

/// Runs the calling test again under memcheck, in which `fault` is run.
#[track_caller]
fn rust_program(test: &str, fault: impl FnOnce(), errors: RangeInclusive<usize>, facts: &[&str]) {
    if std::env::var_os(ROLE).is_some() {
        return fault();
    }
    // The standard library keeps some blocks of its own for good.
    let mut command = valgrind(&["--errors-for-leak-kinds=definite"]);
    command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, test);
    says(&report(&mut command, errors), facts);
}

#[test]
fn a_vector_read_behind_its_end_is_reported() {
    let fault = || {
        let bytes = std::hint::black_box(vec![7_u8; 40]);
        let behind = bytes.as_ptr().wrapping_add(40);
        // SAFETY: none: this is the fault.
        std::hint::black_box(unsafe { behind.read_volatile() });
    };
    let facts = ["Invalid read of size 1", "is 0 bytes after a block of size 40 alloc'd"];
    rust_program("a_vector_read_behind_its_end_is_reported", fault, 1..=1, &facts);
}

#[test]
fn a_box_read_after_its_drop_is_reported() {
    let fault = || {
        let value = Box::into_raw(Box::new([1_u64; 100]));
        // SAFETY: it was a box.
        drop(unsafe { Box::from_raw(value) });
        let last = value.cast::<u64>().wrapping_add(99);
        // SAFETY: none: this is the fault.
        std::hint::black_box(unsafe { last.read_volatile() });
    };
    let facts = ["Invalid read of size 8", "is 792 bytes inside a block of size 800 free'd"];
    rust_program("a_box_read_after_its_drop_is_reported", fault, 1..=1, &facts);
}

#[test]
fn layouts_that_lie_at_the_bounds_of_the_layers_are_given_and_taken_back() {
    let whole = || {
        for (size, align) in
            [(1, 1), (16, 8), (24, 8), (1024, 16), (32_768, 8), (32_760, 4096), (1 << 20, 16), (5 << 20, 1 << 16)]
        {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the size is not 0.
            let block = unsafe { Terrace.alloc(layout) };
            // SAFETY: the block has that many bytes.
            unsafe { block.write_bytes(1, size) };
            // SAFETY: it is a block of this layout.
            let grown = unsafe { Terrace.realloc(block, layout, size + 1) };
            assert!(grown.addr().is_multiple_of(align));
            // SAFETY: the block has one byte more than before.
            unsafe { grown.wrapping_add(size).write(2) };
            // SAFETY: it is a block of this layout.
            unsafe { Terrace.dealloc(grown, Layout::from_size_align(size + 1, align).unwrap()) };
        }
        let words: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let sum = std::thread::spawn(move || words.iter().map(String::len).sum::<usize>());
        assert_eq!(sum.join().unwrap(), 2890);
    };
    rust_program("layouts_that_lie_at_the_bounds_of_the_layers_are_given_and_taken_back", whole, 0..=0, &[]);
}
