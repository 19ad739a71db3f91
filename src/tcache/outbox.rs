//! The outbox: blocks of other caches' slabs that this thread has freed, gathered into chains before they go home.
//!
//! A small table of chains, each of one class for one owner. A block whose place is taken by another chain sends that one
//! off; so does a chain that reaches its limit. The rest leaves when the thread's housekeeping comes round, or the thread
//! ends. Only the cache's own thread touches it.

use crate::arena::Owner;
use crate::block::{BlockPtr, Chain};
use crate::size_class::SizeClass;
use crate::sync::Cell;

/// Chains that can be gathered at a time.
const PLACES: usize = 64;
/// A chain is sent when it has this many blocks, or this many bytes.
const CHAIN_BLOCKS: usize = 512;
const CHAIN_BYTES: usize = 32 << 10;

const fn chain_limit(class: SizeClass) -> u16 {
    let blocks = CHAIN_BYTES / class.block_size();
    if blocks > CHAIN_BLOCKS { CHAIN_BLOCKS as u16 } else { blocks as u16 }
}

static LIMITS: [u16; crate::size_class::COUNT] = {
    let mut limits = [0; crate::size_class::COUNT];
    let mut i = 0;
    while i < limits.len() {
        limits[i] = chain_limit(SizeClass::from_index(i));
        i += 1;
    }
    limits
};

#[repr(C)]
struct Place {
    owner: Cell<*mut Owner>,
    head: Cell<Option<BlockPtr>>,
    count: Cell<u16>,
    class: Cell<u8>,
}

pub(crate) struct Outbox {
    places: [Place; PLACES],
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
    /// These chains have to be sent now: the one that was in the way, and the one that is full.
    Send(Option<Parcel>, Option<Parcel>),
    /// The block was the last one put in here: it is being freed twice.
    Twice,
}

impl Place {
    const fn new() -> Self {
        Self {
            owner: Cell::new(core::ptr::null_mut()),
            head: Cell::new(None),
            count: Cell::new(0),
            class: Cell::new(0),
        }
    }

    fn take(&self) -> Option<Parcel> {
        let count = self.count.take();
        let head = self.head.get().filter(|_| count > 0)?;
        let class = SizeClass::from_index(self.class.get() as usize);
        Some(Parcel { owner: self.owner.get(), class, chain: Chain { head, count } })
    }
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self { places: [const { Place::new() }; PLACES] }
    }

    #[inline]
    pub(crate) fn gather(&self, owner: *mut Owner, class: SizeClass, block: BlockPtr) -> Gathered {
        // Caches lie pages apart, so the page's number tells neighbours from each other.
        let place = &self.places[(owner.addr() / 4096 * 5 + class.index()) % PLACES];
        let fits = place.owner.get() == owner && place.class.get() as usize == class.index();
        let count = place.count.get();
        // Once its chain has left, the same block may come here again by right.
        if count > 0 && place.head.get() == Some(block) {
            return Gathered::Twice;
        }
        if fits && count > 0 {
            block.set_next(place.head.get());
            place.head.set(Some(block));
            place.count.set(count + 1);
            if count + 1 < LIMITS[class.index()] {
                return Gathered::Kept;
            }
            return Gathered::Send(None, place.take());
        }
        let displaced = place.take();
        place.owner.set(owner);
        place.class.set(class.index() as u8);
        block.set_next(None);
        place.head.set(Some(block));
        place.count.set(1);
        let full = if LIMITS[class.index()] <= 1 { place.take() } else { None };
        if displaced.is_none() && full.is_none() { Gathered::Kept } else { Gathered::Send(displaced, full) }
    }

    /// Takes out every chain.
    pub(crate) fn drain(&self) -> impl Iterator<Item = Parcel> {
        self.places.iter().filter_map(Place::take)
    }

    /// Forgets every chain, in the child of a `fork`, where their thread does not exist: what it was doing when it
    /// vanished is not known.
    pub(crate) fn abandon(&self) {
        self.places.iter().for_each(|place| place.count.set(0));
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
        for _ in 1..limit {
            assert!(matches!(outbox.gather(owner(1), class, block()), Gathered::Kept));
        }
        let Gathered::Send(None, Some(parcel)) = outbox.gather(owner(1), class, block()) else { panic!("not sent") };
        assert_eq!(parcel.chain.count, limit);
        assert_eq!(parcel.chain.blocks().count(), usize::from(limit));
        assert_eq!(outbox.drain().count(), 0);
    }

    #[test]
    fn a_chain_in_the_way_of_another_owner_is_sent() {
        let outbox = Outbox::new();
        let class = SizeClass::of(32).unwrap();
        assert!(matches!(outbox.gather(owner(1), class, block()), Gathered::Kept));
        let Gathered::Send(Some(parcel), None) = outbox.gather(owner(1 + PLACES), class, block()) else {
            panic!("not sent")
        };
        assert_eq!((parcel.owner, parcel.chain.count), (owner(1), 1));
        assert_eq!(outbox.drain().map(|parcel| parcel.owner).next(), Some(owner(1 + PLACES)));
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
