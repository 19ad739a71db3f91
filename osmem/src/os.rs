//! Everything that libosmem asks the kernel for: the program break, mappings, and how it ends when one is refused.

use core::ffi::{CStr, c_void};
use core::fmt::{self, Write};
use core::panic::Location;
use core::ptr::{NonNull, null_mut};

use osmem_core::{Block, HEADER, Memory, Status};

/// The program break: the heap's end, which only ever moves up here.
///
/// It is moved through the C library, not past it. Programs call `printf`, that calls the C library's `malloc`, and that
/// moves the same break: with one shared notion of where it is, neither takes the other's memory.
pub struct ProgramBreak {
    asked: bool,
}

impl ProgramBreak {
    /// Nothing is asked of the kernel before the first growth.
    pub const fn new() -> Self {
        Self { asked: false }
    }
}

// SAFETY: `sbrk` hands out fresh bytes above all earlier ones, and nobody moves the break down below ours.
unsafe impl Memory for ProgramBreak {
    fn grow(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        if !self.asked {
            // `brk(0)` is the question where the break is. The C library keeps the answer, and `sbrk` counts from it.
            // SAFETY: it moves nothing.
            unsafe { libc::brk(null_mut()) };
            self.asked = true;
        }
        // Only a program that itself moved the break to an odd place makes this anything but 0.
        let padding = self.end().align_offset(8);
        // SAFETY: moving the break up takes nothing from anybody.
        let start = unsafe { libc::sbrk((padding + bytes) as isize) };
        if start.addr() == usize::MAX {
            die("brk");
        }
        NonNull::new(start.cast::<u8>().wrapping_add(padding))
    }

    fn end(&self) -> *mut u8 {
        // SAFETY: `sbrk(0)` moves nothing; the C library answers it from memory, without a system call.
        unsafe { libc::sbrk(0) }.cast()
    }
}

/// A block of `size` bytes of payload in a mapping of its own: fresh pages, all zero.
pub fn map(size: usize) -> Block {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping, wherever the kernel finds room.
    let start = unsafe { libc::mmap(null_mut(), HEADER + size, protection, flags, -1, 0) };
    match NonNull::new(start.cast()) {
        // SAFETY: the mapping is page-aligned, as long as asked for, and ours until `unmap`.
        Some(start) if start.as_ptr() != libc::MAP_FAILED.cast() => unsafe {
            Block::write(start, size, Status::MAPPED)
        },
        _ => die("mmap"),
    }
}

/// Gives a mapped block back, header and all.
///
/// # Safety
/// The block came from [`map`] and is not used any more.
pub unsafe fn unmap(block: Block) {
    let start: *mut c_void = block.start().as_ptr().cast();
    // SAFETY: the mapping is this block's alone, and the caller is done with it.
    if unsafe { libc::munmap(start, HEADER + block.size()) } != 0 {
        die("munmap");
    }
}

/// From where on calloc maps.
pub fn page_size() -> usize {
    // SAFETY: the C library knows the answer from the program's start.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Says where which call failed and why, as `perror` does but without allocating, and ends the program with its errno.
#[track_caller]
fn die(call: &str) -> ! {
    // SAFETY: it only looks up where this thread's errno is.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: errno lives as long as its thread.
    let errno = unsafe { *place };
    let mut text = [0u8; 128];
    // SAFETY: the buffer is as long as it says; the text ends with a zero, cut short if need be.
    unsafe { libc::strerror_r(errno, text.as_mut_ptr().cast(), text.len()) };
    let reason = CStr::from_bytes_until_nul(&text).ok().and_then(|text| text.to_str().ok());
    let _ = writeln!(StandardError, "libosmem: {}: {call}: {}", Location::caller(), reason.unwrap_or("unknown error"));
    // SAFETY: the heap is whole, so whatever the program runs at its end may still use it.
    unsafe { libc::exit(errno) }
}

/// Standard error without a buffer.
struct StandardError;

impl Write for StandardError {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the text is readable for its length.
        let written = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        if written < 0 { Err(fmt::Error) } else { Ok(()) }
    }
}

/// A bug of the library itself: there is nothing to go on with.
#[cfg(not(test))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let _ = writeln!(StandardError, "libosmem: {info}");
    // SAFETY: it does not return.
    unsafe { libc::abort() }
}
