//! The outbox: blocks of other caches' slabs that this thread has freed, gathered into chains before they go home.
//!
//! A small table of chains, each of one class for one owner, which has two places to be in. A block whose places are both taken
//! sends the longer of the two chains off; so does a chain that reaches its limit. The rest leaves when the thread's
//! housekeeping comes round, or the thread ends, unless the thread wants blocks of the class itself meanwhile: then it takes them
//! back. Only the cache's own thread touches it, but that anybody reads how many bytes were granted.

use super::magazine::List;
use super::paths::cold_path;
use crate::arena::Owner;
use crate::block::{BlockPtr, Chain};
use crate::layout::OutboxLayout;
use crate::size_class::{self, SizeClass};
use crate::sync::{Cell, Counter};
use core::mem::offset_of;

/// Chains that can be gathered at a time. Four threads that all free each other's blocks of some 30 classes send a chain for every
/// 7 blocks where each has one place, for every 26 where it has two; with 8,192 places for every 57, but programs were slower by a tenth,
/// since the table takes more of the processor's cache than it saves.
/// In the models there are few, so that chains get into each other's way.
const PLACES: usize = if cfg!(loom) { 2 } else { 512 };
/// A chain is sent when it has this many blocks, or this many bytes and at least a few blocks.
const CHAIN_BLOCKS: usize = 512;
const CHAIN_LEAST: usize = 4;
const CHAIN_BYTES: usize = 16 << 10;
/// The same while all chains together have room for `PLENTY` bytes: owners take fresh memory for what many chains hold back, and what
/// comes home late is in no cache of a processor any more.
const SHORT_BYTES: usize = 2 << 10;
const PLENTY: usize = 256 << 10;
/// A chain gets room for this many bytes at a time, or for one block. In the models for two of their smaller blocks, so that the
/// fast path has room.
const STEP_BYTES: usize = if cfg!(loom) { 8 << 10 } else { 2 << 10 };
/// A thread that takes chains back looks at this many at a time, at most.
const TAKEN_BACK: usize = 16;
/// Bytes of room that all chains have been given, at most.
const MAX_BYTES: usize = 1 << 20;

const fn chain_limit(class: SizeClass, bytes: usize) -> u32 {
    class.blocks_in(bytes, CHAIN_LEAST, CHAIN_BLOCKS) as u32
}

/// Whom a chain is for: the owner's address, which leaves the upper bits free, with the class above it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key(u64);

impl Key {
    const CLASS_SHIFT: u32 = 48;

    #[inline(always)]
    fn of(owner: *mut Owner, class: SizeClass) -> Self {
        Self(owner.addr() as u64 | (class.offset() as u64) << Self::CLASS_SHIFT)
    }

    fn owner(self) -> *mut Owner {
        core::ptr::with_exposed_provenance_mut((self.0 & ((1 << Self::CLASS_SHIFT) - 1)) as usize)
    }

    fn class(self) -> SizeClass {
        SizeClass::from_index((self.0 >> Self::CLASS_SHIFT) as usize / SizeClass::SCALE)
    }

    #[inline(always)]
    fn place(self) -> usize {
        // Class and owner stand far apart in the word; the product's upper bits depend on both.
        (self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PLACES.ilog2())) as usize
    }
}

/// A chain that is being gathered; zeroes while there is none.
#[repr(C)]
struct Place {
    key: Cell<Key>,
    head: Cell<Option<BlockPtr>>,
    /// How many blocks may be put in before somebody looks whether more may.
    room: Cell<u32>,
    /// How many blocks the chain has and has room for.
    granted: Cell<u32>,
    /// The chains of the class that were begun next after this one and last before it, as numbers; see `Books::latest`.
    newer: Cell<u16>,
    older: Cell<u16>,
}

/// What is known of the chains in all places.
#[repr(C)]
pub(crate) struct Books {
    /// The chain of each class that was begun last: the number of its place, counted from 1, or 0 for none. A chain is in the list of
    /// its class as long as it is granted anything.
    latest: [Cell<u16>; size_class::COUNT],
    /// Bytes of the blocks that were granted, in all places. Written by the thread that has the cache, read by anybody.
    granted_bytes: Counter,
}

// On pages of their own; and the two places of a chain lie in one line.
#[repr(C, align(4096))]
pub(crate) struct Places([Place; PLACES]);

/// The outbox of a cache: its places, and its books, which lie where each thread writes.
#[derive(Clone, Copy)]
pub(crate) struct Outbox<'a> {
    pub(crate) books: &'a Books,
    pub(crate) places: &'a Places,
}

/// A chain on its way to its owner.
pub(crate) struct Parcel {
    pub(crate) owner: *mut Owner,
    pub(crate) class: SizeClass,
    pub(crate) chain: Chain,
}

/// What became of a block that has not simply been put in.
pub(crate) enum Gathered {
    Kept,
    /// Kept, and this chain has to be sent now: it was in the way, or full.
    Send(Parcel),
    /// The outbox holds as much as it may, and the block was not put in: all of it has to be sent first, and this chain.
    Refused(Option<Parcel>),
    /// The block was the last one put in here: it is being freed twice.
    Twice,
}

impl Place {
    const fn new() -> Self {
        Self {
            key: Cell::new(Key(0)),
            head: Cell::new(None),
            room: Cell::new(0),
            granted: Cell::new(0),
            newer: Cell::new(0),
            older: Cell::new(0),
        }
    }

    /// Puts a block in if there is room and it is not the one that was put in last.
    #[inline(always)]
    fn try_push(&self, block: BlockPtr) -> bool {
        let simple = self.room.get() > 0 && self.head.get() != Some(block);
        if simple {
            self.push(block);
        }
        simple
    }

    #[inline(always)]
    fn push(&self, block: BlockPtr) {
        self.room.set(self.room.get() - 1);
        block.set_next(self.head.get());
        self.head.set(Some(block));
    }

    fn is_bare(&self) -> bool {
        self.head.get().is_none() && self.room.get() == 0 && self.granted.get() == 0
    }

    fn count(&self) -> usize {
        (self.granted.get() - self.room.get()) as usize
    }
}

impl Books {
    pub(crate) const GRANTED_BYTES: usize = offset_of!(Self, granted_bytes);

    /// All of it is zeroes.
    pub(crate) const fn new() -> Self {
        Self { latest: [const { Cell::new(0) }; size_class::COUNT], granted_bytes: Counter::new() }
    }

    /// Bytes of the blocks that the chains have and have room for. For any thread.
    pub(crate) fn granted_bytes(&self) -> usize {
        self.granted_bytes.get() as usize
    }
}

impl Places {
    /// All of it is zeroes.
    pub(crate) const fn new() -> Self {
        Self([const { Place::new() }; PLACES])
    }
}

impl<'a> Outbox<'a> {
    pub(crate) const LAYOUT: OutboxLayout = OutboxLayout {
        count: PLACES as u32,
        size: size_of::<Place>() as u32,
        key: offset_of!(Place, key) as u32,
        head: offset_of!(Place, head) as u32,
        room: offset_of!(Place, room) as u32,
        granted: offset_of!(Place, granted) as u32,
        class_shift: Key::CLASS_SHIFT,
    };

    /// The two places, neighbours in a cache line, in one of which a chain is.
    #[inline(always)]
    fn pair(self, key: Key) -> [&'a Place; 2] {
        [&self.places.0[key.place()], &self.places.0[key.place() ^ 1]]
    }

    /// The place that a chain has, or gets: one that is free, or else that with more blocks, which are worth sending.
    fn place(self, key: Key) -> &'a Place {
        let pair = self.pair(key);
        let [first, second] = pair;
        let free = |place: &&Place| place.granted.get() == 0;
        let own = pair.into_iter().find(|place| place.key.get() == key);
        let longer = || if second.count() > first.count() { second } else { first };
        own.or_else(|| pair.into_iter().find(free)).unwrap_or_else(longer)
    }

    /// Whether the block is the last one of its chain.
    pub(crate) fn has_last(self, owner: *mut Owner, class: SizeClass, block: BlockPtr) -> bool {
        let key = Key::of(owner, class);
        let place = self.place(key);
        place.key.get() == key && place.head.get() == Some(block)
    }

    /// Puts a block in if its chain is there and has room; `false`, and no change, if somebody has to look.
    #[inline(always)]
    pub(crate) fn try_gather(self, owner: *mut Owner, class: SizeClass, block: BlockPtr) -> bool {
        let key = Key::of(owner, class);
        let [first, second] = self.pair(key);
        if first.key.get() == key {
            return first.try_push(block);
        }
        cold_path();
        second.key.get() == key && second.try_push(block)
    }

    /// Puts a block in. A chain that is full stays until the next block of its place comes, so that freeing the block that
    /// was put in last once more is always noticed, unless its chain was taken back meanwhile, or the thread has room for such blocks by now and keeps it.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn gather(self, owner: *mut Owner, class: SizeClass, block: BlockPtr) -> Gathered {
        let key = Key::of(owner, class);
        let place = self.place(key);
        if place.head.get() == Some(block) {
            return Gathered::Twice;
        }
        let limit = chain_limit(class, if self.books.granted_bytes() < PLENTY { CHAIN_BYTES } else { SHORT_BYTES });
        let mut in_the_way = None;
        if place.key.get() != key || (place.room.get() == 0 && place.granted.get() >= limit) {
            in_the_way = self.take(place);
            place.key.set(key);
        }
        if place.room.get() == 0 {
            let step = (class.blocks_in(STEP_BYTES, 1, CHAIN_BLOCKS) as u32).min(limit - place.granted.get());
            let bytes = step as usize * class.block_size();
            if self.books.granted_bytes() + bytes > MAX_BYTES {
                return Gathered::Refused(in_the_way);
            }
            self.books.granted_bytes.add(bytes as u64);
            if place.granted.get() == 0 {
                self.enlist(place);
            }
            place.room.set(step);
            place.granted.set(place.granted.get() + step);
        }
        place.push(block);
        in_the_way.map_or(Gathered::Kept, Gathered::Send)
    }

    #[unsafe(link_section = ".text.terrace.common")]
    fn take(self, place: &Place) -> Option<Parcel> {
        let (key, granted) = (place.key.get(), place.granted.take());
        if granted > 0 {
            self.strike(place);
        }
        let count = granted - place.room.take();
        self.books.granted_bytes.sub(u64::from(granted) * key.class().block_size() as u64);
        let head = place.head.take()?;
        Some(Parcel { owner: key.owner(), class: key.class(), chain: Chain { head, count: count as u16 } })
    }

    fn number(self, place: &Place) -> u16 {
        let offset = (&raw const *place).addr() - (&raw const *self.places).addr();
        (offset / size_of::<Place>()) as u16 + 1
    }

    fn numbered(self, number: u16) -> Option<&'a Place> {
        self.places.0.get(usize::from(number).checked_sub(1)?)
    }

    /// The chains of a class, the latest first.
    fn chains_of(self, class: SizeClass) -> impl Iterator<Item = &'a Place> {
        let latest = self.numbered(self.books.latest[class.index()].get());
        core::iter::successors(latest, move |place| self.numbered(place.older.get()))
    }

    fn take_latest(self, class: SizeClass) -> Option<Parcel> {
        self.take(self.chains_of(class).next()?)
    }

    /// Puts a chain that is being begun into the list of its class.
    fn enlist(self, place: &Place) {
        let number = self.number(place);
        let older = self.books.latest[place.key.get().class().index()].replace(number);
        place.newer.set(0);
        place.older.set(older);
        if let Some(older) = self.numbered(older) {
            older.newer.set(number);
        }
    }

    /// Takes a chain out of the list of its class.
    fn strike(self, place: &Place) {
        let (newer, older) = (place.newer.get(), place.older.get());
        match self.numbered(newer) {
            Some(newer) => newer.older.set(older),
            None => self.books.latest[place.key.get().class().index()].set(older),
        }
        if let Some(older) = self.numbered(older) {
            older.newer.set(newer);
        }
    }

    /// Takes the latest chains of a class out as one list, for the thread to use the blocks itself, if they have at least so many.
    pub(crate) fn take_back(self, class: SizeClass, least: usize) -> Option<List> {
        let gathered = self.chains_of(class).take(TAKEN_BACK).map(Place::count).sum::<usize>();
        if gathered < least {
            return None;
        }
        List::join(|| self.take_latest(class).map(|parcel| parcel.chain), least)
    }

    /// Takes out every chain.
    pub(crate) fn drain(self) -> impl Iterator<Item = Parcel> {
        let classes = SizeClass::all().take_while(move |_| self.books.granted_bytes() > 0);
        classes.flat_map(move |class| core::iter::from_fn(move || self.take_latest(class)))
    }

    /// Forgets every chain, in the child of a `fork`, where their thread does not exist: what it was doing when it
    /// vanished is not known.
    pub(crate) fn abandon(self) {
        // Most have nothing, and memory that was never written stays so.
        for place in self.places.0.iter().filter(|place| !place.is_bare()) {
            place.head.set(None);
            place.room.set(0);
            place.granted.set(0);
        }
        self.books.latest.iter().for_each(|latest| latest.set(0));
        self.books.granted_bytes.sub(self.books.granted_bytes.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn block() -> BlockPtr {
        // SAFETY: a fresh, leaked allocation of the test's own.
        unsafe { BlockPtr::from_start(NonNull::from(std::boxed::Box::leak(std::boxed::Box::new([0_u64; 2]))).cast()) }
    }

    fn outbox() -> Outbox<'static> {
        use std::boxed::Box;
        Outbox { books: Box::leak(Box::new(Books::new())), places: Box::leak(Box::new(Places::new())) }
    }

    fn owner(n: usize) -> *mut Owner {
        core::ptr::without_provenance_mut(n * 4096)
    }

    #[test]
    fn a_full_chain_is_sent_whole() {
        let outbox = outbox();
        let class = SizeClass::of(1024).unwrap();
        let limit = chain_limit(class, CHAIN_BYTES);
        for _ in 0..limit {
            assert!(matches!(outbox.gather(owner(1), class, block()), Gathered::Kept));
        }
        let Gathered::Send(parcel) = outbox.gather(owner(1), class, block()) else { panic!("not sent") };
        assert_eq!(u32::from(parcel.chain.count), limit);
        assert_eq!(parcel.chain.blocks().count(), limit as usize);
        assert_eq!(outbox.drain().map(|parcel| parcel.chain.count).sum::<u16>(), 1);
    }

    /// Owners whose chains of a class have the same pair of places.
    fn rivals<const N: usize>(class: SizeClass) -> [*mut Owner; N] {
        let pair = |owner| Key::of(owner, class).place() / 2;
        let mut rivals = (1..).map(owner).filter(|&other| pair(other) == pair(owner(1)));
        std::array::from_fn(|_| rivals.next().unwrap())
    }

    /// Owners whose chains of a class have three pairs of places.
    fn strangers(class: SizeClass) -> [*mut Owner; 3] {
        let owners = [1, 2, 3].map(owner);
        assert_eq!(owners.map(|owner| Key::of(owner, class).place() / 2).iter().collect::<BTreeSet<_>>().len(), 3);
        owners
    }

    #[test]
    fn two_chains_of_a_pair_of_places_grow_side_by_side() {
        let outbox = outbox();
        let class = SizeClass::of(32).unwrap();
        let rivals: [_; 2] = rivals(class);
        for _ in 0..3 {
            for owner in rivals {
                let block = block();
                assert!(
                    outbox.try_gather(owner, class, block)
                        || matches!(outbox.gather(owner, class, block), Gathered::Kept)
                );
            }
        }
        let mut sent: Vec<_> = outbox.drain().map(|parcel| (parcel.owner, parcel.chain.count)).collect();
        sent.sort_unstable();
        assert_eq!(sent, rivals.map(|owner| (owner, 3)));
    }

    #[test]
    fn the_longer_of_two_chains_in_the_way_of_a_third_is_sent() {
        let outbox = outbox();
        let class = SizeClass::of(32).unwrap();
        for longer in [0, 1] {
            let rivals: [_; 3] = rivals(class);
            for owner in [rivals[0], rivals[1], rivals[longer]] {
                assert!(matches!(outbox.gather(owner, class, block()), Gathered::Kept));
            }
            let Gathered::Send(parcel) = outbox.gather(rivals[2], class, block()) else { panic!("not sent") };
            assert_eq!((parcel.owner, parcel.chain.count), (rivals[longer], 2));
            let mut left: Vec<_> = outbox.drain().map(|parcel| (parcel.owner, parcel.chain.count)).collect();
            left.sort_unstable();
            assert_eq!(left, [(rivals[1 - longer], 1), (rivals[2], 1)]);
            assert_eq!(outbox.books.granted_bytes(), 0);
        }
    }

    #[test]
    fn the_latest_chains_of_a_class_are_taken_back_as_one_list() {
        let outbox = outbox();
        let (class, other) = (SizeClass::of(1024).unwrap(), SizeClass::of(2048).unwrap());
        // Chains of 1, 2 and 3 blocks, each of its own owner, that do not meet in a place.
        let owners = strangers(class);
        let mut gathered = Vec::new();
        for (length, owner) in (1..).zip(owners) {
            for _ in 0..length {
                let block = block();
                assert!(matches!(outbox.gather(owner, class, block), Gathered::Kept));
                gathered.push(block);
            }
        }
        assert!(outbox.take_back(other, 1).is_none());
        assert!(outbox.take_back(class, 7).is_none(), "there are six");
        let list = outbox.take_back(class, 4).expect("the latest two have five");
        let [_, second, third] =
            [0..1, 1..3, 3..6].map(|range| gathered[range].iter().rev().copied().collect::<Vec<_>>());
        assert_eq!(list.count, 5);
        assert_eq!(crate::block::blocks_from(list.head).collect::<Vec<_>>(), [third, second].concat());
        assert!(outbox.take_back(class, 2).is_none(), "one is left");
        let left: Vec<_> = outbox.drain().map(|parcel| (parcel.owner, parcel.chain.count)).collect();
        assert_eq!(left, [(owners[0], 1)]);
        assert_eq!(outbox.books.granted_bytes(), 0);
    }

    #[test]
    fn a_chain_from_the_middle_leaves_the_others_of_its_class() {
        let outbox = outbox();
        let class = SizeClass::of(1024).unwrap();
        let owners = strangers(class);
        for owner in owners {
            assert!(matches!(outbox.gather(owner, class, block()), Gathered::Kept));
        }
        let middle = outbox.place(Key::of(owners[1], class));
        assert_eq!(outbox.take(middle).map(|parcel| parcel.owner), Some(owners[1]));
        assert_eq!(
            outbox.chains_of(class).map(|place| place.key.get().owner()).collect::<Vec<_>>(),
            [owners[2], owners[0]]
        );
        assert_eq!(outbox.drain().count(), 2);
    }

    #[test]
    fn chains_are_short_while_all_together_hold_plenty() {
        let outbox = outbox();
        let class = SizeClass::of(64).unwrap();
        let limit = |bytes| chain_limit(class, bytes);
        let count_when_sent = |n| loop {
            if let Gathered::Send(parcel) = outbox.gather(owner(n), class, block()) {
                assert_eq!(parcel.owner, owner(n));
                break u32::from(parcel.chain.count);
            }
        };
        let keep = |n, class| assert!(matches!(outbox.gather(owner(n), class, block()), Gathered::Kept));
        assert_eq!(count_when_sent(1), limit(CHAIN_BYTES));
        // A chain that is longer than a short one already, and room for more.
        let long = 100;
        assert!(long > limit(SHORT_BYTES));
        (0..long).for_each(|_| keep(2, class));
        // A block of another class for each of many owners, so that only the sum grows; it is plenty without the long chain.
        let filler = SizeClass::of(4096).unwrap();
        (100..).take_while(|_| outbox.books.granted_bytes() < PLENTY + CHAIN_BYTES).for_each(|n| keep(n, filler));
        assert_eq!([(); 3].map(|()| count_when_sent(1)), [limit(SHORT_BYTES); 3]);
        // What it was given room for is used.
        assert_eq!(count_when_sent(2), long.next_multiple_of(limit(STEP_BYTES)));
        assert_eq!(count_when_sent(2), limit(SHORT_BYTES));
        assert!(outbox.drain().count() > PLENTY / CHAIN_BYTES);
        assert_eq!(count_when_sent(1), limit(CHAIN_BYTES));
    }

    #[test]
    fn it_is_full_before_its_chains_hold_more_than_it_may() {
        let outbox = outbox();
        let class = SizeClass::of(16384).unwrap();
        let mut gathered = 0;
        for n in 1.. {
            if matches!(outbox.gather(owner(n), class, block()), Gathered::Refused(_)) {
                break;
            }
            gathered += class.block_size();
            assert!(outbox.books.granted_bytes() == gathered && gathered <= MAX_BYTES);
        }
        assert!(outbox.drain().count() >= MAX_BYTES / class.block_size() / chain_limit(class, CHAIN_BYTES) as usize);
        assert_eq!(outbox.books.granted_bytes(), 0);
    }

    #[test]
    fn a_block_gathered_twice_in_a_row_is_noticed_until_its_chain_has_left() {
        let outbox = outbox();
        let (a, class) = (block(), SizeClass::of(32).unwrap());
        assert!(matches!(outbox.gather(owner(1), class, a), Gathered::Kept));
        assert!(matches!(outbox.gather(owner(1), class, a), Gathered::Twice));
        assert_eq!(outbox.drain().count(), 1);
        assert!(matches!(outbox.gather(owner(1), class, a), Gathered::Kept), "its owner has handed it out again");
    }
}
