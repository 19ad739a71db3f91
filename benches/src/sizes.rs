//! Block sizes: the type that carries their bounds, and the tables that workloads draw from.

use crate::rng::{Draw, Rng};
use std::alloc::Layout;

/// Alignment of every block but the aligned ones in bytes: what Rust programs ask for most, and no more than `malloc` gives.
pub const ALIGN: usize = 8;

/// A block's size in bytes, between [`BlockSize::MIN`] and [`BlockSize::MAX`], so that it always makes a valid layout and
/// has room for a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockSize(u32);

impl BlockSize {
    /// The smallest size: two words.
    pub const MIN: usize = 16;
    /// The largest size: 1 GiB.
    pub const MAX: usize = 1 << 30;

    /// The size of `bytes`.
    ///
    /// # Panics
    /// If `bytes` is out of bounds; at compile time where the size is a constant.
    #[inline(always)]
    pub const fn new(bytes: usize) -> Self {
        assert!(bytes >= Self::MIN && bytes <= Self::MAX, "a block size is out of bounds");
        Self(bytes as u32)
    }

    /// The size in bytes.
    #[inline(always)]
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The layout of a block of this size with another alignment, a power of two of at most 1 MiB.
    ///
    /// # Panics
    /// If the alignment is none of these.
    #[inline(always)]
    pub const fn layout_aligned(self, align: usize) -> Layout {
        assert!(align.is_power_of_two() && align <= 1 << 20, "an alignment is out of bounds");
        // SAFETY: the alignment is a power of two, and a size of at most 1 GiB does not overflow when rounded up to it.
        unsafe { Layout::from_size_align_unchecked(self.0 as usize, align) }
    }

    /// The layout of a block of this size with [`ALIGN`].
    #[inline(always)]
    pub const fn layout(self) -> Layout {
        // SAFETY: the alignment is a power of two, and a size of at most 1 GiB does not overflow when rounded up to it.
        unsafe { Layout::from_size_align_unchecked(self.0 as usize, ALIGN) }
    }
}

/// A table of 4,096 sizes in random order, indexed by twelve bits of a [`Draw`].
pub struct SizeTable(Box<[BlockSize; 4096]>);

impl SizeTable {
    /// Sizes of 16 bytes to 1 KiB in a truncated Pareto distribution of shape 1, as small blocks are in most programs: half
    /// are below 32 bytes, an eighth are above 128.
    pub fn pareto() -> Self {
        const SPREAD: usize = BlockSize::MIN << 16;
        const SMALLEST_DIVISOR: u32 = 1 << 10;
        Self::generate(|rng| SPREAD / (SMALLEST_DIVISOR as usize + rng.below((1 << 16) - SMALLEST_DIVISOR)))
    }

    /// Sizes uniform between `low` and `high` bytes, both included.
    pub fn uniform(low: u32, high: u32) -> Self {
        Self::generate(|rng| low as usize + rng.below(high - low + 1))
    }

    /// Sizes between `low` and `high` bytes, each doubling of the size as frequent as the next.
    pub fn log_uniform(low: u32, high: u32) -> Self {
        let octaves = f64::from(high / low).log2();
        Self::generate(|rng| {
            let share = rng.below(1 << 20) as f64 / f64::from(1 << 20);
            (f64::from(low) * (share * octaves).exp2()) as usize
        })
    }

    fn generate(mut size: impl FnMut(&mut Rng) -> usize) -> Self {
        let mut rng = Rng::new(4096);
        let mut table = Box::new([BlockSize::new(BlockSize::MIN); 4096]);
        table.fill_with(|| BlockSize::new(size(&mut rng)));
        Self(table)
    }

    /// The size that this draw falls on.
    #[inline(always)]
    pub fn pick(&self, draw: Draw) -> BlockSize {
        self.0[draw.twelve_bits()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pareto_sizes_are_mostly_small_and_end_at_a_kibibyte() {
        let table = SizeTable::pareto();
        let below = |limit| table.0.iter().filter(|size| size.bytes() < limit).count();
        assert!((1900..2300).contains(&below(32)), "{} of 4096 below 32 bytes", below(32));
        assert!((3400..3700).contains(&below(128)), "{} of 4096 below 128 bytes", below(128));
        assert_eq!(below(1025), 4096);
    }

    #[test]
    fn log_uniform_sizes_stay_in_bounds() {
        let table = SizeTable::log_uniform(32 << 10, 1 << 20);
        assert!(table.0.iter().all(|size| (32 << 10..=1 << 20).contains(&size.bytes())));
    }
}
