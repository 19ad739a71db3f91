//! Commands get what they were given and end as they end; what cannot be run is said in one sentence.

use crate::static_program::static_program;
use crate::{end_of, install, output_of, terrace, text};
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Both ways to run: turning into the command, and staying as its parent.
const WAYS: [&[&str]; 2] = [&["run", "--"], &["run", "--stats", "--"]];

fn run_both_ways(command: &[&str]) -> [Output; 2] {
    WAYS.map(|way| output_of(&mut terrace(&[way, command].concat())))
}

/// An executable file in a directory of its own.
fn program(content: impl AsRef<[u8]>, mode: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    install(content, mode, &path);
    (directory, path)
}

#[test]
fn the_library_is_in_the_command() {
    for output in run_both_ways(&["grep", "-c", "/libterrace.so$", "/proc/self/maps"]) {
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_library_named_by_a_relative_path_is_found_from_any_directory() {
    let directory = tempfile::tempdir().unwrap();
    let library = Path::new(env!("CARGO_BIN_EXE_terrace")).with_file_name("libterrace.so");
    let mut command =
        terrace(&["run", "--lib", "mine.so", "--", "sh", "-c", "cd / && grep -q /mine.so /proc/self/maps"]);
    fs::copy(library, directory.path().join("mine.so")).unwrap();
    let output = output_of(command.current_dir(directory.path()));
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn checks_are_handed_on_to_the_command() {
    for (argument, checks) in [("--check=fill,leaks", "fill,leaks"), ("--check", "all")] {
        let output = output_of(&mut terrace(&["run", argument, "--", "bash", "-c", "echo \"$TERRACE_CHECK\""]));
        assert_eq!(text(&output.stdout), format!("{checks}\n"));
        assert!(text(&output.stderr).starts_with("terrace: at exit blocks that were not freed: "), "{output:?}");
    }
}

#[test]
fn what_was_preloaded_before_stays_preloaded() {
    let mut command = terrace(&["run", "--", "sh", "-c", "echo \"$LD_PRELOAD\""]);
    let output = output_of(command.env("LD_PRELOAD", "libm.so.6"));
    assert!(text(&output.stdout).ends_with("/libterrace.so:libm.so.6\n"), "{output:?}");
}

#[test]
fn arguments_and_name_arrive_as_they_were_given() {
    for output in run_both_ways(&["sh", "-c", "printf '%s|' \"$0\" \"$@\"", "--stats", "two words", "", "--"]) {
        assert_eq!(text(&output.stdout), "--stats|two words||--|");
    }
    for output in run_both_ways(&["cat", "/proc/self/cmdline"]) {
        assert_eq!(text(&output.stdout), "cat\0/proc/self/cmdline\0");
    }
}

#[test]
fn without_statistics_nothing_of_terrace_remains() {
    let mut child = terrace(&["run", "--", "sh", "-c", "echo $$"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(end_of(&mut child).success());
    assert_eq!(printed.trim(), child.id().to_string(), "the command has terrace's process ID");
}

#[test]
fn exit_statuses_are_passed_on() {
    for status in [0, 1, 42, 255] {
        for output in run_both_ways(&["sh", "-c", &format!("exit {status}")]) {
            assert_eq!(output.status.code(), Some(status), "{output:?}");
        }
    }
}

#[test]
fn a_command_that_dies_by_a_signal_takes_terrace_along() {
    for signal in [1, 2, 6, 9, 11, 15] {
        for output in run_both_ways(&["sh", "-c", &format!("kill -{signal} $$")]) {
            assert_eq!(output.status.signal(), Some(signal), "{output:?}");
        }
    }
}

#[test]
fn a_command_that_does_not_exist_is_127() {
    for name in ["no-such-command", "./no-such-command"] {
        for output in run_both_ways(&[name]) {
            assert_eq!(output.status.code(), Some(127));
            assert_eq!(text(&output.stderr), format!("terrace: the command {name} was not found\n"));
        }
    }
}

#[test]
fn a_command_that_cannot_be_run_is_126() {
    let (_plain_directory, plain) = program("exit 0", "644");
    let (_orphan_directory, orphan) = program("#!/no/such/interpreter\n", "755");
    let cases = [
        (plain.to_str().unwrap(), "permission denied"),
        (orphan.to_str().unwrap(), "the interpreter or loader that it names does not exist"),
        ("/", "is a directory"),
    ];
    for (path, why) in cases {
        for output in run_both_ways(&[path]) {
            assert_eq!(output.status.code(), Some(126));
            assert_eq!(text(&output.stderr), format!("terrace: the command {path} cannot be run: {why}\n"));
        }
    }
}

#[test]
fn a_missing_library_is_125_and_names_the_places() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    fs::create_dir(root.join("bin")).unwrap();
    let lonely = root.join("bin/terrace");
    install(fs::read(terrace(&[]).get_program()).unwrap(), "755", &lonely);
    let output = output_of(Command::new(&lonely).args(["run", "--", "true"]));
    assert_eq!(output.status.code(), Some(125));
    let root = root.display();
    let places = format!("{root}/bin/libterrace.so or {root}/lib/libterrace.so or {root}/lib/terrace/libterrace.so");
    assert!(text(&output.stderr).contains(&places), "{output:?}");
    assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
}

#[test]
fn a_statically_linked_command_runs_with_a_warning() {
    let (_directory, path) = program(static_program(7), "755");
    for output in run_both_ways(&[path.to_str().unwrap()]) {
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        let warning = text(&output.stderr).lines().next().unwrap_or_default().to_owned();
        assert!(warning.starts_with("terrace: warning:") && warning.contains("statically linked"), "{output:?}");
    }
}
