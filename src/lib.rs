//! Terrace is a thread-caching, multi-arena memory allocator.
//!
//! ```
//! #[global_allocator]
//! static GLOBAL: terrace::Terrace = terrace::Terrace;
//!
//! let words: Vec<String> = "memory flows down terraces".split(' ').map(String::from).collect();
//! assert_eq!(words.len(), 4);
//! assert!(terrace::statistics().live_bytes > 0);
//! ```
//!
//! Memory flows down: a thread's own cache ([`tcache`](self)), slabs of one size class, an arena shared by a few threads,
//! the kernel. Lower layers know nothing of higher ones: `os` and `sync` at the bottom, `arena` and `large` on them,
//! `tcache` on those, and the faces (this file and `capi/`) on top.

#![no_std]

#[cfg(any(test, loom))]
extern crate std;

mod arena;
mod attended;
mod block;
#[doc(hidden)]
pub mod c_face;
#[cfg(feature = "override")]
#[path = "c_face/names.rs"]
mod c_names;
mod exposition;
mod heap;
pub mod history;
pub mod inspect;
mod large;
mod layout;
mod limit;
mod metadata;
#[cfg(loom)]
#[path = "../loom-tests/models/mod.rs"]
#[doc(hidden)]
pub mod models;
mod options;
mod os;
mod report;
mod size_class;
mod stacks;
mod statistics;
#[cfg(not(loom))]
mod sync;
#[cfg(loom)]
#[doc(hidden)]
pub mod sync;
mod tcache;
mod verify;

pub use attended::{CheckDescription, checks};
pub use exposition::{write_statistics_json, write_statistics_prometheus};
pub use limit::LimitCallback;
#[doc(hidden)]
pub use options::bytes_of;
pub use options::{OptionDescription, OptionError, options};
pub use statistics::{ClassStatistics, Statistics, SystemCallStatistics, statistics};
#[doc(hidden)]
pub use verify::verify;

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

/// The allocator, for `#[global_allocator]` or for use on its own; all values of it are the same heap.
#[derive(Clone, Copy, Default, Debug)]
pub struct Terrace;

// SAFETY: blocks are disjoint, as large and as aligned as their layout says, and stay until they are freed; nothing here
// unwinds.
unsafe impl GlobalAlloc for Terrace {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        heap::allocate_layout(layout.size(), layout.align())
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller promises a block of this layout.
        unsafe { heap::free_layout(block, layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        heap::allocate_zeroed(layout.size(), layout.align(), heap::class_of_layout(layout.size(), layout.align()))
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: a live block is never null.
        let start = unsafe { NonNull::new_unchecked(block) };
        // SAFETY: the caller promises a block of this layout.
        unsafe { heap::reallocate_layout(start, layout.size(), layout.align(), new_size) }
    }
}

/// Sets an option, whatever the environment says; its name and values are those of [`options()`].
///
/// ```
/// terrace::set_option("purge_delay_ms", "500")?;
/// assert!(terrace::set_option("purge_delay", "500").is_err());
/// # Ok::<(), terrace::OptionError>(())
/// ```
///
/// # Errors
/// When there is no such option, or it has no such value.
pub fn set_option(name: &str, value: &str) -> Result<(), OptionError> {
    heap::set_option(name.as_bytes(), value.as_bytes())?;
    statistics::register_exit_report();
    Ok(())
}

/// Looks at the red zones of all blocks and at the quarantine now, and says on standard error what is wrong; how many bugs were
/// found. 0 while no check is on (`TERRACE_CHECK`).
///
/// ```
/// assert_eq!(terrace::check(), 0);
/// ```
pub fn check() -> usize {
    attended::check()
}

/// Returns to the kernel all free memory that can be returned now: what the calling thread and idle caches hold is settled,
/// unused pages are given back at once, whatever their age. Blocks that other threads have at hand stay.
pub fn purge() {
    heap::purge();
}

/// Has a function called when more than the soft limit (the option `soft_limit`) is mapped and returning free memory did not help:
/// once, and again after an eighth of the limit was free in between. `None`: none is called. See docs/memory.md.
///
/// ```
/// extern "C" fn shrink(mapped: usize, limit: usize) {
///     eprintln!("{mapped} bytes are mapped, {limit} are wanted");
/// }
/// terrace::set_option("soft_limit", "80%")?;
/// terrace::set_limit_callback(Some(shrink));
/// # Ok::<(), terrace::OptionError>(())
/// ```
pub fn set_limit_callback(callback: Option<LimitCallback>) {
    limit::LIMIT.set_callback(callback);
}
