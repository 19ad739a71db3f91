//! A random working set of objects whose sizes are constants of their types, as most of a Rust program's are.
//!
//! A type that is drawn anew for every operation would cost a mispredicted jump each time, which is more than the allocator
//! does. So a program's phases are imitated: a *bundle* is a run of 16 objects of one type, and an operation on bundles frees
//! 16 random objects of one type, then allocates 16 of another. The set is a list of bundles, each known by its type; the
//! type to free is that of a random bundle, so the share of each type hovers around its share in new bundles.

use super::Workload;
use crate::block::Fixed;
use crate::heaps::Heap;
use crate::rng::Rng;

/// Objects that are freed or allocated in a row.
const BUNDLE: usize = 16;

/// How often each type is drawn, smallest first, out of 64: the Pareto distribution of the variable sets, cut at the types'
/// sizes.
const TICKETS: [usize; 8] = [10, 11, 11, 11, 11, 5, 3, 2];

/// The live objects of one type.
struct Pool<H, const SIZE: usize>(Vec<Fixed<H, SIZE>>);

impl<H: Heap, const SIZE: usize> Pool<H, SIZE> {
    fn new(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    #[inline(always)]
    fn fill(&mut self) {
        self.0.extend((0..BUNDLE).map(|_| Fixed::take()));
    }

    #[inline(always)]
    fn drain(&mut self, rng: &mut Rng) {
        for _ in 0..BUNDLE {
            let index = rng.below(self.0.len() as u32);
            self.0.swap_remove(index).give_back();
        }
    }
}

/// The live objects of all types.
struct Pools<H> {
    of_16: Pool<H, 16>,
    of_24: Pool<H, 24>,
    of_32: Pool<H, 32>,
    of_48: Pool<H, 48>,
    of_96: Pool<H, 96>,
    of_192: Pool<H, 192>,
    of_384: Pool<H, 384>,
    of_1024: Pool<H, 1024>,
}

impl<H: Heap> Pools<H> {
    /// Empty pools, each with room for `live` objects.
    fn new(live: usize) -> Self {
        Self {
            of_16: Pool::new(live),
            of_24: Pool::new(live),
            of_32: Pool::new(live),
            of_48: Pool::new(live),
            of_96: Pool::new(live),
            of_192: Pool::new(live),
            of_384: Pool::new(live),
            of_1024: Pool::new(live),
        }
    }

    /// Allocates a bundle of the type.
    #[inline(always)]
    fn fill(&mut self, kind: u8) {
        match kind {
            0 => self.of_16.fill(),
            1 => self.of_24.fill(),
            2 => self.of_32.fill(),
            3 => self.of_48.fill(),
            4 => self.of_96.fill(),
            5 => self.of_192.fill(),
            6 => self.of_384.fill(),
            _ => self.of_1024.fill(),
        }
    }

    /// Frees a bundle's worth of random objects of the type.
    #[inline(always)]
    fn drain(&mut self, kind: u8, rng: &mut Rng) {
        match kind {
            0 => self.of_16.drain(rng),
            1 => self.of_24.drain(rng),
            2 => self.of_32.drain(rng),
            3 => self.of_48.drain(rng),
            4 => self.of_96.drain(rng),
            5 => self.of_192.drain(rng),
            6 => self.of_384.drain(rng),
            _ => self.of_1024.drain(rng),
        }
    }
}

/// About `LIVE` objects of eight types between 16 bytes and 1 KiB. An operation is one free and one allocation.
pub struct TypedSet<H, const LIVE: usize> {
    bundles: Vec<u8>,
    tickets: [u8; 64],
    rng: Rng,
    pools: Pools<H>,
}

impl<H: Heap, const LIVE: usize> TypedSet<H, LIVE> {
    #[inline(always)]
    fn draw_kind(&mut self) -> u8 {
        self.tickets[self.rng.below(64)]
    }
}

impl<H: Heap, const LIVE: usize> Workload for TypedSet<H, LIVE> {
    fn prepare() -> Self {
        let mut kinds = (0..).zip(TICKETS).flat_map(|(kind, count)| std::iter::repeat_n(kind, count));
        let mut set = Self {
            bundles: Vec::with_capacity(LIVE / BUNDLE),
            tickets: std::array::from_fn(|_| kinds.next().expect("the tickets add up to 64")),
            rng: Rng::new(LIVE as u64),
            pools: Pools::new(LIVE),
        };
        for _ in 0..LIVE / BUNDLE {
            let kind = set.draw_kind();
            set.pools.fill(kind);
            set.bundles.push(kind);
        }
        set
    }

    #[inline(never)]
    fn run(&mut self, operations: u64) -> u64 {
        let rounds = operations.div_ceil(BUNDLE as u64);
        for _ in 0..rounds {
            let position = self.rng.below(self.bundles.len() as u32);
            self.pools.drain(self.bundles[position], &mut self.rng);
            let kind = self.draw_kind();
            self.pools.fill(kind);
            self.bundles[position] = kind;
        }
        rounds * BUNDLE as u64
    }
}
