//! How many blocks may have mappings of their own. The kernel gives a process only so many mappings (`vm.max_map_count`, 65,530
//! unless somebody raised it), and at its edge refuses more than memory: stacks of threads, libraries, and giving back a part of
//! what was mapped. So large blocks take half of them at most, and leave the rest to the program.

#[cfg(doc)]
use crate::os;
use crate::sync::Cell;

/// With fewer blocks the kernel is not asked how many it allows, which takes three calls.
const ASKED_FROM: usize = 4096;

/// Guarded by the large blocks' lock.
pub(crate) struct Budget {
    /// The mappings that a process may have; 0 until somebody wanted to know.
    allowed: Cell<usize>,
}

/// What the budget says of a number of mappings.
pub(crate) enum Verdict {
    Enough,
    Spent,
    /// The kernel has to be asked, without the lock: by [`os::max_mappings`], of which the budget is then told.
    Unknown,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self { allowed: Cell::new(0) }
    }

    pub(crate) fn tell(&self, allowed: usize) {
        self.allowed.set(allowed);
    }

    /// Whether blocks may have more mappings of their own than these.
    pub(crate) fn judge(&self, mappings: usize) -> Verdict {
        match self.allowed.get() {
            _ if mappings < ASKED_FROM => Verdict::Enough,
            0 => Verdict::Unknown,
            allowed if mappings >= allowed / 2 => Verdict::Spent,
            _ => Verdict::Enough,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_mappings_that_the_kernel_allows_are_left_to_the_program() {
        let budget = Budget::new();
        assert!(matches!(budget.judge(ASKED_FROM - 1), Verdict::Enough));
        assert!(matches!(budget.judge(ASKED_FROM), Verdict::Unknown));
        budget.tell(10_000);
        assert!(matches!(budget.judge(4_999), Verdict::Enough));
        assert!(matches!(budget.judge(5_000), Verdict::Spent));
    }
}
