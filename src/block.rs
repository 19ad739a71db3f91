//! Free blocks and the chains they form: what lies in a block's own memory while nobody uses it.
//!
//! ```text
//!  chain:      head            second           last
//!            ┌────────┐      ┌────────┐      ┌────────┐
//!   word 0   │ next ──┼─────▶│ next ──┼─────▶│  null  │
//!   word 1   │ parcel │      │   -    │      │   -    │
//!            └────────┘      └────────┘      └────────┘
//!   parcel, while the chain travels: the next chain's head (48 bits) and this chain's count of blocks (16 bits)
//! ```
//!
//! A free block is held by exactly one list at a time (a magazine, an outbox, an inbox, or its slab), and whoever may
//! touch that list may touch the block's two words. That is what makes the accessors here safe to call.

use crate::layout::BlockLayout;
use crate::sync;
use core::mem::offset_of;
use core::ptr::NonNull;

/// Bits of an address; the rest of a word is free for a count.
const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: usize = (1 << ADDRESS_BITS) - 1;

/// The two words of a free block.
#[repr(C)]
pub(crate) struct FreeBlock {
    next: Option<BlockPtr>,
    parcel: *mut FreeBlock,
}

/// A free block that the holder of this pointer may write: aligned to 8, at least 16 bytes long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct BlockPtr(NonNull<FreeBlock>);

impl BlockPtr {
    pub(crate) const LAYOUT: BlockLayout = BlockLayout {
        next: offset_of!(FreeBlock, next) as u32,
        parcel: offset_of!(FreeBlock, parcel) as u32,
        address_bits: ADDRESS_BITS,
    };

    /// # Safety
    /// `start` must be the first byte of a block that is in nobody else's hands.
    #[inline(always)]
    pub(crate) unsafe fn from_start(start: NonNull<u8>) -> Self {
        Self(start.cast())
    }

    #[inline(always)]
    pub(crate) fn start(self) -> NonNull<u8> {
        self.0.cast()
    }

    #[inline(always)]
    fn next_place(self) -> *mut Option<BlockPtr> {
        self.0.as_ptr().cast::<u8>().wrapping_add(offset_of!(FreeBlock, next)).cast()
    }

    fn parcel_place(self) -> *mut *mut FreeBlock {
        self.0.as_ptr().cast::<u8>().wrapping_add(offset_of!(FreeBlock, parcel)).cast()
    }

    #[inline(always)]
    #[cfg_attr(loom, track_caller)]
    pub(crate) fn next(self) -> Option<BlockPtr> {
        // SAFETY: the block is free and in this list's hands, and word 0 was written when it was put there.
        unsafe { sync::read(self.next_place()) }
    }

    #[inline(always)]
    #[cfg_attr(loom, track_caller)]
    pub(crate) fn set_next(self, next: Option<BlockPtr>) {
        // SAFETY: the block is free and in the caller's hands, and at least 16 bytes long.
        unsafe { sync::write(self.next_place(), next) }
    }

    /// Has the processor fetch the block's first line for writing, if it likes to: whoever takes this block next writes to it, and it may
    /// lie in the cache of the thread that freed it. Null is no harm.
    #[inline(always)]
    pub(crate) fn fetch(block: Option<BlockPtr>) {
        let line: *mut FreeBlock = block.map_or(core::ptr::null_mut(), |block| block.0.as_ptr());
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: a hint, which changes nothing and never faults; x86-64 processors since about 2006 know it or pass over it.
        unsafe {
            core::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly))
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("prfm pstl1keep, [{}]", in(reg) line, options(nostack, preserves_flags, readonly))
        }
        #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
        let _ = line;
    }

    fn parcel(self) -> Parcel {
        // SAFETY: as in `next`; word 1 of a chain's head was written when the chain was pushed.
        Parcel(unsafe { sync::read(self.parcel_place()) })
    }

    fn set_parcel(self, parcel: Parcel) {
        // SAFETY: as in `set_next`.
        unsafe { sync::write(self.parcel_place(), parcel.0) }
    }
}

/// An address and a count of at most 65,535 in one word.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Parcel(pub(crate) *mut FreeBlock);

impl Parcel {
    pub(crate) const EMPTY: Self = Self(core::ptr::null_mut());
    /// The count of all chains of an inbox together that stands for so many or more.
    pub(crate) const MANY: u16 = u16::MAX;

    pub(crate) fn new(head: Option<BlockPtr>, count: u16) -> Self {
        let address = head.map_or(core::ptr::null_mut(), |head| head.0.as_ptr());
        Self(address.map_addr(|address| address | usize::from(count) << ADDRESS_BITS))
    }

    pub(crate) fn head(self) -> Option<BlockPtr> {
        NonNull::new(self.0.map_addr(|word| word & ADDRESS_MASK)).map(BlockPtr)
    }

    pub(crate) fn count(self) -> u16 {
        (self.0.addr() >> ADDRESS_BITS) as u16
    }
}

/// A list of `count` blocks of one size class, linked through word 0.
#[derive(Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) head: BlockPtr,
    pub(crate) count: u16,
}

/// Chains that travel together, linked through word 1 of their heads, and how many blocks they have in all.
#[derive(Clone, Copy)]
pub(crate) struct Chains {
    pub(crate) head: Option<BlockPtr>,
    pub(crate) blocks: usize,
}

impl Chains {
    pub(crate) const EMPTY: Self = Self { head: None, blocks: 0 };

    /// Puts `chain` in front of the chains that begin with `rest`.
    pub(crate) fn link(chain: Chain, rest: Option<BlockPtr>) {
        chain.head.set_parcel(Parcel::new(rest, chain.count));
    }

    /// The chains that a parcel stands for, each of them linked by [`Chains::link`]. Its count is taken as it is, unless it says
    /// [`Parcel::MANY`]: the heads lie in the caches of those who sent them, and to look at each takes long.
    pub(crate) fn of(parcel: Parcel) -> Self {
        let head = parcel.head();
        let blocks = match parcel.count() {
            Parcel::MANY => core::iter::successors(Self::first(head), |(_, rest)| Self::first(*rest))
                .map(|(chain, _)| usize::from(chain.count))
                .sum(),
            count => usize::from(count),
        };
        Self { head, blocks }
    }

    /// The first of the chains that begin with `head`, and the head of the others.
    fn first(head: Option<BlockPtr>) -> Option<(Chain, Option<BlockPtr>)> {
        let head = head?;
        let parcel = head.parcel();
        Some((Chain { head, count: parcel.count() }, parcel.head()))
    }

    pub(crate) fn pop(&mut self) -> Option<Chain> {
        let (chain, rest) = Self::first(self.head)?;
        self.head = rest;
        self.blocks -= usize::from(chain.count);
        Some(chain)
    }

    /// What stands for all of them.
    pub(crate) fn parcel(self) -> Parcel {
        Parcel::new(self.head, self.blocks.min(usize::from(Parcel::MANY)) as u16)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }
}

impl Chain {
    /// The blocks of the chain, each taken before its link is read no more.
    pub(crate) fn blocks(self) -> impl Iterator<Item = BlockPtr> {
        blocks_from(Some(self.head))
    }
}

/// The blocks of a list, first to last; each may be given away as soon as it has come out.
pub(crate) fn blocks_from(head: Option<BlockPtr>) -> impl Iterator<Item = BlockPtr> {
    let mut next = head;
    core::iter::from_fn(move || {
        let block = next?;
        next = block.next();
        Some(block)
    })
}

const _: () = assert!(size_of::<FreeBlock>() == crate::size_class::MIN_BLOCK);
const _: () = assert!(size_of::<Option<BlockPtr>>() == size_of::<usize>());
