//! The atomics of the models; see the file above this one.

use super::{
    Access, Fact, Loads, NEVER, Ordering, Word, atomic_at, is_kept, lead, loads, ordering_at, orders, part_of, plainly,
    sum_of_parts, thread_number, write,
};
use core::marker::PhantomData;
use core::panic::Location;
use core::ptr;
use std::rc::Rc;

/// An atomic of any width; the width is that of the place, the arithmetic that of a machine word.
macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Default)]
        pub(crate) struct $name(core::cell::UnsafeCell<$value>);

        // SAFETY: the place itself is only read; what changes is loom's.
        unsafe impl Sync for $name {}

        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                Self(core::cell::UnsafeCell::new(value))
            }

            pub(in crate::sync) fn address(&self) -> usize {
                ptr::from_ref(self).addr()
            }

            /// The value that the place begins with.
            fn first(&self) -> usize {
                // SAFETY: nobody writes the place after it was made.
                (unsafe { *self.0.get() }) as usize
            }

            fn word(&self) -> (Rc<Word>, usize) {
                (atomic_at(self.address()), self.first())
            }

            /// The word, about to be written; and whether that was led.
            fn written(&self) -> (Rc<Word>, usize, bool) {
                orders::note(Fact::Written(self.address()));
                let was_led = lead(self.address(), Access::Written);
                let (word, first) = self.word();
                (word, first, was_led)
            }

            /// The value of a word that nobody changes meanwhile, as far as is known: an exchange that finds another there only
            /// reads it, and has no order among others that do.
            fn read_unchanged(&self, ordering: Ordering) -> Option<$value> {
                let address = self.address();
                if loads() != Loads::Led || orders::is_contested(address) || orders::was_written(address) {
                    return None;
                }
                orders::note(Fact::ReadBy(self.address(), thread_number()));
                let (word, first) = self.word();
                Some(word.load(ordering).wrapping_add(first) as $value)
            }

            #[track_caller]
            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                let ordering = ordering_at(Location::caller(), 0, ordering);
                if let Some(stored) = plainly(self.address(), Access::Read, |word| *word) {
                    return stored.wrapping_add(self.first()) as $value;
                }
                lead(self.address(), Access::Read);
                let (word, first) = self.word();
                let stored = if loads() == Loads::Exchanges && orders::is_contested(self.address()) {
                    word.compare_exchange(NEVER, NEVER, ordering, ordering).unwrap_or_else(|stored| stored)
                } else {
                    word.load(ordering)
                };
                stored.wrapping_add(first).wrapping_add(sum_of_parts(self.address())) as $value
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                let ordering = ordering_at(Location::caller(), 0, ordering);
                let new = (value as usize).wrapping_sub(self.first());
                if plainly(self.address(), Access::Written, |word| *word = new).is_some() {
                    return;
                }
                let (word, _, was_led) = self.written();
                write(was_led, || word.store(new, ordering));
            }

            #[track_caller]
            #[allow(dead_code, reason = "not every width is swapped")]
            pub(crate) fn swap(&self, value: $value, ordering: Ordering) -> $value {
                let ordering = ordering_at(Location::caller(), 0, ordering);
                let new = (value as usize).wrapping_sub(self.first());
                if let Some(stored) = plainly(self.address(), Access::Written, |word| core::mem::replace(word, new)) {
                    return stored.wrapping_add(self.first()) as $value;
                }
                let (word, first, was_led) = self.written();
                write(was_led, || word.swap(new, ordering)).wrapping_add(first) as $value
            }

            #[track_caller]
            #[allow(dead_code, reason = "not every width is compared")]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let success = ordering_at(Location::caller(), 0, success);
                let failure = ordering_at(Location::caller(), 1, failure);
                if let Some(stored) = plainly(self.address(), Access::Read, |word| *word) {
                    let stored = stored.wrapping_add(self.first()) as $value;
                    if stored != current {
                        return Err(stored);
                    }
                }
                let difference = (new as usize).wrapping_sub(self.first());
                if plainly(self.address(), Access::Written, |word| *word = difference).is_some() {
                    return Ok(current);
                }
                if let Some(stored) = self.read_unchanged(failure).filter(|&stored| stored != current) {
                    return Err(stored);
                }
                let (word, first, was_led) = self.written();
                let (current, new) = ((current as usize).wrapping_sub(first), (new as usize).wrapping_sub(first));
                write(was_led, || word.compare_exchange(current, new, success, failure))
                    .map(|stored| stored.wrapping_add(first) as $value)
                    .map_err(|stored| stored.wrapping_add(first) as $value)
            }
        }
    };
}

atomic!(AtomicU8, u8);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
atomic!(AtomicUsize, usize);

impl AtomicU32 {
    /// What the kernel sees; no operation of the allocator's own.
    pub(super) fn peek(&self) -> u32 {
        if let Some(stored) = plainly(self.address(), Access::Read, |word| *word) {
            return stored.wrapping_add(self.first()) as u32;
        }
        lead(self.address(), Access::Read);
        let (word, first) = self.word();
        word.load(Ordering::Relaxed).wrapping_add(first) as u32
    }
}

/// Sums wrap at the width of a machine word, so only words have them.
impl AtomicU64 {
    /// Here it returns nothing, so that nobody can use what it would: where nobody reads the sum meanwhile either, additions have
    /// no order.
    #[track_caller]
    pub(crate) fn fetch_add(&self, n: u64, ordering: Ordering) {
        let ordering = ordering_at(Location::caller(), 0, ordering);
        if plainly(self.address(), Access::Written, |word| *word = word.wrapping_add(n as usize)).is_some() {
            return;
        }
        if loads() == Loads::Led && !is_kept(self.address()) && !orders::is_read(self.address()) {
            part_of(self.address()).fetch_add(n as usize, ordering);
            return;
        }
        let (word, _, was_led) = self.written();
        write(was_led, || word.fetch_add(n as usize, ordering));
    }
}

impl AtomicUsize {
    #[track_caller]
    pub(crate) fn fetch_add(&self, n: usize, ordering: Ordering) -> usize {
        let ordering = ordering_at(Location::caller(), 0, ordering);
        let change = |word: &mut usize| core::mem::replace(word, word.wrapping_add(n));
        if let Some(stored) = plainly(self.address(), Access::Written, change) {
            return stored.wrapping_add(self.first());
        }
        let (word, first, was_led) = self.written();
        write(was_led, || word.fetch_add(n, ordering)).wrapping_add(first)
    }

    #[track_caller]
    pub(crate) fn fetch_sub(&self, n: usize, ordering: Ordering) -> usize {
        let ordering = ordering_at(Location::caller(), 0, ordering);
        let change = |word: &mut usize| core::mem::replace(word, word.wrapping_sub(n));
        if let Some(stored) = plainly(self.address(), Access::Written, change) {
            return stored.wrapping_add(self.first());
        }
        let (word, first, was_led) = self.written();
        write(was_led, || word.fetch_sub(n, ordering)).wrapping_add(first)
    }
}

/// A pointer; null, or with an address, when it begins.
pub(crate) struct AtomicPtr<T>(AtomicUsize, PhantomData<*mut T>);

// SAFETY: as for the atomic of the address.
unsafe impl<T> Sync for AtomicPtr<T> {}
// SAFETY: as above.
unsafe impl<T> Send for AtomicPtr<T> {}

impl<T> AtomicPtr<T> {
    pub(crate) const fn new(value: *mut T) -> Self {
        assert!(value.is_null(), "pointers begin as null");
        Self(AtomicUsize::new(0), PhantomData)
    }

    fn pointer(address: usize) -> *mut T {
        ptr::with_exposed_provenance_mut(address)
    }

    #[track_caller]
    pub(crate) fn load(&self, ordering: Ordering) -> *mut T {
        Self::pointer(self.0.load(ordering))
    }

    #[track_caller]
    pub(crate) fn store(&self, value: *mut T, ordering: Ordering) {
        self.0.store(value.expose_provenance(), ordering);
    }

    #[track_caller]
    pub(crate) fn swap(&self, value: *mut T, ordering: Ordering) -> *mut T {
        Self::pointer(self.0.swap(value.expose_provenance(), ordering))
    }

    #[track_caller]
    pub(crate) fn compare_exchange_weak(
        &self,
        current: *mut T,
        new: *mut T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
        self.compare_exchange(current, new, success, failure)
    }

    #[track_caller]
    pub(crate) fn compare_exchange(
        &self,
        current: *mut T,
        new: *mut T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
        self.0
            .compare_exchange(current.addr(), new.expose_provenance(), success, failure)
            .map(Self::pointer)
            .map_err(Self::pointer)
    }
}
