//! Plays scripts with `driver.c` under `strace`, and reads back what each call did.

use std::fmt;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::process::{Command as Process, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::library::{Edition, scratch};

/// Where the driver keeps a pointer.
pub type Slot = usize;

/// One line of a script; `Sbrk` is the program itself moving the break.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    Malloc { to: Slot, size: usize },
    Calloc { to: Slot, count: usize, size: usize },
    Realloc { to: Slot, from: Slot, size: usize },
    Free { slot: Slot },
    Sbrk { bytes: usize },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Malloc { to, size } => write!(f, "m {to} {size}"),
            Self::Calloc { to, count, size } => write!(f, "c {to} {count} {size}"),
            Self::Realloc { to, from, size } => write!(f, "r {to} {from} {size}"),
            Self::Free { slot } => write!(f, "f {slot}"),
            Self::Sbrk { bytes } => write!(f, "b {bytes}"),
        }
    }
}

/// A system call of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `brk(0)`
    AskBreak,
    /// `brk`, to an address counted from the heap's first header.
    Break(usize),
    /// `mmap` of so many bytes, private and anonymous.
    Map(usize),
    /// `munmap`
    Unmap { at: usize, bytes: usize },
    /// What the library never does, as `strace` shows it.
    Other(String),
}

/// A block of the heap's list, counted from the first header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub at: usize,
    pub size: usize,
    pub free: bool,
}

/// What one command did.
#[derive(Debug, Default)]
pub struct Step {
    pub calls: Vec<Call>,
    /// What the kernel answered to the last `mmap`.
    pub mapped_at: usize,
    /// The first header's address; 0 before the heap's first use.
    pub heap: usize,
    /// The result, 0 for NULL, and its header.
    pub pointer: usize,
    pub size: usize,
    pub status: i32,
    pub verdict: String,
    pub blocks: Vec<Piece>,
    /// The bytes of the heap that the library wrote, counted from the first header.
    pub written: Vec<Range<usize>>,
}

/// Plays each script in a fresh process.
pub fn play(edition: Edition, scripts: &[Vec<Command>]) -> Vec<Vec<Step>> {
    static COUNTER: AtomicUsize = AtomicUsize::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let log = scratch().join(format!("driver-{}-{}-{number}.trace", edition.header, std::process::id()));

    let mut strace = Process::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-qq", "-s", "0", "-e", "signal=none"]);
    strace.args(["-e", "trace=brk,mmap,munmap,mremap,write", "-o"]).arg(&log);
    strace.arg(edition.program("driver.c")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut strace = strace.spawn().expect("strace cannot be started; is its package installed?");
    let mut input = strace.stdin.take().expect("piped");
    let text: String = scripts.iter().map(|script| as_text(script)).collect();
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    let output = strace.wait_with_output().expect("strace ends");
    writer.join().expect("no panic").expect("the driver reads its scripts");
    assert!(output.status.success(), "the driver failed: {}", output.status);

    let lines = String::from_utf8(output.stdout).expect("text");
    let trace = fs::read_to_string(&log).expect("a trace");
    fs::remove_file(&log).expect("it was there");
    read(&lines, &trace)
}

pub fn as_text(script: &[Command]) -> String {
    let commands: String = script.iter().map(|command| format!("{command}\n")).collect();
    commands + ".\n"
}

/// Every line of the driver is one `write` in the trace; the calls before it belong to it.
fn read(lines: &str, trace: &str) -> Vec<Vec<Step>> {
    let mut calls = Vec::new();
    let mut lines = lines.lines();
    let mut scripts: Vec<Vec<Step>> = Vec::new();
    for call in trace.lines() {
        let (_process, call) = call.split_once(' ').expect("a process number");
        let call = call.trim_start();
        if call.starts_with("+++") {
            continue;
        }
        if !call.starts_with("write(1,") {
            calls.push(call);
            continue;
        }
        match lines.next().expect("a line for each write") {
            "script" => scripts.push(Vec::new()),
            line => scripts.last_mut().expect("a script").push(read_step(line, &calls)),
        }
        calls.clear();
    }
    assert_eq!(lines.next(), None, "a write for each line");
    scripts
}

fn read_step(line: &str, calls: &[&str]) -> Step {
    let mut parts = line.split('|');
    let mut next_part = || parts.next().expect("three parts").split_whitespace();
    let result: Vec<&str> = next_part().collect();
    let [heap, pointer, size, status, verdict] = result[..] else { panic!("not a result: {line}") };
    let mut step = Step {
        heap: number(heap),
        pointer: number(pointer),
        size: number(size),
        status: status.parse().expect("a status"),
        verdict: verdict.to_string(),
        ..Step::default()
    };
    for block in next_part() {
        let fields: Vec<&str> = block.split(':').collect();
        let [at, size, status] = fields[..] else { panic!("not a block: {block}") };
        assert!(status == "0" || status == "1", "a status or a link is wrong: {block} in {line}");
        step.blocks.push(Piece { at: number(at), size: number(size), free: status == "0" });
    }
    for range in next_part() {
        let (from, length) = range.split_once('+').expect("a range");
        step.written.push(number(from)..number(from) + number(length));
    }
    for call in calls {
        let call = read_call(call, &mut step);
        step.calls.push(call);
    }
    step
}

/// Reads `name(arguments) = result`.
fn read_call(text: &str, step: &mut Step) -> Call {
    const MAPPING: &str = ", PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)";
    let other = || Call::Other(text.to_string());
    let Some((call, result)) = text.rsplit_once('=') else { return other() };
    let (call, result) = (call.trim(), result.trim());
    if call == "brk(NULL)" {
        Call::AskBreak
    } else if let Some(to) = call.strip_prefix("brk(").and_then(|rest| rest.strip_suffix(')')) {
        if to == result { Call::Break(address(to).wrapping_sub(step.heap)) } else { other() }
    } else if let Some(bytes) = call.strip_prefix("mmap(NULL, ").and_then(|rest| rest.strip_suffix(MAPPING)) {
        step.mapped_at = address(result);
        Call::Map(number(bytes))
    } else if let Some(range) = call.strip_prefix("munmap(").and_then(|rest| rest.strip_suffix(')')) {
        let (at, bytes) = range.split_once(", ").expect("two arguments");
        if result == "0" { Call::Unmap { at: address(at), bytes: number(bytes) } } else { other() }
    } else {
        other()
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn address(text: &str) -> usize {
    let digits = text.strip_prefix("0x").unwrap_or_else(|| panic!("not an address: {text}"));
    usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("not an address: {text}"))
}
