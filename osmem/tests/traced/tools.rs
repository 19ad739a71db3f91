//! The library under valgrind and ltrace, as students and their checkers run it.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::library::{EDITIONS, Edition, run, scratch};
use crate::random::{Random, sequence};
use crate::story::K128;
use crate::trace::as_text;

#[test]
fn valgrind_finds_no_invalid_access_and_no_leak() {
    for edition in EDITIONS {
        let scripts: String = (5000..5040).map(|seed| as_text(&sequence(edition, &mut Random::new(seed)))).collect();
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all"]);
        valgrind.arg(edition.program("driver.c")).arg("blind");
        valgrind.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = valgrind.spawn().expect("valgrind cannot be started; is its package installed?");
        child.stdin.take().expect("piped").write_all(scripts.as_bytes()).expect("the driver reads");
        let output = child.wait_with_output().expect("valgrind ends");
        let report = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && report.is_empty(), "{}\n{report}", output.status);
    }
}

/// The system calls inside each call of `calls.c`, as ltrace shows them: their names and what counts of their arguments.
fn calls_seen_by_ltrace(edition: Edition) -> Vec<(String, Vec<(String, usize)>)> {
    let log = scratch().join(format!("ltrace-{}.trace", edition.header));
    let mut ltrace = Command::new("ltrace");
    ltrace.args(["-L", "-S", "-x", "os_*@libosmem.so", "-o"]).arg(&log).arg(edition.program("calls.c"));
    run(&mut ltrace);

    let mut seen: Vec<(String, Vec<(String, usize)>)> = Vec::new();
    let mut inside = false;
    let mut start = None;
    for line in fs::read_to_string(&log).expect("a trace").lines() {
        let (name, rest) = line.split_once('(').unwrap_or((line, ""));
        if let Some(function) = name.strip_suffix("@libosmem.so") {
            assert!(!inside, "no function of the library calls another: {line}");
            inside = line.ends_with("<unfinished ...>");
            seen.push((function.to_string(), Vec::new()));
        } else if line.starts_with("<... os_") {
            inside = false;
        } else if inside {
            let name = name.strip_prefix("SYS_").unwrap_or_else(|| panic!("not a system call: {line}"));
            let mut arguments = rest.split([',', ')']).map(|text| number(text.trim()));
            let (first, second) = (arguments.next().flatten().expect("a number"), arguments.next().flatten());
            let argument = match name {
                "brk" if first == 0 => {
                    start = line.rsplit('=').next().and_then(|text| number(text.trim()));
                    0
                }
                "brk" => first - start.expect("the break was asked for"),
                _ => second.expect("a length"),
            };
            seen.last_mut().expect("a call").1.push((name.to_string(), argument));
        }
    }
    seen
}

fn number(text: &str) -> Option<usize> {
    match text.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[test]
fn ltrace_sees_the_same_calls() {
    for edition in EDITIONS {
        let h = edition.header;
        let expected: [(&str, &[(&str, usize)]); 12] = [
            ("os_malloc", &[("brk", 0), ("brk", K128)]),
            ("os_malloc", &[("mmap", K128 + h)]),
            ("os_calloc", &[("mmap", 5000 + h)]),
            ("os_calloc", &[]),
            ("os_free", &[]),
            ("os_free", &[]),
            ("os_malloc", &[]),
            ("os_realloc", &[("mmap", K128 + h)]),
            ("os_realloc", &[("munmap", K128 + h)]),
            ("os_realloc", &[("munmap", K128 + h)]),
            ("os_free", &[("munmap", 5000 + h)]),
            ("os_free", &[]),
        ];
        let seen = calls_seen_by_ltrace(edition);
        assert_eq!(seen.len(), expected.len(), "{seen:?}");
        for ((function, calls), (expected_function, expected_calls)) in seen.iter().zip(expected) {
            let calls: Vec<(&str, usize)> = calls.iter().map(|(name, argument)| (name.as_str(), *argument)).collect();
            assert_eq!((function.as_str(), &calls[..]), (expected_function, expected_calls));
        }
    }
}

#[test]
fn the_start_and_the_end_of_the_library_ask_for_nothing() {
    for edition in EDITIONS {
        let log = scratch().join(format!("start-{}.trace", edition.header));
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-e", "trace=brk", "-o"]).arg(&log).arg(edition.program("calls.c"));
        run(&mut strace);
        // The loader asks for the break once; then the heap's first use does, and moves it.
        let trace = fs::read_to_string(&log).expect("a trace");
        assert_eq!(trace.lines().count(), 3, "{trace}");
    }
}
