//! What a thread may keep for itself, measured from outside.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Barrier, Mutex};
use terrace::Terrace;

#[path = "common/alone.rs"]
mod alone;
use alone::alone;

/// The bound that `src/tcache/settling.rs` states for what one thread has at hand, in bytes.
const AT_HAND: usize = 4 << 20;

#[test]
fn a_thread_that_frees_much_in_every_class_keeps_a_bounded_part_of_it() {
    alone(|| {
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
    });
}

#[test]
fn a_thread_that_frees_much_of_anothers_keeps_a_list_of_it_at_most() {
    alone(|| {
        /// What one list of a magazine holds, in bytes.
        const LIST: usize = 32 << 10;
        /// What the other thread allocates, in bytes.
        const MUCH: usize = 4 << 20;
        let mut total = 0;
        for size in [128, 1024, 8 << 10] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: the size is not zero.
            let allocate = || unsafe { Terrace.alloc(layout) }.expose_provenance();
            // SAFETY: the blocks are of this layout and given up.
            let free = |block| unsafe { Terrace.dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
            let (allocated, freed) = (Barrier::new(2), Barrier::new(2));
            let blocks = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                let owner = scope.spawn(|| {
                    *blocks.lock().unwrap() = (0..MUCH / size).map(|_| allocate()).collect();
                    allocated.wait();
                    freed.wait();
                });
                // One that takes such blocks itself.
                let own = allocate();
                allocated.wait();
                let before = terrace::statistics().cached_bytes;
                blocks.lock().unwrap().drain(..).for_each(free);
                let kept = terrace::statistics().cached_bytes.saturating_sub(before);
                freed.wait();
                free(own);
                owner.join().unwrap();
                assert!(kept <= LIST, "{kept} bytes were kept in blocks of {size}");
                total += kept;
            });
        }
        assert!(total > 0, "nothing was kept");
    });
}

/// Threads of the test below, and what they may have together beyond a floor for each, in bytes.
const CROWD: usize = 200;
const POOL: usize = 4 << 20;
const FLOOR: usize = 64 << 10;

#[test]
fn a_crowd_of_threads_that_touch_every_class_and_sleep_shares_a_bounded_amount() {
    alone(|| {
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
            let life = |_| {
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
                })
            };
            let threads: Vec<_> = (0..CROWD).map(life).collect();
            touched.wait();
            let crowd = held().saturating_sub(before);
            asleep.wait();
            // The end of the scope would not wait for what a thread does after its function.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(crowd <= POOL + CROWD * FLOOR, "{crowd} bytes: {} for each", crowd / CROWD);
            assert!(crowd >= CROWD * FLOOR / 4, "{crowd} bytes: nothing was kept");
        });
        terrace::set_option("thread_cache_bytes", &usize::MAX.to_string()).unwrap();
    });
}

#[test]
fn a_class_that_shrinks_while_blocks_at_random_are_replaced_leaves_most_of_its_pages() {
    alone(|| {
        // With survivors at random, two thirds of all pages would hold one of four to a page, and nearly all one of sixteen and more. Of the
        // smaller sizes there are few blocks more than a thread may have at hand.
        for (size, most, percent) in [(64, 8_192, 80), (256, 4_096, 55), (1024, 8_192, 40), (5120, 2_048, 35)] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            let mut random = 1_u64;
            let mut below = |bound: usize| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) as usize % bound
            };
            // SAFETY: the size is not zero.
            let allocate = || unsafe { Terrace.alloc(layout) };
            // SAFETY: the blocks are of this layout and given up.
            let free = |block| unsafe { Terrace.dealloc(block, layout) };
            let mut blocks: Vec<*mut u8> = (0..most).map(|_| allocate()).collect();
            let full = pages_of(&blocks, size);
            for call in 0_u32.. {
                if blocks.len() <= most / 4 {
                    break;
                }
                if call.is_multiple_of(250) {
                    // In a hurry the class would be treated as any other.
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                // Of 25 calls 13 free, in any order: while the class shrinks to a quarter, it is replaced some twelve times.
                if below(25) < 13 {
                    let gone = blocks.swap_remove(below(blocks.len()));
                    free(gone);
                } else {
                    blocks.push(allocate());
                }
            }
            let held = pages_of(&blocks, size);
            blocks.into_iter().for_each(free);
            assert!(
                100 * held <= percent * full,
                "{held} pages hold a quarter of the blocks of {size} bytes that {full} held"
            );
        }
    });
}

/// How many pages blocks of a size touch.
fn pages_of(blocks: &[*mut u8], size: usize) -> usize {
    let touched = |block: &*mut u8| block.addr() / 4096..=(block.addr() + size - 1) / 4096;
    blocks.iter().flat_map(touched).collect::<std::collections::BTreeSet<usize>>().len()
}
