//! Which of the free blocks an allocation takes: the four strategies of every textbook.
//!
//! ```text
//!  holes, by address:   16 KiB    1 KiB    30 KiB    2 KiB        a request of 2 KiB takes
//!                         ▲                                       first fit: the first that suffices
//!                                                     ▲           best fit:  the smallest that suffices
//!                                            ▲                    worst fit: the largest
//!                                   └── from here ──▶             next fit:  the first, from where the last search ended
//! ```

use core::cmp::Reverse;

use crate::block::Block;

/// A placement strategy. libosmem uses [`BestFit`](Placement::BestFit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The smallest block that suffices: leaves large blocks whole, and many small scraps.
    BestFit,
    /// The first block that suffices: quick, but scraps gather at the front.
    FirstFit,
    /// Like first fit, but the search goes on where the last one ended, and wraps around: spreads the scraps.
    NextFit,
    /// The largest block: leaves a remainder that is still useful, until no large block is left.
    WorstFit,
}

impl Placement {
    /// All four, the library's own first.
    pub const ALL: [Self; 4] = [Self::BestFit, Self::FirstFit, Self::NextFit, Self::WorstFit];

    /// The strategy's usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BestFit => "best fit",
            Self::FirstFit => "first fit",
            Self::NextFit => "next fit",
            Self::WorstFit => "worst fit",
        }
    }

    /// Takes one of `holes`, the free blocks in the order of the search, for a payload of `size` bytes.
    ///
    /// Of several equal ones it is the first. Best and worst fit look at every hole, the others stop early.
    pub fn choose(self, holes: impl Iterator<Item = Block>, size: usize) -> Option<Block> {
        let mut fitting = holes.filter(|hole| hole.size() >= size);
        match self {
            Self::BestFit => fitting.min_by_key(|hole| hole.size()),
            Self::FirstFit | Self::NextFit => fitting.next(),
            Self::WorstFit => fitting.min_by_key(|hole| Reverse(hole.size())),
        }
    }
}
