//! The registry of large blocks: which addresses are the first byte of a mapping that a program holds.
//!
//! A hash table with chained entries; the entries come from the metadata and return to a list of free ones. It answers
//! exactly: an address that is not in it is not a large block. A block leaves the registry before its mapping is given
//! away and enters it afterwards, so no two threads ever see the same address as theirs. Guarded by the lock of `Large`.

use crate::metadata;
use crate::os::valgrind;
use crate::sync::Cell;
use core::mem::offset_of;
use core::ptr::NonNull;

const BUCKETS: usize = 1024;

/// A large block: its first byte and its length, a multiple of the kernel's page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    pub(crate) start: NonNull<u8>,
    pub(crate) len: usize,
}

// An entry without a mapping has a null pointer for its start.
const _: () = assert!(size_of::<Option<Mapping>>() == size_of::<Mapping>());

struct Entry {
    mapping: Cell<Option<Mapping>>,
    next: Cell<Option<&'static Entry>>,
}

/// An entry that stands in no bucket and belongs to whoever detached it.
#[must_use = "a detached entry that is not attached again is lost"]
pub(crate) struct Detached(&'static Entry);

pub(crate) struct Registry {
    buckets: [Cell<Option<&'static Entry>>; BUCKETS],
    unused: Cell<Option<&'static Entry>>,
    count: Cell<usize>,
    bytes: Cell<usize>,
}

// SAFETY: entries are reached only under the lock that guards the registry.
unsafe impl Send for Registry {}

impl Registry {
    /// Where the buckets and the number of blocks lie, and of an entry its block's start and length and the next entry.
    pub(crate) const BUCKETS: usize = offset_of!(Self, buckets);
    pub(crate) const BUCKET_COUNT: usize = BUCKETS;
    pub(crate) const COUNT: usize = offset_of!(Self, count);
    pub(crate) const ENTRY_START: usize = offset_of!(Entry, mapping) + offset_of!(Mapping, start);
    pub(crate) const ENTRY_LEN: usize = offset_of!(Entry, mapping) + offset_of!(Mapping, len);
    pub(crate) const ENTRY_NEXT: usize = offset_of!(Entry, next);

    pub(crate) const fn new() -> Self {
        Self {
            buckets: [const { Cell::new(None) }; BUCKETS],
            unused: Cell::new(None),
            count: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    fn bucket(&self, start: NonNull<u8>) -> &Cell<Option<&'static Entry>> {
        let page = start.addr().get() / 4096;
        &self.buckets[page.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> (usize::BITS - BUCKETS.ilog2())]
    }

    /// Enters a block; `false` when there is no memory for its entry.
    pub(crate) fn insert(&self, mapping: Mapping) -> bool {
        let Some(entry) = self.unused.get().or_else(Self::new_entry) else { return false };
        self.unused.set(entry.next.get());
        self.attach(Detached(entry), mapping);
        true
    }

    /// Takes out the block that starts here.
    pub(crate) fn remove(&self, start: NonNull<u8>) -> Option<Mapping> {
        let (entry, mapping) = self.detach(start)?;
        entry.0.next.set(self.unused.replace(Some(entry.0)));
        Some(mapping)
    }

    /// Takes out the block that starts here and keeps its entry for the block's return.
    pub(crate) fn detach(&self, start: NonNull<u8>) -> Option<(Detached, Mapping)> {
        let mut place = self.bucket(start);
        loop {
            let entry = place.get()?;
            if let Some(mapping) = entry.mapping.get()
                && mapping.start == start
            {
                place.set(entry.next.get());
                entry.mapping.set(None);
                self.count.set(self.count.get() - 1);
                self.bytes.set(self.bytes.get() - mapping.len);
                return Some((Detached(entry), mapping));
            }
            place = &entry.next;
        }
    }

    /// Enters a block by an entry that `detach` took out; cannot fail.
    pub(crate) fn attach(&self, entry: Detached, mapping: Mapping) {
        debug_assert!(mapping.len > 0);
        entry.0.mapping.set(Some(mapping));
        let bucket = self.bucket(mapping.start);
        entry.0.next.set(bucket.replace(Some(entry.0)));
        self.count.set(self.count.get() + 1);
        self.bytes.set(self.bytes.get() + mapping.len);
    }

    pub(crate) fn find(&self, start: NonNull<u8>) -> Option<Mapping> {
        let mut next = self.bucket(start).get();
        while let Some(entry) = next {
            if let Some(mapping) = entry.mapping.get()
                && mapping.start == start
            {
                return Some(mapping);
            }
            next = entry.next.get();
        }
        None
    }

    /// The block that an address lies in, by looking at all of them: for reports about bad calls.
    pub(crate) fn find_around(&self, address: NonNull<u8>) -> Option<Mapping> {
        self.buckets.iter().find_map(|bucket| {
            core::iter::successors(bucket.get(), |entry| entry.next.get())
                .filter_map(|entry| entry.mapping.get())
                .find(|mapping| (mapping.start..mapping.end()).contains(&address))
        })
    }

    /// How many blocks there are, and their bytes.
    pub(crate) fn totals(&self) -> (usize, usize) {
        (self.count.get(), self.bytes.get())
    }

    fn new_entry() -> Option<&'static Entry> {
        let entry = metadata::allocate::<Entry>()?;
        if valgrind::is_memcheck() {
            // As for `Large::hide`.
            valgrind::nobodys(entry.cast(), size_of::<Entry>());
        }
        // SAFETY: the memory is zeroed, which is an entry of nothing, and lives for ever.
        Some(unsafe { entry.as_ref() })
    }
}

impl Mapping {
    /// The first `len` bytes, and the rest.
    pub(crate) fn split_at(self, len: usize) -> (Self, Self) {
        debug_assert!(len <= self.len);
        let front = Self { start: self.start, len };
        (front, Self { start: front.end(), len: self.len - len })
    }

    /// Both as one, if either follows right behind the other.
    pub(crate) fn joined_with(self, other: Self) -> Option<Self> {
        let len = self.len + other.len;
        if self.end() == other.start {
            Some(Self { start: self.start, len })
        } else if other.end() == self.start {
            Some(Self { start: other.start, len })
        } else {
            None
        }
    }

    pub(crate) fn end(&self) -> NonNull<u8> {
        // SAFETY: one past the mapping's last byte.
        unsafe { self.start.add(self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(page: usize) -> NonNull<u8> {
        NonNull::without_provenance(core::num::NonZeroUsize::new((page + 1) * 4096).unwrap())
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((any::<bool>(), 0_usize..50, 1_usize..9), 0..300)) {
            let (registry, mut model) = (Registry::new(), BTreeMap::new());
            for (insert, page, pages) in steps {
                let mapping = Mapping { start: at(page * 10), len: pages * 4096 };
                if insert && !model.contains_key(&page) {
                    prop_assert!(registry.insert(mapping));
                    model.insert(page, mapping);
                } else {
                    prop_assert_eq!(registry.remove(mapping.start), model.remove(&page));
                }
                prop_assert_eq!(registry.find(mapping.start), model.get(&page).copied());
                prop_assert_eq!(registry.totals(), (model.len(), model.values().map(|m| m.len).sum()));
            }
        }
    }

    #[test]
    fn an_address_inside_a_block_leads_to_the_block() {
        let registry = Registry::new();
        let mapping = Mapping { start: at(7), len: 3 * 4096 };
        assert!(registry.insert(mapping));
        assert_eq!(registry.find_around(at(9)), Some(mapping));
        assert_eq!(registry.find_around(at(10)), None);
        assert_eq!(registry.find(at(9)), None);
    }
}
