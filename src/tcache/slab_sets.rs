//! The slabs of one cache that have blocks to give, by class and by how full they are.
//!
//! ```text
//!  class c:  bin 0 (≥ 3/4 out)   bin 1 (≥ 1/2)   bin 2 (≥ 1/4)   bin 3 (< 1/4)      each a tree by address
//!            ▲ taken from first
//! ```
//!
//! Fullest first, lowest address among equals: then thinly used slabs run dry and go back to the arena whole. A slab that
//! can give nothing is in no bin; it comes back when a block of it is settled. Guarded by the cache's lock, which any
//! thread may take: the owner on its slow paths, others when they settle or take over what an idle owner left.
//!
//! A slab whose list got a block enters the aging list. If it gives nothing for a while it goes back to its arena when it is
//! empty, and otherwise returns the memory of its free pages to the kernel.

use super::magazine::List;
use crate::arena::{ARENAS, AgingList, Owner, PAGE, Slab, Treap, capacity_for};
use crate::block::{BlockPtr, Chain, Chains};
use crate::layout::SetsLayout;
use crate::size_class::{self, SizeClass};
use core::iter::Peekable;
use core::mem::offset_of;
use core::ptr::NonNull;

const BINS: usize = 4;
const NO_BIN: usize = BINS;

/// A refill carves at most this many bytes at a time, so that memory is touched little before it is used.
const CARVE_BYTES: usize = 4096;

/// No slab is smaller, in bytes: for a class that has not so much nothing has to be divided.
const LEAST_SLAB: usize = 32 << 10;

/// Returning a page costs as much as looking at this many blocks.
const PAGE_WORK: usize = 16;

// In this order: a thread with small classes alone does not touch the end, and each writes to the aging list.
#[repr(C)]
pub(crate) struct SlabSets {
    aging: AgingList,
    classes: [ClassSlabs; size_class::COUNT],
}

struct ClassSlabs {
    bins: [Treap<Slab>; BINS],
    /// Chains from the inbox that were taken and not used yet.
    pending: Chains,
    holdings: Holdings,
    /// The slab that was kept when it became empty, since no other had blocks to give.
    spare: Option<&'static Slab>,
}

/// What the slabs of a class hold.
#[derive(Clone, Copy, Default)]
pub(crate) struct Holdings {
    /// Blocks that are out: given to magazines and not settled since.
    pub(crate) out: usize,
    /// Blocks on the slabs' lists.
    pub(crate) listed: usize,
    /// Bytes of pages with memory.
    pub(crate) touched: usize,
}

impl Holdings {
    fn of(slab: &Slab) -> Self {
        Self { out: slab.out_count(), listed: slab.free_count(), touched: slab.touched_bytes() }
    }

    /// Enters a change of a slab that held `before`.
    fn change(&mut self, before: Self, slab: &Slab) {
        let after = Self::of(slab);
        self.out = self.out + after.out - before.out;
        self.listed = self.listed + after.listed - before.listed;
        self.touched = self.touched + after.touched - before.touched;
    }
}

// SAFETY: guarded by the cache's lock.
unsafe impl Send for SlabSets {}

/// What became of a settled block.
pub(crate) enum Settled {
    Listed,
    /// The block's slab belongs to this cache instead; null if it is no slab any more, which means that the block was freed
    /// twice.
    Foreign(*mut Owner),
    /// This block, of so many bytes, was freed twice.
    Twice(BlockPtr, usize),
}

impl SlabSets {
    pub(crate) const LAYOUT: SetsLayout = SetsLayout {
        classes: offset_of!(Self, classes) as u32,
        size: size_of::<ClassSlabs>() as u32,
        pending: offset_of!(ClassSlabs, pending.head) as u32,
        pending_blocks: offset_of!(ClassSlabs, pending.blocks) as u32,
        out: offset_of!(ClassSlabs, holdings.out) as u32,
        listed: offset_of!(ClassSlabs, holdings.listed) as u32,
        touched: offset_of!(ClassSlabs, holdings.touched) as u32,
    };

    /// How far what is known of the classes up to this one reaches, in bytes.
    #[cfg(not(loom))]
    pub(crate) const fn end_of_class(index: usize) -> usize {
        offset_of!(Self, classes) + (index + 1) * size_of::<ClassSlabs>()
    }

    pub(crate) const fn new() -> Self {
        Self { classes: [const { ClassSlabs::new() }; size_class::COUNT], aging: AgingList::new() }
    }

    pub(crate) fn has_pending(&self, class: SizeClass) -> bool {
        self.pending_blocks(class) > 0
    }

    /// Keeps what was taken from the inbox of a class; nothing must be pending.
    pub(crate) fn keep_pending(&mut self, class: SizeClass, arrived: Chains) {
        self.classes[class.index()].pending = arrived;
    }

    pub(crate) fn pop_pending(&mut self, class: SizeClass) -> Option<Chain> {
        let pending = &mut self.classes[class.index()].pending;
        let chain = pending.pop();
        // The next one lies in the cache of the thread that sent it.
        BlockPtr::fetch(pending.head);
        chain
    }

    pub(crate) fn holdings(&self, class: SizeClass) -> Holdings {
        self.classes[class.index()].holdings
    }

    /// Blocks of a class that other threads sent and nobody has used yet, of those that left the inbox.
    pub(crate) fn pending_blocks(&self, class: SizeClass) -> usize {
        self.classes[class.index()].pending.blocks
    }

    /// Whether so much of a class's memory is free that its blocks should come from the fullest slabs. What is pending is free, too; it
    /// may have become another cache's meanwhile.
    pub(crate) fn is_thin(&self, class: SizeClass) -> bool {
        let ClassSlabs { holdings, pending, .. } = &self.classes[class.index()];
        is_much_free(class, holdings.out.saturating_sub(pending.blocks), holdings.touched)
    }

    /// Gives a list of up to `most` blocks from the fullest slab that has any: all that is on its list, or freshly carved ones.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn give(&mut self, class: SizeClass, most: usize) -> Option<List> {
        let slabs = &mut self.classes[class.index()];
        let slab = slabs.bins.iter().find_map(Treap::first)?;
        let carved = (CARVE_BYTES / class.block_size()).clamp(1, most);
        let before = Holdings::of(slab);
        let (head, count) = slab.take_list(most).or_else(|| slab.carve(carved))?;
        slabs.holdings.change(before, slab);
        slab.note_given();
        slabs.rebin(slab);
        Some(List { head: Some(head), count })
    }

    /// Takes in a slab that belongs to this cache now.
    pub(crate) fn adopt(&mut self, slab: &'static Slab) {
        slab.set_bin(NO_BIN);
        let slabs = &mut self.classes[slab.class().index()];
        slabs.holdings.change(Holdings::default(), slab);
        slabs.rebin(slab);
    }

    /// Hands over a slab of the class that has blocks to give.
    pub(crate) fn hand_over(&mut self, class: SizeClass) -> Option<&'static Slab> {
        let slabs = &mut self.classes[class.index()];
        let slab = slabs.bins.iter().find_map(Treap::first)?;
        slabs.withdraw(&self.aging, slab);
        Some(slab)
    }

    /// Puts a block on its slab's list, and with it those of the same slab that follow in `rest`, if the slab is `owner`'s,
    /// whose sets these are. A slab that is empty then goes back to its arena, unless it is the last one of its class that has
    /// blocks to give.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn settle(
        &mut self,
        owner: NonNull<Owner>,
        block: BlockPtr,
        rest: &mut Peekable<impl Iterator<Item = BlockPtr>>,
        now_ms: u32,
    ) -> Settled {
        // SAFETY: blocks lie in registered segments.
        let slab = unsafe { crate::arena::slab_containing(block.start()) }.first();
        // The owner changes only under the lock of the owner that is; it is read here under ours.
        if slab.owner() != owner.as_ptr() {
            return Settled::Foreign(slab.owner());
        }
        let slabs = &mut self.classes[slab.class().index()];
        let before = slab.free_count();
        if let Err(block) = slab.list(block, rest) {
            // All blocks of the slab are free already, this one among them.
            return Settled::Twice(block, slab.block_size());
        }
        let listed = slab.free_count() - before;
        slabs.holdings.out -= listed;
        slabs.holdings.listed += listed;
        slabs.rebin(slab);
        if !slab.is_aging() {
            self.aging.enter(slab, now_ms);
        }
        if slab.is_empty() {
            if slabs.is_alone(slab) {
                slabs.spare = Some(slab);
            } else {
                slabs.release(&self.aging, slab);
            }
        }
        Settled::Listed
    }

    /// Whether a slab has a free block that it did not have for long.
    pub(crate) fn is_aging(&self) -> bool {
        !self.aging.is_empty()
    }

    /// Gives every empty slab back to its arena.
    pub(crate) fn release_empty(&mut self) {
        for class in SizeClass::all() {
            let slabs = &mut self.classes[class.index()];
            // Not taken out unseen: most classes have none, and memory that was never written stays so.
            let Some(slab) = slabs.spare else { continue };
            slabs.spare = None;
            if slab.is_empty() {
                slabs.release(&self.aging, slab);
            }
        }
    }

    /// Gives back what slabs have not needed for `age_ms`: empty slabs, and free pages of others. Looks at about `budget`
    /// blocks or pages. Says how many pages inside slabs lost their memory.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn give_back(&mut self, now_ms: u32, age_ms: u32, mut budget: usize) -> usize {
        let mut returned = 0;
        while budget > 0
            && let Some(aged) = self.aging.take_aged(now_ms, age_ms)
        {
            let slab = aged.slab;
            let slabs = &mut self.classes[slab.class().index()];
            let mut work = 1;
            if slab.is_empty() {
                slabs.release(&self.aging, slab);
            } else if aged.gave && age_ms > 0 {
                if slab.free_count() > 0 {
                    self.aging.enter(slab, now_ms);
                }
            } else if slab.free_count() > 0 {
                let before = Holdings::of(slab);
                let pages = slab.return_free_pages(age_ms > 0).unwrap_or_else(|| {
                    // A huge page keeps them for now.
                    self.aging.enter(slab, now_ms);
                    0
                });
                returned += pages;
                work += before.listed + PAGE_WORK * pages;
                slabs.holdings.change(before, slab);
            }
            budget = budget.saturating_sub(work);
        }
        returned
    }
}

impl ClassSlabs {
    const fn new() -> Self {
        Self {
            bins: [const { Treap::new() }; BINS],
            pending: Chains::EMPTY,
            holdings: Holdings { out: 0, listed: 0, touched: 0 },
            spare: None,
        }
    }

    /// Puts a slab into the bin where it belongs now.
    #[unsafe(link_section = ".text.terrace.common")]
    fn rebin(&self, slab: &'static Slab) {
        let bin = bin_for(slab);
        if bin == slab.bin() {
            return;
        }
        if slab.bin() != NO_BIN {
            self.bins[slab.bin()].remove(slab);
        }
        if bin != NO_BIN {
            self.bins[bin].insert(slab);
        }
        slab.set_bin(bin);
    }

    /// Whether no other slab of the class has blocks to give.
    fn is_alone(&self, slab: &'static Slab) -> bool {
        self.bins.iter().find_map(Treap::first).is_some_and(|first| core::ptr::eq(first, slab))
            && self.bins[slab.bin()].after(slab).is_none()
    }

    fn release(&mut self, aging: &AgingList, slab: &'static Slab) {
        self.withdraw(aging, slab);
        ARENAS.release_slab(slab);
    }

    /// Takes a slab that stands in a bin out of these sets.
    fn withdraw(&mut self, aging: &AgingList, slab: &'static Slab) {
        let held = Holdings::of(slab);
        self.holdings.out -= held.out;
        self.holdings.listed -= held.listed;
        self.holdings.touched -= held.touched;
        self.bins[slab.bin()].remove(slab);
        aging.leave(slab);
        self.spare = self.spare.filter(|spare| !core::ptr::eq(*spare, slab));
    }
}

/// Whether, of so many bytes of pages, so many blocks of the class leave much free: more than a slab, which a class keeps in any case,
/// and more than a 32nd of what they take in full slabs, with their share of what is left over there (decision 26).
fn is_much_free(class: SizeClass, blocks: usize, touched: usize) -> bool {
    if touched <= LEAST_SLAB {
        return false;
    }
    let capacity = capacity_for(class);
    let slab = (capacity * class.block_size()).next_multiple_of(PAGE);
    let used = blocks * slab / capacity;
    let free = touched.saturating_sub(used);
    free > slab && free > used / 32
}

fn bin_for(slab: &Slab) -> usize {
    if slab.is_full() {
        return NO_BIN;
    }
    let (four_times_out, capacity) = (slab.out_count() * 4, slab.capacity());
    let quarters = [1, 2, 3].into_iter().filter(|quarter| four_times_out >= quarter * capacity).count();
    BINS - 1 - quarters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_slabs_leave_nothing_free_and_slabs_half_full_much() {
        for class in SizeClass::all() {
            let capacity = capacity_for(class);
            let touched = (capacity * class.block_size()).next_multiple_of(PAGE);
            assert!(touched >= LEAST_SLAB);
            for slabs in 1..1000 {
                assert!(!is_much_free(class, slabs * capacity, slabs * touched), "{slabs} of {}", class.block_size());
            }
            assert!(!is_much_free(class, capacity, 2 * touched), "a slab more of {}", class.block_size());
            assert!(is_much_free(class, 2 * capacity, 4 * touched), "two slabs more of {}", class.block_size());
            assert!(!is_much_free(class, 100 * capacity, 102 * touched), "little more of {}", class.block_size());
        }
    }
}
