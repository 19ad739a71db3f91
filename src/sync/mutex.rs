//! A mutual exclusion lock of one word that sleeps in the kernel, for the slow paths.
//!
//! The standard library's lock is out of reach in a `no_std` crate, and an allocator also needs what it does not offer:
//! a lock that a `fork` handler takes in the parent and makes anew in the child.
//!
//! | state | meaning | who may change it |
//! |---|---|---|
//! | 0 `FREE` | nobody holds it | any thread, to `LOCKED` or `CONTENDED` by a read-modify-write (`Acquire`) |
//! | 1 `LOCKED` | held, nobody sleeps | the holder, to `FREE` (`Release`); a waiter, to `CONTENDED` |
//! | 2 `CONTENDED` | held, somebody may sleep | the holder, to `FREE` and then wakes one |
//!
//! Around a `fork` one thread holds every lock and may still be called by the program's own handlers: it passes through.
//! `FORKING` names that thread (0: none); only the thread itself writes and recognises its own number, so `Relaxed`.
//!
//! `Acquire` on taking pairs with `Release` on leaving: what the last holder wrote is visible to the next.

use super::{AtomicU32, AtomicUsize, Ordering};
use crate::os;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

const FREE: u32 = 0;
const LOCKED: u32 = 1;
const CONTENDED: u32 = 2;

/// Looks at a held lock this many times before sleeping: about the time that a short slow path holds it.
#[cfg(not(loom))]
const fn spins() -> u32 {
    60
}
/// In the models of the lock once, since a second look reaches no other state; in the others not at all.
#[cfg(loom)]
use super::model::spins;

static FORKING: AtomicUsize = AtomicUsize::new(0);

/// Says that the calling thread has taken every lock on account of a `fork`, or that it is about to give them back.
pub(crate) fn set_forking(forking: bool) {
    FORKING.store(if forking { os::thread_number() } else { 0 }, Ordering::Relaxed);
}

/// Whether the calling thread holds every lock on account of a `fork`.
pub(crate) fn is_forking() -> bool {
    let forking = FORKING.load(Ordering::Relaxed);
    forking != 0 && forking == os::thread_number()
}

#[repr(C)]
pub(crate) struct Mutex<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and one guard exists at a time, so `T` only has to be able to move
// between threads.
unsafe impl<T: Send> Sync for Mutex<T> {}

/// The right to the value; gives the lock back when dropped.
#[must_use]
pub(crate) struct Guard<'a, T> {
    lock: &'a Mutex<T>,
    /// Whether the lock was taken for this guard, and not by the `fork` that is under way.
    taken: bool,
}

impl<T> Mutex<T> {
    /// Where the value lies, in bytes.
    pub(crate) const VALUE: usize = core::mem::offset_of!(Self, value);

    pub(crate) const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        #[cfg(loom)]
        if let Some(taken) = super::whole_locks::lock(&self.state) {
            return Guard { lock: self, taken };
        }
        let free = self.state.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok();
        Guard { lock: self, taken: free || self.lock_contended() }
    }

    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        #[cfg(loom)]
        if let Some(taken) = super::whole_locks::try_lock(&self.state) {
            return taken.then(|| Guard { lock: self, taken });
        }
        let free = self.state.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then(|| Guard { lock: self, taken: true })
    }

    /// `false` if the lock is held on account of a `fork` by this very thread.
    #[cold]
    #[unsafe(link_section = ".text.terrace.common")]
    fn lock_contended(&self) -> bool {
        if is_forking() {
            return false;
        }
        for _ in 0..spins() {
            core::hint::spin_loop();
            if self.state.load(Ordering::Relaxed) == FREE
                && self.state.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return true;
            }
        }
        // From here on the lock is taken as CONTENDED: this thread cannot know whether others sleep beside it.
        while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
            os::futex_wait(&self.state, CONTENDED);
        }
        true
    }

    fn unlock(&self) {
        #[cfg(loom)]
        if super::whole_locks::unlock(&self.state) {
            return;
        }
        if self.state.swap(FREE, Ordering::Release) == CONTENDED {
            os::futex_wake_one(&self.state);
        }
    }

    /// Takes the lock and keeps it without a guard, for the `fork` handlers.
    pub(crate) fn lock_for_fork(&self) {
        core::mem::forget(self.lock());
    }

    /// Gives back what `lock_for_fork` took, in the parent.
    pub(crate) fn unlock_after_fork(&self) {
        self.unlock();
    }

    /// Makes the lock anew in the child, where the threads that slept on it do not exist.
    pub(crate) fn renew_in_child(&self) {
        #[cfg(loom)]
        super::whole_locks::renew(&self.state);
        // No other thread is there; those to come see what was before they were made.
        self.state.store(FREE, Ordering::Relaxed);
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        #[cfg(loom)]
        super::model::track_read(self.lock.value.get());
        // SAFETY: this guard's thread holds the lock, so no other thread has a reference to the value; a thread that passes
        // through on account of a `fork` has no other guard of the lock, since it was taken without one.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        #[cfg(loom)]
        super::model::track_write(self.lock.value.get());
        // SAFETY: as above, and `&mut self` makes this the only reference made from the guard.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if self.taken {
            self.lock.unlock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn increments_under_the_lock_are_not_lost() {
        let lock = Arc::new(Mutex::new(0_u64));
        let threads: std::vec::Vec<_> = (0..4)
            .map(|_| {
                let lock = Arc::clone(&lock);
                std::thread::spawn(move || (0..20_000).for_each(|_| *lock.lock() += 1))
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(*lock.lock(), 80_000);
    }

    #[test]
    fn a_held_lock_cannot_be_taken_twice() {
        let lock = Mutex::new(());
        let guard = lock.lock();
        assert!(lock.try_lock().is_none());
        drop(guard);
        assert!(lock.try_lock().is_some());
    }
}
