//! `libterrace`: the C names of the allocator, for preloading and linking.
//!
//! Each function is its namesake of `terrace::c_face`, which says what it does. Nothing here unwinds, allocates through
//! the library itself, or uses stdio.

#![no_std]

use core::ffi::{c_int, c_void};
use terrace_core::c_face;

// The functions that every object brings along itself, such as `atexit`, come with the C library's linker script.
#[link(name = "c")]
unsafe extern "C" {}

/// Named by unwinding tables that unoptimised builds keep; nothing unwinds, so it is never called.
#[cfg(debug_assertions)]
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    c_face::panicked(info)
}

/// Called by the dynamic loader, or the start-up code of a static program, once this library is in place.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    c_face::start();
}

/// Called when this library is unloaded, and at the end of the process.
#[used]
#[unsafe(link_section = ".fini_array")]
static STOP: extern "C" fn() = stop;

extern "C" fn stop() {
    c_face::stop();
}

/// malloc(3).
#[unsafe(no_mangle)]
pub extern "C" fn malloc(size: usize) -> *mut c_void {
    c_face::malloc(size).cast()
}

/// free(3).
///
/// # Safety
/// `block` is NULL or a block that the caller gives up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { c_face::free(block.cast()) }
}

/// The old name of `free`.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { c_face::free(block.cast()) }
}

/// calloc(3).
#[unsafe(no_mangle)]
pub extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    c_face::calloc(count, size).cast()
}

/// realloc(3).
///
/// # Safety
/// `block` is NULL or a block that the caller gives up unless the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { c_face::realloc(block.cast(), size).cast() }
}

/// reallocarray(3).
///
/// # Safety
/// As for [`realloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { c_face::reallocarray(block.cast(), count, size).cast() }
}

/// aligned_alloc(3).
#[unsafe(no_mangle)]
pub extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    c_face::aligned_alloc(align, size).cast()
}

/// memalign(3).
#[unsafe(no_mangle)]
pub extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    c_face::aligned_alloc(align, size).cast()
}

/// posix_memalign(3).
///
/// # Safety
/// `place` must be valid for a write of a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, align: usize, size: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { c_face::posix_memalign(place.cast(), align, size) }
}

/// valloc(3).
#[unsafe(no_mangle)]
pub extern "C" fn valloc(size: usize) -> *mut c_void {
    c_face::valloc(size).cast()
}

/// pvalloc(3).
#[unsafe(no_mangle)]
pub extern "C" fn pvalloc(size: usize) -> *mut c_void {
    c_face::pvalloc(size).cast()
}

/// malloc_usable_size(3).
///
/// # Safety
/// `block` is NULL or a block that the caller holds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    c_face::malloc_usable_size(block.cast())
}

/// malloc_trim(3); what `pad` asks to keep is not kept. Always 1: memory may have been returned.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_pad: usize) -> c_int {
    c_face::malloc_trim();
    1
}
