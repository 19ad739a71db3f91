//! What the checks ask of the kernel: pages that cannot be touched, and signals.

use super::keeping_errno;
use crate::sync::Cell;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
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

/// What SIGSEGV did before.
struct Before(Cell<MaybeUninit<libc::sigaction>>);

// SAFETY: written once, before the handler that reads it is in place for more than the one call that writes it.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(Cell::new(MaybeUninit::zeroed()));

/// Has `tell` called, once, with the address of an access that the processor refuses; it has to end with `let_signal_go_on`. A
/// program that handles SIGSEGV from then on takes this one's place. To be called once.
pub(crate) fn catch_refused_access(tell: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) {
    keeping_errno(|| {
        // SAFETY: zeroes are a valid action.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = tell as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the action is whole, its function stays loaded as long as the allocator, and the other is written here alone.
        unsafe { libc::sigaction(libc::SIGSEGV, &action, BEFORE.0.as_ptr().cast()) };
    });
}

/// Puts SIGSEGV back to what it did before `catch_refused_access`. When the handler returns the access is tried again, and the
/// signal takes its course: the program's own handler, if it had one then.
pub(crate) fn let_signal_go_on() {
    // SAFETY: zeroes, or what the kernel wrote there, are a valid action.
    unsafe { libc::sigaction(libc::SIGSEGV, BEFORE.0.as_ptr().cast(), ptr::null_mut()) };
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
