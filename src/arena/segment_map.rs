//! Which parts of the address space are segments: one byte for every 4 MiB.
//!
//! `free` may be given any 64-bit value. One look here, which does not lengthen the chain of loads that leads to the
//! block's descriptor, tells blocks in segments from NULL, from large blocks and from what was never ours.
//!
//! The map is reserved read-only and so costs nothing but addresses; the page that covers a new segment is made writable
//! first. Until the map exists its length is zero and every address takes the cold path. When addresses are too scarce
//! even for the reservation, the length stays zero and the arenas' lists of segments are searched instead: slow, and
//! right.
//!
//! | field | written by | read by | ordering |
//! |---|---|---|---|
//! | `base`, `len` | the initialiser, once | every `free` | `Relaxed`: a reader that sees the length zero takes the cold path, which synchronises; whoever holds a block got it, through synchronisation of the program's own, from a thread that had passed the initialiser |
//! | a byte | the thread that registers or unregisters, under its arena's lock | every `free` | `Relaxed`, by the same argument |

use super::segment::{SEGMENT_SIZE, Segment};
use crate::os;
use crate::sync::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use core::ptr::NonNull;

/// User addresses end at 2^47 on x86-64, and at 2^48 elsewhere; higher ones are never asked for.
const ADDRESS_SPACE: usize = if cfg!(target_arch = "x86_64") { 1 << 47 } else { 1 << 48 };
const LEN: usize = ADDRESS_SPACE / SEGMENT_SIZE;

pub(crate) struct SegmentMap {
    base: AtomicPtr<AtomicU8>,
    len: AtomicUsize,
}

impl SegmentMap {
    pub(crate) const fn new() -> Self {
        Self { base: AtomicPtr::new(core::ptr::null_mut()), len: AtomicUsize::new(0) }
    }

    /// Reserves the map; called once.
    pub(crate) fn initialise(&self) {
        if let Some(base) = os::reserve_read_only(LEN) {
            self.base.store(base.as_ptr().cast(), Ordering::Relaxed);
            self.len.store(LEN, Ordering::Relaxed);
        }
    }

    /// Whether an address lies in a registered segment. `false` for every address while there is no map.
    #[inline(always)]
    pub(crate) fn contains(&self, address: *const u8) -> bool {
        let index = address.addr() / SEGMENT_SIZE;
        if index >= self.len.load(Ordering::Relaxed) {
            return false;
        }
        self.byte(index).load(Ordering::Relaxed) != 0
    }

    /// Whether the map could be reserved.
    pub(crate) fn exists(&self) -> bool {
        self.len.load(Ordering::Relaxed) != 0
    }

    /// Enters a segment; `false` if the kernel denies the page of the map that it needs.
    pub(crate) fn register(&self, segment: &Segment) -> bool {
        let index = segment.start().addr().get() / SEGMENT_SIZE;
        if !self.exists() {
            return true;
        }
        if index >= LEN {
            return false;
        }
        let page = index & !(os::page_size() - 1);
        let start = NonNull::from_ref(self.byte(page)).cast();
        if !os::protect_writable(start, os::page_size().min(LEN)) {
            return false;
        }
        self.byte(index).store(1, Ordering::Relaxed);
        true
    }

    pub(crate) fn unregister(&self, segment: &Segment) {
        if self.exists() {
            self.byte(segment.start().addr().get() / SEGMENT_SIZE).store(0, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn byte(&self, index: usize) -> &AtomicU8 {
        debug_assert!(index < LEN);
        // SAFETY: callers checked the index against the map's length, and a map that exists is never unmapped.
        let byte = unsafe { self.base.load(Ordering::Relaxed).add(index) };
        // SAFETY: as above; zeroes are valid bytes.
        unsafe { &*byte }
    }
}
