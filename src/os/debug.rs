//! What the checks ask of the kernel: pages that cannot be touched, and signals.

use super::keeping_errno;
use crate::sync::Mutex;
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

/// What SIGSEGV did before `catch_refused_access`. Its lock ranks below all others, and is not held at a fork: it is written once.
static BEFORE: Mutex<MaybeUninit<libc::sigaction>> = Mutex::new(MaybeUninit::zeroed());

/// Has `tell` called, once, with the address of an access that the processor refuses; it has to end with `let_signal_go_on`. A
/// program that handles SIGSEGV from then on takes this one's place. To be called once.
pub(crate) fn catch_refused_access(tell: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) {
    keeping_errno(|| {
        // SAFETY: zeroes are a valid action.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = tell as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let mut before = BEFORE.lock();
        // SAFETY: the action is whole, its function stays loaded as long as the allocator, and the other is the lock's own.
        unsafe { libc::sigaction(libc::SIGSEGV, &action, before.as_mut_ptr()) };
    });
}

/// Puts SIGSEGV back to what it did before `catch_refused_access`. When the handler returns the access is tried again, and the
/// signal takes its course: the program's own handler, if it had one then.
pub(crate) fn let_signal_go_on() {
    if let Some(before) = BEFORE.try_lock() {
        // SAFETY: zeroes, or what the kernel wrote there, are a valid action.
        unsafe { libc::sigaction(libc::SIGSEGV, before.as_ptr(), ptr::null_mut()) };
    }
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
