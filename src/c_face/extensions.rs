//! Functions that other allocators brought into use: the `*allocx` family of jemalloc, and `malloc_good_size` of macOS.
//!
//! Of the flags, alignment and zeroing have effect; the numbers of a thread cache and of an arena are ignored, since Terrace
//! chooses both by itself.

use super::{Caller, PTRDIFF_MAX, aligned_alloc, fail, malloc, realloc_for};
use crate::heap;
use crate::size_class::{C_ALIGN, SizeClass};
use crate::with_caller;
use core::ptr::NonNull;

/// The alignment's logarithm.
const LG_ALIGN_MASK: i32 = 63;
const ZERO: i32 = 64;

fn alignment(flags: i32) -> usize {
    (1_usize << (flags & LG_ALIGN_MASK)).max(C_ALIGN)
}

fn zeroes(flags: i32) -> bool {
    flags & ZERO != 0
}

/// Whether a block of this size and alignment is out of the question.
fn is_too_large(size: usize, align: usize) -> bool {
    align > PTRDIFF_MAX || size > PTRDIFF_MAX - align
}

/// `nallocx`: how many bytes the block of `mallocx` would have; 0 when there is no such block.
pub fn nallocx(size: usize, flags: i32) -> usize {
    let align = alignment(flags);
    if is_too_large(size, align) { 0 } else { heap::size_for(size, align).unwrap_or(0) }
}

/// `malloc_good_size`: how many bytes a block for `size` bytes has; `size` itself when there is no such block.
pub fn good_size(size: usize) -> usize {
    heap::size_for(size, C_ALIGN).unwrap_or(size)
}

/// `mallocx`: NULL, with `ENOMEM`, when there is no memory.
pub fn mallocx(size: usize, flags: i32) -> *mut u8 {
    let align = alignment(flags);
    if is_too_large(size, align) {
        return fail(libc::ENOMEM);
    }
    match (zeroes(flags), align) {
        (true, _) => heap::allocate_zeroed(size, align, SizeClass::of_layout(size, align)),
        (false, C_ALIGN) => malloc(size),
        (false, _) => aligned_alloc(align, size),
    }
}

/// `rallocx`: as `realloc`, with the alignment, and zeroes behind what the block had before. NULL, and the block untouched,
/// when there is no memory.
///
/// # Safety
/// The caller gives up the block at `address`, which is not NULL, unless the result is NULL.
pub unsafe fn rallocx(address: *mut u8, size: usize, flags: i32) -> *mut u8 {
    match NonNull::new(address) {
        Some(start) => rallocx_slow(start, size, flags),
        None => mallocx(size, flags),
    }
}

with_caller! {
    fn rallocx_slow(start: NonNull<u8>, size: usize, flags: i32) -> *mut u8 => rallocx_from, ["rcx", "r8"], ["x3", "x4"]
}

extern "C" fn rallocx_from(start: NonNull<u8>, size: usize, flags: i32, frame: usize, returns_to: usize) -> *mut u8 {
    let (address, caller) = (start.as_ptr(), Caller { frame, returns_to });
    let (align, old) = (alignment(flags), heap::usable_size(start));
    let new = if align == C_ALIGN {
        // SAFETY: whoever called `rallocx` gives the block up.
        unsafe { realloc_for(start, size.max(1), caller) }
    } else if address.addr().is_multiple_of(align) && nallocx(size, flags) == old {
        address
    } else {
        let new = if is_too_large(size, align) { fail(libc::ENOMEM) } else { heap::allocate_for(size, align, caller) };
        // SAFETY: what moved is freed, which the caller gives up.
        let release = |old| unsafe { heap::free_for(old, caller) };
        // SAFETY: the caller gives the old block up; both have that many bytes.
        unsafe { heap::move_block(start, new, old.min(size), release) }
    };
    // SAFETY: the block is the caller's from here on.
    unsafe { zero_behind(new, old, flags) };
    new
}

/// `xallocx`: makes the block hold `size` bytes, and `extra` more if that is to be had, where it lies, as far as that goes;
/// gives the bytes that it has then.
///
/// # Safety
/// The caller holds the block at `address`, which is not NULL.
pub unsafe fn xallocx(address: *mut u8, size: usize, extra: usize, flags: i32) -> usize {
    let Some(start) = NonNull::new(address) else { return 0 };
    let old = heap::usable_size(start);
    let new = heap::resize_in_place(start, size, size.saturating_add(extra));
    // SAFETY: the caller's promise.
    unsafe { zero_behind(address, old, flags) };
    new
}

/// Zeroes what a block has beyond `old` bytes, if the flags ask for it.
///
/// # Safety
/// The caller holds the block at `address`, if that is not NULL.
unsafe fn zero_behind(address: *mut u8, old: usize, flags: i32) {
    let Some(start) = NonNull::new(address).filter(|_| zeroes(flags)) else { return };
    let size = heap::usable_size(start);
    if size > old {
        // SAFETY: the block has `size` bytes.
        let behind = unsafe { start.add(old) };
        // SAFETY: as above.
        unsafe { behind.write_bytes(0, size - old) };
    }
}
