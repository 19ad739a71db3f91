//! Looks at the watched program's heap, and tells of it.
//!
//! A record is a line of text:
//!
//! ```text
//!  FUNCTION FIRST SECOND RESULT HEADER END LENGTH|ADDRESS:SIZE:STATUS ADDRESS:SIZE:STATUS ...
//! ```
//!
//! the call with its arguments and its result, the header's size (0 while unknown), the program break, the payload's
//! size if the result is a mapping (else 0), and the heap's blocks. Numbers are decimal; addresses are those of headers,
//! but results and arguments those of payloads.
//!
//! The heap begins where the break was before the first call that handed out a block of the heap. From there to the
//! payload it is one header, whose last word is the link to the next block.

use core::ffi::c_void;
use core::fmt::Write;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::pipe::Pipe;

/// The first header, and how long a header is. libosmem is for one thread at a time, so plain stores would do.
static FIRST: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static HEADER: AtomicUsize = AtomicUsize::new(0);

/// Makes a call, and tells its name, arguments and result, and the blocks after it.
pub fn tell(function: &str, first: usize, second: usize, call: impl FnOnce() -> *mut c_void) -> *mut c_void {
    let before = program_break();
    let result: *mut u8 = call().cast();
    let end = program_break();
    if HEADER.load(Relaxed) == 0 && (before.addr()..end.addr()).contains(&result.addr()) {
        FIRST.store(before, Relaxed);
        HEADER.store(result.addr() - before.addr(), Relaxed);
    }
    if let Some(mut pipe) = Pipe::open() {
        let header = HEADER.load(Relaxed);
        let mapped = mapped_size(result, end);
        let _ = write!(pipe, "{function} {first} {second} {} {header} {} {mapped}|", result.addr(), end.addr());
        let mut block = FIRST.load(Relaxed);
        while !block.is_null() {
            // SAFETY: it is the first header or one that a header links to.
            let (size, status, next) = unsafe { read_header(block, header) };
            let _ = write!(pipe, "{}:{size}:{status} ", block.addr());
            block = next;
        }
        let _ = pipe.write_str("\n");
        pipe.flush();
    }
    result.cast()
}

fn program_break() -> *mut u8 {
    // SAFETY: it moves nothing.
    unsafe { libc::sbrk(0) }.cast()
}

/// Size, status and link of the block at `header`.
///
/// # Safety
/// A header of `length` bytes is there.
unsafe fn read_header(header: *mut u8, length: usize) -> (usize, i32, *mut u8) {
    // SAFETY: size, status and link are in the header.
    let size = unsafe { header.cast::<usize>().read() };
    // SAFETY: as above.
    let status = unsafe { header.wrapping_add(8).cast::<i32>().read() };
    // SAFETY: as above.
    let next = unsafe { header.wrapping_add(length - 8).cast::<*mut u8>().read() };
    (size, status, next)
}

/// The payload's size if `result` is a mapping, which lies above the break; 0 for a block of the heap.
///
/// A mapping begins at a page, so its first header's length can be told from the payload's address alone.
fn mapped_size(result: *mut u8, end: *mut u8) -> usize {
    if result.addr() <= end.addr() {
        return 0;
    }
    let header = result.addr() % 4096;
    // SAFETY: the mapping begins with its header, and the size stands first in it.
    unsafe { result.wrapping_sub(header).cast::<usize>().read() }
}
