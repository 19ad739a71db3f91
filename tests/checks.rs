//! Checks by environment: programs with one bug each, which a check finds, and which nothing finds without it.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{TIME_LIMIT, assert_fine, compile, preloaded, run_within};
use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::OnceLock;

#[test]
fn the_table_in_the_documentation_is_the_one_in_the_code() {
    let page = include_str!("../docs/checks.md");
    let mut table = String::from("| word | amount and default | what it does |\n|---|---|---|\n");
    for check in terrace::checks() {
        writeln!(table, "{check}").unwrap();
    }
    assert!(page.contains(&table), "docs/checks.md should have this table:\n{table}");
}

#[test]
fn a_call_cannot_switch_checks_on() {
    let refused = terrace::set_option("check", "fill").unwrap_err();
    let sentence = "check can only be set at the start, by TERRACE_CHECK or the program's options";
    assert_eq!(refused.to_string(), sentence);
    assert_eq!(terrace::check(), 0);
}

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile("bugs.c", &["-fno-omit-frame-pointer", "-Wno-unused-but-set-variable"]))
}

struct Ended {
    said: String,
    printed: String,
    signal: Option<i32>,
}

impl Ended {
    fn went_on(&self) -> bool {
        self.signal.is_none() && self.printed.ends_with("went on\n")
    }

    #[track_caller]
    fn says(&self, words: &str) {
        assert!(self.said.contains(words), "nothing of {words:?} in: {}", self.said);
    }

    #[track_caller]
    fn says_not(&self, words: &str) {
        assert!(!self.said.contains(words), "{words:?} in: {}", self.said);
    }
}

fn run(case: &str, check: &str, action: &str) -> Ended {
    let mut command = preloaded(program());
    command.arg(case).env("TERRACE_CHECK", check).env("TERRACE_CHECK_ACTION", action);
    let output = run_within(&mut command, TIME_LIMIT);
    Ended {
        said: String::from_utf8(output.stderr).unwrap(),
        printed: String::from_utf8(output.stdout).unwrap(),
        signal: output.status.signal(),
    }
}

/// A check finds the bug: the process aborts, or goes on if it is told to. Without the check nothing is found.
#[track_caller]
fn found(case: &str, check: &str, words: &str) -> Ended {
    let without = run(case, "", "3");
    assert!(without.went_on(), "found without a check: {}", without.said);
    without.says_not("terrace: ");
    told(case, check, words)
}

/// As `found`, for what is found without a check as well, in other words.
#[track_caller]
fn told(case: &str, check: &str, words: &str) -> Ended {
    let ended = run(case, check, "3");
    ended.says(words);
    assert_eq!(ended.signal, Some(libc::SIGABRT), "{}", ended.said);
    let on = run(case, check, "1");
    on.says(words);
    assert!(on.went_on(), "did not go on: {:?}, {}", on.signal, on.said);
    ended
}

#[test]
fn red_zones_find_a_byte_written_behind_a_block() {
    let ended =
        found("overflow_by_one", "red-zones", "terrace: free: 0 bytes behind the end of the block of 100 bytes at 0x");
    ended.says(" the red zone was overwritten, 1 byte of it (overflow)\n");
    ended.says("terrace:   allocated by thread ");
    ended.says(">01 bd bd");
    ended.says_not("freed by");
    found("overflow_of_calloc", "red-zones", "free: 0 bytes behind the end of the block of 33 bytes at ");
    found("overflow_of_aligned", "red-zones", "free: 1 byte behind the end of the block of 5000 bytes at ");
    found("overflow_of_medium", "red-zones", "free: 0 bytes behind the end of the block of 70000 bytes at ");
    found("overflow_of_resized", "red-zones", "realloc: 0 bytes behind the end of the block of 20 bytes at ");
    told("overflow_of_a_block_of_none", "red-zones", "free: 0 bytes behind the end of the block of 0 bytes at ");
}

#[test]
fn red_zones_find_a_byte_written_before_a_block() {
    found("underflow", "red-zones", "free: 1 byte before the block of 100 bytes at ").says("(underflow)");
}

#[test]
fn what_was_overwritten_is_found_at_exit_at_the_latest() {
    let ended = run("overflow_left_at_exit", "red-zones", "3");
    ended.says("exit: 0 bytes behind the end of the block of 24 bytes at ");
    assert_eq!(ended.signal, Some(libc::SIGABRT));
    assert_eq!(run("overflow_left_at_exit", "", "3").said, "");
}

#[test]
fn the_quarantine_finds_writes_after_free() {
    let words = "quarantine: 40 bytes inside the block of 100 bytes at ";
    let ended = found("write_after_free", "quarantine=1M", words);
    ended.says(" there was a write after it was freed, 1 byte (use after free)\n");
    ended.says("terrace:   freed by thread ");
    ended.says(">01 de de");
    // What the quarantine still holds at the end is looked at then.
    run("write_after_free", "quarantine=1G", "1").says("exit: 40 bytes inside the block of 100 bytes at ");
    run("write_after_free_in_another_thread", "quarantine", "1")
        .says("exit: 7 bytes inside the block of 100 bytes at ");
}

#[test]
fn the_quarantine_keeps_freed_blocks_from_reuse() {
    let output = run("a_freed_block_stays_out_of_reach", "quarantine=16M", "3");
    assert!(output.went_on(), "{}", output.said);
    run("a_freed_block_stays_out_of_reach", "quarantine=10K", "3").says("other != block");
}

#[test]
fn guards_stop_what_touches_the_surroundings_of_a_large_block() {
    for (case, words) in [
        ("write_past_a_large_block", "access: 0 bytes behind the end of the block of 1048576 bytes at "),
        ("read_before_a_large_block", "access: 1 byte before the block of 2097152 bytes at "),
        ("overflow_of_medium", "access: 0 bytes behind the end of the block of 70000 bytes at "),
    ] {
        let ended = run(case, "guards", "3");
        ended.says(words);
        assert_eq!(ended.signal, Some(libc::SIGSEGV), "{case}");
    }
    let ended = run("read_of_a_freed_large_block", "guards,quarantine", "3");
    ended.says("access: 5 bytes inside the block of 1048576 bytes at ");
    ended.says("there was an access after it was freed (use after free)\n");
    assert_eq!(ended.signal, Some(libc::SIGSEGV));
    assert!(run("overflow_of_medium", "", "3").went_on());
}

#[test]
fn a_block_freed_twice_is_told_with_who_had_it() {
    for check in ["fill", "quarantine"] {
        for case in ["double_free", "double_free_with_one_between", "double_free_by_another_thread"] {
            let ended = told(case, check, "terrace: free(0x");
            ended.says(": the block of 100 bytes at 0x");
            ended.says(" was freed already (double free)\nterrace:   allocated by thread ");
            let number = |word: &str| {
                let line = ended.said.lines().find(|line| line.contains(word)).expect(word);
                line.rsplit(' ').next().unwrap().parse::<i32>().expect(word)
            };
            let same = number("allocated by thread") == number("freed by thread");
            assert_eq!(same, case != "double_free_by_another_thread", "{}", ended.said);
        }
        told("double_free_of_large", check, "the block of 3145728 bytes at ");
    }
    let ended = run("double_free_of_unmapped", "red-zones", "1");
    ended.says(" was freed already (double free)\n");
    assert!(ended.went_on(), "{}", ended.said);
}

#[test]
fn what_is_no_block_s_first_byte_cannot_be_freed() {
    told("free_of_the_inside", "fill", "the address lies 32 bytes inside the block of 100 bytes at ");
    told("free_before_the_start", "fill", "the address lies 16 bytes before the block of 100 bytes at ");
    told("free_of_the_stack", "fill", "the address was never given out by this allocator");
}

#[test]
fn a_freed_block_cannot_be_resized() {
    let ended = told("realloc_of_freed", "fill", "terrace: realloc(0x");
    ended.says("the block of 100 bytes at ");
    ended.says(" was freed already (use after free)\n");
}

#[test]
fn leaks_are_told_by_size_and_number() {
    let ended = run("leak", "leaks", "3");
    assert!(ended.went_on(), "{}", ended.said);
    let (big, small) = ("terrace:   1 block of 77777 bytes\n", "terrace:   3 blocks of 1234 bytes\n");
    ended.says("terrace: at exit blocks that were not freed: ");
    assert!(ended.said.find(big).expect(big) < ended.said.find(small).expect(small), "{}", ended.said);
    ended.says_not("4321");
    assert_eq!(run("leak", "fill", "3").said, "");
}

/// The functions' addresses are printed by the program, and say where the stack's frames must lie.
#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn a_leak_is_told_with_the_stack_that_allocated_it() {
    let ended = run("leak_with_a_stack", "leaks,stacks", "3");
    let at = |text: &str| usize::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let functions: Vec<_> = ended.printed.lines().next().unwrap().split(' ').map(at).collect();
    let mut lines = ended.said.lines().skip_while(|line| *line != "terrace:   1 block of 1234 bytes").skip(1);
    let name = format!("{}+", program().display());
    let frames = functions.iter().map(|_| {
        let line = lines.next().expect("a frame for each function");
        at(line.split(&name).nth(1).unwrap_or_else(|| panic!("{line} is not of {name}")))
    });
    // Offsets count from where the program was loaded, at a page.
    for (frame, function) in frames.zip(&functions) {
        assert!((frame.wrapping_sub(*function) & 0xfff) < 64, "{frame:#x} is not in {function:#x}: {}", ended.said);
    }
    run("leak_with_a_stack", "leaks", "3").says_not("#0");
}

#[test]
fn all_blocks_are_looked_at_on_demand() {
    let ended = run("found_on_demand", "red-zones,quarantine", "1");
    assert!(ended.went_on(), "{}", ended.said);
    ended.says("terrace_check: 0 bytes behind the end of the block of 100 bytes at ");
    ended.says("terrace_check: 3 bytes inside the block of 100 bytes at ");
    assert!(!run("found_on_demand", "", "1").went_on());
}

#[test]
fn new_and_freed_blocks_are_filled() {
    let ended = run("new_and_freed_blocks_are_filled", "fill", "3");
    assert!(ended.went_on(), "{}", ended.said);
    assert!(!run("new_and_freed_blocks_are_filled", "", "3").went_on());
}

#[test]
fn the_self_check_finds_a_damaged_heap() {
    let ended = run("write_to_the_link_of_a_free_block", "self-check=1", "1");
    ended.says("terrace: the self-check found that the heap is damaged: a magazine holds what is no block\n");
    assert_eq!(ended.signal, Some(libc::SIGABRT), "{}", ended.said);
    assert!(run("write_to_the_link_of_a_free_block", "self-check=1000", "1").went_on());
}

#[test]
fn a_program_without_bugs_runs_through_with_every_check() {
    let ended = run("no_bug_at_all", "all", "3");
    assert!(ended.went_on(), "{}", ended.said);
    for word in ["(overflow)", "(underflow)", "free)", "address lies", "damaged"] {
        ended.says_not(word);
    }
}

#[test]
fn a_bug_can_stop_the_process_for_a_debugger() {
    let ended = run("double_free", "fill", "5");
    ended.says("(double free)");
    assert_eq!(ended.signal, Some(libc::SIGTRAP));
}

#[test]
fn a_word_that_is_no_check_is_reported_with_the_nearest() {
    let ended = run("leak", "redzones,self-check=0", "3");
    assert!(ended.went_on());
    let line = |word: &str, nearest: &str| {
        format!("terrace: TERRACE_CHECK: {word} is no check and is ignored; the nearest is {nearest}\n")
    };
    assert_eq!(ended.said, line("redzones", "red-zones") + &line("self-check=0", "self-check"));
}

/// In a process of its own, where checks are on from the start: writes one byte behind a block of a Rust layout and frees it.
#[test]
fn rust_layouts_are_looked_at_to_the_byte() {
    use std::alloc::{GlobalAlloc, Layout};
    const NAME: &str = "rust_layouts_are_looked_at_to_the_byte";
    const LAYOUT: &str = "LAYOUT_IN_TEST";
    if let Ok(layout) = std::env::var(LAYOUT) {
        let numbers: Vec<usize> = layout.split(' ').map(|number| number.parse().unwrap()).collect();
        let layout = Layout::from_size_align(numbers[0], numbers[1]).unwrap();
        // SAFETY: the layout is not empty.
        let block = unsafe { terrace::Terrace.alloc(layout) };
        assert!(!block.is_null() && block.addr().is_multiple_of(numbers[1]));
        let larger = Layout::from_size_align(numbers[0] + 1, numbers[1]).unwrap();
        // SAFETY: it is a block of this layout.
        let block = unsafe { terrace::Terrace.realloc(block, layout, larger.size()) };
        // SAFETY: the byte is the one behind the block.
        let behind = unsafe { block.add(larger.size()) };
        // SAFETY: none: this is the bug. The byte lies in what the allocator keeps around the block.
        unsafe { behind.write(1) };
        // SAFETY: it is a block of this layout.
        unsafe { terrace::Terrace.dealloc(block, larger) };
        return;
    }
    for layout in
        ["1 1", "8 8", "23 8", "100 4", "100 64", "4096 4096", "9000 16", "32600 8", "32767 1", "70000 8", "2000000 8"]
    {
        let run = |check: &str| {
            let mut again = common::program(&std::env::current_exe().unwrap());
            again.args(["--exact", NAME, "--nocapture"]).env(LAYOUT, layout).env("TERRACE_CHECK", check);
            run_within(&mut again, TIME_LIMIT)
        };
        let output = run("red-zones,quarantine,self-check=1");
        let said = String::from_utf8(output.stderr).unwrap();
        let size = layout.split(' ').next().unwrap().parse::<usize>().unwrap() + 1;
        let words = format!("terrace: free: 0 bytes behind the end of the block of {size} bytes at 0x");
        assert!(said.contains(&words), "{layout}: {said}");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{layout}");
        assert!(run("").status.success(), "{layout}");
    }
}

/// With `PYTHONMALLOC=malloc` every object of the interpreter is a block.
#[test]
fn a_real_program_runs_through_with_every_check() {
    let script = "
import json, subprocess, threading
def work():
    data = [{'number': i, 'text': str(i) * 10} for i in range(2000)]
    assert json.loads(json.dumps(data)) == data
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
large = bytearray(20 << 20)
del large
print(subprocess.run(['echo', 'whole'], capture_output=True).stdout)
";
    let mut command = preloaded(std::path::Path::new("/usr/bin/python3"));
    command.args(["-c", script]).env("PYTHONMALLOC", "malloc");
    command.env("TERRACE_CHECK", "red-zones,quarantine,fill,guards,stacks,self-check=1000");
    let output = run_within(&mut command, TIME_LIMIT);
    assert_fine(&output);
    assert_eq!(output.stdout, b"b'whole\\n'\n");
}

/// But for a case that writes to a block of no bytes, and those that go through gigabytes.
#[test]
fn what_holds_of_malloc_holds_with_every_check() {
    let conformance = compile("conformance.c", &[]);
    let listed = String::from_utf8(common::program(&conformance).output().unwrap().stdout).unwrap();
    assert!(listed.lines().count() > 20, "{listed}");
    let not_these = [
        "a_request_of_no_bytes_gives_a_pointer_of_its_own",
        "realloc_to_no_bytes_frees",
        "cfree_frees",
        "calloc_zeroes_recycled_memory",
        "realloc_keeps_the_contents_across_all_regimes",
    ];
    for case in listed.lines().filter(|case| !not_these.contains(case)) {
        let mut command = preloaded(&conformance);
        let words = "red-zones,quarantine,guards,stacks,self-check=1000";
        command.arg(case).env("TERRACE_CHECK", words);
        assert_fine(&run_within(&mut command, TIME_LIMIT));
    }
}

#[test]
fn functions_for_the_exit_are_registered_before_anything_is_allocated() {
    let program = compile("exits.c", &[]);
    let run = |name: &str, value: &str| run_within(preloaded(&program).env(name, value), TIME_LIMIT);
    for (name, value) in [("TERRACE_ARENAS", "1"), ("TERRACE_BACKGROUND", "1"), ("TERRACE_STATS", "0")] {
        let output = run(name, value);
        assert_fine(&output);
        assert_eq!(output.stdout, b"all\n");
    }
    let output = run("TERRACE_CHECK", "leaks");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && output.stdout == b"all\n", "{:?} {said}", output.status);
    assert!(said.contains("1 block of 12345 bytes"), "{said}");
}
