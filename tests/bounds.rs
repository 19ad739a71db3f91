//! What a thread may keep for itself, measured from outside.

use std::alloc::{GlobalAlloc, Layout};
use terrace::Terrace;

/// The bound that `src/tcache/mod.rs` states for what one thread has at hand, in bytes.
const AT_HAND: usize = 4 << 20;

#[test]
fn a_thread_that_frees_much_in_every_class_keeps_a_bounded_part_of_it() {
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
