//! What the checks ask of the kernel: numbers of threads, pages that cannot be touched, memory that may not be there, signals.

use super::keeping_errno;
use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};

/// The kernel's number of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// Makes whole pages of the caller's fault at every access; `false`, and no change, if the kernel refuses.
pub(crate) fn forbid(start: NonNull<u8>, len: usize) -> bool {
    keeping_errno(|| {
        // SAFETY: the caller owns the pages and touches them no more.
        unsafe { libc::mprotect(start.as_ptr().cast(), len, libc::PROT_NONE) == 0 }
    })
}

/// Copies words from an address of this process; `false` if they cannot be read.
pub(crate) fn read_own<const WORDS: usize>(address: usize, words: &mut [usize; WORDS]) -> bool {
    let len = size_of::<[usize; WORDS]>();
    let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: len };
    let remote = libc::iovec { iov_base: ptr::without_provenance_mut(address), iov_len: len };
    keeping_errno(|| {
        let process = super::process_id();
        // SAFETY: the kernel writes to the words, and checks the other address itself.
        let read = unsafe {
            libc::syscall(
                libc::SYS_process_vm_readv,
                process,
                &raw const local,
                1_usize,
                &raw const remote,
                1_usize,
                0_usize,
            )
        };
        usize::try_from(read) == Ok(len)
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
