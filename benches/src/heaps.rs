//! The allocators under test, each as a type that costs nothing to name.

use crate::latency::TimedAlloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::marker::PhantomData;

/// An allocator that a workload can be compiled for.
///
/// # Safety
/// Any value of the type must be able to free what any other value gave: they stand for one and the same heap.
pub unsafe trait Heap: Send + Sync + 'static {
    /// The allocator itself.
    type Allocator: GlobalAlloc + Sync;
    /// The only instance.
    const ALLOCATOR: &'static Self::Allocator;
}

/// The C library's allocator, through Rust's standard library, in a program that nothing is preloaded into.
pub struct Glibc;
// SAFETY: the process has one C heap.
unsafe impl Heap for Glibc {
    type Allocator = System;
    const ALLOCATOR: &'static System = &System;
}

/// Terrace through its Rust face.
#[cfg(feature = "terrace")]
pub struct Terrace;
#[cfg(feature = "terrace")]
// SAFETY: `terrace::Terrace` is a unit type; all its values stand for the process's one heap.
unsafe impl Heap for Terrace {
    type Allocator = terrace::Terrace;
    const ALLOCATOR: &'static terrace::Terrace = &terrace::Terrace;
}

/// mimalloc: version 3, or 2 with the feature `mimalloc-v2`.
#[cfg(feature = "mimalloc")]
pub struct Mimalloc;
#[cfg(feature = "mimalloc")]
// SAFETY: `MiMalloc` is a unit type that forwards to C functions on one heap.
unsafe impl Heap for Mimalloc {
    type Allocator = mimalloc::MiMalloc;
    const ALLOCATOR: &'static mimalloc::MiMalloc = &mimalloc::MiMalloc;
}

/// jemalloc.
#[cfg(feature = "jemalloc")]
pub struct Jemalloc;
#[cfg(feature = "jemalloc")]
// SAFETY: `Jemalloc` is a unit type that forwards to C functions on one heap.
unsafe impl Heap for Jemalloc {
    type Allocator = tikv_jemallocator::Jemalloc;
    const ALLOCATOR: &'static tikv_jemallocator::Jemalloc = &tikv_jemallocator::Jemalloc;
}

/// snmalloc.
#[cfg(feature = "snmalloc")]
pub struct Snmalloc;
#[cfg(feature = "snmalloc")]
// SAFETY: `SnMalloc` is a unit type that forwards to C functions on one heap.
unsafe impl Heap for Snmalloc {
    type Allocator = snmalloc_rs::SnMalloc;
    const ALLOCATOR: &'static snmalloc_rs::SnMalloc = &snmalloc_rs::SnMalloc;
}

/// rusty_alloc, pure Rust after mimalloc v2.
#[cfg(feature = "rusty-alloc")]
pub struct RustyAlloc;
#[cfg(feature = "rusty-alloc")]
// SAFETY: `RustyAlloc` is a unit type; all its values stand for one heap.
unsafe impl Heap for RustyAlloc {
    type Allocator = rusty_alloc_api::RustyAlloc;
    const ALLOCATOR: &'static rusty_alloc_api::RustyAlloc = &rusty_alloc_api::RustyAlloc;
}

/// rallocator, pure Rust after snmalloc.
#[cfg(feature = "rallocator")]
pub struct Rallocator;
#[cfg(feature = "rallocator")]
// SAFETY: `Rallocator` is a unit type; all its values stand for one heap.
unsafe impl Heap for Rallocator {
    type Allocator = rallocator::Rallocator;
    const ALLOCATOR: &'static rallocator::Rallocator = &rallocator::Rallocator;
}

/// Another heap, each of whose calls is timed.
pub struct Timed<H>(PhantomData<H>);
// SAFETY: all calls go to the one heap that `H` stands for.
unsafe impl<H: Heap> Heap for Timed<H> {
    type Allocator = TimedAlloc<H::Allocator>;
    const ALLOCATOR: &'static TimedAlloc<H::Allocator> = &TimedAlloc(H::ALLOCATOR);
}

/// `malloc` and its family, whichever library the dynamic linker took them from.
pub struct Preloaded;
// SAFETY: the process has one `malloc`.
unsafe impl Heap for Preloaded {
    type Allocator = CInterface;
    const ALLOCATOR: &'static CInterface = &CInterface;
}

/// Calls the C functions as a C program does: the size alone, through the dynamic symbol; larger alignments by
/// `aligned_alloc`. The workloads never reallocate aligned blocks, which the C interface has no call for.
pub struct CInterface;

/// The alignment that `malloc` promises, in bytes.
pub const MALLOC_ALIGN: usize = 16;

// SAFETY: the C standard gives `malloc` and its family the properties that `GlobalAlloc` asks for, for these alignments.
unsafe impl GlobalAlloc for CInterface {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > MALLOC_ALIGN {
            // SAFETY: the alignment is a power of two.
            return unsafe { libc::aligned_alloc(layout.align(), layout.size()) }.cast();
        }
        // SAFETY: `malloc` takes any size.
        unsafe { libc::malloc(layout.size()) }.cast()
    }

    #[inline(always)]
    unsafe fn dealloc(&self, ptr: *mut u8, _layout: Layout) {
        // SAFETY: the caller gives back a block of this heap.
        unsafe { libc::free(ptr.cast::<c_void>()) }
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `calloc` takes any size.
        unsafe { libc::calloc(1, layout.size()) }.cast()
    }

    #[inline(always)]
    unsafe fn realloc(&self, ptr: *mut u8, _layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller gives a block of this heap and a size above zero.
        unsafe { libc::realloc(ptr.cast::<c_void>(), new_size) }.cast()
    }
}

/// A pair of calls that do nothing: what is left of a workload is the harness. Single-threaded pairs and sets only.
pub struct Nothing;
// SAFETY: freeing does nothing, so any value may do it.
unsafe impl Heap for Nothing {
    type Allocator = NoCalls;
    const ALLOCATOR: &'static NoCalls = &NoCalls;
}

/// Returns the same scratch memory again and again, at the price of a call to a function of two instructions.
pub struct NoCalls;

/// What [`NoCalls`] hands out. A workload writes only the first word of its blocks, and never reads it back.
static mut SCRATCH: [u64; 128] = [0; 128];

#[inline(never)]
extern "C" fn hand_out_scratch(_size: usize) -> *mut u8 {
    crate::block::opaque((&raw mut SCRATCH).cast())
}

#[inline(never)]
extern "C" fn take_back_scratch(ptr: *mut u8) {
    crate::block::opaque(ptr);
}

// SAFETY: it is not an allocator, since its blocks overlap. The workloads that run on it are single-threaded and only ever
// write the first word of a block, which the scratch memory has; larger blocks are refused.
unsafe impl GlobalAlloc for NoCalls {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hand_out_scratch(layout.size())
    }

    #[inline(always)]
    unsafe fn dealloc(&self, ptr: *mut u8, _layout: Layout) {
        take_back_scratch(ptr);
    }

    unsafe fn alloc_zeroed(&self, _layout: Layout) -> *mut u8 {
        std::ptr::null_mut()
    }

    unsafe fn realloc(&self, _ptr: *mut u8, _layout: Layout, _new_size: usize) -> *mut u8 {
        std::ptr::null_mut()
    }
}
