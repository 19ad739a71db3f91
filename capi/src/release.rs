//! `free` under a name that no program takes the place of, for the functions that free what this library alone has given.

use crate::c_face;
use core::ffi::c_void;

/// Frees a block. A program with a malloc of its own may have its own `free` and `cfree`, too, which this must not become.
///
/// # Safety
/// `block` is NULL or a block of this library's that the caller gives up.
#[inline(never)]
pub unsafe extern "C" fn release(block: *mut c_void) {
    // Without it this would be the same code as `free`: the compiler would make one function of both, and call it by that name.
    // SAFETY: no instruction.
    unsafe { core::arch::asm!("", options(nomem, nostack, preserves_flags)) };
    // SAFETY: the caller's promise.
    unsafe { c_face::free(block.cast()) }
}
