//! Segments: 4 MiB of address space, aligned to 4 MiB, whose first slice describes the others.
//!
//! ```text
//!  0        64 KiB    128 KiB                                                    4 MiB
//!  ├─ slice 0 ─┼─ slice 1 ─┼─ slice 2 ─┼─ ...                        ─┼─ slice 63 ─┤
//!  │ header    │           │
//!  │ slabs[63] │  a slab, a part of a slab, or pages of medium and free runs
//!  │ heads[64] │
//!  │ runs[1024]│
//!  └───────────┘
//! ```
//!
//! The descriptor of the slice that an address lies in is found by masking the address, without a load. Each slice has a
//! [`Slab`] descriptor and each page a [`Run`] descriptor, whether in use or not; fresh memory from the kernel reads as
//! zero, which is the state "nothing here" of both.
//!
//! Descriptors of pages that begin a slice stand apart, side by side. So a segment of nothing but slabs, whose runs all begin with a
//! slice, touches 3 KiB of such descriptors and not the 48 KiB of the others.

use super::general_heap::Run;
use super::huge::Halves;
use super::segment_map::{SLOTS, Tag};
use super::slab::{Owner, Slab};
use crate::layout::SegmentLayout;
use crate::os::valgrind;
use crate::size_class::SizeClass;
use crate::sync::{AtomicPtr, AtomicU32, Cell, Operand};
use core::mem::offset_of;
use core::ptr::NonNull;

/// Size and alignment of a segment, in bytes.
pub(crate) const SEGMENT_SIZE: usize = 4 << 20;
/// The unit in which slabs are cut, in bytes.
pub(crate) const SLICE_SIZE: usize = 64 << 10;
/// The unit of runs, in bytes. The kernel's pages may be larger; only what is returned to it depends on that.
pub(crate) const PAGE: usize = 4096;
pub(crate) const SLICES: usize = SEGMENT_SIZE / SLICE_SIZE;
pub(crate) const PAGES: usize = SEGMENT_SIZE / PAGE;
pub(crate) const PAGES_PER_SLICE: usize = SLICE_SIZE / PAGE;
/// The pages of slice 0, which no run may use.
pub(crate) const HEADER_PAGES: usize = PAGES_PER_SLICE;
/// The longest run, in pages.
pub(crate) const MAX_RUN_PAGES: usize = PAGES - HEADER_PAGES;

/// Fills the place of slice 0's slab descriptor. Its first word is never a cache's address and its second is zero, so that
/// a pointer into slice 0 fails every test that a block passes.
#[repr(C, align(128))]
pub(crate) struct Header {
    not_an_owner: usize,
    not_a_reciprocal: u64,
    /// The number of the arena that the segment belongs to. Never changes.
    pub(crate) arena: Cell<u32>,
    /// Whether the memory came from the break, and so cannot be unmapped from the middle.
    pub(crate) from_break: Cell<bool>,
    /// The arena's other segments. Guarded by the arena's lock.
    pub(crate) next: Cell<Option<&'static Segment>>,
    pub(crate) previous: Cell<Option<&'static Segment>>,
    pub(super) halves: Halves,
}

#[repr(C, align(128))]
pub(crate) struct Segment {
    pub(crate) header: Header,
    slabs: [Slab; SLICES - 1],
    /// Of the pages that begin a slice.
    heads: [Run; SLICES],
    /// Of all others, with gaps where those would stand.
    runs: [Run; PAGES],
}

const _: () = assert!(size_of::<Header>() == size_of::<Slab>());
const _: () = assert!(size_of::<Segment>() <= SLICE_SIZE);

impl Segment {
    pub(crate) const LAYOUT: SegmentLayout = SegmentLayout {
        slots: SLOTS as u32,
        size: SEGMENT_SIZE as u32,
        slice: SLICE_SIZE as u32,
        page: PAGE as u32,
        header_pages: HEADER_PAGES as u32,
        arena: offset_of!(Self, header.arena) as u32,
        from_break: offset_of!(Self, header.from_break) as u32,
        heads: offset_of!(Self, heads) as u32,
        runs: offset_of!(Self, runs) as u32,
        run: Run::LAYOUT,
        slab: Slab::LAYOUT,
    };

    /// Calls `f` for each run of pages, in their order, with the number of its first page.
    pub(super) fn for_each_run(&'static self, mut f: impl FnMut(usize, &'static Run)) {
        let mut page = HEADER_PAGES;
        while page < PAGES {
            let run = self.run(page);
            f(page, run);
            page += run.pages();
        }
    }

    /// # Safety
    /// `memory` must be a whole segment that was just mapped, aligned to its size and filled with zeroes, and must stay
    /// mapped as long as the result is used.
    pub(crate) unsafe fn create(memory: NonNull<u8>, arena: u32, from_break: bool) -> &'static Self {
        debug_assert!(memory.addr().get().is_multiple_of(SEGMENT_SIZE));
        // SAFETY: zeroes are a valid segment: null pointers, `None`, and numbers.
        let segment = unsafe { memory.cast::<Segment>().as_ref() };
        segment.header.arena.set(arena);
        segment.header.from_break.set(from_break);
        segment
    }

    /// The segment that an address inside a registered segment lies in.
    ///
    /// # Safety
    /// The segment map must have told that the address lies in a segment.
    #[inline(always)]
    pub(crate) unsafe fn containing(address: NonNull<u8>) -> &'static Self {
        let start = address.as_ptr().map_addr(|a| a & !(SEGMENT_SIZE - 1)).cast::<Self>();
        // SAFETY: registered segments begin at multiples of their size and stay mapped while they are registered.
        unsafe { &*start }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        NonNull::from_ref(self).cast()
    }

    /// Tells memcheck that what lies behind the tables is no block's yet, and that the tables read as zero.
    pub(crate) fn announce(&self) {
        let tables = size_of::<Self>();
        valgrind::defined(self.start(), tables);
        // SAFETY: a segment is longer than its tables.
        valgrind::nobodys(unsafe { self.start().add(tables) }, SEGMENT_SIZE - tables);
    }

    /// The address of a page of this segment.
    pub(crate) fn page(&self, index: usize) -> NonNull<u8> {
        debug_assert!(index < PAGES);
        // SAFETY: the index is below the number of pages, so the sum stays inside the segment.
        unsafe { self.start().add(index * PAGE) }
    }

    /// The descriptor of a page.
    #[inline(always)]
    pub(crate) fn run(&self, page: usize) -> &Run {
        if page.is_multiple_of(PAGES_PER_SLICE) { &self.heads[page / PAGES_PER_SLICE] } else { &self.runs[page] }
    }

    /// The descriptor of a slice other than the first.
    pub(crate) fn slab(&self, slice: usize) -> &Slab {
        &self.slabs[slice - 1]
    }
}

/// Where the descriptor of the slice that an address lies in is found; for slice 0 that is the header, seen as a descriptor
/// that matches nothing.
///
/// Beginning with the segment's last byte, which the test of the segment map needs anyway, leaves the way back as a constant
/// of each access to a field.
#[derive(Clone, Copy)]
pub(crate) struct Descriptor {
    tag: Tag,
    /// Of the descriptor from the segment's start, in bytes.
    offset: usize,
}

impl Descriptor {
    const FROM_LAST_BYTE: isize = 1 - SEGMENT_SIZE as isize;

    #[inline(always)]
    pub(crate) fn of(tag: Tag, address: *const u8) -> Self {
        Self { tag, offset: address.addr() / SLICE_SIZE % SLICES * size_of::<Slab>() }
    }

    /// For an address that nobody asked the segment map about.
    #[inline(always)]
    pub(crate) fn containing(address: NonNull<u8>) -> Self {
        Self::of(Tag::of(address.as_ptr()), address.as_ptr())
    }

    #[inline(always)]
    fn last_byte(self) -> *const u8 {
        // The kernel gave the memory, so its provenance is exposed.
        core::ptr::with_exposed_provenance(self.tag.last_byte())
    }

    /// # Safety
    /// As for [`Segment::containing`]; the tag must be the address's.
    #[inline(always)]
    pub(crate) unsafe fn slab(self) -> &'static Slab {
        let descriptor =
            self.last_byte().wrapping_add(self.offset).wrapping_offset(Self::FROM_LAST_BYTE).cast::<Slab>();
        // SAFETY: segments do not begin at address 0; knowing it saves the test of an `Option` on every free.
        unsafe { core::hint::assert_unchecked(!descriptor.is_null()) };
        // SAFETY: the descriptors form an array at the segment's start; the header in place of the first is as large, and
        // its fields are valid as a descriptor's.
        unsafe { &*descriptor }
    }

    /// Whether the slice belongs to a slab of this owner's.
    ///
    /// # Safety
    /// As for [`Self::slab`].
    #[inline(always)]
    pub(crate) unsafe fn is_owned_by(self, owner: NonNull<Owner>) -> bool {
        const OFFSET: isize = Descriptor::FROM_LAST_BYTE + Slab::OWNER as isize;
        // SAFETY: the owner's word lies there in every descriptor.
        let word = unsafe { Operand::<AtomicPtr<Owner>, 1, OFFSET>::new(self.last_byte(), self.offset) };
        word.is(owner.as_ptr())
    }

    /// Whether an address in this slice is where a block starts that was carved; only ever true in a slab's first slice.
    ///
    /// # Safety
    /// As for [`Self::slab`].
    #[inline(always)]
    pub(crate) unsafe fn starts_block(self, address: NonNull<u8>) -> bool {
        const RECIPROCAL: isize = Descriptor::FROM_LAST_BYTE + Slab::RECIPROCAL as isize;
        const LAST_CARVED: isize = Descriptor::FROM_LAST_BYTE + Slab::LAST_CARVED as isize;
        // SAFETY: the word lies there in every descriptor.
        let reciprocal = unsafe { Operand::<Cell<u64>, 1, RECIPROCAL>::new(self.last_byte(), self.offset) };
        // SAFETY: as above.
        let last_carved = unsafe { Operand::<AtomicU32, 1, LAST_CARVED>::new(self.last_byte(), self.offset) };
        // SAFETY: the caller's promise.
        let remainder = unsafe { self.slab() }.remainder_of(address);
        reciprocal.is_above(remainder) && last_carved.reaches(address.addr().get() as u32)
    }

    /// Where what belongs to the slab's class lies in an array that starts at a multiple of 4 KiB (see [`SizeClass::offset`]).
    ///
    /// # Safety
    /// As for [`Self::slab`], and the slice must belong to a slab.
    #[inline(always)]
    pub(crate) unsafe fn entry_of_class<T>(self, array: *const T) -> *const T {
        const OFFSET: isize = Descriptor::FROM_LAST_BYTE + Slab::CLASS as isize;
        debug_assert!(array.addr().is_multiple_of(4096));
        // SAFETY: the class lies there in every descriptor.
        let class = unsafe { Operand::<Cell<SizeClass>, 1, OFFSET>::new(self.last_byte(), self.offset) };
        class.after(array.cast()).cast()
    }
}

/// The descriptor of the slice that an address lies in; for slice 0 the header, seen as a descriptor that matches nothing.
///
/// # Safety
/// As for [`Segment::containing`].
#[inline(always)]
pub(crate) unsafe fn slab_containing(address: NonNull<u8>) -> &'static Slab {
    // SAFETY: the caller's promise.
    unsafe { Descriptor::containing(address).slab() }
}

/// The number of the page, within its segment, that an address lies in.
pub(crate) fn page_index(address: NonNull<u8>) -> usize {
    address.addr().get() / PAGE % PAGES
}

/// The number of the slice, within its segment, that an address lies in.
pub(crate) fn slice_index(address: NonNull<u8>) -> usize {
    address.addr().get() / SLICE_SIZE % SLICES
}
