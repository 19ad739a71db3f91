//! Blocks that grow: `realloc`.

use super::Workload;
use crate::block::Block;
use crate::heaps::Heap;
use crate::sizes::BlockSize;
use std::marker::PhantomData;

/// Vectors that grow by doubling from 16 bytes to `LARGEST`, `TOGETHER` of them in turn, so that none simply extends into
/// the free memory after it; each new half is touched. An operation is one vector's whole growth.
pub struct Doubling<H, const LARGEST: usize, const TOGETHER: usize>(PhantomData<H>);

impl<H: Heap, const LARGEST: usize, const TOGETHER: usize> Workload for Doubling<H, LARGEST, TOGETHER> {
    fn prepare() -> Self {
        Self(PhantomData)
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        let rounds = operations.div_ceil(TOGETHER as u64);
        for _ in 0..rounds {
            let mut vectors: [Block<H>; TOGETHER] = std::array::from_fn(|_| Block::take(BlockSize::new(16)));
            let mut bytes = 16;
            while bytes < LARGEST {
                vectors = vectors.map(|vector| {
                    let mut grown = vector.resize(BlockSize::new(bytes * 2));
                    grown.touch_pages(bytes);
                    grown
                });
                bytes *= 2;
            }
            vectors.into_iter().for_each(Block::give_back);
        }
        rounds * TOGETHER as u64
    }
}

/// Two buffers that stand in each other's way: 1,000 bytes are appended to each in turn, with no reserve, to a length of
/// 1 MiB. An operation is one append.
pub struct Appending<H>(PhantomData<H>);

impl<H: Heap> Workload for Appending<H> {
    fn prepare() -> Self {
        Self(PhantomData)
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        const BUFFERS: u64 = 2;
        const STEP: usize = 1000;
        const STEPS: u64 = (1 << 20) / STEP as u64;
        let rounds = operations.div_ceil(BUFFERS * STEPS);
        for _ in 0..rounds {
            let mut buffers: [Block<H>; BUFFERS as usize] = std::array::from_fn(|_| Block::take(BlockSize::new(STEP)));
            for step in 1..STEPS as usize {
                buffers = buffers.map(|buffer| {
                    let mut longer = buffer.resize(BlockSize::new((step + 1) * STEP));
                    longer.touch_pages(step * STEP);
                    longer
                });
            }
            buffers.into_iter().for_each(Block::give_back);
        }
        rounds * BUFFERS * STEPS
    }
}
