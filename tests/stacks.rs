//! Call stacks: where they begin, and by what they are taken.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{TIME_LIMIT, compile, preloaded, run_within};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The functions of a program's, by the size of the block that each allocates: its name, and its offset in the program.
type Functions = HashMap<usize, (String, usize)>;

fn hex(text: &str) -> usize {
    usize::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// Runs the program and gives what it says of its functions, and the lines of its report.
fn run(command: &mut Command) -> (Functions, Vec<String>) {
    let output = run_within(command, TIME_LIMIT);
    assert!(output.status.success(), "{output:?}");
    let functions = String::from_utf8(output.stdout).unwrap();
    let functions = functions.lines().map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        (words[0].parse().unwrap(), (words[1].to_owned(), hex(words[2])))
    });
    (functions.collect(), String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect())
}

/// Functions lie this far from each other, in bytes: the option for the compiler below says so.
const APART: usize = 256;

/// Each call of an allocating or freeing function has a function of its own, and the stack must begin there.
#[track_caller]
fn assert_begins_in(functions: &Functions, size: usize, what: &str, stack: Option<&String>) {
    let (name, offset) = &functions[&size];
    let frame = stack.and_then(|line| line.trim().rsplit_once("callers_cpp+")).map(|(_, offset)| hex(offset));
    let inside = frame.is_some_and(|frame| (*offset..offset + APART).contains(&frame));
    assert!(inside, "{what} of {size} bytes by {name}, which is at {offset:#x}: the stack begins with {stack:?}");
}

fn callers() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let apart = format!("-falign-functions={APART}");
    preloaded(PROGRAM.get_or_init(|| compile("callers.cpp", &["-fno-omit-frame-pointer", &apart])))
}

#[test]
fn a_leak_s_stack_begins_in_the_function_that_called_whatever_it_called() {
    for about in ["100", "40000", "4000000"] {
        let (functions, lines) = run(callers().arg(about).env("TERRACE_CHECK", "leaks,stacks"));
        assert_eq!(functions.len(), 15);
        let mut told = 0;
        for (number, line) in lines.iter().enumerate() {
            let size =
                line.strip_prefix("terrace:   1 block of ").and_then(|line| line.split(' ').next()?.parse().ok());
            if let Some(size) = size.filter(|size| functions.contains_key(size)) {
                assert_begins_in(&functions, size, "leak", lines.get(number + 1));
                told += 1;
            }
        }
        assert_eq!(told, functions.len(), "{lines:#?}");
    }
}

/// With a check and without: a block goes different ways.
#[test]
fn each_event_s_stack_begins_in_the_function_that_called() {
    for check in ["", "red-zones"] {
        let mut command = callers();
        command.arg("free").env("TERRACE_CHECK", check).env("TERRACE_HISTORY", "1000");
        let (functions, lines) = run(command.env("TERRACE_HISTORY_STACKS", "1").env("TERRACE_HISTORY_AT_EXIT", "1000"));
        let (mut sizes, mut told) = (HashMap::new(), 0);
        for (number, line) in lines.iter().enumerate() {
            let words: Vec<_> = line.split_whitespace().collect();
            // `terrace: history: 1.5 s thread 7 allocation 0x10 101 bytes`
            let ["terrace:", "history:", _, "s", "thread", _, what, address, size, "bytes" | "bytes,", ..] = words[..]
            else {
                continue;
            };
            let size: usize = size.parse().unwrap();
            if what != "free" {
                sizes.insert(address.to_owned(), size);
            }
            // What is freed is told with the size of its place.
            if let Some(size) = sizes.get(address).filter(|size| functions.contains_key(size)) {
                assert_begins_in(&functions, *size, what, lines.get(number + 1));
                told += 1;
            }
        }
        assert!(told >= 2 * functions.len(), "{told} events were told: {lines:#?}");
    }
}

fn chain() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let flags = ["-O2", "-fomit-frame-pointer", "-falign-functions=256", "-fno-optimize-sibling-calls"];
    let mut command = preloaded(PROGRAM.get_or_init(|| compile("unwinding.c", &flags)));
    command.env("TERRACE_CHECK", "leaks,stacks");
    command
}

/// How many functions of the chain follow each other in the lines after the one that is `wanted`, from the innermost on.
#[track_caller]
fn followed(functions: &Functions, lines: &[String], wanted: impl Fn(&str) -> bool) -> usize {
    let number = lines.iter().position(|line| wanted(line)).unwrap_or_else(|| panic!("{lines:#?}"));
    let stack = lines[number + 1..].iter();
    let frames = stack.map_while(|line| line.trim().rsplit_once("unwinding_c+").map(|(_, offset)| hex(offset)));
    let inside = |(n, frame): &(usize, usize)| {
        functions.get(n).is_some_and(|(_, offset)| (*offset..offset + APART).contains(frame))
    };
    frames.enumerate().take_while(inside).count()
}

fn is_the_leak(line: &str) -> bool {
    line == "terrace:   1 block of 1234 bytes"
}

#[test]
fn the_unwinder_names_a_chain_that_keeps_no_frame_pointers() {
    let (functions, lines) = run(chain().env("TERRACE_STACKS", "unwind"));
    assert_eq!(followed(&functions, &lines, is_the_leak), 3, "{lines:#?}");
    let (functions, lines) = run(&mut chain());
    assert!(followed(&functions, &lines, is_the_leak) < 3, "frame pointers are not kept, and yet: {lines:#?}");
}

/// There the kernel names no loader, as if the program were a static one.
#[test]
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn a_program_that_the_loader_was_given_by_name_has_the_unwinder() {
    let plain = chain();
    let mut command = Command::new("/lib64/ld-linux-x86-64.so.2");
    command.arg(plain.get_program()).args(plain.get_args()).env("TERRACE_STACKS", "unwind");
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (functions, lines) = run(&mut command);
    assert_eq!(followed(&functions, &lines, is_the_leak), 3, "{lines:#?}");
}

#[test]
fn events_have_stacks_of_the_unwinder_as_well() {
    for (stacks, all) in [("unwind", true), ("frames", false)] {
        let mut command = chain();
        command.env("TERRACE_STACKS", stacks).env("TERRACE_CHECK", "").env("TERRACE_HISTORY", "100");
        let (functions, lines) = run(command.env("TERRACE_HISTORY_STACKS", "1").env("TERRACE_HISTORY_AT_EXIT", "100"));
        let is_it = |line: &str| line.contains("allocation") && line.ends_with(" 1234 bytes");
        assert_eq!(followed(&functions, &lines, is_it) == 3, all, "{stacks}: {lines:#?}");
    }
}

/// A folder with these files where the loader looks first.
fn folder_of_libraries(name: &str) -> PathBuf {
    let folder = common::folder().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn without_an_unwinder_frame_pointers_are_followed_and_that_is_said_once() {
    let folder = folder_of_libraries("no_unwinder");
    for name in ["libgcc_s.so.1", "libunwind.so.1"] {
        std::fs::write(folder.join(name), "no library").unwrap();
    }
    let (functions, lines) = run(chain().env("TERRACE_STACKS", "unwind").env("LD_LIBRARY_PATH", &folder));
    let sentence = "terrace: there is no unwinder here (libgcc_s.so.1 or libunwind.so.1): call stacks are taken by \
                    frame pointers";
    assert_eq!(lines.iter().filter(|line| *line == sentence).count(), 1, "{lines:#?}");
    assert_eq!(followed(&functions, &lines, is_the_leak), 1, "{lines:#?}");
}

/// It comes to nothing, so that frame pointers are followed.
#[test]
fn an_unwinder_that_allocates_is_not_called_by_its_own_calls() {
    let folder = folder_of_libraries("allocating_unwinder");
    let built = compile("allocating_unwinder.c", &["-shared", "-fPIC"]);
    std::fs::copy(built, folder.join("libgcc_s.so.1")).unwrap();
    let (functions, lines) = run(chain().env("TERRACE_STACKS", "unwind").env("LD_LIBRARY_PATH", &folder));
    assert_eq!(followed(&functions, &lines, is_the_leak), 1, "{lines:#?}");
    let own = lines.iter().position(|line| line.ends_with(" of 4321 bytes")).expect("the unwinder's blocks are told");
    assert!(!lines[own + 1].contains("#0"), "a block of the unwinder's own has a stack: {lines:#?}");
}

#[test]
fn stacks_are_unwound_while_objects_come_and_go_and_in_children() {
    for library in ["libresolv.so.2", "libgcc_s.so.1", "libstdc++.so.6"] {
        let mut command = chain();
        command.arg(library).env("TERRACE_STACKS", "unwind").env("TERRACE_CHECK", "stacks,quarantine=1M");
        let (_, lines) = run(command.env("TERRACE_HISTORY", "1000").env("TERRACE_HISTORY_STACKS", "1"));
        assert_eq!(lines, Vec::<String>::new());
    }
}
