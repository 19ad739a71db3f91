//! Threads and the process: time, exit, fork, abort.

#[cfg(loom)]
use super::kernel as libc;
use core::ffi::c_void;

pub(crate) fn yield_now() {
    // SAFETY: no preconditions.
    unsafe { libc::sched_yield() };
}

/// Milliseconds of the monotonic clock, as exact as the kernel's tick (1 to 10 ms), without a system call.
pub(crate) fn clock_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// How old a stamp is, both in milliseconds modulo 2^32. One that is a little younger than `now`, which was read before a lock was
/// taken, is 0 old; one of weeks ago, in a process that slept meanwhile, is very old.
pub(crate) fn age_ms(now: u32, stamp: u32) -> u32 {
    const YOUNGER: u32 = 60_000;
    let age = now.wrapping_sub(stamp);
    if age > u32::MAX - YOUNGER { 0 } else { age }
}

/// Nanoseconds of the monotonic clock, without a system call.
pub(crate) fn clock_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A number that no other thread of the process has, and that a forked child's thread shares with its parent's; never 0.
pub(crate) fn thread_number() -> usize {
    // SAFETY: no preconditions.
    unsafe { libc::pthread_self() as usize }
}

/// The calling thread's number, as the kernel counts threads of all processes.
pub(crate) fn thread_id() -> u32 {
    // The C library's function of that name is missing from musl's older versions.
    // SAFETY: no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

pub(crate) fn process_id() -> i32 {
    // As above; and what else the allocator calls of the C library lies beside this.
    // SAFETY: no preconditions.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

pub(crate) fn abort() -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::abort() }
}

/// Makes a key whose destructor runs for each thread that has set it. May call `malloc`.
pub(crate) fn thread_key(destructor: unsafe extern "C" fn(*mut c_void)) -> Option<libc::pthread_key_t> {
    let mut key = 0;
    // SAFETY: the pointer is valid, and the destructor stays loaded as long as the allocator.
    (unsafe { libc::pthread_key_create(&mut key, Some(destructor)) } == 0).then_some(key)
}

/// Gives a key up; its destructor is not called any more.
pub(crate) fn thread_key_delete(key: libc::pthread_key_t) {
    // SAFETY: the key came from `thread_key` and is given up once.
    unsafe { libc::pthread_key_delete(key) };
}

/// Sets the calling thread's value of a key; `false` when there was no memory for it. May call `malloc`.
pub(crate) fn thread_key_set(key: libc::pthread_key_t, value: *mut c_void) -> bool {
    // SAFETY: the key came from `thread_key`.
    unsafe { libc::pthread_setspecific(key, value) == 0 }
}

/// The calling thread's value of a key, null if it has none.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) fn thread_key_get(key: libc::pthread_key_t) -> *mut c_void {
    // SAFETY: the key came from `thread_key`; for one that did not, the C library returns null.
    unsafe { libc::pthread_getspecific(key) }
}

type Handler = extern "C" fn();

/// Has the three functions called around each `fork`. May call `malloc`.
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn fork_handlers(prepare: Handler, parent: Handler, child: Handler) -> bool {
    #[cfg(loom)]
    use libc::pthread_atfork;
    #[cfg(not(any(loom, target_env = "gnu")))]
    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> i32;
    }
    // glibc links its `pthread_atfork` into each object, behind all other code, where it costs a program 36 KiB of resident memory. This
    // is what it does; the function is part of the Linux Standard Base.
    #[cfg(all(target_env = "gnu", not(loom)))]
    unsafe fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> i32 {
        unsafe extern "C" {
            fn __register_atfork(prepare: Handler, parent: Handler, child: Handler, object: *const c_void) -> i32;
            static __dso_handle: *const c_void;
        }
        // SAFETY: the compiler's start-up code defines the handle of each object, by which the handlers go when it is unloaded.
        unsafe { __register_atfork(prepare, parent, child, __dso_handle) }
    }
    // SAFETY: the handlers stay loaded as long as the allocator.
    unsafe { pthread_atfork(prepare, parent, child) == 0 }
}

/// Has the function called when the process exits in the orderly way. May call `malloc`.
pub(crate) fn on_exit(function: extern "C" fn()) -> bool {
    // SAFETY: the function stays loaded as long as the allocator.
    unsafe { libc::atexit(function) == 0 }
}

/// Gives the calling thread a name for debuggers, of 15 bytes at most.
pub(crate) fn name_thread(name: &core::ffi::CStr) {
    // SAFETY: the name is a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}
