//! Slabs: blocks of one size class in one run of slices, owned by one thread cache.
//!
//! ```text
//!  start                       carved                                    end
//!  ├──────┬──────┬──────┬──────┼ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┤
//!  │ out  │listed│ out  │listed│  uncarved: no block was ever made here      │
//!  └──────┴──────┴──────┴──────┴ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┘
//!  carved = out + listed + bare   capacity = carved + uncarved
//! ```
//!
//! For its slab a block is free only when it lies on the slab's own list; blocks in magazines, outboxes and inboxes are
//! out. So a slab of which nothing is out can be released, whatever other threads do.
//!
//! A slab that is thinly used for a while gives the memory of its wholly free pages back to the kernel. The blocks that
//! touch such a *bare* page leave the list, whose links lay there, and are carved anew before more of the slab is.
//!
//! The descriptor has two cache lines: line 0 is read by every thread that frees a block, and changes only when the slab
//! is made, released, or given another owner; line 1 belongs to the owner, under its cache's lock. A slab of several
//! slices repeats line 0 in the descriptor of each of them.

use super::huge;
use super::segment::{self, PAGE, PAGES_PER_SLICE, SEGMENT_SIZE, SLICE_SIZE, Segment};
use super::treap::{Links, Node};
use crate::block::{BlockPtr, blocks_from};
use crate::layout::SlabLayout;
use crate::os;
use crate::size_class::{self, SizeClass};
use crate::sync::{AtomicPtr, AtomicU32, Cell, Ordering};
use core::iter::Peekable;
use core::mem::offset_of;
use core::ptr::NonNull;

/// The thread cache that a slab belongs to, known here only by its address.
pub(crate) enum Owner {}

/// A slab holds at least this many blocks, so that its turns with the arena are worth their price.
const MIN_BLOCKS: usize = 8;

/// No slab holds more blocks than this.
const MAX_BLOCKS: usize = SLICE_SIZE / size_class::MIN_BLOCK;

#[repr(C, align(64))]
struct Line0 {
    /// Who frees into this slab directly. Null while the slice is no slab. Written under the lock of the owner that is
    /// (none when null) by the thread that takes or releases the slab; read by any thread that frees, `Relaxed`: a stale
    /// owner is corrected when the block reaches a slab list. Models: `loom-tests/`.
    owner: AtomicPtr<Owner>,
    /// 2^64 divided by the block size, rounded up: tells multiples of the block size. Zero, which no offset passes, while
    /// the slice is no slab or not the first of one: blocks there take the slower test.
    reciprocal: Cell<u64>,
    /// The low 32 bits of the address of the last byte that was carved; zero before anything was. Written by the owner when
    /// it carves, read by any thread that frees: `Relaxed`, since whoever holds a block got it after it was carved.
    last_carved: AtomicU32,
    class: Cell<SizeClass>,
    block_size: Cell<u32>,
    /// How many slices of the slab lie before this one.
    slices_before: Cell<u8>,
    slices: Cell<u8>,
}

#[repr(C, align(64))]
struct Line1 {
    free: Cell<Option<BlockPtr>>,
    links: Links<Slab>,
    /// The pages whose memory was returned, a bit for each.
    bare: Cell<u64>,
    /// The owner's aging list: slabs with blocks on their lists, by when the first one came.
    aging: Neighbours,
    /// When the slab entered that list, in milliseconds of the coarse clock, modulo 2^32.
    stamp: Cell<u32>,
    free_count: Cell<u16>,
    carved: Cell<u16>,
    capacity: Cell<u16>,
    /// Blocks that touch bare pages.
    bare_count: Cell<u16>,
    /// Which of the owner's bins the slab stands in.
    bin: Cell<u8>,
    is_aging: Cell<bool>,
    /// Whether blocks were given since the slab entered the aging list.
    gave: Cell<bool>,
}

/// A place in a list that can be left from the middle.
struct Neighbours {
    older: Cell<Option<&'static Slab>>,
    newer: Cell<Option<&'static Slab>>,
}

#[repr(C)]
pub(crate) struct Slab {
    line0: Line0,
    line1: Line1,
}

const _: () = assert!(size_of::<Slab>() == 128);

// SAFETY: line 0 is written only while no other thread can hold a block of the slab (or atomically); line 1 only under
// the owning cache's lock.
unsafe impl Sync for Slab {}

impl Node for Slab {
    fn links(&self) -> &Links<Self> {
        &self.line1.links
    }
    /// By address: among equally full slabs the lowest comes first.
    fn precedes(&self, other: &Self) -> bool {
        core::ptr::from_ref(self) < core::ptr::from_ref(other)
    }
}

/// How many slices a slab of this class has.
pub(crate) const fn slices_for(class: SizeClass) -> usize {
    (class.block_size() * MIN_BLOCKS).div_ceil(SLICE_SIZE)
}

/// What is known of an address that lies in a slab.
pub(crate) enum Place {
    /// The first byte of a block that was carved.
    Block,
    /// This many bytes after the first byte of a block.
    Inside(usize),
    /// In a part of the slab where no block was made yet, or in what is left over at its end.
    Uncarved,
}

impl Slab {
    /// Where in a descriptor the owner stands, in bytes.
    pub(crate) const OWNER: usize = offset_of!(Line0, owner);
    /// Where the low half of the address of the last byte that was carved stands.
    pub(crate) const LAST_CARVED: usize = offset_of!(Line0, last_carved);

    /// Where the reciprocal of the block size stands.
    pub(crate) const RECIPROCAL: usize = offset_of!(Line0, reciprocal);
    /// Where the class stands.
    pub(crate) const CLASS: usize = offset_of!(Line0, class);

    pub(crate) const LAYOUT: SlabLayout = SlabLayout {
        size: size_of::<Self>() as u32,
        owner: offset_of!(Self, line0.owner) as u32,
        class: offset_of!(Self, line0.class) as u32,
        block_size: offset_of!(Self, line0.block_size) as u32,
        slices_before: offset_of!(Self, line0.slices_before) as u32,
        slices: offset_of!(Self, line0.slices) as u32,
        free: offset_of!(Self, line1.free) as u32,
        bare: offset_of!(Self, line1.bare) as u32,
        stamp: offset_of!(Self, line1.stamp) as u32,
        free_count: offset_of!(Self, line1.free_count) as u32,
        carved: offset_of!(Self, line1.carved) as u32,
        capacity: offset_of!(Self, line1.capacity) as u32,
        bare_count: offset_of!(Self, line1.bare_count) as u32,
        is_aging: offset_of!(Self, line1.is_aging) as u32,
    };

    /// Makes a slab of a run of slices that starts at `start`, as the owner's.
    pub(crate) fn create(start: NonNull<u8>, class: SizeClass, owner: NonNull<Owner>) -> &'static Self {
        // SAFETY: runs lie in registered segments.
        let segment = unsafe { Segment::containing(start) };
        let first = segment::slice_index(start);
        let (size, slices) = (class.block_size(), slices_for(class));
        let reciprocal = u64::MAX / size as u64 + 1;
        for i in 0..slices {
            let line = &segment.slab(first + i).line0;
            line.reciprocal.set(if i == 0 { reciprocal } else { 0 });
            line.block_size.set(size as u32);
            line.class.set(class);
            line.last_carved.store(0, Ordering::Relaxed);
            line.slices_before.set(i as u8);
            line.slices.set(slices as u8);
            line.owner.store(owner.as_ptr(), Ordering::Relaxed);
        }
        let slab = segment.slab(first);
        slab.line1.free.set(None);
        slab.line1.free_count.set(0);
        slab.line1.carved.set(0);
        slab.line1.capacity.set((slices * SLICE_SIZE / size) as u16);
        slab.line1.bare.set(0);
        slab.line1.bare_count.set(0);
        slab.line1.is_aging.set(false);
        slab
    }

    /// Makes an empty slab a plain run of pages again; returns its start.
    pub(crate) fn dissolve(&self) -> NonNull<u8> {
        debug_assert!(self.is_empty());
        self.for_each_slice(|line| {
            line.owner.store(core::ptr::null_mut(), Ordering::Relaxed);
            line.reciprocal.set(0);
        });
        self.start()
    }

    /// Gives the slab to another cache. The caller holds the locks of both.
    pub(crate) fn set_owner(&self, owner: NonNull<Owner>) {
        self.for_each_slice(|line| line.owner.store(owner.as_ptr(), Ordering::Relaxed));
    }

    fn for_each_slice(&self, change: impl Fn(&Line0)) {
        let start = self.start();
        // SAFETY: this descriptor lies in a registered segment, and so does its slab.
        let segment = unsafe { Segment::containing(start) };
        let first = segment::slice_index(start);
        for i in 0..self.line0.slices.get() as usize {
            change(&segment.slab(first + i).line0);
        }
    }

    #[inline(always)]
    pub(crate) fn owner(&self) -> *mut Owner {
        self.line0.owner.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn class(&self) -> SizeClass {
        self.line0.class.get()
    }

    pub(crate) fn block_size(&self) -> usize {
        self.line0.block_size.get() as usize
    }

    /// Whether an address in this slice is a multiple of the block size from the slab's start; only ever true in a slab's
    /// first slice.
    ///
    /// The offset times 2^64 / size, rounded up, leaves a remainder below the factor just for multiples of the size
    /// (Lemire, Kaser and Kurz, "Faster remainder by direct computation", 2019); exact for offsets and sizes below 2^32.
    #[inline(always)]
    fn divides(&self, address: NonNull<u8>) -> bool {
        self.remainder_of(address) < self.line0.reciprocal.get()
    }

    /// What is below the reciprocal for the addresses that [`Self::divides`] says yes to.
    #[inline(always)]
    pub(crate) fn remainder_of(&self, address: NonNull<u8>) -> u64 {
        let offset = (address.addr().get() % SLICE_SIZE) as u64;
        offset.wrapping_mul(self.line0.reciprocal.get())
    }

    /// Whether an address in this slab lies where blocks were carved. A slab does not cross a multiple of 2^32, so the low
    /// bits tell.
    fn is_carved(&self, address: NonNull<u8>) -> bool {
        address.addr().get() as u32 <= self.line0.last_carved.load(Ordering::Relaxed)
    }

    /// Whether an address in this slice is where a block starts that was carved; only ever true in a slab's first slice.
    #[inline(always)]
    pub(crate) fn starts_block(&self, address: NonNull<u8>) -> bool {
        self.divides(address) && self.is_carved(address)
    }

    /// Whether an address in this slice is where a block starts that was carved.
    pub(crate) fn is_block_start(&'static self, address: NonNull<u8>) -> bool {
        if self.line0.slices_before.get() == 0 {
            return self.starts_block(address);
        }
        !self.owner().is_null()
            && (address.addr().get() - self.first().start().addr().get()).is_multiple_of(self.block_size())
            && self.first().is_carved(address)
    }

    /// The descriptor of the slab's first slice, which holds line 1.
    pub(crate) fn first(&'static self) -> &'static Slab {
        let before = self.line0.slices_before.get() as usize;
        if before == 0 {
            return self;
        }
        // SAFETY: the slices of a slab follow each other, so do their descriptors in the segment's array.
        let first = unsafe { core::ptr::from_ref(self).sub(before) };
        // SAFETY: as above.
        unsafe { &*first }
    }

    /// The slab's first byte; `self` must be the first descriptor.
    pub(crate) fn start(&self) -> NonNull<u8> {
        let descriptor = NonNull::from_ref(self).cast::<u8>();
        let address = descriptor.addr().get();
        let slice = address % SEGMENT_SIZE / size_of::<Slab>();
        let start = (address & !(SEGMENT_SIZE - 1)) + slice * SLICE_SIZE;
        // SAFETY: the slab lies in the same segment as its descriptor.
        unsafe { descriptor.byte_offset(start as isize - address as isize) }
    }

    /// Where in the slab an address lies. For the owner under its lock, or for a report about a bad call.
    pub(crate) fn place_of(&'static self, address: NonNull<u8>) -> Place {
        let first = self.first();
        let offset = address.addr().get() - first.start().addr().get();
        let size = first.block_size();
        match (offset % size, offset / size) {
            (_, index) if index >= first.carved() => Place::Uncarved,
            (0, _) => Place::Block,
            (inside, _) => Place::Inside(inside),
        }
    }

    // Line 1: for the owner, under its cache's lock.

    pub(crate) fn carved(&self) -> usize {
        self.line1.carved.get() as usize
    }

    pub(crate) fn capacity(&self) -> usize {
        self.line1.capacity.get() as usize
    }

    pub(crate) fn free_count(&self) -> usize {
        self.line1.free_count.get() as usize
    }

    fn bare_count(&self) -> usize {
        self.line1.bare_count.get() as usize
    }

    /// Blocks in use, or on their way in magazines, outboxes and inboxes.
    pub(crate) fn out_count(&self) -> usize {
        self.carved() - self.free_count() - self.bare_count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.out_count() == 0
    }

    /// Whether it can give no block.
    pub(crate) fn is_full(&self) -> bool {
        self.out_count() == self.capacity()
    }

    /// Checks that the list holds as many blocks as it counts, all of them carved blocks of this slab. Panics otherwise.
    pub(crate) fn check(&'static self) {
        assert!(self.carved() <= self.capacity() && self.free_count() + self.bare_count() <= self.carved());
        let bare = (0..self.carved()).filter(|&index| self.pages_of(index) & self.line1.bare.get() != 0).count();
        assert_eq!(bare, self.bare_count(), "bare blocks are miscounted");
        let mut listed = 0;
        for block in blocks_from(self.line1.free.get()) {
            listed += 1;
            assert!(listed <= self.free_count(), "a slab's list is longer than its count");
            // SAFETY: it was just checked, by its predecessor, or is the slab's own.
            let home = unsafe { segment::slab_containing(block.start()) };
            assert!(core::ptr::eq(home.first(), self), "a slab's list holds a block of another slab");
            assert!(matches!(self.place_of(block.start()), Place::Block), "a slab's list holds what is no block");
            let pages = self.pages_of(self.index_of(block));
            assert!(pages & self.line1.bare.get() == 0, "a slab's list holds a block without memory");
        }
        assert_eq!(listed, self.free_count(), "a slab's list is shorter than its count");
    }

    /// The number of pages of this slab that carved blocks touch, bare ones among them. For any thread.
    pub(crate) fn carved_pages(&self) -> usize {
        match self.line0.last_carved.load(Ordering::Relaxed) {
            0 => 0,
            last => (last as usize).wrapping_sub(self.start().addr().get()) % SEGMENT_SIZE / PAGE + 1,
        }
    }

    /// Bytes of pages that a carved block touches and that were not returned.
    pub(crate) fn touched_bytes(&self) -> usize {
        (self.carved() * self.block_size()).next_multiple_of(PAGE) - self.line1.bare.get().count_ones() as usize * PAGE
    }

    pub(crate) fn bin(&self) -> usize {
        self.line1.bin.get() as usize
    }

    pub(crate) fn set_bin(&self, bin: usize) {
        self.line1.bin.set(bin as u8);
    }

    /// Puts a block of this slab on the list, and with it those of this slab that follow in `rest`: blocks that were allocated
    /// together are mostly freed together. Stops at a block that cannot be out, since no more were, and gives it back.
    pub(crate) fn list(
        &self,
        block: BlockPtr,
        rest: &mut Peekable<impl Iterator<Item = BlockPtr>>,
    ) -> Result<(), BlockPtr> {
        let (start, len) = (self.start().addr().get(), self.line0.slices.get() as usize * SLICE_SIZE);
        let (out, mut listed, mut next) = (self.out_count(), 0, Some(block));
        let mut head = self.line1.free.get();
        while let Some(block) = next
            && listed < out
        {
            block.set_next(head);
            (head, listed) = (Some(block), listed + 1);
            next = rest.next_if(|other| other.start().addr().get().wrapping_sub(start) < len);
        }
        self.line1.free.set(head);
        self.line1.free_count.set((self.free_count() + listed) as u16);
        next.map_or(Ok(()), Err)
    }

    /// Whether the block that begins there is on the list.
    pub(crate) fn has_listed(&self, start: NonNull<u8>) -> bool {
        blocks_from(self.line1.free.get()).any(|block| block.start() == start)
    }

    /// Takes the list, or the first `most` blocks of it: the first one and how many there are.
    pub(crate) fn take_list(&self, most: usize) -> Option<(BlockPtr, usize)> {
        let head = self.line1.free.take()?;
        let count = self.line1.free_count.take() as usize;
        if count <= most {
            return Some((head, count));
        }
        let last = (1..most).try_fold(head, |block, _| block.next())?;
        self.line1.free.set(last.next());
        self.line1.free_count.set((count - most) as u16);
        last.set_next(None);
        Some((head, most))
    }

    /// Makes new blocks, linked in order of address: those of a bare page, or up to `most` from uncarved memory.
    pub(crate) fn carve(&self, most: usize) -> Option<(BlockPtr, usize)> {
        if self.bare_count() > 0 {
            return self.carve_bare();
        }
        let (first, count) = (self.carved(), most.min(self.capacity() - self.carved()));
        if count == 0 {
            return None;
        }
        self.line1.carved.set((first + count) as u16);
        let last = self.start().addr().get() + self.carved() * self.block_size() - 1;
        self.line0.last_carved.store(last as u32, Ordering::Relaxed);
        self.chain((first..first + count).rev())
    }

    /// Makes blocks again of the first bare page, and of those that its first block needs besides.
    fn carve_bare(&self) -> Option<(BlockPtr, usize)> {
        let bare = self.line1.bare.get();
        let first = bare.trailing_zeros() as usize * PAGE / self.block_size();
        let cleared = bare & self.pages_of(first);
        self.line1.bare.set(bare & !cleared);
        let end =
            ((u64::BITS - cleared.leading_zeros()) as usize * PAGE).div_ceil(self.block_size()).min(self.carved());
        let whole = |&index: &usize| {
            let pages = self.pages_of(index);
            pages & cleared != 0 && pages & self.line1.bare.get() == 0
        };
        let (head, count) = self.chain((first..end).rev().filter(whole))?;
        self.line1.bare_count.set(self.line1.bare_count.get() - count as u16);
        Some((head, count))
    }

    /// Links blocks that are in nobody's hands but the owner's, the last one first.
    fn chain(&self, indices: impl Iterator<Item = usize>) -> Option<(BlockPtr, usize)> {
        let (mut head, mut count) = (None, 0);
        for index in indices {
            // SAFETY: the block lies in the slab.
            let start = unsafe { self.start().add(index * self.block_size()) };
            // SAFETY: uncarved and bare memory is the owner's alone.
            let block = unsafe { BlockPtr::from_start(start) };
            block.set_next(head);
            (head, count) = (Some(block), count + 1);
        }
        head.map(|head| (head, count))
    }

    fn index_of(&self, block: BlockPtr) -> usize {
        (block.start().addr().get() - self.start().addr().get()) / self.block_size()
    }

    /// The pages that a block touches, a bit for each.
    fn pages_of(&self, index: usize) -> u64 {
        let size = self.block_size();
        let (first, last) = (index * size / PAGE, ((index + 1) * size - 1) / PAGE);
        (u64::MAX >> (u64::BITS as usize - 1 - (last - first))) << first
    }

    /// Gives the memory of pages that no block out touches back to the kernel; says how many pages those were. `None`, and nothing
    /// given back, where the huge page that the slab lies in is to stay whole and `spares_huge`.
    pub(crate) fn return_free_pages(&self, spares_huge: bool) -> Option<usize> {
        let candidates = self.free_pages();
        let (returned, made_bare) = whole_kernel_pages(candidates, self.uncarved_pages());
        if made_bare == 0 {
            return Some(0);
        }
        let pages = made_bare.count_ones() as usize;
        if spares_huge && huge::slab_keeps(self.start(), slices_for(self.class()), pages) {
            return None;
        }
        // The links lie in the pages that go.
        let (mut kept, mut count) = (None, 0);
        for block in blocks_from(self.line1.free.take()) {
            if self.pages_of(self.index_of(block)) & made_bare == 0 {
                block.set_next(kept);
                (kept, count) = (Some(block), count + 1);
            }
        }
        let taken_off = self.line1.free_count.replace(count) - count;
        self.line1.free.set(kept);
        self.line1.bare.set(self.line1.bare.get() | made_bare);
        self.line1.bare_count.set(self.line1.bare_count.get() + taken_off);
        let mut left = returned;
        while left != 0 {
            let first = left.trailing_zeros();
            let pages = (left >> first).trailing_ones();
            // SAFETY: the pages lie in the slab.
            let start = unsafe { self.start().add(first as usize * PAGE) };
            // Where the kernel keeps the memory, the pages are no worse for it.
            os::discard(start, pages as usize * PAGE);
            left &= !((u64::MAX >> (u64::BITS - pages)) << first);
        }
        Some(pages)
    }

    /// The pages with memory, a bit for each, all of whose blocks are on the list or bare.
    fn free_pages(&self) -> u64 {
        let mut listed = [0_u64; MAX_BLOCKS.div_ceil(u64::BITS as usize)];
        for block in blocks_from(self.line1.free.get()) {
            let index = self.index_of(block);
            listed[index / u64::BITS as usize] |= 1 << (index % u64::BITS as usize);
        }
        let (size, bare) = (self.block_size(), self.line1.bare.get());
        let is_free = |index: usize| {
            listed[index / u64::BITS as usize] >> (index % u64::BITS as usize) & 1 != 0
                || self.pages_of(index) & bare != 0
        };
        let mut free = 0;
        for page in 0..(self.carved() * size).div_ceil(PAGE) {
            let (first, end) = (page * PAGE / size, ((page + 1) * PAGE).div_ceil(size).min(self.carved()));
            if bare >> page & 1 == 0 && (first..end).all(is_free) {
                free |= 1 << page;
            }
        }
        free
    }

    /// The pages where no block was carved, a bit for each.
    fn uncarved_pages(&self) -> u64 {
        let (carved, all) =
            ((self.carved() * self.block_size()).div_ceil(PAGE), self.line0.slices.get() as usize * PAGES_PER_SLICE);
        if carved == all { 0 } else { (u64::MAX >> (u64::BITS as usize - (all - carved))) << carved }
    }

    // The owner's aging list.

    pub(crate) fn is_aging(&self) -> bool {
        self.line1.is_aging.get()
    }

    /// Notes that blocks were given from this slab.
    pub(crate) fn note_given(&self) {
        self.line1.gave.set(true);
    }
}

/// Slabs whose lists have had blocks for a while, by when the first one came.
pub(crate) struct AgingList {
    oldest: Cell<Option<&'static Slab>>,
    newest: Cell<Option<&'static Slab>>,
}

/// A slab that has been in the aging list for long enough.
pub(crate) struct Aged {
    pub(crate) slab: &'static Slab,
    /// Whether it gave blocks meanwhile.
    pub(crate) gave: bool,
}

impl AgingList {
    pub(crate) const fn new() -> Self {
        Self { oldest: Cell::new(None), newest: Cell::new(None) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.oldest.get().is_none()
    }

    /// Enters a slab that is in no list.
    pub(crate) fn enter(&self, slab: &'static Slab, now_ms: u32) {
        let line = &slab.line1;
        line.is_aging.set(true);
        line.gave.set(false);
        line.stamp.set(now_ms);
        line.aging.newer.set(None);
        let before = self.newest.replace(Some(slab));
        line.aging.older.set(before);
        before.map_or(&self.oldest, |before| &before.line1.aging.newer).set(Some(slab));
    }

    /// Takes a slab out, if it is in.
    pub(crate) fn leave(&self, slab: &Slab) {
        if !slab.line1.is_aging.replace(false) {
            return;
        }
        let (before, after) = (slab.line1.aging.older.take(), slab.line1.aging.newer.take());
        before.map_or(&self.oldest, |before| &before.line1.aging.newer).set(after);
        after.map_or(&self.newest, |after| &after.line1.aging.older).set(before);
    }

    /// Takes out the slab that came first, if it came at least `age_ms` ago.
    pub(crate) fn take_aged(&self, now_ms: u32, age_ms: u32) -> Option<Aged> {
        let slab = self.oldest.get()?;
        if os::age_ms(now_ms, slab.line1.stamp.get()) < age_ms {
            return None;
        }
        self.leave(slab);
        Some(Aged { slab, gave: slab.line1.gave.get() })
    }
}

/// Of candidates for return, those that fill the kernel's pages together with uncarved ones: the pages to return, and those of
/// them that were candidates.
fn whole_kernel_pages(candidates: u64, uncarved: u64) -> (u64, u64) {
    let group = os::page_size() / PAGE;
    if group <= 1 {
        return (candidates, candidates);
    }
    if group > PAGES_PER_SLICE {
        return (0, 0);
    }
    let mut returned = 0;
    for first in (0..u64::BITS as usize).step_by(group) {
        let pages = (u64::MAX >> (u64::BITS as usize - group)) << first;
        if pages & !(candidates | uncarved) == 0 && pages & candidates != 0 {
            returned |= pages;
        }
    }
    (returned, returned & candidates)
}

/// What one slab of a class can hold, in blocks.
pub(crate) const fn capacity_for(class: SizeClass) -> usize {
    slices_for(class) * SLICE_SIZE / class.block_size()
}

const _: () = {
    let mut i = 0;
    while i < size_class::COUNT {
        let class = SizeClass::from_index(i);
        assert!(slices_for(class) < segment::SLICES);
        assert!(capacity_for(class) >= MIN_BLOCKS && capacity_for(class) <= MAX_BLOCKS);
        assert!(slices_for(class) * PAGES_PER_SLICE <= u64::BITS as usize, "a page needs a bit");
        i += 1;
    }
};
