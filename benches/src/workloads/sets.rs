//! A random working set: many blocks live, and again and again a random one is replaced by another of random size.

use super::Workload;
use crate::block::Block;
use crate::heaps::Heap;
use crate::rng::Rng;
use crate::sizes::SizeTable;

/// `LIVE` blocks of sizes that the compiler does not know. An operation frees the block of a random slot and allocates its
/// successor.
pub struct VariableSet<H, const LIVE: usize> {
    blocks: Vec<Block<H>>,
    rng: Rng,
    sizes: SizeTable,
}

impl<H: Heap, const LIVE: usize> Workload for VariableSet<H, LIVE> {
    fn prepare() -> Self {
        let mut rng = Rng::new(LIVE as u64);
        let sizes = SizeTable::pareto();
        let blocks = (0..LIVE).map(|_| Block::take(sizes.pick(rng.draw()))).collect();
        Self { blocks, rng, sizes }
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        for _ in 0..operations {
            let draw = self.rng.draw();
            self.blocks[draw.below(LIVE as u32)].replace(self.sizes.pick(draw));
        }
        operations
    }
}
