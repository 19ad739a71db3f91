//! What the C library `libterrace` is made of: the functions of `malloc`'s family as Rust functions, without the C names, so
//! that a Rust program that depends on this crate does not replace its `malloc` by doing so.
//!
//! Semantics and `errno` are those of the Linux manual pages malloc(3), posix_memalign(3) and malloc_usable_size(3). Each C name
//! stands in `names.rs`, which is a part of the library and, with the feature `override`, of this crate.

mod extensions;
mod history;
mod reports;
mod tuning;

pub use crate::attended::Caller;
pub use crate::{LimitCallback, set_limit_callback};
pub use extensions::{good_size, mallocx, nallocx, rallocx, xallocx};
pub use history::{Event, event_frames, history_of, history_print, history_start, history_stop};
pub use reports::{
    Mallinfo, Mallinfo2, dump, mallinfo2, malloc_info, malloc_stats, show_alloc_mem, show_alloc_mem_ex, stats_json,
    stats_prometheus,
};
pub use tuning::{mallopt, set_option};

use crate::heap;
use crate::os;
use crate::size_class::C_ALIGN;
use crate::tcache::{self, PURGER};
use crate::{attended, report, statistics, with_caller};
use core::ptr::{self, NonNull};

/// Objects larger than this cannot exist in C.
const PTRDIFF_MAX: usize = isize::MAX as usize;

/// Out of line, so that functions that end by a call of it need no frame: their callers' frames are to be seen (`attended/caller.rs`).
#[cold]
#[inline(never)]
fn fail(error: i32) -> *mut u8 {
    os::set_errno(error);
    ptr::null_mut()
}

/// What the library does when it is loaded: it reads its options and, if they ask for statistics, has them printed at exit.
/// Calls that come earlier find everything in place as well.
///
/// `on_error` is called whenever a bug of the program was found.
pub fn start(on_error: extern "C" fn()) {
    report::set_hook(on_error);
    tcache::load();
    heap::read_options();
    statistics::register_exit_report();
    attended::start();
    PURGER.prepare_exit();
}

/// What the library does when it is unloaded: threads that end later must not call into it, and their caches stay as they are. Where the
/// C library unloads nothing, all goes on.
pub fn stop() {
    tcache::stop();
}

/// `malloc`: `size` bytes aligned to 16; for size 0 a block of its own. NULL and `ENOMEM` when there is no memory.
#[inline(always)]
pub fn malloc(size: usize) -> *mut u8 {
    heap::allocate_c(size)
}

/// As [`malloc`], for a call that came from there.
pub fn malloc_for(size: usize, caller: Caller) -> *mut u8 {
    if size > PTRDIFF_MAX { fail(libc::ENOMEM) } else { heap::allocate_for(size, C_ALIGN, caller) }
}

/// `malloc`, if the calling thread has a block of that size at hand. Whoever goes on otherwise does so by a jump, and the path
/// that most calls take needs no frame.
#[inline(always)]
pub fn malloc_at_hand(size: usize) -> Option<NonNull<u8>> {
    heap::allocate_at_hand(size)
}

/// `free`. Keeps `errno`.
///
/// # Safety
/// The caller gives up the block at `address`.
#[inline(always)]
pub unsafe fn free(address: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { heap::free(address) }
}

/// `calloc`: `count` times `size` zeroed bytes. NULL and `ENOMEM` when the product overflows or there is no memory.
#[unsafe(link_section = ".text.terrace.common")]
pub fn calloc(count: usize, size: usize) -> *mut u8 {
    match count.checked_mul(size) {
        Some(bytes) => heap::allocate_zeroed_c(bytes),
        None => fail(libc::ENOMEM),
    }
}

/// `realloc`: NULL allocates; size 0 frees and gives NULL, as glibc does.
///
/// # Safety
/// The caller gives up the block at `address` unless the result is NULL and `size` is not 0.
#[unsafe(link_section = ".text.terrace.common")]
pub unsafe fn realloc(address: *mut u8, size: usize) -> *mut u8 {
    let Some(start) = NonNull::new(address) else { return malloc(size) };
    if size == 0 {
        return free_for_nothing(start);
    }
    if size > PTRDIFF_MAX {
        return fail(libc::ENOMEM);
    }
    // SAFETY: the caller's promise.
    unsafe { heap::reallocate_c(start, size) }
}

/// As [`realloc`], for a call that came from there; the size is not 0.
///
/// # Safety
/// As for [`realloc`].
unsafe fn realloc_for(start: NonNull<u8>, size: usize, caller: Caller) -> *mut u8 {
    if size > PTRDIFF_MAX {
        return fail(libc::ENOMEM);
    }
    // SAFETY: the caller's promise.
    unsafe { heap::reallocate_c_for(start, size, caller) }
}

with_caller! {
    fn free_for_nothing(start: NonNull<u8>) -> *mut u8 => free_for_nothing_from, ["rsi", "rdx"], ["x1", "x2"]
}

extern "C" fn free_for_nothing_from(start: NonNull<u8>, frame: usize, returns_to: usize) -> *mut u8 {
    // SAFETY: whoever called `realloc` gives the block up.
    unsafe { heap::free_for(start, Caller { frame, returns_to }) };
    ptr::null_mut()
}

/// The bytes of an array, for `reallocarray`: `None`, with `errno` at `ENOMEM`, when the product overflows.
pub fn bytes_of_array(count: usize, size: usize) -> Option<usize> {
    let bytes = count.checked_mul(size);
    if bytes.is_none() {
        fail(libc::ENOMEM);
    }
    bytes
}

/// `aligned_alloc`, if the calling thread has such a block at hand; see [`malloc_at_hand`].
#[inline(always)]
pub fn aligned_at_hand(align: usize, size: usize) -> Option<NonNull<u8>> {
    if align.is_power_of_two() { heap::allocate_aligned_at_hand(size, align.max(C_ALIGN)) } else { None }
}

/// `aligned_alloc` and `memalign`: `size` bytes aligned to `align`. NULL and `EINVAL` when that is no power of two.
#[inline(always)]
pub fn aligned_alloc(align: usize, size: usize) -> *mut u8 {
    match aligned_at_hand(align, size) {
        Some(block) => block.as_ptr(),
        None => aligned_alloc_slow(align, size),
    }
}

/// As [`aligned_alloc`], when no block is at hand. Out of line: what comes before it needs no frame.
#[inline(never)]
#[unsafe(link_section = ".text.terrace.common")]
fn aligned_alloc_slow(align: usize, size: usize) -> *mut u8 {
    if !align.is_power_of_two() {
        return fail(libc::EINVAL);
    }
    if size > PTRDIFF_MAX.saturating_sub(align) {
        return fail(libc::ENOMEM);
    }
    heap::allocate_aligned(size, align.max(C_ALIGN))
}

/// As [`aligned_alloc`], for a call that came from there.
pub fn aligned_alloc_for(align: usize, size: usize, caller: Caller) -> *mut u8 {
    if !align.is_power_of_two() || size > PTRDIFF_MAX.saturating_sub(align) {
        return aligned_alloc_slow(align, size);
    }
    heap::allocate_for(size, align.max(C_ALIGN), caller)
}

/// `posix_memalign`: 0, `EINVAL` (the alignment is no power of two times the size of a pointer) or `ENOMEM`; `errno` is
/// not touched, and `*place` only on success.
///
/// # Safety
/// `place` must be valid for a write.
pub unsafe fn posix_memalign(place: *mut *mut u8, align: usize, size: usize) -> i32 {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut u8>()) {
        return libc::EINVAL;
    }
    let Some(block) = aligned_at_hand(align, size) else {
        return posix_memalign_slow(place, align, size);
    };
    // SAFETY: the caller gave a place that is valid for a write.
    unsafe { place.write(block.as_ptr()) };
    0
}

with_caller! {
    fn posix_memalign_slow(place: *mut *mut u8, align: usize, size: usize) -> i32 => posix_memalign_from, ["rcx", "r8"], ["x3", "x4"]
}

#[unsafe(link_section = ".text.terrace.common")]
extern "C" fn posix_memalign_from(
    place: *mut *mut u8,
    align: usize,
    size: usize,
    frame: usize,
    returns_to: usize,
) -> i32 {
    let block = os::keeping_errno(|| aligned_alloc_for(align, size, Caller { frame, returns_to }));
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: whoever called `posix_memalign` gave a place that is valid for a write.
    unsafe { place.write(block) };
    0
}

/// `valloc`: `size` bytes aligned to a page.
pub fn valloc(size: usize) -> *mut u8 {
    aligned_alloc(os::page_size(), size)
}

/// `pvalloc`: as `valloc`, with the size rounded up to whole pages.
pub fn pvalloc(size: usize) -> *mut u8 {
    match size.checked_next_multiple_of(os::page_size()) {
        Some(bytes) => valloc(bytes),
        None => fail(libc::ENOMEM),
    }
}

/// `malloc_usable_size`: how many bytes the block has; 0 for NULL.
pub fn malloc_usable_size(address: *mut u8) -> usize {
    NonNull::new(address).map_or(0, heap::usable_size)
}

/// `malloc_trim`: returns free memory to the kernel, but for about `kept` bytes of each arena; whether there was any.
pub fn malloc_trim(kept: usize) -> bool {
    heap::purge_keeping(kept)
}

/// `terrace_check`: looks at every block that the checks know; how many bugs were found.
pub fn check() -> usize {
    crate::check()
}

/// What `operator new` does when there is no memory and nobody who can throw an exception.
pub fn nobody_throws() -> ! {
    crate::report::fatal("operator new: there is no memory, and no C++ library to throw std::bad_alloc")
}

/// The last words of a library that panics: nothing in it should but the self-check, and nothing may unwind into C.
pub fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    if crate::attended::is_verifying() {
        crate::report::fatal_with(format_args!("the self-check found that the heap is damaged: {}", info.message()));
    }
    crate::report::fatal_with(format_args!("internal error: {info}"))
}
