//! Limits on memory: a soft one, beyond which memory is returned and then the program told, and a hard one, beyond which there is
//! none.
//!
//! What counts is what the allocator has mapped: segments, large blocks and the ones that are kept, its own tables. That is never
//! less than what of it is in memory. It is counted where the kernel is asked, on slow paths; `charge` is called by the layers
//! below with their locks held, so what the soft limit asks for is done later, by whoever allocates next on a slow path and holds
//! none.
//!
//! | state of the soft limit | becomes | by |
//! |---|---|---|
//! | 0 `BELOW` | `CROSSED` | the charge that goes beyond it |
//! | 1 `CROSSED` | `TOLD` | the thread that heeds it: it returns memory, and calls the program if that was not enough |
//! | 2 `TOLD` | `BELOW` | the refund after which an eighth of the limit is free again |
//!
//! A thread that purges while there are other threads at work may see their charges come and go: the states say when to act, and
//! `Relaxed` is enough for them and for the sum, which orders nothing.

use crate::heap;
use crate::options::OPTIONS;
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use core::ffi::c_void;
use core::ptr;

const BELOW: u32 = 0;
const CROSSED: u32 = 1;
const TOLD: u32 = 2;

/// The limits of this process.
pub(crate) static LIMIT: Limit = Limit::new();

/// What the program is told when it holds more than the soft limit: bytes that are mapped, and the limit. Called on the thread
/// that allocates, with no lock held; it may allocate and free.
pub type LimitCallback = extern "C" fn(mapped: usize, limit: usize);

pub(crate) struct Limit {
    /// Bytes mapped. Any thread adds and subtracts, and reads.
    mapped: AtomicUsize,
    /// As the table says.
    soft: AtomicU32,
    /// The program's function, or null. Written by calls that set it, read by whoever heeds the limit: `Relaxed`, since a
    /// function is there from the start.
    callback: AtomicPtr<c_void>,
}

impl Limit {
    pub(crate) const fn new() -> Self {
        Self { mapped: AtomicUsize::new(0), soft: AtomicU32::new(BELOW), callback: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Counts bytes that are about to be mapped; `false`, and nothing, if the hard limit does not allow them.
    pub(crate) fn charge(&self, bytes: usize) -> bool {
        // Not added first and taken back: in between, other threads would be refused as well.
        let mut before = self.mapped.load(Ordering::Relaxed);
        let mapped = loop {
            let Some(sum) = before.checked_add(bytes).filter(|&sum| sum <= OPTIONS.limit()) else { return false };
            match self.mapped.compare_exchange(before, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break sum,
                Err(now) => before = now,
            }
        };
        if mapped > OPTIONS.soft_limit() && self.soft.load(Ordering::Relaxed) == BELOW {
            // Whoever heeds it then sees as many bytes as are seen here, and tells the program.
            self.soft.store(CROSSED, Ordering::Release);
        }
        true
    }

    /// Counts bytes that were unmapped, or not mapped after all.
    pub(crate) fn refund(&self, bytes: usize) {
        let mapped = self.mapped.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        let soft = OPTIONS.soft_limit();
        if mapped <= soft - soft / 8 && self.soft.load(Ordering::Relaxed) != BELOW {
            self.soft.store(BELOW, Ordering::Relaxed);
        }
    }

    /// Does what the soft limit asks for, if it was crossed. Called on slow paths of allocation without a lock.
    #[inline]
    pub(crate) fn heed(&self) {
        if self.soft.load(Ordering::Relaxed) == CROSSED {
            self.heed_crossing();
        }
    }

    #[cold]
    fn heed_crossing(&self) {
        // From here on no other thread, and no call from the callback, comes here.
        if self.soft.compare_exchange(CROSSED, TOLD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return;
        }
        heap::purge();
        let (mapped, limit) = (self.mapped.load(Ordering::Relaxed), OPTIONS.soft_limit());
        let callback = self.callback.load(Ordering::Relaxed);
        if mapped > limit && !callback.is_null() {
            // SAFETY: only `set_callback` writes the pointer, and it is given functions of this type.
            let callback = unsafe { core::mem::transmute::<*mut c_void, LimitCallback>(callback) };
            callback(mapped, limit);
        }
    }

    pub(crate) fn set_callback(&self, callback: Option<LimitCallback>) {
        let function = callback.map_or(ptr::null_mut(), |callback| callback as *mut c_void);
        self.callback.store(function, Ordering::Relaxed);
    }

    /// Looks at a soft limit that was just set.
    pub(crate) fn renew(&self) {
        let crossed = self.mapped.load(Ordering::Relaxed) > OPTIONS.soft_limit();
        self.soft.store(if crossed { CROSSED } else { BELOW }, Ordering::Relaxed);
    }
}
