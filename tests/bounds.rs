//! What a thread may keep for itself, measured from outside.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;
use terrace::Terrace;

/// What is measured is the process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The bound that `src/tcache/settling.rs` states for what one thread has at hand, in bytes.
const AT_HAND: usize = 4 << 20;

#[test]
fn a_thread_that_frees_much_in_every_class_keeps_a_bounded_part_of_it() {
    let _alone = ONE_AT_A_TIME.lock();
    let sizes: Vec<usize> = terrace::statistics().classes.iter().map(|class| class.block_size).collect();
    let mut blocks = Vec::new();
    for size in sizes {
        let layout = Layout::from_size_align(size, 8).unwrap();
        for _ in 0..(512 << 10) / size {
            // SAFETY: the size is not zero.
            blocks.push((unsafe { Terrace.alloc(layout) }, layout));
        }
    }
    let full = terrace::statistics();
    assert!(full.live_bytes >= 30 << 20, "{full}");
    for (block, layout) in blocks.drain(..) {
        // SAFETY: the block is of this layout and given up.
        unsafe { Terrace.dealloc(block, layout) };
    }
    let empty = terrace::statistics();
    assert!(empty.cached_bytes <= AT_HAND, "{empty}");
    assert!(empty.cached_bytes > 0, "nothing was kept: every allocation would take the slow path\n{empty}");
}

/// Threads of the test below, and what they may have together beyond a floor for each, in bytes.
const CROWD: usize = 200;
const POOL: usize = 4 << 20;
const FLOOR: usize = 64 << 10;

#[test]
fn a_crowd_of_threads_that_touch_every_class_and_sleep_shares_a_bounded_amount() {
    let _alone = ONE_AT_A_TIME.lock();
    let sizes: Vec<usize> = terrace::statistics().classes.iter().map(|class| class.block_size).collect();
    terrace::set_option("thread_cache_bytes", &POOL.to_string()).unwrap();
    // Blocks in magazines of other threads may count as live until their next slow call; nobody holds any.
    let held = || {
        let statistics = terrace::statistics();
        statistics.live_bytes + statistics.cached_bytes + statistics.in_transit_bytes
    };
    let before = held();
    let (touched, asleep) = (std::sync::Barrier::new(CROWD + 1), std::sync::Barrier::new(CROWD + 1));
    std::thread::scope(|scope| {
        for _ in 0..CROWD {
            scope.spawn(|| {
                // Some of the threads' blocks are the first to find their magazine full.
                for round in 0..2 {
                    for &size in &sizes {
                        let layout = Layout::from_size_align(size, 8).unwrap();
                        // SAFETY: the size is not zero.
                        let blocks: Vec<_> = (0..=round).map(|_| unsafe { Terrace.alloc(layout) }).collect();
                        // SAFETY: the blocks are of this layout and given up.
                        blocks.into_iter().for_each(|block| unsafe { Terrace.dealloc(block, layout) });
                    }
                }
                touched.wait();
                asleep.wait();
            });
        }
        touched.wait();
        let crowd = held().saturating_sub(before);
        asleep.wait();
        assert!(crowd <= POOL + CROWD * FLOOR, "{crowd} bytes: {} for each", crowd / CROWD);
        assert!(crowd >= CROWD * FLOOR / 4, "{crowd} bytes: nothing was kept");
    });
    terrace::set_option("thread_cache_bytes", &usize::MAX.to_string()).unwrap();
}

/// Blocks of the test below: four to a page.
const BLOCK: usize = 1024;

#[test]
fn a_class_that_shrinks_while_blocks_at_random_are_replaced_leaves_most_of_its_pages() {
    const MOST: usize = 16_384;
    const LEAST: usize = MOST / 4;
    let _alone = ONE_AT_A_TIME.lock();
    let layout = Layout::from_size_align(BLOCK, 8).unwrap();
    // SAFETY: the size is not zero.
    let allocate = || unsafe { Terrace.alloc(layout) };
    let mut blocks: Vec<*mut u8> = (0..MOST).map(|_| allocate()).collect();
    let mut random = 1_u64;
    while blocks.len() > LEAST {
        // Of thirty that go, fewer than the thread has at hand, 27 are replaced.
        for _ in 0..30 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let gone = blocks.swap_remove((random >> 33) as usize % blocks.len());
            // SAFETY: the block is of this layout and given up.
            unsafe { Terrace.dealloc(gone, layout) };
        }
        blocks.extend((0..27).map(|_| allocate()));
    }
    let pages: std::collections::BTreeSet<usize> = blocks.iter().map(|block| block.addr() / 4096).collect();
    let held = blocks.len();
    for block in blocks {
        // SAFETY: as above.
        unsafe { Terrace.dealloc(block, layout) };
    }
    // With survivors at random, two thirds of all pages would hold one.
    assert!(
        pages.len() <= MOST / 4 / 2,
        "{} pages hold {} blocks, of {} that held {MOST}",
        pages.len(),
        held,
        MOST / 4
    );
}
