//! One-time initialisation that several threads may enter at once.
//!
//! | state | meaning | who may change it |
//! |---|---|---|
//! | 0 `NEW` | not begun, or tried in vain | any thread, to `RUNNING` by compare-and-swap (`Relaxed`: nothing was written yet) |
//! | 1 `RUNNING` | one thread runs the initialiser | that thread, to `DONE` (`Release`) or, when it failed, `NEW` (`Relaxed`) |
//! | 2 `DONE` | initialised | nobody |
//!
//! Loads are `Acquire`: whoever sees `DONE` sees what the initialiser wrote. The initialiser must not allocate,
//! so that it is never entered again by the thread that runs it.

use super::{AtomicU32, Ordering};
use crate::os;

const NEW: u32 = 0;
const RUNNING: u32 = 1;
const DONE: u32 = 2;

pub(crate) struct Once {
    state: AtomicU32,
}

impl Once {
    pub(crate) const fn new() -> Self {
        Self { state: AtomicU32::new(NEW) }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state() == DONE
    }

    fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    /// Runs `initialise` if nobody has; returns when it is done, whoever did it.
    pub(crate) fn call(&self, initialise: impl FnOnce()) {
        self.attempt(|| {
            initialise();
            true
        });
    }

    /// Runs `initialise`, which may fail, if nobody has done so with success; returns when it is
    /// done, or was tried in vain by this thread or by another at the same time.
    pub(crate) fn attempt(&self, initialise: impl FnOnce() -> bool) {
        if self.is_done() {
            return;
        }
        if self.state.compare_exchange(NEW, RUNNING, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            if initialise() {
                self.state.store(DONE, Ordering::Release);
            } else {
                self.state.store(NEW, Ordering::Relaxed);
            }
            return;
        }
        while self.state() == RUNNING {
            os::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn an_initialiser_that_failed_runs_again_until_it_succeeds() {
        let (once, mut runs) = (Once::new(), 0);
        for _ in 0..5 {
            once.attempt(|| {
                runs += 1;
                runs == 3
            });
            assert_eq!(once.is_done(), runs == 3);
        }
        assert_eq!(runs, 3);
    }

    #[test]
    fn the_initialiser_runs_once_and_before_anybody_goes_on() {
        static ONCE: Once = Once::new();
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    ONCE.call(|| {
                        std::thread::sleep(std::time::Duration::from_millis(5));
                        RUNS.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(RUNS.load(Ordering::Relaxed), 1);
                });
            }
        });
    }
}
