//! Bad calls through the Rust face. `dealloc` trusts the layout, which saves it a look at the block; but what it sees anyway it
//! reports: a block freed twice in a row, and for medium and large blocks whatever is no block's first byte.
//!
//! Each fault happens in a process of its own: this test program started again, for the one test that it is in.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::{assert_fine, assert_reported, run_within};
use std::alloc::{GlobalAlloc, Layout};
use std::sync::Barrier;
use std::time::Duration;
use terrace::Terrace;

/// Set in the process that is to make the bad call.
const ROLE: &str = "ROLE_IN_TEST";

/// A pointer that threads hand to each other.
#[derive(Clone, Copy)]
struct Handed(*mut u8);

// SAFETY: the tests hand a block on and do not touch it at the same time.
unsafe impl Send for Handed {}

impl Handed {
    fn pointer(self) -> *mut u8 {
        self.0
    }
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// A few live blocks of the layout, so that its slab is not empty, and one more.
fn some_block(layout: Layout) -> *mut u8 {
    let blocks = [(); 5].map(|()| {
        // SAFETY: no layout of these tests is of size 0.
        let block = unsafe { Terrace.alloc(layout) };
        assert!(!block.is_null());
        block
    });
    blocks[4]
}

fn free(block: *mut u8, layout: Layout) {
    // SAFETY: none: this is the bad call that has to be reported, or the good one before it.
    unsafe { Terrace.dealloc(block, layout) };
}

fn announce(block: *mut u8) {
    println!("\naddress {block:p}");
}

/// In the process for the fault: runs it, and must not come back. In the test: starts that process and gives its sentence,
/// which has to name the call and the address.
#[track_caller]
fn reported(test: &str, role: &str, fault: impl FnOnce()) -> Option<String> {
    match std::env::var(ROLE) {
        Ok(wanted) if wanted == role => {
            // SAFETY: the limits are a plain value. No core file is wanted of a process that is meant to abort.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 }) };
            fault();
            eprintln!("the bad call came back");
            std::process::exit(1);
        }
        Ok(_) => None,
        Err(_) => {
            let mut again = common::program(&std::env::current_exe().unwrap());
            again.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, role);
            let output = run_within(&mut again, Duration::from_secs(120));
            let sentence = assert_reported(&output);
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            let address =
                stdout.lines().find_map(|line| line.strip_prefix("address ")).expect("the process announces it");
            assert!(sentence.contains(&format!("({address}): ")), "{role}: {address} was reported as {sentence:?}");
            Some(sentence)
        }
    }
}

#[track_caller]
fn assert_says(sentence: Option<String>, facts: &[&str]) {
    let Some(sentence) = sentence else { return };
    for fact in facts {
        assert!(sentence.contains(fact), "{fact:?} is missing: {sentence}");
    }
}

/// Layouts of small blocks (with the sizes of their blocks): classes of all kinds, and the one whose slabs are longest.
const SMALL: [(usize, usize, usize); 7] = [
    (1, 1, 16),
    (24, 8, 24),
    (24, 16, 32),
    (100, 64, 128),
    (4096, 4096, 4096),
    (20_000, 8, 20_480),
    (32_768, 8, 32_768),
];

#[test]
fn a_small_block_freed_twice_in_a_row_is_reported() {
    for (size, align, real) in SMALL {
        let layout = layout(size, align);
        let sentence = reported("a_small_block_freed_twice_in_a_row_is_reported", &format!("{size}/{align}"), || {
            let block = some_block(layout);
            announce(block);
            free(block, layout);
            free(block, layout);
        });
        assert_says(sentence, &["free(", &format!("block of {real} bytes"), "double free"]);
    }
}

/// Of a class of which much is free a block goes to its slab at once now and then.
#[test]
fn a_block_of_a_thin_class_freed_twice_in_a_row_is_reported() {
    let layout = layout(256, 8);
    for before in 1..=20 {
        let test = "a_block_of_a_thin_class_freed_twice_in_a_row_is_reported";
        let sentence = reported(test, &format!("after {before}"), || {
            // SAFETY: the size is not zero.
            let mut blocks: Vec<*mut u8> = (0..4096).map(|_| unsafe { Terrace.alloc(layout) }).collect();
            // Every fourth block stays, then some are replaced.
            for index in (0..blocks.len()).rev().filter(|index| index % 4 != 0) {
                free(blocks.swap_remove(index), layout);
            }
            for _ in 0..15 {
                // In a hurry the class would be treated as any other.
                std::thread::sleep(Duration::from_millis(10));
                (0..60).for_each(|index| free(blocks.swap_remove(7 * index), layout));
                // SAFETY: as above.
                blocks.extend((0..58).map(|_| unsafe { Terrace.alloc(layout) }));
            }
            for _ in 1..before {
                free(blocks.pop().unwrap(), layout);
            }
            let block = blocks.pop().unwrap();
            announce(block);
            free(block, layout);
            free(block, layout);
        });
        assert_says(sentence, &["free(", "block of 256 bytes", "double free"]);
    }
}

#[test]
fn a_small_block_of_another_thread_freed_twice_in_a_row_is_reported() {
    for (size, align, real) in SMALL {
        let (layout, test) = (layout(size, align), "a_small_block_of_another_thread_freed_twice_in_a_row_is_reported");
        let sentence = reported(test, &format!("{size}/{align}"), || {
            let block = Handed(some_block(layout));
            announce(block.pointer());
            let thread = std::thread::spawn(move || {
                free(block.pointer(), layout);
                free(block.pointer(), layout);
            });
            thread.join().unwrap();
        });
        assert_says(sentence, &["free(", &format!("block of {real} bytes"), "double free"]);
    }
}

/// Whether the thread kept it or had no room for it any more.
#[test]
fn a_block_of_another_thread_that_this_one_keeps_freed_twice_in_a_row_is_reported() {
    for (size, align, real) in SMALL {
        let (layout, test) =
            (layout(size, align), "a_block_of_another_thread_that_this_one_keeps_freed_twice_in_a_row_is_reported");
        for others in [1, 40] {
            let sentence = reported(test, &format!("{size}/{align}/{others}"), || {
                let blocks: Vec<_> = (0..others).map(|_| Handed(some_block(layout))).collect();
                let last = Handed(blocks[others - 1].pointer());
                announce(last.pointer());
                let thread = std::thread::spawn(move || {
                    let _own = some_block(layout);
                    blocks.iter().for_each(|block| free(block.pointer(), layout));
                    free(last.pointer(), layout);
                });
                thread.join().unwrap();
            });
            assert_says(sentence, &["free(", &format!("block of {real} bytes"), "double free"]);
        }
    }
}

/// The first time it goes into the outbox, the second time the thread uses blocks of the class.
#[test]
fn a_block_of_another_thread_freed_again_when_this_one_has_taken_some_is_reported() {
    let (layout, test) =
        (layout(128, 8), "a_block_of_another_thread_freed_again_when_this_one_has_taken_some_is_reported");
    let sentence = reported(test, "128/8", || {
        let block = Handed(some_block(layout));
        announce(block.pointer());
        let thread = std::thread::spawn(move || {
            free(block.pointer(), layout);
            let _own = some_block(layout);
            free(block.pointer(), layout);
        });
        thread.join().unwrap();
    });
    assert_says(sentence, &["free(", "block of 128 bytes", "double free"]);
}

#[test]
fn a_medium_block_freed_twice_is_reported() {
    // The thread has the smaller ones at hand still.
    let freed =
        [(40_000, 8, "freed already"), (100, 8192, "freed already"), (1 << 20, 4096, "free memory of the heap")];
    for (size, align, says) in freed {
        let layout = layout(size, align);
        let sentence = reported("a_medium_block_freed_twice_is_reported", &format!("{size}/{align}"), || {
            let block = some_block(layout);
            announce(block);
            free(block, layout);
            free(block, layout);
        });
        assert_says(sentence, &["free(", says]);
    }
}

#[test]
fn a_large_block_freed_twice_is_reported() {
    for (size, align) in [(3 << 20, 8), (100 << 20, 8), (100, 4 << 20)] {
        let layout = layout(size, align);
        let sentence = reported("a_large_block_freed_twice_is_reported", &format!("{size}/{align}"), || {
            let block = some_block(layout);
            announce(block);
            free(block, layout);
            free(block, layout);
        });
        assert_says(sentence, &["free(", "freed"]);
    }
}

#[test]
fn a_pointer_into_a_medium_or_large_block_is_reported_with_the_offset() {
    for (size, real, offset) in
        [(40_000, 40_960, 8), (40_000, 40_960, 4096), (3 << 20, 3 << 20, 4096), (3 << 20, 3 << 20, 1)]
    {
        let (layout, role) = (layout(size, 1), format!("{size}+{offset}"));
        let sentence = reported("a_pointer_into_a_medium_or_large_block_is_reported_with_the_offset", &role, || {
            // SAFETY: the offset lies inside the block.
            let inside = unsafe { some_block(layout).add(offset) };
            announce(inside);
            free(inside, layout);
        });
        let unit = if offset == 1 { "byte" } else { "bytes" };
        assert_says(sentence, &[&format!("{offset} {unit} inside a block of {real} bytes")]);
    }
}

#[test]
fn an_address_that_was_never_given_out_is_reported_for_a_large_layout() {
    static OBJECT: [u8; 64] = [0; 64];
    for (role, address) in
        [("static", OBJECT.as_ptr().addr()), ("near NULL", 8), ("not canonical", 0xdead_beef_dead_beef)]
    {
        let test = "an_address_that_was_never_given_out_is_reported_for_a_large_layout";
        let sentence = reported(test, role, || {
            let address = std::ptr::without_provenance_mut(address);
            announce(address);
            free(address, layout(1 << 20, 8));
        });
        assert_says(sentence, &["never given out"]);
    }
}

#[test]
fn realloc_of_a_medium_or_large_block_that_was_freed_is_reported() {
    for size in [40_000, 3 << 20] {
        let (layout, test) = (layout(size, 8), "realloc_of_a_medium_or_large_block_that_was_freed_is_reported");
        let sentence = reported(test, &size.to_string(), || {
            let block = some_block(layout);
            announce(block);
            free(block, layout);
            // SAFETY: none: this is the bad call.
            unsafe { Terrace.realloc(block, layout, 2 * size) };
        });
        assert_says(sentence, &["realloc("]);
    }
}

#[test]
fn no_memory_is_null_and_the_block_stays() {
    let small = layout(100, 8);
    let block = some_block(small);
    // SAFETY: the block has 100 bytes.
    unsafe { block.write_bytes(7, 100) };
    for size in [1 << 47, 1 << 60, isize::MAX as usize - 63] {
        let huge = layout(size, 64);
        // SAFETY: the size is not 0.
        assert!(unsafe { Terrace.alloc(huge) }.is_null());
        // SAFETY: as above.
        assert!(unsafe { Terrace.alloc_zeroed(huge) }.is_null());
        // SAFETY: the block is live and of that layout.
        assert!(unsafe { Terrace.realloc(block, small, size) }.is_null());
    }
    // SAFETY: the size is not 0.
    assert!(unsafe { Terrace.alloc(layout(16, 1 << 62)) }.is_null());
    // SAFETY: the block is still live, and has 100 bytes.
    assert!(unsafe { std::slice::from_raw_parts(block, 100) }.iter().all(|&byte| byte == 7));
    free(block, small);
}

#[test]
fn several_threads_can_be_the_first_to_allocate() {
    let test = "several_threads_can_be_the_first_to_allocate";
    if std::env::var(ROLE).is_ok() {
        // Nothing has called the allocator in this process: it is not the global one here.
        let barrier = Barrier::new(8);
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        [16, 24, 1000, 32_768, 100_000, 2 << 20].map(|size| {
                            let layout = layout(size, 8);
                            // SAFETY: the size is not 0.
                            let block = unsafe { Terrace.alloc(layout) };
                            assert!(!block.is_null());
                            // SAFETY: the block has `size` bytes.
                            unsafe { block.write_bytes(thread, size) };
                            (Handed(block), layout, thread)
                        })
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for (block, layout, thread) in all {
            // SAFETY: the block is live and has that size.
            let bytes = unsafe { std::slice::from_raw_parts(block.pointer(), layout.size()) };
            assert!(bytes.iter().all(|&byte| byte == thread));
            free(block.pointer(), layout);
        }
        terrace::verify();
        return;
    }
    for _ in 0..25 {
        let mut again = common::program(&std::env::current_exe().unwrap());
        again.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, "first");
        assert_fine(&run_within(&mut again, Duration::from_secs(120)));
    }
}

/// The C face as Rust functions, in a build with its overflow checks: alignments that leave no room for any size.
#[test]
fn the_largest_alignments_are_refused_without_an_overflow() {
    for align in [1 << 62, 1 << 63] {
        for size in [0, 1, 1 << 62, usize::MAX] {
            assert!(terrace::c_face::aligned_alloc(align, size).is_null());
            let mut place = std::ptr::dangling_mut();
            // SAFETY: the place is valid for a write.
            let result = unsafe { terrace::c_face::posix_memalign(&raw mut place, align, size) };
            assert_eq!((result, place), (libc::ENOMEM, std::ptr::dangling_mut()));
        }
    }
}
