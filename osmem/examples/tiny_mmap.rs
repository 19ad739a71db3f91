//! The smallest allocator on `mmap` alone: every block is a mapping, and every free gives it back.
//!
//! ```text
//!  ┌────────┬──────────────────────────┬ ─ ─ ─ ─ ─ ─ ─ ─ ┐
//!  │ length │ payload                    rest of the page
//!  └────────┴──────────────────────────┴ ─ ─ ─ ─ ─ ─ ─ ─ ┘
//!  page     + 16
//! ```
//!
//! Nothing is ever left over, and a pointer that is used after its free ends the program at once. But each call is a
//! system call and each block a page at least: 4096 bytes for a list's node of 32. So libosmem maps large blocks only.

use std::ptr::{NonNull, null_mut};

/// Before each payload: the mapping's length, and room to keep the payload aligned to 16.
const HEADER: usize = 16;

fn allocate(size: usize) -> Option<NonNull<u8>> {
    let length = size.checked_add(HEADER)?;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, wherever the kernel finds room.
    let start = unsafe { libc::mmap(null_mut(), length, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the mapping begins at a page and is longer than a header.
    unsafe { start.cast::<usize>().write(length) };
    NonNull::new(start.cast::<u8>().wrapping_add(HEADER))
}

/// # Safety
/// The block came from `allocate`, and is used no more.
unsafe fn free(payload: NonNull<u8>) {
    let start = payload.as_ptr().wrapping_sub(HEADER);
    // SAFETY: the length lies before each payload.
    let length = unsafe { start.cast::<usize>().read() };
    // SAFETY: the whole mapping is this block's.
    unsafe { libc::munmap(start.cast(), length) };
}

fn main() {
    let first = allocate(100).expect("memory");
    let second = allocate(100).expect("memory");
    println!("two blocks of 100 bytes, pages apart:\n{first:?}\n{second:?}");
    assert!(first.addr().get().abs_diff(second.addr().get()) >= 4096);
    // SAFETY: fresh pages are ours, and zero.
    assert_eq!(unsafe { first.read() }, 0);
    for block in [first, second] {
        // SAFETY: nobody uses it any more.
        unsafe { free(block) };
    }
}
