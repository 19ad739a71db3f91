//! libosmem: a small allocator to learn from, exact to the system call.
//!
//! Four functions, `os_malloc`, `os_calloc`, `os_realloc` and `os_free`. Small blocks live in the heap, the memory below
//! the program break; large ones are mappings of their own. This file decides which, `osmem_core::heap` keeps the heap's
//! list of blocks, and `os` makes the few system calls.
//!
//! # The story of a block
//!
//! Every block is a header (`H`, 24 bytes here) and a payload. The first allocation moves the break up by 128 KiB, and
//! the heap is one free block:
//!
//! ```text
//!  ┌─┬────────────────────────────────────────────┐
//!  │H│ free 131048                                │ break
//!  └─┴────────────────────────────────────────────┘
//! ```
//!
//! **Split.** `a = os_malloc(100)` needs 104 bytes, 100 rounded up to 8. The block is cut in two, and the rest stays free:
//!
//! ```text
//!  ┌─┬───────┬─┬──────────────────────────────────┐
//!  │H│ a 104 │H│ free 130920                      │ break
//!  └─┴───────┴─┴──────────────────────────────────┘
//! ```
//!
//! **Merge.** With `b` (104) and `c` behind it, `os_free(a); os_free(b)` only mark. The next allocation first joins
//! neighbours that are both free; the header between them becomes payload. 104 + 24 + 104 = 232:
//!
//! ```text
//!  ┌─┬──────────┬─┬──────────┬─┬─────┬─┬──────────┐            ┌─┬───────────────────────┬─┬─────┬─┬──────────┐
//!  │H│ free 104 │H│ free 104 │H│ c   │H│ free     │     ──▶    │H│ free 232              │H│ c   │H│ free     │
//!  └─┴──────────┴─┴──────────┴─┴─────┴─┴──────────┘            └─┴───────────────────────┴─┴─────┴─┴──────────┘
//! ```
//!
//! **Growth.** No free block suffices for 3000 bytes, but the last one is free: the break moves up by what it lacks.
//! If the last one were in use, the break would move by a whole block, 24 + 3000:
//!
//! ```text
//!  ┌─┬──────────────┬─┬───────────┐                            ┌─┬──────────────┬─┬──────────────────────┐
//!  │H│ c            │H│ free 2000 │ break               ──▶    │H│ c            │H│ d 3000               │ break + 1000
//!  └─┴──────────────┴─┴───────────┘                            └─┴──────────────┴─┴──────────────────────┘
//! ```
//!
//! The heap never shrinks. Only mapped blocks go back to the kernel, when they are freed.

#![no_std]

mod os;

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use osmem_core::block::payload_for;
use osmem_core::{Block, HEADER, Heap, Placement, Status};

use os::ProgramBreak;

// The compiled `core` names the unwinder's personality in tables that nothing here reads, and an unoptimised build keeps
// the name. Nothing unwinds, so any address will do.
#[cfg(not(test))]
core::arch::global_asm!(".globl rust_eh_personality", ".hidden rust_eh_personality", "rust_eh_personality:");

/// Blocks of this many bytes, header included, are mapped; smaller ones are on the heap.
const MAPPING_LIMIT: usize = 128 * 1024;

/// What the heap begins with, header included.
const PREALLOCATION: usize = 128 * 1024;

/// The one heap. As in any C program without locks, one thread at a time may call the library.
static mut HEAP: Heap<ProgramBreak> = Heap::new(ProgramBreak::new(), Placement::BestFit, PREALLOCATION);

/// Allocates `size` bytes, aligned to 8. NULL for 0, and for a size within a header of the address space's.
///
/// # Safety
/// One thread at a time uses the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os_malloc(size: usize) -> *mut c_void {
    // SAFETY: one thread at a time, and no other reference to the heap is held here.
    payload_of(unsafe { allocate(size, MAPPING_LIMIT) })
}

/// Allocates `count` times `size` bytes, all zero. NULL if that is 0 or overflows.
///
/// # Safety
/// One thread at a time uses the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os_calloc(count: usize, size: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else {
        return null_mut();
    };
    // SAFETY: one thread at a time, and no other reference to the heap is held here.
    let block = unsafe { allocate(bytes, os::page_size()) };
    match block {
        // Fresh pages are zero, but a block of the heap may have been used before.
        Some(block) if block.status() == Status::ALLOCATED => {
            // SAFETY: the whole payload is the new block's, and nobody knows of it yet.
            unsafe { block.payload().write_bytes(0, block.size()) };
        }
        _ => {}
    }
    payload_of(block)
}

/// Makes the block at `pointer` hold `size` bytes, moving it if need be; what it held stays, up to the smaller size.
///
/// NULL is allocated anew; a size of 0 frees; a block that is free already gives NULL.
///
/// # Safety
/// `pointer` is NULL or came from this library, and is not of a mapped block that was freed. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os_realloc(pointer: *mut c_void, size: usize) -> *mut c_void {
    let Some(payload) = NonNull::new(pointer.cast::<u8>()) else {
        // SAFETY: as this function's.
        return payload_of(unsafe { allocate(size, MAPPING_LIMIT) });
    };
    // SAFETY: the caller's pointer is a block's payload.
    let block = unsafe { Block::of_payload(payload) };
    if size == 0 {
        // SAFETY: as this function's.
        unsafe { release(block) };
        return null_mut();
    }
    match block.status() {
        // SAFETY: as this function's.
        Status::ALLOCATED if unsafe { resize_in_place(block, size) } => pointer,
        // SAFETY: as this function's.
        Status::ALLOCATED | Status::MAPPED => unsafe { move_block(block, size) },
        _ => null_mut(),
    }
}

/// Frees a block. A mapped one goes back to the kernel; one of the heap is only marked, and may be freed twice.
///
/// # Safety
/// `pointer` is NULL or came from this library, and is not of a mapped block that was freed. One thread at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn os_free(pointer: *mut c_void) {
    if let Some(payload) = NonNull::new(pointer.cast::<u8>()) {
        // SAFETY: the caller's pointer is a block's payload.
        let block = unsafe { Block::of_payload(payload) };
        // SAFETY: the caller is done with it.
        unsafe { release(block) };
    }
}

/// A block for `size` bytes: mapped if, with its header, it reaches `limit`, else on the heap.
///
/// None for a size of 0, and for one that no block can have.
///
/// # Safety
/// As for [`heap`].
unsafe fn allocate(size: usize, limit: usize) -> Option<Block> {
    let payload = payload_for(size)?;
    if HEADER + payload >= limit {
        Some(os::map(payload))
    } else {
        // SAFETY: nothing else holds the heap during an allocation.
        unsafe { heap() }.allocate(payload)
    }
}

/// Whether a block of the heap could be made to hold `size` bytes where it is. One that reaches the limit never is.
///
/// # Safety
/// As for [`heap`].
unsafe fn resize_in_place(block: Block, size: usize) -> bool {
    match payload_for(size) {
        // SAFETY: nothing else holds the heap meanwhile.
        Some(payload) if HEADER + payload < MAPPING_LIMIT => unsafe { heap() }.resize(block, payload),
        _ => false,
    }
}

/// Allocates anew, copies, then frees the old block: in this order, so the two never overlap.
///
/// # Safety
/// `block` is handed out, and its owner uses only the result from here on. As for [`heap`].
unsafe fn move_block(block: Block, size: usize) -> *mut c_void {
    // SAFETY: as this function's.
    let Some(new) = (unsafe { allocate(size, MAPPING_LIMIT) }) else {
        return null_mut();
    };
    let kept = block.size().min(new.size());
    // SAFETY: both payloads have that many bytes, and both are in use, so they are apart.
    unsafe { new.payload().copy_from_nonoverlapping(block.payload(), kept) };
    // SAFETY: the owner goes on with the new block.
    unsafe { release(block) };
    payload_of(Some(new))
}

/// Takes a block back, as its status says. A status that the library never wrote does nothing.
///
/// # Safety
/// The block exists, and its owner is done with it. As for [`heap`].
unsafe fn release(block: Block) {
    match block.status() {
        // SAFETY: a mapped block came from `map`, and its owner is done with it.
        Status::MAPPED => unsafe { os::unmap(block) },
        // SAFETY: nothing else holds the heap meanwhile.
        Status::ALLOCATED => unsafe { heap() }.release(block),
        _ => {}
    }
}

/// # Safety
/// The heap is used by one thread at a time, and an earlier result of this function is not used any more.
unsafe fn heap() -> &'static mut Heap<ProgramBreak> {
    let heap = &raw mut HEAP;
    // SAFETY: the caller promises that this is the only reference in use.
    unsafe { &mut *heap }
}

fn payload_of(block: Option<Block>) -> *mut c_void {
    block.map_or(null_mut(), |block| block.payload().as_ptr().cast())
}
