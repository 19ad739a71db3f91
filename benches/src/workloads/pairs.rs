//! Blocks that live for a moment: pairs of one allocation and one free, and bursts of several.

use super::Workload;
use crate::block::{Block, Fixed};
use crate::heaps::Heap;
use crate::rng::Rng;
use crate::sizes::SizeTable;
use std::marker::PhantomData;

/// A block of 64 bytes, taken and given back at once. An operation is a pair.
pub struct ConstantPairs<H>(PhantomData<H>);

impl<H: Heap> Workload for ConstantPairs<H> {
    fn prepare() -> Self {
        Self(PhantomData)
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            Fixed::<H, 64>::take().give_back();
        }
        operations
    }
}

/// Pairs of eight constant sizes in turn, as a loop body with several short-lived objects makes them.
pub struct MixedPairs<H>(PhantomData<H>);

impl<H: Heap> Workload for MixedPairs<H> {
    fn prepare() -> Self {
        Self(PhantomData)
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        let rounds = operations.div_ceil(8);
        for _ in 0..rounds {
            Fixed::<H, 16>::take().give_back();
            Fixed::<H, 32>::take().give_back();
            Fixed::<H, 512>::take().give_back();
            Fixed::<H, 48>::take().give_back();
            Fixed::<H, 128>::take().give_back();
            Fixed::<H, 80>::take().give_back();
            Fixed::<H, 1024>::take().give_back();
            Fixed::<H, 256>::take().give_back();
        }
        rounds * 8
    }
}

/// Pairs of random sizes that the compiler does not know.
pub struct RandomPairs<H> {
    rng: Rng,
    sizes: SizeTable,
    heap: PhantomData<H>,
}

impl<H: Heap> Workload for RandomPairs<H> {
    fn prepare() -> Self {
        Self { rng: Rng::new(1), sizes: SizeTable::pareto(), heap: PhantomData }
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            Block::<H>::take(self.sizes.pick(self.rng.draw())).give_back();
        }
        operations
    }
}

/// `DEPTH` blocks of 64 bytes taken in a row, then given back in the order in which they were taken. An operation is a
/// pair.
pub struct Bursts<H, const DEPTH: usize>(Vec<Fixed<H, 64>>);

impl<H: Heap, const DEPTH: usize> Workload for Bursts<H, DEPTH> {
    fn prepare() -> Self {
        Self(Vec::with_capacity(DEPTH))
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        let rounds = operations.div_ceil(DEPTH as u64);
        for _ in 0..rounds {
            self.0.extend((0..DEPTH).map(|_| Fixed::take()));
            self.0.drain(..).for_each(Fixed::give_back);
        }
        rounds * DEPTH as u64
    }
}
