//! The harness's own memory: a global allocator that maps pages for each request, so that the heap under test holds the
//! workload's blocks and nothing else. The harness allocates a few tables before the clock starts, and never after.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;

/// Maps each block afresh, and unmaps it when it is freed.
pub struct MappedMemory;

// SAFETY: each block is a mapping of its own, page-aligned, at least as long as asked; larger alignments are refused.
unsafe impl GlobalAlloc for MappedMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        const LARGEST_ALIGN: usize = 4096;
        if layout.align() > LARGEST_ALIGN {
            return null_mut();
        }
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping touches no memory that exists.
        let block = unsafe { libc::mmap(null_mut(), layout.size(), protection, flags, -1, 0) };
        if block == libc::MAP_FAILED { null_mut() } else { block.cast() }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the block is a whole mapping of this length that the caller gives up.
        unsafe { libc::munmap(ptr.cast(), layout.size()) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises; a fresh mapping is zeroed.
        unsafe { self.alloc(layout) }
    }
}
