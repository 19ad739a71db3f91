//! Huge pages, as the kernel counts them: none unless they are wanted, for what has long been in dense use alone, and kept whole while
//! most of one is in use. Needs a kernel with transparent huge pages, Linux 6.1 or newer.

use std::alloc::{GlobalAlloc, Layout};
use std::time::{Duration, Instant};
use terrace::Terrace;

/// The sum of a field over this process's mappings, in bytes.
fn total(field: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("the kernel counts");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
    line.trim_start_matches(':').trim().strip_suffix(" kB").expect("in KiB").parse::<usize>().expect("a number") << 10
}

/// Small activity goes on, by which housekeeping gets its turns, until something holds; false if it never does.
fn active_until(holds: impl Fn() -> bool) -> bool {
    let layout = Layout::from_size_align(100, 8).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        for _ in 0..200_000 {
            // SAFETY: the layout is not of size zero.
            let block = unsafe { Terrace.alloc(layout) };
            // SAFETY: the block was just given, with this layout.
            unsafe { Terrace.dealloc(block, layout) };
        }
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

const MIB: usize = 1 << 20;
const LIVE: usize = 64 * MIB;
const DELAY: Duration = Duration::from_millis(20);

#[test]
fn memory_in_dense_use_moves_into_huge_pages_and_stays_there_while_it_is_mostly_used() {
    terrace::set_option("purge_delay_ms", "20").unwrap();
    let layout = Layout::from_size_align(64 << 10, 16).unwrap();
    let take = || {
        // SAFETY: the layout is not of size zero.
        let block = unsafe { Terrace.alloc(layout) };
        assert!(!block.is_null());
        // SAFETY: the block is that large.
        unsafe { block.write_bytes(7, layout.size()) };
        block
    };
    let mut blocks: Vec<_> = (0..LIVE / layout.size()).map(|_| take()).collect();
    // Twenty times the age at which they would be huge, if they were wanted.
    let start = Instant::now();
    assert!(active_until(|| start.elapsed() > DELAY * 200));
    let enabled =
        std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").expect("the kernel has huge pages");
    assert!(enabled.contains("[always]") || total("AnonHugePages") == 0, "huge pages, though nobody wanted any");

    terrace::set_option("huge_pages", "1").unwrap();
    assert!(active_until(|| total("AnonHugePages") >= LIVE / 4 * 3), "{} are huge", total("AnonHugePages"));
    for block in &blocks {
        // SAFETY: the block is live and was filled.
        let bytes = unsafe { std::slice::from_raw_parts(*block, layout.size()) };
        assert!(bytes.iter().all(|&byte| byte == 7));
    }

    // A fourth of the blocks, and nothing is split.
    let (huge, resident) = (total("AnonHugePages"), total("Rss"));
    let mut number = 0;
    blocks.retain(|&block| {
        number += 1;
        if number % 4 == 0 {
            // SAFETY: the block is live and has this layout.
            unsafe { Terrace.dealloc(block, layout) };
        }
        number % 4 != 0
    });
    let start = Instant::now();
    assert!(active_until(|| start.elapsed() > DELAY * 50));
    assert!(total("AnonHugePages") >= huge, "a huge page was split: {} of {huge} are left", total("AnonHugePages"));
    assert!(total("Rss") + LIVE / 8 > resident, "memory of a huge page was returned");

    // Most of the others, and all that is free goes back.
    let rest = blocks.split_off(blocks.len() / 8);
    for block in rest {
        // SAFETY: the block is live and has this layout.
        unsafe { Terrace.dealloc(block, layout) };
    }
    assert!(active_until(|| total("Rss") + LIVE / 4 * 3 < resident), "{} of {resident} stay resident", total("Rss"));
}
