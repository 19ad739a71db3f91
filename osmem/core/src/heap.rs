//! The heap: a list of blocks in address order, over memory that grows at its end.
//!
//! Invariants, between any two calls:
//! - each block of the heap is in the list exactly once, and addresses rise along it;
//! - a block is free or allocated; mapped blocks are not in the list;
//! - two blocks may follow each other directly or with a gap, which is there when somebody else moved the end of the
//!   memory meanwhile. Blocks are merged and grown only where nothing lies between;
//! - free neighbours may stand side by side: a free only marks. The next allocation merges them.

use core::iter::successors;
use core::ptr::NonNull;

use crate::block::{ALIGNMENT, Block, HEADER, Status};
use crate::placement::Placement;

/// Memory that grows at its end: the program break, or a buffer that plays its part.
///
/// # Safety
/// The bytes that `grow` hands out start at a multiple of 8, above all earlier ones, are readable and writable for as
/// long as the heap is used, and belong to nobody else.
pub unsafe trait Memory {
    /// Moves the end up by `bytes` and returns where they begin, or None where there is no more to have.
    fn grow(&mut self, bytes: usize) -> Option<NonNull<u8>>;

    /// The present end, where `grow` would go on.
    fn end(&self) -> *mut u8;
}

/// The list of blocks. Sizes passed to it are those of [`payload_for`](crate::block::payload_for).
pub struct Heap<M> {
    memory: M,
    placement: Placement,
    preallocation: usize,
    first: Option<Block>,
    /// Where next fit goes on; always a block of the list.
    rover: Option<Block>,
    examined: usize,
}

impl<M: Memory> Heap<M> {
    /// An empty heap. Its first allocation begins with one free block of `preallocation` bytes, header included (0: none).
    pub const fn new(memory: M, placement: Placement, preallocation: usize) -> Self {
        Self { memory, placement, preallocation, first: None, rover: None, examined: 0 }
    }

    /// Hands out a block of at least `size` bytes. None only where the memory cannot grow.
    pub fn allocate(&mut self, size: usize) -> Option<Block> {
        assert!(size.is_multiple_of(ALIGNMENT), "a size that was not rounded up");
        if self.first.is_none() && self.preallocation > 0 {
            self.append(self.preallocation - HEADER)?;
        }
        self.merge_free_blocks();
        let block = match self.choose(size) {
            Some(hole) => hole,
            None => self.grow(size)?,
        };
        Self::split(block, size);
        block.set_status(Status::ALLOCATED);
        self.rover = block.next();
        Some(block)
    }

    /// Gives an allocated block back: it is only marked. Its payload keeps what the caller wrote.
    pub fn release(&mut self, block: Block) {
        block.set_status(Status::FREE);
    }

    /// Makes an allocated block hold `size` bytes where it lies; false if it must move.
    ///
    /// What it absorbed on the way to a false stays absorbed.
    pub fn resize(&mut self, block: Block, size: usize) -> bool {
        assert!(size.is_multiple_of(ALIGNMENT), "a size that was not rounded up");
        if block.size() < size && !self.extend_last(block, size) && !self.absorb_until(block, size) {
            return false;
        }
        Self::split(block, size);
        true
    }

    /// The blocks, by address.
    pub fn blocks(&self) -> impl Iterator<Item = Block> + use<M> {
        walk(self.first)
    }

    /// How many free blocks all searches so far have looked at.
    pub fn examined(&self) -> usize {
        self.examined
    }

    /// The memory below.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    fn merge_free_blocks(&mut self) {
        let mut current = self.first;
        while let Some(block) = current {
            if block.is_free() {
                while self.absorb_next(block) {}
            }
            current = block.next();
        }
    }

    fn choose(&mut self, size: usize) -> Option<Block> {
        let start = match self.placement {
            Placement::NextFit => self.rover.or(self.first),
            _ => self.first,
        };
        let before_start = walk(self.first).take_while(|&block| Some(block) != start);
        let holes = walk(start).chain(before_start).filter(|block| block.is_free());
        let examined = &mut self.examined;
        self.placement.choose(holes.inspect(|_| *examined += 1), size)
    }

    /// No hole suffices: the end must move, by what the last block lacks if that is free, else by a whole block.
    fn grow(&mut self, size: usize) -> Option<Block> {
        match self.blocks().last() {
            Some(last) if last.is_free() && self.extend_last(last, size) => Some(last),
            _ => self.append(size),
        }
    }

    /// Adds a free block of `size` bytes behind the last one.
    fn append(&mut self, size: usize) -> Option<Block> {
        let start = self.memory.grow(HEADER + size)?;
        // SAFETY: the memory has just handed out these bytes, aligned, to us alone.
        let block = unsafe { Block::write(start, size, Status::FREE) };
        match self.blocks().last() {
            Some(last) => last.link(Some(block)),
            None => self.first = Some(block),
        }
        Some(block)
    }

    /// Grows `block` to `size` bytes by moving the end of the memory, if the block is what lies there.
    fn extend_last(&mut self, block: Block, size: usize) -> bool {
        let at_the_end = block.next().is_none() && block.end().as_ptr() == self.memory.end();
        if !at_the_end || self.memory.grow(size - block.size()).is_none() {
            return false;
        }
        block.set_size(size);
        true
    }

    /// Grows `block` to at least `size` bytes by taking in the free blocks behind it, one at a time.
    fn absorb_until(&mut self, block: Block, size: usize) -> bool {
        while block.size() < size {
            if !self.absorb_next(block) {
                return false;
            }
        }
        true
    }

    /// Makes the following block, header and all, a part of this one's payload, if it is free and touches it.
    fn absorb_next(&mut self, block: Block) -> bool {
        match block.next() {
            Some(next) if next.is_free() && next.start() == block.end() => {
                block.set_size(block.size() + HEADER + next.size());
                block.link(next.next());
                if self.rover == Some(next) {
                    self.rover = Some(block);
                }
                true
            }
            _ => false,
        }
    }

    /// Cuts `block` to `size` bytes, if the rest makes a free block of at least 8 bytes; else it keeps its full size.
    fn split(block: Block, size: usize) {
        let rest = block.size() - size;
        if rest < HEADER + 8 {
            return;
        }
        block.set_size(size);
        // SAFETY: the `rest` bytes behind the shortened payload were the block's own, and are now nobody else's.
        let remainder = unsafe { Block::write(block.end(), rest - HEADER, Status::FREE) };
        remainder.link(block.next());
        block.link(Some(remainder));
    }
}

fn walk(start: Option<Block>) -> impl Iterator<Item = Block> {
    successors(start, |block| block.next())
}
