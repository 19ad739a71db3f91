//! Memory for the allocator's own structures that live for ever: thread caches, entries of the registry.
//!
//! Cut from mappings of its own, never returned; who needs a structure again later keeps it in a list of its own.

use crate::limit::LIMIT;
use crate::os;
use crate::sync::{Counter, Mutex};
use core::ptr::NonNull;

/// Mapped at a time, in bytes; touched only as far as it is used.
const CHUNK: usize = 1 << 20;

struct Chunk {
    next: *mut u8,
    left: usize,
}

// SAFETY: the pointer is to memory that belongs to the chunk alone.
unsafe impl Send for Chunk {}

static CHUNK_IN_USE: Mutex<Chunk> = Mutex::new(Chunk { next: core::ptr::null_mut(), left: 0 });

/// Bytes handed out. Written under the lock above.
pub(crate) static METADATA_BYTES: Counter = Counter::new();

/// Room for a `T`, zeroed and aligned (to 4096 at most); `None` when the kernel has no memory.
pub(crate) fn allocate<T>() -> Option<NonNull<T>> {
    const { assert!(align_of::<T>() <= 4096 && size_of::<T>() <= CHUNK) };
    let mut chunk = CHUNK_IN_USE.lock();
    let mut skip = chunk.next.align_offset(align_of::<T>());
    if chunk.next.is_null() || skip + size_of::<T>() > chunk.left {
        if !LIMIT.charge(CHUNK) {
            return None;
        }
        let Some(memory) = os::map(CHUNK) else {
            LIMIT.refund(CHUNK);
            return None;
        };
        *chunk = Chunk { next: memory.as_ptr(), left: CHUNK };
        skip = 0;
    }
    // SAFETY: `skip` and the value fit into what is left of the chunk.
    let start = unsafe { chunk.next.add(skip) };
    // SAFETY: as above.
    chunk.next = unsafe { start.add(size_of::<T>()) };
    chunk.left -= skip + size_of::<T>();
    METADATA_BYTES.add(size_of::<T>() as u64);
    NonNull::new(start.cast())
}

pub(crate) fn lock_for_fork() {
    CHUNK_IN_USE.lock_for_fork();
}

pub(crate) fn unlock_after_fork() {
    CHUNK_IN_USE.unlock_after_fork();
}

pub(crate) fn renew_in_child() {
    CHUNK_IN_USE.renew_in_child();
}

/// Begins an execution of a model: nothing was handed out.
#[cfg(loom)]
pub(crate) fn begin_model() {
    *CHUNK_IN_USE.lock() = Chunk { next: core::ptr::null_mut(), left: 0 };
}
