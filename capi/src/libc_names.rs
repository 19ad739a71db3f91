//! glibc's names for its own malloc, which some programs bind to: with them left to glibc, such a program would free what the
//! one allocator gave with the other.
//!
//! Not in the static library: there the object of the C library that holds them holds what `fork` needs as well.

use crate::release::release;
use crate::{c_face, names};
use core::ffi::{c_int, c_void};

/// glibc's name for `malloc`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_malloc(size: usize) -> *mut c_void {
    names::malloc(size)
}

/// glibc's name for `free`.
///
/// # Safety
/// As for [`names::free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { release(block) }
}

/// glibc's name for `calloc`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_calloc(count: usize, size: usize) -> *mut c_void {
    names::calloc(count, size)
}

/// glibc's name for `realloc`.
///
/// # Safety
/// As for [`names::realloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { names::realloc(block, size) }
}

/// glibc's name for `memalign`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_memalign(align: usize, size: usize) -> *mut c_void {
    names::memalign(align, size)
}

/// glibc's name for `valloc`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_valloc(size: usize) -> *mut c_void {
    names::valloc(size)
}

/// glibc's name for `pvalloc`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_pvalloc(size: usize) -> *mut c_void {
    names::pvalloc(size)
}

/// glibc's name for `mallopt`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_mallopt(parameter: c_int, value: c_int) -> c_int {
    names::mallopt(parameter, value)
}

/// glibc's name for `mallinfo`.
#[unsafe(no_mangle)]
pub extern "C" fn __libc_mallinfo() -> c_face::Mallinfo {
    names::mallinfo()
}

/// glibc's name for `posix_memalign`.
///
/// # Safety
/// As for [`names::posix_memalign`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __posix_memalign(place: *mut *mut c_void, align: usize, size: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { names::posix_memalign(place, align, size) }
}
