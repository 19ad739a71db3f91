//! A ring of events: the last so many of one thread, which writes, for readers anywhere, who never make it wait.
//!
//! ```text
//!            slot 0      slot 1      slot 2      slot 3          capacity 4, written 6
//!          ┌──────────┬──────────┬──────────┬──────────┐
//!   version│ 10       │ 12       │ 6        │ 8        │         2 × number + 2, when the event is whole
//!   number │ 4        │ 5        │ 2        │ 3        │
//!          └──────────┴──────────┴──────────┴──────────┘
//! ```
//!
//! Event `n` lies in slot `n mod capacity`. While it is being written its slot has the odd version `2n + 1`, so a reader that
//! finds `2n + 2` before and after it has read the words has the words of event `n`, or none. A reader in another process sees
//! the same, since each word is written at once and in this order.
//!
//! A ring stays for ever, with the cache whose thread writes to it. When that thread ends its events stay, until the next thread
//! that takes up the cache has written over them; each event names its thread. So there are no more rings than there were threads
//! at one time.

use crate::layout::HistoryLayout;
use crate::os;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use core::mem::offset_of;
use core::ptr::{self, NonNull};

/// Words of an event, in units of 8 bytes.
pub(crate) const WORDS: usize = 5;

/// Where one event lies.
#[repr(C)]
struct Slot {
    /// See the head of this file. Written by the ring's thread, read by anybody.
    version: AtomicU64,
    /// Written by the ring's thread with `Release`, read by anybody with `Acquire`: who sees a word of an event also sees, afterwards,
    /// that the version is no longer that of the event before.
    words: [AtomicU64; WORDS],
}

/// The beginning of a ring; its slots follow it.
#[repr(C, align(64))]
pub(crate) struct Ring {
    /// The ring that was made before this one. Written before the ring is known to others, never changed.
    older: AtomicPtr<Ring>,
    /// How many slots there are. Likewise.
    capacity: AtomicU64,
    /// How many events were ever written. By the ring's thread with `Release`, after the event; read by anybody with `Acquire`.
    written: AtomicU64,
}

const _: () = assert!(size_of::<Slot>() == 48 && size_of::<Ring>() == 64);

/// All rings of this process, newest first.
#[repr(C)]
pub(crate) struct Rings {
    /// Pushed to by any thread with `Release`, read by any with `Acquire`. Nothing ever leaves.
    newest: AtomicPtr<Ring>,
}

impl Rings {
    pub(super) const NEWEST: usize = offset_of!(Rings, newest);

    pub(crate) const fn new() -> Self {
        Self { newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Makes a ring of `capacity` slots, at least one; `None` when there is no memory.
    pub(crate) fn make(&self, capacity: u64) -> Option<&'static Ring> {
        let slots = (capacity as usize).checked_mul(size_of::<Slot>())?;
        let len = slots.checked_add(size_of::<Ring>())?.next_multiple_of(os::page_size());
        let memory = os::map(len)?;
        // SAFETY: zeroes are a valid ring, of no slots; the mapping is aligned to a page and stays.
        let ring: &'static Ring = unsafe { memory.cast().as_ref() };
        ring.capacity.store(capacity, Ordering::Relaxed);
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            ring.older.store(newest, Ordering::Relaxed);
            let place = ptr::from_ref(ring).cast_mut();
            match self.newest.compare_exchange_weak(newest, place, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Some(ring),
                Err(other) => newest = other,
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static Ring> + use<> {
        // SAFETY: rings stay for ever.
        let newest = unsafe { self.newest.load(Ordering::Acquire).as_ref() };
        // SAFETY: as above; whoever came from the newest sees what was written before it was known.
        core::iter::successors(newest, |ring| unsafe { ring.older.load(Ordering::Relaxed).as_ref() })
    }
}

impl Ring {
    /// All but where the newest ring is found.
    pub(super) const LAYOUT: HistoryLayout = HistoryLayout {
        newest: 0,
        ring_bytes: size_of::<Self>() as u32,
        older: offset_of!(Self, older) as u32,
        capacity: offset_of!(Self, capacity) as u32,
        written: offset_of!(Self, written) as u32,
        slot_bytes: size_of::<Slot>() as u32,
        version: offset_of!(Slot, version) as u32,
        words: offset_of!(Slot, words) as u32,
        word_count: WORDS as u32,
    };

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Its length, and how much of it was ever written to, in whole pages; both in bytes.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let of =
            |slots: u64| (size_of::<Self>() + slots as usize * size_of::<Slot>()).next_multiple_of(os::page_size());
        let numbers = self.numbers();
        (of(self.capacity()), of(numbers.end - numbers.start))
    }

    fn slot(&self, number: u64) -> &Slot {
        let slots = NonNull::from_ref(self).cast::<u8>().as_ptr().wrapping_add(size_of::<Ring>()).cast::<Slot>();
        let slot = slots.wrapping_add((number % self.capacity()) as usize);
        // SAFETY: the ring's mapping holds `capacity` slots behind its beginning.
        unsafe { &*slot }
    }

    /// Writes an event of at most [`WORDS`] words. For the ring's thread alone.
    pub(crate) fn write(&self, words: &[u64]) {
        let number = self.written.load(Ordering::Relaxed);
        let slot = self.slot(number);
        slot.version.store(2 * number + 1, Ordering::Relaxed);
        for (place, &word) in slot.words.iter().zip(words) {
            place.store(word, Ordering::Release);
        }
        slot.version.store(2 * number + 2, Ordering::Release);
        self.written.store(number + 1, Ordering::Release);
    }

    /// The numbers of the events that it holds now; older ones may be overwritten before they are read.
    pub(crate) fn numbers(&self) -> core::ops::Range<u64> {
        let end = self.written.load(Ordering::Acquire);
        end.saturating_sub(self.capacity())..end
    }

    /// Reads the first words of an event; `false`, with anything in `words`, if it was overwritten.
    pub(crate) fn read(&self, number: u64, words: &mut [u64]) -> bool {
        let (slot, whole) = (self.slot(number), 2 * number + 2);
        if slot.version.load(Ordering::Acquire) != whole {
            return false;
        }
        for (word, place) in words.iter_mut().zip(&slot.words) {
            *word = place.load(Ordering::Acquire);
        }
        slot.version.load(Ordering::Relaxed) == whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering as StdOrdering};

    #[test]
    fn a_ring_holds_its_last_events() {
        let ring = Rings::new().make(4).unwrap();
        assert!(ring.numbers().is_empty());
        for n in 0..6 {
            ring.write(&[n, n * n]);
        }
        assert_eq!(ring.numbers(), 2..6);
        let mut words = [0; 2];
        assert!(!ring.read(1, &mut words), "it was overwritten");
        for n in 2..6 {
            assert!(ring.read(n, &mut words));
            assert_eq!(words, [n, n * n]);
        }
        assert!(!ring.read(6, &mut words), "it was not written yet");
    }

    #[test]
    fn rings_are_found_newest_first() {
        let rings = Rings::new();
        let made = [1, 2, 3].map(|capacity| rings.make(capacity).unwrap().capacity());
        assert_eq!(made, [1, 2, 3]);
        assert_eq!(rings.iter().map(Ring::capacity).collect::<std::vec::Vec<_>>(), [3, 2, 1]);
    }

    #[test]
    fn what_is_read_while_it_is_overwritten_is_one_event_or_none() {
        let ring = Rings::new().make(2).unwrap();
        let done = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..200_000 {
                    ring.write(&[n; WORDS]);
                }
                done.store(true, StdOrdering::Relaxed);
            });
            let mut seen = 0;
            while !done.load(StdOrdering::Relaxed) {
                for number in ring.numbers() {
                    let mut words = [0; WORDS];
                    if ring.read(number, &mut words) {
                        assert_eq!(words, [number; WORDS]);
                        seen += 1;
                    }
                }
            }
            seen
        });
        assert_eq!(ring.numbers(), 199_998..200_000);
        assert!(seen > 0);
    }
}
