//! What the models hold of the allocator's blocks: a shadow oracle, and blocks with contents.

use crate::arena::{ARENAS, Slab};
use crate::block::BlockPtr;
use crate::size_class::SizeClass;
use crate::sync::{self, model};
use crate::tcache::{self, CACHES};
use crate::{c_face, heap};
use core::ptr::NonNull;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec::Vec;

std::thread_local! {
    /// Where each block that the program holds begins and ends.
    static LIVE: RefCell<BTreeMap<usize, usize>> = RefCell::default();
}

/// A block that the program holds, with contents that only its holder knows.
#[must_use]
pub(super) struct Held {
    start: NonNull<u8>,
    contents: usize,
}

// SAFETY: a block may be freed by any thread.
unsafe impl Send for Held {}

/// Begins an execution: nothing is held.
pub(super) fn begin() {
    LIVE.take();
}

/// Blocks of this size lie 16 to a slab of one slice; a magazine's list holds eight, a chain of the outbox four.
pub(super) const PAGE: usize = 4096;
/// Blocks of this size lie eight to a slab of four slices; a list and a chain hold four.
pub(super) const LARGEST: usize = 32 << 10;

/// A block from the allocator, by the C face.
pub(super) fn allocate(size: usize) -> Held {
    try_allocate(size).expect("there is memory")
}

pub(super) fn try_allocate(size: usize) -> Option<Held> {
    Held::new(c_face::malloc(size), size, size ^ model::thread_number())
}

/// Frees a block, by the C face.
pub(super) fn free(block: Held) {
    let start = block.give_up();
    // SAFETY: the block was held, and was given up.
    unsafe { c_face::free(start.as_ptr()) };
}

/// Frees a block by the Rust face, which trusts the layout.
pub(super) fn free_known(block: Held, size: usize) {
    let start = block.give_up();
    // SAFETY: the block was held, of this size, and was given up.
    unsafe { heap::free_layout(start.as_ptr(), size, 8) };
}

/// Checks the whole heap when no thread of the model is at work: every structure is whole, and each block that left a slab is
/// held by the program or lies in a magazine.
pub(super) fn check_at_rest() {
    // What was sent to a cache that had given the slab away is sent on by the first round.
    for _ in 0..2 {
        tcache::flush();
    }
    tcache::check_own();
    ARENAS.check(Slab::check);
    let mut small = 0;
    for class in SizeClass::all() {
        let (out, at_hand) = CACHES
            .iter()
            .map(|cache| (cache.ledger(class), cache.held(class)))
            .inspect(|(ledger, _)| assert_eq!(ledger.arrivals, 0, "what was sent home is still waiting"))
            .fold((0, 0), |sum, (ledger, at_hand)| (sum.0 + ledger.slabs.out, sum.1 + at_hand));
        let held =
            LIVE.with_borrow(|live| live.iter().filter(|(start, end)| *end - *start == class.block_size()).count());
        assert_eq!(out, at_hand + held, "a block was lost, or counted twice");
        small += out;
    }
    let listed = core::cell::Cell::new(0);
    ARENAS.check(|slab| listed.set(listed.get() + slab.out_count()));
    assert_eq!(listed.get(), small, "the caches and the slabs count differently");
    CACHES.check();
}

/// The same for a program that holds nothing, and whose threads have all ended: every page is free.
pub(super) fn check_all_came_home() {
    check_at_rest();
    assert!(LIVE.with_borrow(BTreeMap::is_empty));
    let totals = ARENAS.totals(|_| {});
    assert_eq!((totals.slabs, totals.medium), (0, 0), "a slab was not given back");
}

impl Held {
    /// Takes a block that the allocator gave: it must overlap no other, and belong to the calling thread alone.
    pub(super) fn new(start: *mut u8, size: usize, contents: usize) -> Option<Self> {
        let held = Self::enter(NonNull::new(start)?, size, contents);
        held.write();
        Some(held)
    }

    /// The same for a block that has its contents already.
    pub(super) fn again(start: NonNull<u8>, size: usize, contents: usize) -> Self {
        Self::enter(start, size, contents)
    }

    fn enter(start: NonNull<u8>, size: usize, contents: usize) -> Self {
        let (first, end) = (start.addr().get(), start.addr().get() + size);
        LIVE.with_borrow_mut(|live| {
            let before = live.range(..end).next_back();
            assert!(before.is_none_or(|(_, &other)| other <= first), "a block was handed out twice");
            live.insert(first, end);
        });
        Self { start, contents }
    }

    /// The two words that the allocator uses while the block is free.
    fn words(&self) -> [*mut usize; 2] {
        let first = self.start.as_ptr().cast::<usize>();
        [first, first.wrapping_add(1)]
    }

    fn write(&self) {
        for word in self.words() {
            // SAFETY: the block is the caller's and has two words.
            unsafe { sync::write(word, self.contents) };
        }
    }

    pub(super) fn address(&self) -> usize {
        self.start.addr().get()
    }

    pub(super) fn check(&self) {
        for word in self.words() {
            // SAFETY: as above.
            assert_eq!(unsafe { sync::read(word) }, self.contents, "a block's contents were overwritten");
        }
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Gives the block up: from here on the allocator may hand it out.
    pub(super) fn give_up(self) -> NonNull<u8> {
        self.check();
        // The program writes before it frees; the next owner must see it.
        self.write();
        LIVE.with_borrow_mut(|live| live.remove(&self.start.addr().get())).expect("a block that is not held");
        self.start
    }
}

/// A block of two words that no allocator knows.
pub(super) fn loose_block() -> BlockPtr {
    let memory: &'static [usize; 2] = model::keep([0; 2]);
    // SAFETY: kept for the model alone; the allocator's code writes it only through reported accesses.
    unsafe { BlockPtr::from_start(NonNull::from_ref(memory).cast()) }
}

/// Blocks linked into a list.
pub(super) fn linked(count: usize) -> Vec<BlockPtr> {
    let blocks: Vec<BlockPtr> = (0..count).map(|_| loose_block()).collect();
    for pair in blocks.windows(2) {
        pair[0].set_next(Some(pair[1]));
    }
    blocks[count - 1].set_next(None);
    blocks
}
