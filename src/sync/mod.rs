//! The thin layer through which every atomic, cell and lock of the allocator goes.
//!
//! In production these are the types of `core`; under `cfg(loom)` each stands for one of loom's (see `model.rs`), so that the
//! models explore the very code that ships. No other file names `core::sync::atomic` (a test in `tests/layers.rs` holds
//! that).

#[cfg(loom)]
pub mod model;
mod mutex;
mod once;
mod operand;
#[cfg(loom)]
mod orders;
#[cfg(loom)]
mod whole_locks;

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(loom)]
pub(crate) use model::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Cell, Ordering};

#[cfg(not(loom))]
pub(crate) use core::cell::Cell;
pub(crate) use mutex::{Guard, Mutex, is_forking, set_forking};
pub(crate) use once::Once;
pub(crate) use operand::{Operand, in_register};

/// Reads memory that no other thread writes meanwhile; the models check that none does.
///
/// # Safety
/// As for [`core::ptr::read`].
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) unsafe fn read<T: Copy>(place: *const T) -> T {
    #[cfg(loom)]
    model::track_read(place);
    // SAFETY: the caller's promise.
    unsafe { place.read() }
}

/// Writes memory that no other thread touches meanwhile; the models check that none does.
///
/// # Safety
/// As for [`core::ptr::write`].
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) unsafe fn write<T: Copy>(place: *mut T, value: T) {
    #[cfg(loom)]
    model::track_write(place);
    // SAFETY: the caller's promise.
    unsafe { place.write(value) }
}

/// A counter that one thread at a time adds to and anybody reads: exact for its writer, never torn for a reader.
///
/// Written under the right (lock or ownership) that the field's struct names; `Relaxed` throughout, since a statistic
/// orders nothing.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds for a single writer: a load and a store, not a locked instruction.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts for a single writer.
    pub(crate) fn sub(&self, n: u64) {
        self.0.store(self.get().wrapping_sub(n), Ordering::Relaxed);
    }

    /// Adds where several threads may write at once.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}
