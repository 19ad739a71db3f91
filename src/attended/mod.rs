//! Attended calls: while something wants to know of every call, each one takes the slow path and comes by here.
//!
//! ```text
//!  malloc, Box::new ──▶ fast path: the magazine is empty ──▶ slow path ──▶ attended::allocate   ──▶ a block of the heap
//!  free, drop       ──▶ fast path: there is no room      ──▶ slow path ──▶ attended::free       ──▶ back to the heap
//!  realloc          ──────────────────────────────────────────────────▶ attended::reallocate ──▶ both
//! ```
//!
//! The fast paths pay nothing for it: they miss as they would any other time (`tcache/attended.rs`), and the slow path looks at
//! one word of the options. Whoever wants to see every call switches a bit of that word on, empties the magazines by
//! `tcache::flush`, and adds itself to the functions here. There are two:
//!
//! - `perturb` fills blocks when they are handed out and when they are freed, to bring reads of stale memory to light. It can be
//!   switched on and off while the program runs.
//! - Checks (`TERRACE_CHECK`; `words.rs` has the list) hand out blocks with something around them (`zones.rs`) and keep books
//!   of them (`books.rs`).
//!
//! There is no protocol between threads here, only calls of the layers below. One model (`loom-tests/models/composed.rs`) has calls
//! attended while blocks come home.

pub(crate) mod books;
mod caller;
mod checked;
mod leaks;
pub(crate) mod memcheck;
mod trouble;
pub(crate) mod words;
mod zones;

pub use crate::stacks::Caller;
pub use words::{CheckDescription, checks};

use crate::heap::{self, Block};
use crate::history::{self, Happening, Kind};
use crate::options::OPTIONS;
use crate::os::valgrind;
use crate::report;
use crate::size_class::SizeClass;
use crate::stacks;
use crate::tcache;
use core::ptr::NonNull;

/// A block for a request of `size` bytes aligned to `align`, in C or Rust, zeroed or not: whoever wants zeroes writes them
/// afterwards. `class` is the size class that serves such a request, if one does. `None` when there is no memory.
#[cold]
#[inline(never)]
pub(crate) fn allocate(size: usize, align: usize, class: Option<SizeClass>, caller: Caller) -> Option<NonNull<u8>> {
    let start = allocate_unrecorded(size, align, class, caller)?;
    record(Kind::Allocation, start, size, Some(caller));
    Some(start)
}

/// Writes down what happens to a block, if the history is on.
fn record(kind: Kind, start: NonNull<u8>, size: usize, caller: Option<Caller>) {
    history::record(Happening { kind, address: start.addr().get(), size, other: 0, caller });
}

fn allocate_unrecorded(size: usize, align: usize, class: Option<SizeClass>, caller: Caller) -> Option<NonNull<u8>> {
    if valgrind::is_memcheck() {
        return memcheck::allocate(size, align, class);
    }
    if OPTIONS.has_check(words::ALL) {
        return checked::allocate(size, align, class, caller);
    }
    let (start, len) = match class {
        Some(class) => (tcache::take(class)?, class.block_size()),
        None => (heap::allocate_pages_plainly(size, align)?.start, size),
    };
    if let byte @ 1.. = OPTIONS.perturb_byte() {
        // SAFETY: the block has at least that many bytes, and nobody else knows it yet.
        unsafe { start.write_bytes(!byte, len) };
    }
    Some(start)
}

/// Frees the block at an address, whatever it is. Anything that is no block is reported.
///
/// # Safety
/// The caller gives up the block that starts at the address, if one does.
#[cold]
#[inline(never)]
pub(crate) unsafe fn free(start: NonNull<u8>, caller: Caller) {
    if valgrind::is_memcheck() {
        // SAFETY: the caller's promise.
        return unsafe { memcheck::free(start, caller) };
    }
    if OPTIONS.has_check(words::ALL) {
        checked::record_free(start, caller);
        if checked::free("free", start, caller) || checked::tell_inside("free", start) {
            return;
        }
    }
    let block = match heap::look_up(start) {
        Ok(block) => block,
        Err(fault) => return report::bad_pointer("free", start.as_ptr(), fault),
    };
    if let byte @ 1.. = OPTIONS.perturb_byte() {
        // SAFETY: the block has that many bytes, and the caller gives it up.
        unsafe { start.write_bytes(byte, block.usable_size()) };
    }
    record_free(start, &block, block.usable_size(), caller);
    // SAFETY: the block was found there, and the caller gives it up.
    unsafe { heap::release(start, &block) };
}

/// Writes down that a block of `size` bytes is freed; before its memory can be another's.
fn record_free(start: NonNull<u8>, block: &Block, size: usize, caller: Caller) {
    let is_own = !matches!(block, Block::Small(_)) || tcache::has_slab_of(start);
    record(if is_own { Kind::Free } else { Kind::RemoteFree }, start, size, Some(caller));
}

/// Changes the size of the block at an address to `size` bytes, aligned to `align`; null, with `errno` set and the block
/// untouched, when there is no memory. `plainly` does it as if the call were not attended; what it allocates and frees comes by
/// here by itself.
///
/// # Safety
/// The caller gives up the block at `start` unless the result is null.
#[cold]
#[inline(never)]
pub(crate) unsafe fn reallocate(
    start: NonNull<u8>,
    size: usize,
    align: usize,
    caller: Caller,
    plainly: impl FnOnce() -> *mut u8,
) -> *mut u8 {
    let new = if valgrind::is_memcheck() {
        // SAFETY: the caller's promise.
        unsafe { memcheck::reallocate(start, size, align, caller) }
    } else {
        reallocate_checked(start, size, align, caller).unwrap_or_else(plainly)
    };
    if !new.is_null() {
        let (address, other, caller) = (new.addr(), start.addr().get(), Some(caller));
        history::record(Happening { kind: Kind::Resize, address, size, other, caller });
    }
    new
}

/// As [`reallocate`], if that is for the checks to do: they know the block, or that there is none.
fn reallocate_checked(start: NonNull<u8>, size: usize, align: usize, caller: Caller) -> Option<*mut u8> {
    if !OPTIONS.has_check(words::ALL) {
        return None;
    }
    if let Some(new) = checked::reallocate(start, size, align, caller) {
        return Some(new.map_or(core::ptr::null_mut(), NonNull::as_ptr));
    }
    checked::tell_inside("realloc", start).then(|| {
        crate::os::set_errno(libc::EINVAL);
        core::ptr::null_mut()
    })
}

/// What was asked for of the block that starts at an address, in bytes, if checks are on and it is known to them.
pub(crate) fn size_of(start: NonNull<u8>) -> Option<usize> {
    if OPTIONS.has_check(words::ALL) { checked::size_of(start) } else { None }
}

/// Looks at every block that the checks know; says what is wrong, and how many bugs that were: 0 while no check is on.
pub(crate) fn check() -> usize {
    if OPTIONS.has_check(words::ALL) { checked::check("terrace_check") } else { 0 }
}

/// What a library does when it starts, with its options read. May allocate.
pub(crate) fn start() {
    stacks::prepare();
    if OPTIONS.has_check(words::ALL) {
        checked::arrange_for_exit();
    }
}

/// Whether the calling thread looks at all structures on account of the self-check.
pub(crate) fn is_verifying() -> bool {
    *checked::VERIFYING.lock() == crate::os::thread_id()
}

/// Live blocks with guard pages and their bytes, which no other part of the heap knows of, and the bytes of such blocks that are kept in
/// quarantine.
pub(crate) fn guarded() -> (usize, usize, usize) {
    if OPTIONS.has_check(words::GUARDS) { books::BOOKS.lock().guarded() } else { (0, 0, 0) }
}

/// Bytes of the checks' books that are mapped beside the metadata.
pub(crate) fn table_bytes() -> usize {
    if OPTIONS.has_check(words::ALL) { books::BOOKS.lock().table_bytes() } else { 0 }
}

pub(crate) fn lock_for_fork() {
    checked::VERIFYING.lock_for_fork();
    books::BOOKS.lock_for_fork();
    stacks::lock_for_fork();
}

pub(crate) fn unlock_after_fork() {
    stacks::unlock_after_fork();
    books::BOOKS.unlock_after_fork();
    checked::VERIFYING.unlock_after_fork();
}

pub(crate) fn renew_in_child() {
    checked::renew_in_child();
    stacks::renew_in_child();
    books::BOOKS.renew_in_child();
}
