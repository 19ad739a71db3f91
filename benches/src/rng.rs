//! The random numbers of the workloads: a few instructions each, and the same sequence in every run.

/// A linear congruential generator modulo 2^64 (Knuth's MMIX constants): only its upper bits are used.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose sequence depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(seed ^ 0x9E37_79B9_7F4A_7C15);
        // Small seeds differ in few bits; some steps spread them.
        for _ in 0..8 {
            rng.draw();
        }
        rng
    }

    /// The next draw, to be cut into several small numbers.
    #[inline(always)]
    pub fn draw(&mut self) -> Draw {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Draw(self.0)
    }

    /// A number below `bound`, uniform but for a bias of at most `bound` / 2^32.
    #[inline(always)]
    pub fn below(&mut self, bound: u32) -> usize {
        self.draw().below(bound)
    }
}

/// One state of the generator.
#[derive(Clone, Copy, Debug)]
pub struct Draw(u64);

impl Draw {
    /// A number below `bound` from the upper 32 bits.
    #[inline(always)]
    pub fn below(self, bound: u32) -> usize {
        ((u64::from((self.0 >> 32) as u32) * u64::from(bound)) >> 32) as usize
    }

    /// Twelve bits that [`Draw::below`] does not use.
    #[inline(always)]
    pub fn twelve_bits(self) -> usize {
        ((self.0 >> 20) & 0xFFF) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_bound_and_reach_both_ends() {
        let mut rng = Rng::new(1);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[rng.below(10)] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
    }
}
