//! A bounded queue between one sender and one receiver, lean enough that the allocator stays what is measured.
//!
//! ```text
//!   received ──▶ [ .  .  x  x  x  x  .  . ] ◀── sent          0 ≤ sent - received ≤ capacity
//! ```
//! `sent` is written by the sender with release order, after the slot; `received` by the receiver with release order, after
//! it has taken the slot's value. Each side reads the other's counter with acquire order, only when its last reading says
//! that the ring is full or empty; a slot therefore belongs to one side at a time.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A counter on cache lines of its own: two, since processors fetch lines in pairs. The ends have such lines, too, since each
/// is written with every value: side by side in one line they would cost more than most allocators do.
#[repr(align(128))]
#[derive(Default)]
struct Counter(AtomicUsize);

/// The queue.
pub struct Ring<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    sent: Counter,
    received: Counter,
}

// SAFETY: a slot is touched by the sender alone while it is empty and by the receiver alone while it is full; the counters'
// release and acquire order hand it over.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T: Send> Ring<T> {
    /// An empty queue for `capacity` values, a power of two.
    ///
    /// # Panics
    /// If `capacity` is not a power of two.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two(), "a ring needs a power of two, not {capacity} slots");
        let slots = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
        Self { slots, sent: Counter::default(), received: Counter::default() }
    }

    /// The two ends. What is in the ring when it is dropped is forgotten.
    pub fn split(&mut self) -> (Sender<'_, T>, Receiver<'_, T>) {
        let sent = *self.sent.0.get_mut();
        let received = *self.received.0.get_mut();
        let ring = &*self;
        (Sender { ring, sent, received }, Receiver { ring, sent, received })
    }

    #[inline(always)]
    fn slot(&self, count: usize) -> *mut MaybeUninit<T> {
        self.slots[count & (self.slots.len() - 1)].get()
    }
}

/// The end that fills the ring.
#[repr(align(128))]
pub struct Sender<'a, T> {
    ring: &'a Ring<T>,
    sent: usize,
    received: usize,
}

impl<T: Send> Sender<'_, T> {
    /// Puts `value` in.
    ///
    /// # Errors
    /// Gives it back when the ring is full.
    #[inline(always)]
    pub fn try_send(&mut self, value: T) -> Result<(), T> {
        if self.sent.wrapping_sub(self.received) == self.ring.slots.len() {
            self.received = self.ring.received.0.load(Ordering::Acquire);
            if self.sent.wrapping_sub(self.received) == self.ring.slots.len() {
                return Err(value);
            }
        }
        // SAFETY: the slot is empty, and only this end touches empty slots.
        unsafe { self.ring.slot(self.sent).write(MaybeUninit::new(value)) };
        self.sent = self.sent.wrapping_add(1);
        self.ring.sent.0.store(self.sent, Ordering::Release);
        Ok(())
    }

    /// Puts `value` in, waiting while the ring is full.
    #[inline(always)]
    pub fn send(&mut self, mut value: T) {
        let mut patience = Patience::default();
        while let Err(refused) = self.try_send(value) {
            value = refused;
            patience.wait();
        }
    }
}

/// The end that empties the ring.
#[repr(align(128))]
pub struct Receiver<'a, T> {
    ring: &'a Ring<T>,
    sent: usize,
    received: usize,
}

impl<T: Send> Receiver<'_, T> {
    /// Takes the oldest value, if there is one.
    #[inline(always)]
    pub fn try_receive(&mut self) -> Option<T> {
        if self.sent == self.received {
            self.sent = self.ring.sent.0.load(Ordering::Acquire);
            if self.sent == self.received {
                return None;
            }
        }
        // SAFETY: the slot is full, and only this end touches full slots.
        let slot = unsafe { self.ring.slot(self.received).read() };
        // SAFETY: the sender initialised the slot before it counted it as sent.
        let value = unsafe { slot.assume_init() };
        self.received = self.received.wrapping_add(1);
        self.ring.received.0.store(self.received, Ordering::Release);
        Some(value)
    }

    /// Takes the oldest value, waiting while the ring is empty.
    #[inline(always)]
    pub fn receive(&mut self) -> T {
        let mut patience = Patience::default();
        loop {
            if let Some(value) = self.try_receive() {
                return value;
            }
            patience.wait();
        }
    }
}

/// Waits by spinning at first, then by giving up the processor, since there may be more threads than processors.
#[derive(Default)]
pub struct Patience(u32);

impl Patience {
    /// Waits a little.
    #[inline(always)]
    pub fn wait(&mut self) {
        const SPINS: u32 = 128;
        if self.0 < SPINS {
            self.0 += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_arrive_once_and_in_order() {
        let mut ring = Ring::new(8);
        let (mut sender, mut receiver) = ring.split();
        std::thread::scope(|scope| {
            scope.spawn(move || (0..100_000_u64).for_each(|value| sender.send(value)));
            scope.spawn(move || (0..100_000_u64).for_each(|value| assert_eq!(receiver.receive(), value)));
        });
    }

    #[test]
    fn the_ends_share_no_pair_of_cache_lines() {
        let mut ring = Ring::<u64>::new(2);
        let ends = ring.split();
        let distance = (&raw const ends.0).addr().abs_diff((&raw const ends.1).addr());
        assert!(distance >= 128, "{distance} bytes lie between what two threads write with every value");
    }

    #[test]
    fn a_full_ring_gives_the_value_back() {
        let mut ring = Ring::new(2);
        let (mut sender, mut receiver) = ring.split();
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Ok(()));
        assert_eq!(sender.try_send(3), Err(3));
        assert_eq!(receiver.try_receive(), Some(1));
        assert_eq!(sender.try_send(3), Ok(()));
    }
}
