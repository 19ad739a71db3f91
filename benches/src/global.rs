//! The global allocator of the whole programs. With the feature `global` it is the one heap that the package was built with
//! (with two, this file does not compile); without, it is `malloc` through the standard library, which `LD_PRELOAD` replaces.

use crate::heaps::{self, Heap};
#[cfg(feature = "timed")]
use crate::latency::TimedAlloc;
use std::alloc::{GlobalAlloc, Layout};

#[cfg(all(feature = "global", feature = "terrace"))]
type Chosen = heaps::Terrace;
#[cfg(all(feature = "global", feature = "mimalloc"))]
type Chosen = heaps::Mimalloc;
#[cfg(all(feature = "global", feature = "jemalloc"))]
type Chosen = heaps::Jemalloc;
#[cfg(all(feature = "global", feature = "snmalloc"))]
type Chosen = heaps::Snmalloc;
#[cfg(all(feature = "global", feature = "rusty-alloc"))]
type Chosen = heaps::RustyAlloc;
#[cfg(all(feature = "global", feature = "rallocator"))]
type Chosen = heaps::Rallocator;
#[cfg(not(feature = "global"))]
type Chosen = heaps::Glibc;

/// Passes every call on to the heap, inlined; with the feature `timed`, by way of the clock.
pub struct Global;

#[cfg(not(feature = "timed"))]
const HEAP: &<Chosen as Heap>::Allocator = Chosen::ALLOCATOR;
#[cfg(feature = "timed")]
const HEAP: &TimedAlloc<<Chosen as Heap>::Allocator> = &TimedAlloc(Chosen::ALLOCATOR);

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Global {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { HEAP.alloc(layout) }
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { HEAP.dealloc(block, layout) }
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { HEAP.alloc_zeroed(layout) }
    }

    #[inline(always)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { HEAP.realloc(block, layout, new_size) }
    }
}
