//! The smallest allocator on `sbrk` alone: a stack of blocks that is searched from the bottom.
//!
//! ```text
//!  ┌──────┬──────┬─────────┬──────┬──────┬─────────┐
//!  │ size │ free │ payload │ size │ free │ payload │ break
//!  └──────┴──────┴─────────┴──────┴──────┴─────────┘
//! ```
//!
//! Each block is followed directly by the next, so a size is also the way to the next header. What it lacks, libosmem
//! has: it never splits or merges blocks, asks the kernel for each new one, and trusts that nobody else moves the break.

use std::ptr::{NonNull, null_mut};

/// What lies before each payload.
#[repr(C)]
struct Header {
    size: usize,
    free: usize,
}

const HEADER: usize = size_of::<Header>();

/// The allocator: where its first block lies, and where its last one ends.
struct TinySbrk {
    first: *mut u8,
    end: *mut u8,
}

impl TinySbrk {
    const fn new() -> Self {
        Self { first: null_mut(), end: null_mut() }
    }

    /// First fit; else a new block at the break.
    fn allocate(&mut self, size: usize) -> Option<NonNull<u8>> {
        let size = size.next_multiple_of(16);
        let mut at = self.first;
        while at < self.end {
            // SAFETY: from the first block on, each header is followed by its payload and then the next header.
            let header = unsafe { &mut *at.cast::<Header>() };
            if header.free == 1 && header.size >= size {
                header.free = 0;
                return NonNull::new(at.wrapping_add(HEADER));
            }
            at = at.wrapping_add(HEADER + header.size);
        }
        self.grow(size)
    }

    fn grow(&mut self, size: usize) -> Option<NonNull<u8>> {
        // SAFETY: moving the break up takes nothing from anybody.
        let start: *mut u8 = unsafe { libc::sbrk((HEADER + size) as isize) }.cast();
        if start.addr() == usize::MAX {
            return None;
        }
        if self.first.is_null() {
            self.first = start;
        }
        self.end = start.wrapping_add(HEADER + size);
        // SAFETY: these bytes are new, and ours.
        unsafe { start.cast::<Header>().write(Header { size, free: 0 }) };
        NonNull::new(start.wrapping_add(HEADER))
    }

    /// # Safety
    /// The block came from `allocate`, and is used no more.
    unsafe fn free(&mut self, payload: NonNull<u8>) {
        let header: *mut Header = payload.as_ptr().wrapping_sub(HEADER).cast();
        // SAFETY: a header lies before each payload.
        unsafe { (*header).free = 1 };
    }
}

fn main() {
    // Whatever prints comes first: it may itself move the break.
    println!("a block, another, the first one again:");
    let mut heap = TinySbrk::new();
    let first = heap.allocate(100).expect("memory");
    let second = heap.allocate(100).expect("memory");
    // SAFETY: nobody uses the first block any more.
    unsafe { heap.free(first) };
    let again = heap.allocate(50).expect("memory");
    println!("{first:?}\n{second:?}\n{again:?}");
    assert_eq!(first, again, "a freed block is found again");
    assert_eq!(second.addr().get() - first.addr().get(), HEADER + 112, "blocks lie side by side");
}
