//! Which parts of the address space are segments.
//!
//! `free` may be given any 64-bit value. One look here, which does not lengthen the chain of loads that leads to the
//! block's descriptor, tells blocks in segments from NULL, from large blocks and from what was never ours.
//!
//! ```text
//!  address   0x7f12_345a_bcd0
//!  tag       0x7f12_347f_ffff    the last byte of the 4 MiB that the address lies in: never zero, not even for NULL
//!  slot      bits 22 to 40       tags[slot] == tag   ⇔   the address lies in a segment
//! ```
//!
//! Addresses that lie 2 TiB apart share a slot, and a slot holds one segment: memory whose slot is taken is refused, and the
//! arena asks for another place. So a process can have 2 TiB of small and medium blocks. The table is zeroed memory of the
//! object file's own, 4 MiB of addresses of which a page is touched for each 2 GiB of heap.
//!
//! A tag is written by the thread that registers (compare-and-swap, since two arenas may want one slot) or unregisters, and
//! read by every `free`. `Relaxed`: whoever holds a block got it, through synchronisation of the program's own, from a thread
//! that allocated it after the segment was registered; for any other address both answers lead to the same report.

use super::segment::{SEGMENT_SIZE, Segment};
use crate::sync::{AtomicUsize, Operand, Ordering};

pub(crate) const SLOTS: usize = 1 << 19;

/// The segments of this process, of all its arenas.
pub(crate) static SEGMENTS: SegmentMap = SegmentMap::new();

pub(crate) struct SegmentMap {
    tags: [AtomicUsize; SLOTS],
}

/// The last byte of the 4 MiB that an address lies in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(usize);

impl Tag {
    #[inline(always)]
    pub(crate) fn of(address: *const u8) -> Self {
        let tag = address.addr() | (SEGMENT_SIZE - 1);
        // The compiler would see that the segment's start is a simpler function of the address than of the tag, and compute
        // both: three instructions more on every free.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        let tag = {
            let mut opaque = tag;
            // SAFETY: does nothing.
            unsafe { core::arch::asm!("/* {0} */", inout(reg) opaque, options(pure, nomem, nostack, preserves_flags)) };
            opaque
        };
        Self(tag)
    }

    #[inline(always)]
    pub(crate) fn last_byte(self) -> usize {
        self.0
    }
}

impl SegmentMap {
    const fn new() -> Self {
        Self { tags: [const { AtomicUsize::new(0) }; SLOTS] }
    }

    /// Whether an address, whose tag this is, lies in a registered segment.
    #[inline(always)]
    pub(crate) fn contains(&self, address: *const u8, tag: Tag) -> bool {
        // SAFETY: the slot's number is below the number of tags.
        let slot = unsafe { Operand::<AtomicUsize, 8, 0>::new(self.tags.as_ptr().cast(), slot_of(address.addr())) };
        slot.is(tag.0)
    }

    /// Enters a segment; `false` if its slot is taken.
    pub(crate) fn register(&self, segment: &Segment) -> bool {
        let start = segment.start().as_ptr();
        let tag = Tag::of(start);
        self.slot(start.addr()).compare_exchange(0, tag.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn unregister(&self, segment: &Segment) {
        self.slot(segment.start().addr().get()).store(0, Ordering::Relaxed);
    }

    fn slot(&self, address: usize) -> &AtomicUsize {
        &self.tags[slot_of(address)]
    }
}

#[inline(always)]
fn slot_of(address: usize) -> usize {
    address / SEGMENT_SIZE % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr;

    #[test]
    fn no_address_that_is_not_in_a_segment_is_taken_for_one() {
        for address in [0, 1, 8, 4096, SEGMENT_SIZE - 1, SEGMENT_SIZE, usize::MAX, usize::MAX - 7, 1 << 63, 1 << 47] {
            let address = ptr::without_provenance(address);
            assert!(!SEGMENTS.contains(address, Tag::of(address)), "{address:p}");
        }
        let on_the_stack = 0_u64;
        let address = ptr::from_ref(&on_the_stack).cast();
        assert!(!SEGMENTS.contains(address, Tag::of(address)));
    }
}
