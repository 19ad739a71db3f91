//! How many blocks may have mappings of their own. The kernel gives a process only so many mappings (`vm.max_map_count`, 65,530
//! unless somebody raised it), and at its edge refuses more than memory: stacks of threads, libraries, and giving back a part of
//! what was mapped. So large blocks take half of them at most, and leave the rest to the program.

use crate::options::OPTIONS;
use crate::os;
use crate::sync::Mutex;

/// With fewer blocks the kernel is not asked how many it allows, which takes three calls.
const ASKED_FROM: usize = 4096;

pub(crate) struct Budget {
    /// The mappings that a process may have; 0 until somebody wanted to know.
    allowed: Mutex<usize>,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self { allowed: Mutex::new(0) }
    }

    /// Whether that many blocks with mappings of their own are enough: the next is better held by an arena, if one can.
    pub(crate) fn is_spent(&self, blocks: usize) -> bool {
        match OPTIONS.mmap_max() {
            usize::MAX => blocks >= ASKED_FROM && blocks >= self.allowed() / 2,
            most => blocks >= most,
        }
    }

    fn allowed(&self) -> usize {
        let known = *self.allowed.lock();
        if known > 0 {
            return known;
        }
        // Asked without the lock: several threads may, and hear the same.
        let allowed = os::max_mappings();
        *self.allowed.lock() = allowed;
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_mappings_that_the_kernel_allows_are_left_to_the_program() {
        let budget = Budget::new();
        assert!(!budget.is_spent(ASKED_FROM - 1));
        assert_eq!(*budget.allowed.lock(), 0, "the kernel was asked for no reason");
        assert!(budget.is_spent(os::max_mappings()));
        assert!(!budget.is_spent((os::max_mappings() / 2).saturating_sub(1)));
        *budget.allowed.lock() = 10_000;
        assert!(budget.is_spent(5_000) && !budget.is_spent(4_999));
    }
}
