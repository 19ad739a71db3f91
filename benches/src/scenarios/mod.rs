//! Scenarios: programs whose resident memory is watched from their begin to their end, beside what they hold.
//!
//! Each ends with figures, most of them resident memory divided by what it has to be at least, and each figure has a target
//! (`docs/memory.md` says why these). A scenario allocates by `malloc`, from whichever library is preloaded; what it keeps
//! besides is mapped apart and taken off ([`stage`]).

pub mod held;
pub mod hostile;
pub mod peak;
mod purge;
pub mod stage;
pub mod threads;

use crate::rng::Rng;
use stage::{Figure, Stage};

/// One scenario.
pub struct Scenario {
    /// Its name on the command line and in the tables.
    pub name: &'static str,
    /// What happens.
    pub what: &'static str,
    /// The scale of the short form.
    pub quick: f64,
    /// Plays it.
    pub play: fn(&Stage) -> Vec<Figure>,
}

/// All scenarios, in the order of the table.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "peak-busy",
        what: "1 GiB, of which a tenth survives at random; one of four threads stays a little active",
        quick: 0.5,
        play: peak::busy,
    },
    Scenario {
        name: "peak-idle",
        what: "the same, and the whole process falls idle; purger on",
        quick: 0.5,
        play: peak::idle,
    },
    Scenario {
        name: "peak-trimmed",
        what: "the same, idle, and all is purged by one call",
        quick: 0.5,
        play: peak::trimmed,
    },
    Scenario {
        name: "free-only",
        what: "a thread frees what three others allocate, for long",
        quick: 0.5,
        play: threads::free_only,
    },
    Scenario {
        name: "handover",
        what: "producers fall idle for good, others free their memory, new ones with other sizes take over",
        quick: 0.5,
        play: threads::handover,
    },
    Scenario {
        name: "thousand",
        what: "1,000 threads touch every class once and sleep; then another needs memory",
        quick: 1.0,
        play: threads::thousand,
    },
    Scenario {
        name: "churn",
        what: "100,000 threads come and go, two blocks of each survive",
        quick: 0.2,
        play: threads::churn,
    },
    Scenario {
        name: "drift",
        what: "mixed sizes, replaced at random, whose distribution drifts",
        quick: 0.25,
        play: peak::drift,
    },
    Scenario {
        name: "pins",
        what: "hostile: of each size a block on every page stays, the rest becomes the next size",
        quick: 0.5,
        play: hostile::pins,
    },
    Scenario {
        name: "holes",
        what: "hostile: every second run is freed, then come runs that fit no hole",
        quick: 0.5,
        play: hostile::holes,
    },
    Scenario {
        name: "ping-pong",
        what: "hostile: threads of all arenas allocate and free the same amount in turns",
        quick: 0.5,
        play: hostile::ping_pong,
    },
];

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// A size between `low` and `high` bytes, each doubling about as frequent as the next.
fn size(rng: &mut Rng, low: usize, high: usize) -> usize {
    let doublings = (high as f64 / low as f64).log2();
    let share = rng.below(1 << 20) as f64 / f64::from(1 << 20);
    ((low as f64) * (share * doublings).exp2()) as usize
}

fn ratio(bytes: usize, of: usize) -> f64 {
    bytes as f64 / of.max(1) as f64
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stay_in_bounds() {
        let mut rng = Rng::new(1);
        let sizes: Vec<usize> = (0..10_000).map(|_| size(&mut rng, 16, 8192)).collect();
        assert!(sizes.iter().all(|size| (16..=8192).contains(size)));
        let below = sizes.iter().filter(|size| **size < 362).count();
        assert!((4700..5300).contains(&below), "{below} of 10,000 below the middle");
    }
}
