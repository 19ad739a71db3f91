//! Sleeping and waking, and a thread of the allocator's own. The models have these from elsewhere.

use super::keeping_errno;
use crate::sync::AtomicU32;
use core::ffi::c_void;

/// Sleeps until woken, unless the word no longer has the value `expected`. May return for no reason.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32) {
    wait(word, expected, None);
}

/// As [`futex_wait`], for so many milliseconds at most.
pub(crate) fn futex_wait_for(word: &AtomicU32, expected: u32, ms: u32) {
    wait(word, expected, Some(&libc::timespec { tv_sec: (ms / 1000).into(), tv_nsec: (ms % 1000 * 1_000_000).into() }));
}

fn wait(word: &AtomicU32, expected: u32, limit: Option<&libc::timespec>) {
    keeping_errno(|| {
        // SAFETY: the word, and the time if there is one, are valid for the call; without one it waits without limit.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                expected,
                limit.map_or(core::ptr::null(), core::ptr::from_ref),
            )
        }
    });
}

/// Wakes one thread that sleeps on the word.
pub(crate) fn futex_wake_one(word: &AtomicU32) {
    keeping_errno(|| {
        // SAFETY: the kernel only compares the address with those of sleepers.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) }
    });
}

/// Starts a thread that blocks every signal, with a stack of so many bytes where the C library can do with it; its handle for
/// `join_thread`. `None` when there is no memory, or the process may have no more threads. Calls `malloc`.
pub(crate) fn start_thread(body: extern "C" fn(*mut c_void) -> *mut c_void, stack: usize) -> Option<usize> {
    // SAFETY: a set of signals is a plain number, which the call below fills in.
    let (mut all, mut before) = unsafe { core::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>() };
    // SAFETY: the set is valid.
    unsafe { libc::sigfillset(&mut all) };
    keeping_errno(|| {
        // The new thread begins with the mask of this one.
        // SAFETY: both sets are valid.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) };
        let thread = create(body, Some(stack)).or_else(|| create(body, None));
        // SAFETY: as above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, core::ptr::null_mut()) };
        thread
    })
}

fn create(body: extern "C" fn(*mut c_void) -> *mut c_void, stack: Option<usize>) -> Option<usize> {
    // SAFETY: the attributes are plain data, which the call below fills in.
    let mut attributes = unsafe { core::mem::zeroed::<libc::pthread_attr_t>() };
    // SAFETY: the attributes are this function's.
    if unsafe { libc::pthread_attr_init(&mut attributes) } != 0 {
        return None;
    }
    if let Some(stack) = stack {
        // SAFETY: as above; a size that is too small is refused.
        unsafe { libc::pthread_attr_setstacksize(&mut attributes, stack) };
    }
    // A number in one C library, a pointer in another.
    // SAFETY: either may be zero.
    let mut thread = unsafe { core::mem::zeroed::<libc::pthread_t>() };
    // SAFETY: the attributes are valid; the body stays loaded until the thread is joined.
    let failed = unsafe { libc::pthread_create(&mut thread, &attributes, body, core::ptr::null_mut()) } != 0;
    // SAFETY: as above.
    unsafe { libc::pthread_attr_destroy(&mut attributes) };
    (!failed).then_some(thread as usize)
}

/// Waits until a thread that `start_thread` made has returned.
pub(crate) fn join_thread(thread: usize) {
    // SAFETY: the handle is that of a thread that is joined once.
    unsafe { libc::pthread_join(thread as libc::pthread_t, core::ptr::null_mut()) };
}
