//! One path of the allocator at a time, at its shortest: for counting instructions, and to see where time goes.

use super::Workload;
use crate::block::{Aligned, Block};
use crate::heaps::Heap;
use crate::rng::Rng;
use crate::sizes::{BlockSize, SizeTable};
use std::hint::black_box;
use std::marker::PhantomData;

/// A block of `BYTES`, taken and given back at once; the compiler does not know the size, and only the first word is
/// written. An operation is a pair.
pub struct PlainPairs<H, const BYTES: usize>(PhantomData<H>);

impl<H: Heap, const BYTES: usize> Workload for PlainPairs<H, BYTES> {
    fn prepare() -> Self {
        Self(PhantomData)
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            Block::<H>::take(BlockSize::new(black_box(BYTES))).give_back();
        }
        operations
    }
}

/// The same with zeroed memory.
pub struct ZeroedPairs<H, const BYTES: usize>(PhantomData<H>);

impl<H: Heap, const BYTES: usize> Workload for ZeroedPairs<H, BYTES> {
    fn prepare() -> Self {
        Self(PhantomData)
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            let block = Block::<H>::take_zeroed(BlockSize::new(black_box(BYTES)));
            assert_eq!(block.ends(), 0, "a zeroed block is not zero");
            block.give_back();
        }
        operations
    }
}

/// A block of 64 bytes that is reallocated to `BYTES` and given back. An operation is all three.
pub struct Reallocation<H, const BYTES: usize>(PhantomData<H>);

impl<H: Heap, const BYTES: usize> Workload for Reallocation<H, BYTES> {
    fn prepare() -> Self {
        Self(PhantomData)
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            Block::<H>::take(BlockSize::new(black_box(64))).resize(BlockSize::new(black_box(BYTES))).give_back();
        }
        operations
    }
}

/// A block of 100 bytes with an alignment of `ALIGN`. An operation is a pair.
pub struct AlignedPairs<H, const ALIGN: usize>(PhantomData<H>);

impl<H: Heap, const ALIGN: usize> Workload for AlignedPairs<H, ALIGN> {
    fn prepare() -> Self {
        Self(PhantomData)
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            Aligned::<H>::take(BlockSize::new(black_box(100)), black_box(ALIGN)).give_back();
        }
        operations
    }
}

/// `LIVE` blocks of small random sizes with alignments of 32 bytes to a page, each replaced in random order. An operation is
/// one free and one allocation.
pub struct AlignedSet<H, const LIVE: usize> {
    blocks: Vec<Aligned<H>>,
    rng: Rng,
    sizes: SizeTable,
}

impl<H: Heap, const LIVE: usize> AlignedSet<H, LIVE> {
    #[inline(always)]
    fn take(sizes: &SizeTable, rng: &mut Rng) -> Aligned<H> {
        let align = 32 << rng.below(8);
        Aligned::take(sizes.pick(rng.draw()), align)
    }
}

impl<H: Heap, const LIVE: usize> Workload for AlignedSet<H, LIVE> {
    fn prepare() -> Self {
        let (mut rng, sizes) = (Rng::new(LIVE as u64), SizeTable::pareto());
        let blocks = (0..LIVE).map(|_| Self::take(&sizes, &mut rng)).collect();
        Self { blocks, rng, sizes }
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            let index = self.rng.below(LIVE as u32);
            let fresh = Self::take(&self.sizes, &mut self.rng);
            std::mem::replace(&mut self.blocks[index], fresh).give_back();
        }
        operations
    }
}
