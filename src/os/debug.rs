//! What the checks ask of the kernel: pages that cannot be touched, and signals.

use super::keeping_errno;
use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};

/// Makes whole pages of the caller's fault at every access; `false`, and no change, if the kernel refuses.
pub(crate) fn forbid(start: NonNull<u8>, len: usize) -> bool {
    keeping_errno(|| {
        // SAFETY: the caller owns the pages and touches them no more.
        unsafe { libc::mprotect(start.as_ptr().cast(), len, libc::PROT_NONE) == 0 }
    })
}

/// Stops for a debugger; without one the signal ends the process.
pub(crate) fn trap() {
    // SAFETY: no preconditions.
    unsafe { libc::raise(libc::SIGTRAP) };
}

/// Has `tell` called, once, with the address of an access that the processor refuses; then the signal takes its usual course.
/// A program that handles SIGSEGV itself takes this one's place.
pub(crate) fn catch_refused_access(tell: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) {
    keeping_errno(|| {
        // SAFETY: zeroes are a valid action.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = tell as usize;
        // When the function returns the access is tried again, and the signal's usual action is there.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_ONSTACK;
        // SAFETY: the action is whole, and its function stays loaded as long as the allocator.
        unsafe { libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()) };
    });
}

/// The address that a signal is about.
///
/// # Safety
/// `info` must be what a handler of SIGSEGV was given.
pub(crate) unsafe fn refused_address(info: *mut libc::siginfo_t) -> usize {
    // SAFETY: the caller's promise.
    let info = unsafe { &*info };
    // SAFETY: the signal is one that has an address.
    unsafe { info.si_addr() }.addr()
}
