//! What each block of a slab is: live, or free and where.

use super::reader::Reader;
use super::records::{Slab, Trouble};
use super::root::Root;
use super::walk::{for_each_parcel, inbox, parcel};
use super::{Memory, Unreadable};

/// Blocks that a slab can have at most.
pub(super) const MAX_BLOCKS: usize = 4096;
/// Free blocks of one class in all caches that are looked at, at most.
const MAX_HELD: usize = 1 << 22;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockState {
    /// The program holds it.
    Live,
    /// Free, in the hands of a thread: in a magazine or an outbox.
    Cached,
    /// Free, on its way home: in an inbox, or taken from there and not used yet.
    Arriving,
    /// Free, on its slab's list.
    Listed,
    /// Free; the memory of at least one of its pages was returned to the kernel.
    Bare,
    /// Never made.
    Uncarved,
}

/// Calls `each` with the start and the state of each block of a slab, by address. Tells of trouble on the way; blocks whose
/// chains could not be followed count as live.
pub fn walk_blocks(
    memory: &dyn Memory,
    root: &Root,
    slab: &Slab,
    each: &mut dyn FnMut(usize, BlockState),
    trouble: &mut dyn FnMut(Trouble),
) {
    if slab.capacity > MAX_BLOCKS || slab.block_size == 0 {
        return trouble(Trouble::senseless("the capacity of the slab", slab.start));
    }
    let mut states = [BlockState::Live; MAX_BLOCKS];
    let mut blocks =
        Blocks { reader: Reader::new(memory), root, slab, states: &mut states[..slab.capacity], left: MAX_HELD };
    blocks.mark_by_place();
    if let Err(found) = blocks.mark_listed() {
        trouble(found);
    }
    if slab.out() > 0
        && let Err(found) = blocks.mark_held(trouble)
    {
        trouble(found);
    }
    for (index, &state) in states[..slab.capacity].iter().enumerate() {
        each(slab.start + index * slab.block_size, state);
    }
}

struct Blocks<'b, 'm> {
    reader: Reader<'m>,
    root: &'b Root,
    slab: &'b Slab,
    states: &'b mut [BlockState],
    /// Links that may still be followed: whatever the bytes say, the walk ends.
    left: usize,
}

impl Blocks<'_, '_> {
    fn mark_by_place(&mut self) {
        let (size, page) = (self.slab.block_size, self.root.layout.segment.page as usize);
        for (index, state) in self.states.iter_mut().enumerate() {
            let (first, last) = (index * size / page, ((index + 1) * size - 1) / page);
            if index >= self.slab.carved {
                *state = BlockState::Uncarved;
            } else if (first..=last.min(63)).any(|page| self.slab.bare_pages >> page & 1 != 0) {
                *state = BlockState::Bare;
            }
        }
    }

    fn mark_listed(&mut self) -> Result<(), Trouble> {
        let (slab, root) = (self.slab, self.root);
        let (reader, states) = (&mut self.reader, &mut *self.states);
        let mut strangers = 0;
        let whole = reader.follow(slab.free, slab.capacity, |reader, at| {
            match index_of(slab, at) {
                Some(index) if states[index] == BlockState::Live => states[index] = BlockState::Listed,
                _ => strangers += 1,
            }
            reader.word(at, root.layout.block.next)
        });
        match whole {
            Ok(true) if strangers == 0 => Ok(()),
            Ok(_) => Err(Trouble::senseless("the list of free blocks of the slab", slab.start)),
            Err(unreadable) => Err(Trouble::unreadable("a free block", unreadable)),
        }
    }

    /// Marks what lies in caches. A chain that changes while it is followed is left half-way.
    fn mark_held(&mut self, trouble: &mut dyn FnMut(Trouble)) -> Result<(), Trouble> {
        let (root, class) = (self.root, self.slab.class);
        let newest = self.reader.word(root.caches, root.layout.caches.newest);
        let newest = newest.map_err(|unreadable| Trouble::unreadable("the list of thread caches", unreadable))?;
        // This reader is busy with the list while the caches are looked into: they have another.
        let mut list = Reader::new(self.reader.memory());
        let whole = list.follow(newest, MAX_HELD, |list, cache| {
            if let Err(unreadable) = self.mark_cache(cache, class) {
                trouble(Trouble::unreadable("what a thread cache holds", unreadable));
            }
            list.word(cache, root.layout.cache.next)
        });
        match whole {
            Ok(true) => Ok(()),
            Ok(false) => Err(Trouble::senseless("the list of thread caches", newest)),
            Err(unreadable) => Err(Trouble::unreadable("a thread cache", unreadable)),
        }
    }

    fn mark_cache(&mut self, cache: usize, class: usize) -> Result<(), Unreadable> {
        let (root, layout) = (self.root, &self.root.layout.cache);
        let magazine = cache.wrapping_add(layout.magazines as usize + class * layout.magazine.size as usize);
        let young = self.reader.word(magazine, layout.magazine.top)?;
        let old = cache.wrapping_add(layout.old as usize + class * layout.old_size as usize);
        let old = self.reader.word(old, layout.old_head)?;
        self.mark_list(young, MAX_HELD, BlockState::Cached);
        self.mark_list(old, MAX_HELD, BlockState::Cached);
        let sets = cache.wrapping_add(layout.slabs as usize).wrapping_add(class * layout.sets.size as usize);
        let sets = sets.wrapping_add(layout.sets.classes as usize);
        let pending = self.reader.word(sets, layout.sets.pending)?;
        let arrived = inbox(&mut self.reader, root, cache, class)?.0;
        self.mark_chains(pending)?;
        self.mark_chains(arrived)?;
        if self.reader.word(cache, layout.granted_bytes)? > 0 {
            // The reader is busy with the outbox while its chains are told: they are followed by another.
            let mut places = Reader::new(self.reader.memory());
            for_each_parcel(&mut places, root, cache, |of, head, count| {
                if of == class {
                    self.mark_list(head, count, BlockState::Cached);
                }
            })?;
        }
        Ok(())
    }

    /// Marks the blocks of a list, as far as it can be followed.
    fn mark_list(&mut self, head: usize, most: usize, state: BlockState) {
        let (slab, next) = (self.slab, self.root.layout.block.next);
        let (states, left) = (&mut *self.states, &mut self.left);
        let _ = self.reader.follow(head, most.min(*left), |reader, at| {
            *left -= 1;
            if let Some(index) = index_of(slab, at)
                && states[index] == BlockState::Live
            {
                states[index] = state;
            }
            reader.word(at, next)
        });
    }

    fn mark_chains(&mut self, first: usize) -> Result<(), Unreadable> {
        let root = self.root;
        let mut heads = Reader::new(self.reader.memory());
        heads.follow(first, self.left, |heads, head| {
            let (after, count) = parcel(root, heads.word(head, root.layout.block.parcel)?);
            self.mark_list(head, count, BlockState::Arriving);
            Ok(after)
        })?;
        Ok(())
    }
}

/// The number of the block that starts at an address.
fn index_of(slab: &Slab, address: usize) -> Option<usize> {
    let offset = address.checked_sub(slab.start)?;
    let index = offset / slab.block_size;
    (offset.is_multiple_of(slab.block_size) && index < slab.carved).then_some(index)
}
