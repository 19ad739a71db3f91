//! glibc's names for its own malloc, which some programs bind to: with them left to glibc, such a program would free what the
//! one allocator gave with the other.
//!
//! They do not go by the public names: a program that has a malloc of its own may hand its calls on to these.
//!
//! Not in the static library: there the object of the C library that holds them holds what `fork` needs as well.

use crate::c_face;
use crate::release::release;
use core::ffi::{c_int, c_void};

/// glibc's name for `malloc`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_malloc(size: usize) -> *mut c_void {
    c_face::malloc(size).cast()
}

/// glibc's name for `free`.
///
/// # Safety
/// As for [`crate::names::free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { release(block) }
}

/// glibc's name for `calloc`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_calloc(count: usize, size: usize) -> *mut c_void {
    c_face::calloc(count, size).cast()
}

/// glibc's name for `realloc`.
///
/// # Safety
/// As for [`crate::names::realloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { c_face::realloc(block.cast(), size).cast() }
}

/// glibc's name for `memalign`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_memalign(align: usize, size: usize) -> *mut c_void {
    c_face::aligned_alloc(align, size).cast()
}

/// glibc's name for `valloc`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_valloc(size: usize) -> *mut c_void {
    c_face::valloc(size).cast()
}

/// glibc's name for `pvalloc`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_pvalloc(size: usize) -> *mut c_void {
    c_face::pvalloc(size).cast()
}

/// glibc's name for `mallopt`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_mallopt(parameter: c_int, value: c_int) -> c_int {
    c_face::mallopt(parameter, value)
}

/// glibc's name for `mallinfo`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_mallinfo() -> c_face::Mallinfo {
    c_face::mallinfo2().into()
}

/// glibc's name for `posix_memalign`.
///
/// # Safety
/// As for [`crate::names::posix_memalign`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __posix_memalign(place: *mut *mut c_void, align: usize, size: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { c_face::posix_memalign(place.cast(), align, size) }
}
