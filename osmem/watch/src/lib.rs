//! Stands between a program and libosmem, and tells the list of blocks after every call.
//!
//! ```text
//!  program ── os_malloc ──▶ libosmem_watch.so (preloaded) ── the next os_malloc ──▶ libosmem.so
//!                                  └── a line of text ──▶ the pipe that OSMEM_WATCH names
//! ```
//!
//! It knows of libosmem only what `osmem.h` says about a block, and finds out by itself how long the header is: so it
//! watches both editions, and a student's own allocator of the same layout. It allocates nothing.

mod blocks;
mod pipe;

use core::ffi::{CStr, c_void};
use core::mem::transmute;

use blocks::tell;

/// The function of that name in the library behind this one.
fn behind(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends with a zero.
    let function = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if function.is_null() {
        // SAFETY: it does not return. A program that calls what no library has would not have started.
        unsafe { libc::abort() }
    }
    function
}

/// `os_malloc`, told.
///
/// # Safety
/// As libosmem's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os_malloc(size: usize) -> *mut c_void {
    type Malloc = unsafe extern "C" fn(usize) -> *mut c_void;
    // SAFETY: this is the function's type.
    let function = unsafe { transmute::<*mut c_void, Malloc>(behind(c"os_malloc")) };
    // SAFETY: as this function's.
    tell("malloc", size, 0, || unsafe { function(size) })
}

/// `os_calloc`, told.
///
/// # Safety
/// As libosmem's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os_calloc(count: usize, size: usize) -> *mut c_void {
    type Calloc = unsafe extern "C" fn(usize, usize) -> *mut c_void;
    // SAFETY: this is the function's type.
    let function = unsafe { transmute::<*mut c_void, Calloc>(behind(c"os_calloc")) };
    // SAFETY: as this function's.
    tell("calloc", count, size, || unsafe { function(count, size) })
}

/// `os_realloc`, told.
///
/// # Safety
/// As libosmem's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os_realloc(pointer: *mut c_void, size: usize) -> *mut c_void {
    type Realloc = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
    // SAFETY: this is the function's type.
    let function = unsafe { transmute::<*mut c_void, Realloc>(behind(c"os_realloc")) };
    // SAFETY: as this function's.
    tell("realloc", pointer.addr(), size, || unsafe { function(pointer, size) })
}

/// `os_free`, told.
///
/// # Safety
/// As libosmem's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os_free(pointer: *mut c_void) {
    type Free = unsafe extern "C" fn(*mut c_void);
    // SAFETY: this is the function's type.
    let function = unsafe { transmute::<*mut c_void, Free>(behind(c"os_free")) };
    tell("free", pointer.addr(), 0, || {
        // SAFETY: as this function's.
        unsafe { function(pointer) };
        core::ptr::null_mut()
    });
}
