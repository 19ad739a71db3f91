//! The operating system: the only place with system calls.
//!
//! Nothing here takes a lock of the allocator or changes `errno`, which a caller of `free` must find as it was; nor does it allocate, but
//! where a function says that the C library or its loader may.

mod control_group;
mod debug;
#[cfg(loom)]
pub(crate) mod kernel;
mod memory;
mod processors;
#[cfg(simulated_page)]
mod simulated_pages;
#[cfg(not(loom))]
mod sleep;
mod text;
mod thread;
mod unwinder;
pub(crate) mod valgrind;

pub(crate) use control_group::memory as memory_of_process;
pub(crate) use debug::{catch_refused_access, forbid, let_signal_go_on, refused_address, trap};
#[cfg(loom)]
pub(crate) use kernel::{futex_wait, futex_wait_for, futex_wake_one, join_thread, start_thread};
pub(crate) use memory::{
    Break, Occupancy, PageMove, collapse, copy_own_memory, discard, grow_break, holds_word, map, map_again,
    map_aligned, move_pages, page_size, remap, residency, shrink_break, unmap, whole_pages,
};
pub(crate) use processors::{max_mappings, processors};
#[cfg(not(loom))]
pub(crate) use sleep::{futex_wait, futex_wait_for, futex_wake_one, join_thread, start_thread};
pub(crate) use text::{
    FileWriter, append_to_file, compiled_options, for_each_line, for_each_variable, has_environment, process_name,
    read_file, write_standard_error, write_to_stream,
};
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) use thread::thread_key_get;
pub(crate) use thread::{
    abort, age_ms, clock_ms, clock_ns, fork_handlers, name_thread, on_exit, process_id, thread_id, thread_key,
    thread_key_delete, thread_key_set, thread_number, yield_now,
};
pub(crate) use unwinder::{LoaderBusy, Unwinder};

use crate::layout::CallsLayout;
use crate::sync::Counter;
use core::mem::offset_of;

/// How often each system call that moves memory was made.
pub(crate) struct SystemCalls {
    pub(crate) mmap: Counter,
    pub(crate) munmap: Counter,
    pub(crate) mremap: Counter,
    pub(crate) madvise: Counter,
    pub(crate) brk: Counter,
}

impl SystemCalls {
    pub(crate) const LAYOUT: CallsLayout = CallsLayout {
        mmap: offset_of!(Self, mmap) as u32,
        munmap: offset_of!(Self, munmap) as u32,
        mremap: offset_of!(Self, mremap) as u32,
        madvise: offset_of!(Self, madvise) as u32,
        brk: offset_of!(Self, brk) as u32,
    };
}

pub(crate) static SYSTEM_CALLS: SystemCalls = SystemCalls {
    mmap: Counter::new(),
    munmap: Counter::new(),
    mremap: Counter::new(),
    madvise: Counter::new(),
    brk: Counter::new(),
};

/// Runs `call` and puts `errno` back as it was.
pub(crate) fn keeping_errno<T>(call: impl FnOnce() -> T) -> T {
    // SAFETY: the C library returns the address of the calling thread's errno, which lives as long as the thread.
    let errno = unsafe { errno_location() };
    // SAFETY: as above; only this thread touches it.
    let before = unsafe { errno.read() };
    let result = call();
    // SAFETY: as above.
    unsafe { errno.write(before) };
    result
}

/// Sets the calling thread's `errno`.
pub(crate) fn set_errno(value: i32) {
    // SAFETY: the C library returns the address of the calling thread's errno.
    let errno = unsafe { errno_location() };
    // SAFETY: the address is valid, and only this thread touches it.
    unsafe { errno.write(value) };
}

/// The calling thread's `errno`.
fn errno() -> i32 {
    // SAFETY: the C library returns the address of the calling thread's errno.
    let errno = unsafe { errno_location() };
    // SAFETY: the address is valid, and only this thread touches it.
    unsafe { errno.read() }
}

unsafe fn errno_location() -> *mut i32 {
    // SAFETY: callable at any time from any thread.
    unsafe { libc::__errno_location() }
}
