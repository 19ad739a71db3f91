//! The statistics' ledger against the kernel's own count.
//!
//! What the process has in memory without a file behind it, less what the ledger says, must stay what it was at the start:
//! stacks, statics and the loader's pages. The program touches all that it allocates.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::run_within;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use terrace::{Statistics, Terrace};

#[global_allocator]
static GLOBAL: Terrace = Terrace;

/// What one test holds the other would count.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn anonymous_bytes() -> usize {
    // Without a buffer from the heap, which would change what is counted.
    let mut buffer = [0; 4096];
    let mut file = std::fs::File::open("/proc/self/smaps_rollup").unwrap();
    let len = std::io::Read::read(&mut file, &mut buffer).unwrap();
    let text = std::str::from_utf8(&buffer[..len]).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

struct Ledger {
    unaccounted: usize,
}

impl Ledger {
    fn begin() -> Self {
        Self { unaccounted: anonymous_bytes().saturating_sub(terrace::statistics().held_bytes()) }
    }

    /// Compares within 1 % and the 384 KiB that statics and the stacks of threads that ended may have grown by.
    fn check(&self, when: &str) -> Statistics {
        let statistics = terrace::statistics();
        let (kernel, ledger) = (anonymous_bytes() - self.unaccounted, statistics.held_bytes());
        let allowed = ledger / 100 + (384 << 10);
        assert!(
            kernel.abs_diff(ledger) <= allowed,
            "{when}: the kernel counts {kernel} bytes, the ledger {ledger}\n{statistics}"
        );
        statistics
    }
}

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

fn block(state: &mut u64) -> Vec<u8> {
    let size = match random(state) % 100 {
        0 => 32 << 10..400 << 10,
        1..10 => 4 << 10..32 << 10,
        _ => 16..1 << 10,
    };
    vec![1; size.start + random(state) % size.len()]
}

#[test]
fn its_sum_is_what_the_kernel_counts() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut state = 7;
    let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(40_000);
    let ledger = Ledger::begin();
    blocks.resize_with(40_000, || block(&mut state));
    let full = ledger.check("full");
    assert!(full.live_bytes > 100 << 20, "{full}");

    blocks.retain(|_| random(&mut state).is_multiple_of(10));
    let scattered = ledger.check("a tenth left");
    assert!(scattered.listed_bytes > 0 && scattered.dirty_bytes > 0, "{scattered}");
    terrace::purge();
    let purged = ledger.check("purged");
    assert!(purged.dirty_bytes == 0 && purged.slack_bytes > 0, "{purged}");
    assert!(purged.held_bytes() < scattered.held_bytes() * 3 / 4, "{scattered}\n{purged}");

    // Bare pages are used again; blocks are freed by another thread.
    blocks.resize_with(20_000, || block(&mut state));
    ledger.check("full again");
    let mut queue: VecDeque<_> = blocks.drain(..).collect();
    std::thread::spawn(move || while queue.pop_front().is_some() {}).join().unwrap();
    ledger.check("freed elsewhere");

    let large: Vec<_> = (1..8).map(|mebibytes| vec![1_u8; mebibytes << 20]).collect();
    ledger.check("large blocks");
    drop(large);
    let kept = ledger.check("large blocks freed");
    assert!(kept.large_cached_bytes > 0, "{kept}");
    terrace::purge();
    let empty = ledger.check("empty");
    assert!(empty.held_bytes() < 4 << 20, "{empty}");
}

/// The history and the checks are switched on by the environment, so this is played by the same program again.
#[test]
fn it_counts_the_history_and_the_books_of_the_checks_as_well() {
    if std::env::var_os("LEDGER_ATTENDED").is_some() {
        return an_attended_heap();
    }
    let _alone = ONE_AT_A_TIME.lock();
    for (history, check) in
        [("300000", ""), ("0", "leaks"), ("1000", "red-zones,quarantine=1M,stacks"), ("100000", "guards,fill")]
    {
        let name = "it_counts_the_history_and_the_books_of_the_checks_as_well";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--test-threads=1"]).env("TERRACE_HISTORY_STACKS", "1");
        command.envs([("LEDGER_ATTENDED", "1"), ("TERRACE_HISTORY", history), ("TERRACE_CHECK", check)]);
        let output = run_within(&mut command, Duration::from_secs(120));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{history}, {check}: {text}");
    }
}

fn an_attended_heap() {
    let mut state = 7;
    // Touched before it counts.
    let mut blocks = vec![Vec::new(); 200_000];
    blocks.clear();
    let ledger = Ledger::begin();
    blocks.resize_with(100_000, || vec![1; 16 + random(&mut state) % 48]);
    ledger.check("full");
    blocks.retain(|_| random(&mut state).is_multiple_of(2));
    ledger.check("half of it");
    blocks.resize_with(200_000, || vec![1; 16 + random(&mut state) % 48]);
    ledger.check("full again");
    let large: Vec<_> = (1..60).map(|n| vec![1_u8; n << 12]).collect();
    ledger.check("large blocks");
    drop((large, blocks));
    terrace::purge();
    ledger.check("empty");
}
