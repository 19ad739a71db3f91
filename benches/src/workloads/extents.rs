//! Blocks of many pages: medium ones of 32 KiB to 1 MiB, and large ones of several MiB.

use super::Workload;
use crate::block::Block;
use crate::heaps::Heap;
use crate::rng::Rng;
use crate::sizes::SizeTable;

/// A random working set of `LIVE` blocks between `LOW_KIB` and `HIGH_KIB`, each doubling as frequent as the next; a byte is
/// written in every page of a new block. An operation frees the block of a random slot and allocates its successor.
pub struct Extents<H, const LIVE: usize, const LOW_KIB: u32, const HIGH_KIB: u32> {
    blocks: Vec<Block<H>>,
    rng: Rng,
    sizes: SizeTable,
}

impl<H: Heap, const LIVE: usize, const LOW_KIB: u32, const HIGH_KIB: u32> Workload
    for Extents<H, LIVE, LOW_KIB, HIGH_KIB>
{
    fn prepare() -> Self {
        let mut rng = Rng::new(LIVE as u64);
        let sizes = SizeTable::log_uniform(LOW_KIB << 10, HIGH_KIB << 10);
        let mut blocks: Vec<_> = (0..LIVE).map(|_| Block::take(sizes.pick(rng.draw()))).collect();
        blocks.iter_mut().for_each(|block| block.touch_pages(0));
        Self { blocks, rng, sizes }
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            let draw = self.rng.draw();
            let block = &mut self.blocks[draw.below(LIVE as u32)];
            block.replace(self.sizes.pick(draw));
            block.touch_pages(0);
        }
        operations
    }
}
