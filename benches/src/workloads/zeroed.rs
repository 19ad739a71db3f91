//! Zeroed blocks: `alloc_zeroed` and `calloc`. Each block's ends are checked, since a block that is not zeroed is not fast.

use super::Workload;
use crate::block::Block;
use crate::heaps::Heap;
use crate::rng::Rng;
use crate::sizes::SizeTable;
use std::collections::VecDeque;

/// Zeroed blocks of small random sizes or of 32 KiB to 1 MiB (`MEDIUM`), each kept while `LIVE` more are taken; medium ones
/// get a byte written in every page. An operation is one free and one allocation.
pub struct Zeroed<H, const MEDIUM: bool, const LIVE: usize> {
    blocks: VecDeque<Block<H>>,
    rng: Rng,
    sizes: SizeTable,
}

impl<H: Heap, const MEDIUM: bool, const LIVE: usize> Zeroed<H, MEDIUM, LIVE> {
    fn take(&mut self) {
        let mut block = Block::take_zeroed(self.sizes.pick(self.rng.draw()));
        assert_eq!(block.ends(), 0, "a zeroed block of {} bytes is not zero", block.size().bytes());
        if MEDIUM {
            block.touch_pages(0);
        } else {
            block.dirty();
        }
        self.blocks.push_back(block);
    }
}

impl<H: Heap, const MEDIUM: bool, const LIVE: usize> Workload for Zeroed<H, MEDIUM, LIVE> {
    fn prepare() -> Self {
        let sizes = if MEDIUM { SizeTable::log_uniform(32 << 10, 1 << 20) } else { SizeTable::pareto() };
        let mut zeroed = Self { blocks: VecDeque::with_capacity(LIVE + 1), rng: Rng::new(LIVE as u64), sizes };
        (0..LIVE).for_each(|_| zeroed.take());
        zeroed
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            if let Some(oldest) = self.blocks.pop_front() {
                oldest.give_back();
            }
            self.take();
        }
        operations
    }
}
