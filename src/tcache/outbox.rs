//! The outbox: blocks of other caches' slabs that this thread has freed, gathered into chains before they go home.
//!
//! A small table of chains, each of one class for one owner. A block whose place is taken by another chain sends that one
//! off; so does a chain that reaches its limit. The rest leaves when the thread's housekeeping comes round, or the thread
//! ends. Only the cache's own thread touches it.

use crate::arena::Owner;
use crate::block::{BlockPtr, Chain};
use crate::size_class::SizeClass;
use crate::sync::Cell;

/// Chains that can be gathered at a time. With four threads that all free each other's blocks of some 25 classes, 64 places
/// sent a chain for every 4 blocks, 512 for every 50.
const PLACES: usize = 512;
/// A chain is sent when it has this many blocks, or this many bytes and at least a few blocks.
const CHAIN_BLOCKS: usize = 512;
const CHAIN_LEAST: usize = 4;
const CHAIN_BYTES: usize = 16 << 10;
/// Bytes of blocks gathered at a time, in all chains.
const MAX_BYTES: usize = 1 << 20;

const fn chain_limit(class: SizeClass) -> u16 {
    class.blocks_in(CHAIN_BYTES, CHAIN_LEAST, CHAIN_BLOCKS) as u16
}

#[repr(C)]
struct Place {
    owner: Cell<*mut Owner>,
    head: Cell<Option<BlockPtr>>,
    /// Zero while the place is empty.
    count: Cell<u16>,
    class: Cell<SizeClass>,
}

pub(crate) struct Outbox {
    places: [Place; PLACES],
    /// Bytes of all blocks in here.
    bytes: Cell<usize>,
}

/// A chain on its way to its owner.
pub(crate) struct Parcel {
    pub(crate) owner: *mut Owner,
    pub(crate) class: SizeClass,
    pub(crate) chain: Chain,
}

/// What became of a block that was put into the outbox.
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
            owner: Cell::new(core::ptr::null_mut()),
            head: Cell::new(None),
            count: Cell::new(0),
            class: Cell::new(SizeClass::from_index(0)),
        }
    }
}

impl Outbox {
    /// All of it is zeroes.
    pub(crate) const fn new() -> Self {
        Self { places: [const { Place::new() }; PLACES], bytes: Cell::new(0) }
    }

    #[inline]
    fn place(&self, owner: *mut Owner, class: SizeClass) -> &Place {
        let key = (owner.addr() / 128).wrapping_add(class.offset() << 20) as u64;
        &self.places[(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PLACES.ilog2())) as usize]
    }

    /// Puts a block in. A chain that is full stays until the next block of its place comes, so that freeing the block that
    /// was put in last once more is always noticed.
    #[inline]
    pub(crate) fn gather(&self, owner: *mut Owner, class: SizeClass, block: BlockPtr) -> Gathered {
        let place = self.place(owner, class);
        let (mut in_the_way, mut next) = (None, None);
        if place.count.get() > 0 {
            next = place.head.get();
            if next == Some(block) {
                return Gathered::Twice;
            }
            let same = place.owner.get() == owner && place.class.get() == class;
            if !same || place.count.get() >= chain_limit(class) {
                in_the_way = self.take(place);
                next = None;
            }
        }
        if self.bytes.get() > MAX_BYTES {
            return Gathered::Refused(in_the_way);
        }
        block.set_next(next);
        place.head.set(Some(block));
        place.owner.set(owner);
        place.class.set(class);
        place.count.set(place.count.get() + 1);
        self.bytes.set(self.bytes.get() + class.block_size());
        in_the_way.map_or(Gathered::Kept, Gathered::Send)
    }

    fn take(&self, place: &Place) -> Option<Parcel> {
        let count = place.count.take();
        let head = place.head.get().filter(|_| count > 0)?;
        let class = place.class.get();
        self.bytes.set(self.bytes.get() - usize::from(count) * class.block_size());
        Some(Parcel { owner: place.owner.get(), class, chain: Chain { head, count } })
    }

    /// Takes out every chain.
    pub(crate) fn drain(&self) -> impl Iterator<Item = Parcel> {
        let places = if self.bytes.get() > 0 { &self.places[..] } else { &[] };
        places.iter().filter_map(|place| self.take(place))
    }

    /// Forgets every chain, in the child of a `fork`, where their thread does not exist: what it was doing when it
    /// vanished is not known.
    pub(crate) fn abandon(&self) {
        self.places.iter().for_each(|place| place.count.set(0));
        self.bytes.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;

    fn block() -> BlockPtr {
        // SAFETY: a fresh, leaked allocation of the test's own.
        unsafe { BlockPtr::from_start(NonNull::from(std::boxed::Box::leak(std::boxed::Box::new([0_u64; 2]))).cast()) }
    }

    fn owner(n: usize) -> *mut Owner {
        core::ptr::without_provenance_mut(n * 4096)
    }

    #[test]
    fn a_full_chain_is_sent_whole() {
        let outbox = Outbox::new();
        let class = SizeClass::of(1024).unwrap();
        let limit = chain_limit(class);
        for _ in 0..limit {
            assert!(matches!(outbox.gather(owner(1), class, block()), Gathered::Kept));
        }
        let Gathered::Send(parcel) = outbox.gather(owner(1), class, block()) else { panic!("not sent") };
        assert_eq!(parcel.chain.count, limit);
        assert_eq!(parcel.chain.blocks().count(), usize::from(limit));
        assert_eq!(outbox.drain().map(|parcel| parcel.chain.count).sum::<u16>(), 1);
    }

    #[test]
    fn a_chain_in_the_way_of_another_owner_is_sent() {
        let outbox = Outbox::new();
        let class = SizeClass::of(32).unwrap();
        let in_the_way = |n: &usize| core::ptr::eq(outbox.place(owner(*n), class), outbox.place(owner(1), class));
        let other = (2..).find(in_the_way).unwrap();
        assert!(matches!(outbox.gather(owner(1), class, block()), Gathered::Kept));
        let Gathered::Send(parcel) = outbox.gather(owner(other), class, block()) else { panic!("not sent") };
        assert_eq!((parcel.owner, parcel.chain.count), (owner(1), 1));
        assert_eq!(outbox.drain().map(|parcel| parcel.owner).next(), Some(owner(other)));
        assert_eq!(outbox.bytes.get(), 0);
    }

    #[test]
    fn it_is_full_before_its_chains_hold_more_than_it_may() {
        let outbox = Outbox::new();
        let class = SizeClass::of(16384).unwrap();
        let mut gathered = 0;
        for n in 1.. {
            gathered += class.block_size();
            if matches!(outbox.gather(owner(n), class, block()), Gathered::Refused(_)) {
                break;
            }
            assert!(outbox.bytes.get() <= gathered && outbox.bytes.get() <= MAX_BYTES + class.block_size());
        }
        assert!(outbox.drain().count() >= MAX_BYTES / class.block_size() / usize::from(chain_limit(class)));
        assert_eq!(outbox.bytes.get(), 0);
    }

    #[test]
    fn a_block_gathered_twice_in_a_row_is_noticed_until_its_chain_has_left() {
        let outbox = Outbox::new();
        let (a, class) = (block(), SizeClass::of(32).unwrap());
        assert!(matches!(outbox.gather(owner(1), class, a), Gathered::Kept));
        assert!(matches!(outbox.gather(owner(1), class, a), Gathered::Twice));
        assert_eq!(outbox.drain().count(), 1);
        assert!(matches!(outbox.gather(owner(1), class, a), Gathered::Kept), "its owner has handed it out again");
    }
}
