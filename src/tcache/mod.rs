//! Thread caches: what a thread allocates from and frees to without a lock.
//!
//! A block's states, and who moves it from one to the next by which right:
//!
//! | state | becomes | moved by |
//! |---|---|---|
//! | uncarved | magazine | the owner of the slab, under its cache's lock (`carve`) |
//! | listed (on its slab's list) | magazine | the owner of the slab, under its cache's lock (`take_list`) |
//! | magazine | live | the thread whose magazine it is (`pop`) |
//! | live | magazine | the freeing thread, if the slab is its own (`push`) |
//! | live | magazine | the freeing thread, if the slab is another's and the thread takes blocks of the class itself, most of the time (`free_remote`, `keep_foreign`) |
//! | live | outbox | the freeing thread, if the slab is another's otherwise (`try_gather`, `gather`) |
//! | outbox | magazine | the thread whose outbox it is (`take_back`) |
//! | outbox | inbox of the owner | the thread whose outbox it is, by one compare-and-swap (`push`) |
//! | inbox | pending | whoever holds the lock of the inbox's cache, by one swap (`take_all`) |
//! | inbox | magazine of another thread | that thread, if it has no block of the class, by the same swap (`take_some`); the rest goes back |
//! | pending | magazine | the owner, under its lock, a chain at a time |
//! | magazine, pending | listed | whoever holds the lock of the slab's owner (`settle`) |
//! | live | listed | the freeing thread, if the class is thin and the slab its own (`resettle_if_thin`) |
//! | magazine, pending | outbox or inbox | the same, when the slab belongs to another cache |
//! | listed, all of a slab | pages of the arena | whoever holds the lock of the slab's owner (`release`) |
//!
//! A block in a magazine may belong to another cache's slab, which has changed hands since, or was taken in transit, or freed here: handing it out is
//! harmless, and on its way to a slab list the owner is looked at again, under the lock that every change of owner takes.
//!
//! A medium block is no slab's. The thread that frees it may keep it on its shelf (`shelve`), and hand it out again (`unshelve`); else it is the
//! arena's.
//!
//! A cache's magazines, old lists, shelf and outbox belong to one thread: the one whose slot holds the cache, or, when that has ended, the one
//! that cools it. Everything else in it is shared, as the fields say. Caches live for ever: a thread may hold a stale owner and push to its inbox at any time.

mod allowance;
mod attended;
mod fork;
mod inbox;
mod lifecycle;
mod magazine;
mod outbox;
mod paths;
mod purger;
mod settling;
mod shelf;
mod slab_sets;
mod slot;
mod supply;

pub(crate) use attended::give_back;
pub(crate) use lifecycle::{CACHES, Caches};
pub(crate) use magazine::limits;
pub(crate) use paths::{
    allocate, allocate_at_hand, allocate_c, allocate_constant, allocate_from, cold_path, free_in_slab, free_known,
    free_own, is_attended, take, take_at_hand,
};
pub(crate) use purger::PURGER;
#[cfg(loom)]
pub(crate) use {inbox::Inbox, purger::Purger};

use crate::arena::{self, Descriptor, Owner, PAGE, Slab, slab_containing};
use crate::block::{BlockPtr, blocks_from};
use crate::history::Ring;
use crate::layout::CacheLayout;
use crate::options::OPTIONS;
use crate::os;
use crate::os::valgrind::Unreported;
use crate::size_class::{self, BYTE_TABLE, BYTE_TABLE_MAX, ByteTable, SizeClass};
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Cell, Counter, Mutex, in_register};
use allowance::Account;
use core::mem::offset_of;
use core::ptr::NonNull;
#[cfg(not(loom))]
use inbox::Inbox;
use magazine::{List, Magazine};
use outbox::{Books, Gathered, Outbox, Parcel, Places};
use paths::freed_twice;
use shelf::Shelf;
use slab_sets::{Holdings, SlabSets};

// At the beginning of a page, so that it shares none with other caches: then each thread touches two or three.
#[repr(C, align(4096))]
pub(crate) struct ThreadCache {
    // The thread's own.
    magazines: [Magazine; size_class::COUNT],
    old: [OldList; size_class::COUNT],
    /// Blocks that each magazine has, and has room for, as of the last slow call of its class.
    grants: [Cell<u16>; size_class::COUNT],
    /// The classes of the sizes that the C face asks for most; zeroes in a stand-in. A table of the library's would cost each call of
    /// `malloc` an instruction to find. Written when the cache is made, never changed: whoever has the cache came to it by its
    /// making, or by a claim that acquires all that was written before.
    by_size: ByteTable,
    account: Account,
    /// Bytes in all old lists.
    old_bytes: Cell<usize>,
    /// Medium blocks at hand.
    shelf: Shelf,
    /// The arena that the thread asks first.
    arena: Cell<usize>,
    /// The cache that the thread asks next for blocks that wait in its inboxes.
    lender: Cell<Option<&'static ThreadCache>>,
    /// Where the thread writes down what it does, once it has (`src/history/`). It stays when the thread ends.
    ring: Cell<Option<&'static Ring>>,
    /// Slow calls since the cache was made; the clock is looked at every so many.
    slow_calls: Cell<u32>,
    /// With how many more blocks of other caches' slabs one goes home; nothing when one just went. See `free_remote`.
    stays: Cell<u8>,
    /// When the thread last did its housekeeping, in milliseconds of the coarse clock.
    last_housekeeping: Cell<u64>,
    /// Classes that had a slow call since the last housekeeping.
    busy: [Cell<bool>; size_class::COUNT],
    /// Whether much of a class was free when that was looked at last; see `resettle_if_thin`.
    thin: [Cell<bool>; size_class::COUNT],
    /// When and how often a few blocks of each class were fetched since it was thin, and when and how often it was resettled; see
    /// `may_in_tick`.
    fetched: [Cell<u16>; size_class::COUNT],
    resettled: [Cell<u16>; size_class::COUNT],
    /// The block of a thin class that was freed last and went to its slab, which it may have left since.
    settled_last: Cell<Option<BlockPtr>>,
    /// How often the thread's destructor ran: the first time it only asks to be run again, after the others'.
    farewells: Cell<u32>,
    /// Whether the thread is taking a call stack by the C runtime's unwinder, or looks for that (`src/stacks.rs`).
    unwinding: Cell<bool>,

    /// Chains from other threads. Pushed to by any thread, taken by the holder of `slabs`, or by a thread in need.
    inboxes: [Inbox; size_class::COUNT],
    /// Whether a thread has this cache; see `lifecycle`.
    state: AtomicU32,
    /// When the thread last looked at the clock, in milliseconds. Written by the thread that has the cache, read by others
    /// that look for idle ones: `Relaxed`, since it only guides the search.
    seen: AtomicU64,
    /// The cache that was made before this one; written before the cache is published, never changed.
    next: AtomicPtr<ThreadCache>,
    /// The thread that has the cache, or had it last, as the kernel numbers threads; 0 for the cache that stands in for
    /// those of threads without. Written by that thread when it takes the cache, for readers from outside: `Relaxed`.
    thread: AtomicU32,
    pub(crate) counters: Counters,
    /// The thread's own, but that anybody reads how many bytes were granted.
    books: Books,
    /// The smallest classes first: with those of up to 240 bytes, what each thread writes ends with the second page.
    slabs: Mutex<SlabSets>,

    /// The thread's own. Last, since few of them are used by most threads: so all else lies on three pages.
    places: Places,
}

/// What the order of the fields is for (decision 28).
#[cfg(not(loom))]
const _: () = {
    let small = match SizeClass::of(240) {
        Some(class) => class.index(),
        None => unreachable!(),
    };
    assert!(offset_of!(ThreadCache, slabs) + Mutex::<SlabSets>::VALUE + SlabSets::end_of_class(small) <= 2 * PAGE);
    assert!(offset_of!(ThreadCache, places) == 3 * PAGE && size_of::<ThreadCache>() == 7 * PAGE);
};

/// Written by the thread that has the cache, read by anybody.
pub(crate) struct Counters {
    pub(crate) refills: Counter,
    pub(crate) settled_lists: Counter,
    pub(crate) remote_frees: Counter,
    pub(crate) chains_sent: Counter,
    /// Blocks in the magazine of each class, as of the last slow call.
    pub(crate) held: [Counter; size_class::COUNT],
}

/// Where the blocks of a class are that belong to one cache's slabs, or lie in its hands.
pub(crate) struct Ledger {
    pub(crate) slabs: Holdings,
    /// Blocks in magazines: for the calling thread's own cache as of now, for another as of its owner's last slow call.
    pub(crate) magazines: usize,
    /// Blocks that other threads sent home.
    pub(crate) arrivals: usize,
}

// SAFETY: the thread's own part is touched only by the thread that has the cache (or, for a cache that no thread has, by
// the one that claimed it); the rest is atomic or locked.
unsafe impl Sync for ThreadCache {}

#[derive(Default)]
struct OldList {
    head: Cell<Option<BlockPtr>>,
    count: Cell<usize>,
}

impl OldList {
    fn take(&self) -> List {
        List { head: self.head.take(), count: self.count.take() }
    }

    fn put(&self, list: List) {
        self.head.set(list.head);
        self.count.set(list.count);
    }
}

/// The arena hint of the calling thread, for medium blocks.
pub(crate) fn with_arena_hint<T>(f: impl FnOnce(&Cell<usize>) -> T) -> T {
    match lifecycle::own_or_attach() {
        Some(cache) => f(&cache.arena),
        None => f(&Cell::new(0)),
    }
}

/// Has the calling thread keep the medium block that starts at an address in a segment, which is being freed, at hand, if it has room for it;
/// `false` if it does not, or if no such block starts there.
#[inline(always)]
pub(crate) fn try_shelve(start: NonNull<u8>) -> bool {
    // A stand-in has no room.
    arena::medium_at(start).is_some_and(|run| slot::get().try_shelve(run))
}

/// The same after making room.
#[inline(always)]
pub(crate) fn shelve(start: NonNull<u8>) -> bool {
    arena::medium_at(start).is_some_and(|run| slot::get().shelve(run))
}

/// A medium block of just the pages that `size` bytes take, at most `mmap_threshold`, if that is what the calling thread freed last.
#[inline(always)]
#[allow(clippy::manual_div_ceil, reason = "that takes four more instructions, for a sum that can overflow")]
pub(crate) fn unshelve_latest(size: usize) -> Option<NonNull<u8>> {
    // Nothing lies on the shelf of a stand-in.
    slot::get().unshelve_latest((size + (PAGE - 1)) / PAGE)
}

/// A medium block of just the pages that `size` bytes take, aligned to `align`, a power of two, if the calling thread has one at hand.
#[inline(always)]
pub(crate) fn unshelve(size: usize, align: usize) -> Option<NonNull<u8>> {
    if size > shelf::MOST {
        return None;
    }
    slot::get().unshelve(size.div_ceil(PAGE), align.div_ceil(PAGE))
}

/// Where the calling thread keeps its ring of events; `None` for a thread without a cache.
pub(crate) fn own_ring() -> Option<&'static Cell<Option<&'static Ring>>> {
    lifecycle::own().map(|cache| &cache.ring)
}

/// Where it is noted that the calling thread unwinds its stack; `None` for a thread without a cache.
pub(crate) fn unwinding() -> Option<&'static Cell<bool>> {
    lifecycle::own().map(|cache| &cache.unwinding)
}

/// Whether the slab of a block is the calling thread's.
pub(crate) fn has_slab_of(start: NonNull<u8>) -> bool {
    // SAFETY: blocks of slabs lie in registered segments.
    let slab = unsafe { slab_containing(start) };
    lifecycle::own().is_some_and(|cache| cache.owns(slab))
}

/// Has no thread's end call into this library any more, if it can be unloaded.
pub(crate) fn stop() {
    lifecycle::forget_exit_key();
}

/// Whether a block of a slab was the last of its class that the calling thread freed, and was not handed out since, nor went to its slab.
pub(crate) fn was_just_freed(slab: &Slab, start: NonNull<u8>) -> bool {
    slot::get().magazine(slab.class()).top().is_some_and(|top| top.start() == start)
}

/// Whether a block was the last that the calling thread freed of a thin class and that went to its slab, and is there still.
pub(crate) fn was_settled_last(start: NonNull<u8>) -> bool {
    slot::get().was_settled_last(start)
}

/// What the library does when it is loaded. The calling thread gets its cache with its first block.
pub(crate) fn load() {
    lifecycle::load();
}

/// Makes sure that the calling thread has a cache, and so that the process is initialised; `false` when there is no memory.
pub(crate) fn start() -> bool {
    lifecycle::own_or_attach().is_some()
}

/// A medium block that comes from an arena or goes to one, or a large block that comes or goes, counts as so many slow calls: the clock is looked
/// at every fourth time.
const CALLS_OF_A_RUN: u32 = 8;

/// Gives housekeeping its turn, if it is due; called where large and medium blocks come and go.
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn tick() {
    let _unreported = Unreported::begin();
    PURGER.note();
    if let Some(cache) = lifecycle::own() {
        cache.count_calls(CALLS_OF_A_RUN);
        PURGER.start_if_wanted();
    }
}

/// Before memory is taken from the kernel: makes some caches that no thread has give what they have at hand to their slabs, and some idle
/// ones what other threads sent them; and empty slabs go to the arenas.
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn reclaim() {
    let _unreported = Unreported::begin();
    let has_warm = CACHES.has_warm();
    for cache in CACHES.some() {
        if has_warm {
            cache.cool(SizeClass::all());
        }
        cache.reclaim_if_idle();
    }
}

/// Makes some idle caches give what other threads sent them to their slabs, and empty slabs to the arenas.
#[unsafe(link_section = ".text.terrace.common")]
pub(crate) fn settle_sent() {
    let _unreported = Unreported::begin();
    CACHES.some().for_each(ThreadCache::reclaim_if_idle);
}

/// Sends home what the calling thread has freed of other threads' blocks.
pub(crate) fn send_off() {
    let _unreported = Unreported::begin();
    if let Some(cache) = lifecycle::own() {
        cache.outbox().drain().for_each(|parcel| cache.send(parcel));
    }
}

/// Settles all that the calling thread holds and what others sent to any thread, and gives back the memory of all free pages
/// in slabs; says how many pages those were.
pub(crate) fn flush() -> usize {
    let _unreported = Unreported::begin();
    if let Some(cache) = lifecycle::own() {
        cache.empty_out();
    }
    CACHES.cool_all();
    let now = os::clock_ms();
    CACHES.iter().map(|cache| cache.keep_house_of_idle(now, 0, usize::MAX)).sum()
}

/// Checks the calling thread's cache. Panics where it is not whole.
pub(crate) fn check_own() {
    if let Some(cache) = lifecycle::own() {
        cache.check_magazines();
    }
}

impl ThreadCache {
    pub(crate) const LAYOUT: CacheLayout = CacheLayout {
        size: size_of::<Self>() as u32,
        next: offset_of!(Self, next) as u32,
        state: offset_of!(Self, state) as u32,
        thread: offset_of!(Self, thread) as u32,
        seen: offset_of!(Self, seen) as u32,
        arena: offset_of!(Self, arena) as u32,
        refills: offset_of!(Self, counters.refills) as u32,
        settled_lists: offset_of!(Self, counters.settled_lists) as u32,
        remote_frees: offset_of!(Self, counters.remote_frees) as u32,
        chains_sent: offset_of!(Self, counters.chains_sent) as u32,
        old: offset_of!(Self, old) as u32,
        old_size: size_of::<OldList>() as u32,
        old_head: offset_of!(OldList, head) as u32,
        old_count: offset_of!(OldList, count) as u32,
        inboxes: offset_of!(Self, inboxes) as u32,
        inbox_size: size_of::<Inbox>() as u32,
        slabs: (offset_of!(Self, slabs) + Mutex::<SlabSets>::VALUE) as u32,
        magazines: offset_of!(Self, magazines) as u32,
        magazine: Magazine::LAYOUT,
        places: offset_of!(Self, places) as u32,
        granted_bytes: (offset_of!(Self, books) + Books::GRANTED_BYTES) as u32,
        outbox: Outbox::LAYOUT,
        sets: SlabSets::LAYOUT,
    };

    /// Makes a cache of zeroed memory. Most of a cache is zeroes, and pages that are never used are never touched.
    ///
    /// # Safety
    /// The memory must be zeroed, the caller's, and stay for ever.
    unsafe fn create(memory: NonNull<Self>) -> &'static Self {
        // SAFETY: the field lies in the memory, of which no reference has been made yet.
        let by_size = unsafe { &raw mut (*memory.as_ptr()).by_size };
        // SAFETY: as above.
        unsafe { by_size.write(BYTE_TABLE) };
        // SAFETY: zeroes are a valid cache: null pointers, `None`, numbers, free locks, the state LIVE.
        let cache: &'static Self = unsafe { memory.as_ref() };
        for class in SizeClass::all() {
            let _ = cache.magazine(class).unload(class, 0);
        }
        cache.shelf.open();
        cache
    }

    /// A cache that owns no slab, so that no block is ever put into it. All of it is zero: it takes no room in the file.
    const fn stand_in() -> Self {
        Self {
            magazines: [const { Magazine::none() }; size_class::COUNT],
            old: [const { OldList { head: Cell::new(None), count: Cell::new(0) } }; size_class::COUNT],
            grants: [const { Cell::new(0) }; size_class::COUNT],
            by_size: [SizeClass::from_index(0); BYTE_TABLE_MAX + 1],
            account: Account::new(),
            old_bytes: Cell::new(0),
            shelf: Shelf::new(),
            arena: Cell::new(0),
            lender: Cell::new(None),
            ring: Cell::new(None),
            slow_calls: Cell::new(0),
            stays: Cell::new(0),
            last_housekeeping: Cell::new(0),
            thin: [const { Cell::new(false) }; size_class::COUNT],
            fetched: [const { Cell::new(0) }; size_class::COUNT],
            resettled: [const { Cell::new(0) }; size_class::COUNT],
            settled_last: Cell::new(None),
            busy: [const { Cell::new(false) }; size_class::COUNT],
            farewells: Cell::new(0),
            unwinding: Cell::new(false),
            inboxes: [const { Inbox::new() }; size_class::COUNT],
            state: AtomicU32::new(lifecycle::LIVE),
            seen: AtomicU64::new(0),
            next: AtomicPtr::new(core::ptr::null_mut()),
            thread: AtomicU32::new(0),
            counters: Counters {
                refills: Counter::new(),
                settled_lists: Counter::new(),
                remote_frees: Counter::new(),
                chains_sent: Counter::new(),
                held: [const { Counter::new() }; size_class::COUNT],
            },
            books: Books::new(),
            slabs: Mutex::new(SlabSets::new()),
            places: Places::new(),
        }
    }

    #[inline(always)]
    fn outbox(&self) -> Outbox<'_> {
        Outbox { books: &self.books, places: &self.places }
    }

    #[inline(always)]
    fn owner(&self) -> NonNull<Owner> {
        NonNull::from_ref(self).cast()
    }

    #[inline(always)]
    fn magazine(&self, class: SizeClass) -> &Magazine {
        // SAFETY: a class's number is below COUNT, so the offset lies inside the array, at the start of a magazine.
        let magazine = unsafe { self.magazines.as_ptr().byte_add(class.offset()) };
        // SAFETY: as above.
        unsafe { &*magazine }
    }

    /// The magazine of a class that is not known before the call runs. Had the compiler the class added to the cache's address in each access,
    /// Intel's processors since Golden Cove would wait for the address that `free` stores to before they knew what the next `malloc` finds
    /// there; with one register in both they foresee it (decision 31).
    #[inline(always)]
    fn magazine_by_address(&self, class: SizeClass) -> &Magazine {
        in_register(self.magazine(class))
    }

    /// As [`Self::magazine_by_address`], of the class of the slab that a slice belongs to.
    ///
    /// # Safety
    /// As for [`Descriptor::entry_of_class`].
    #[inline(always)]
    unsafe fn magazine_for(&self, descriptor: Descriptor) -> &Magazine {
        const { assert!(offset_of!(Self, magazines) == 0 && align_of::<Self>() == 4096) };
        // SAFETY: the caller's promise; the array stands at the cache's start.
        let magazine = unsafe { descriptor.entry_of_class(self.magazines.as_ptr()) };
        // SAFETY: a class's number is below COUNT, so that is inside the array, at the start of a magazine.
        unsafe { &*magazine }
    }

    fn take_old(&self, class: SizeClass) -> List {
        let list = self.old[class.index()].take();
        self.old_bytes.set(self.old_bytes.get() - list.count * class.block_size());
        list
    }

    fn has_old(&self, class: SizeClass) -> bool {
        self.old[class.index()].count.get() > 0
    }

    /// Keeps a list as the old one of its class; there must be none.
    fn put_old(&self, class: SizeClass, list: List) {
        self.old_bytes.set(self.old_bytes.get() + list.count * class.block_size());
        self.old[class.index()].put(list);
    }

    /// Puts a block of another cache's into the outbox, or sends it while calls are attended.
    #[unsafe(link_section = ".text.terrace.common")]
    fn gather(&'static self, owner: *mut Owner, class: SizeClass, block: BlockPtr) {
        self.put_out(owner, class, block);
        if !OPTIONS.attended() {
            self.tick();
        }
    }

    /// The same without a look at the clock.
    #[inline(always)]
    fn put_out(&'static self, owner: *mut Owner, class: SizeClass, block: BlockPtr) {
        if OPTIONS.attended() {
            // A chain would have room that the fast path sees.
            return lifecycle::send_alone(owner, class, block);
        }
        match self.outbox().gather(owner, class, block) {
            Gathered::Kept => {}
            Gathered::Send(parcel) => self.send(parcel),
            Gathered::Refused(parcel) => {
                parcel.into_iter().chain(self.outbox().drain()).for_each(|parcel| self.send(parcel));
                // There is room now.
                let _ = self.outbox().gather(owner, class, block);
            }
            Gathered::Twice => freed_twice(block, class.block_size()),
        }
    }

    fn send(&'static self, parcel: Parcel) {
        self.counters.remote_frees.add(u64::from(parcel.chain.count));
        self.counters.chains_sent.add(1);
        lifecycle::deliver(parcel.owner, parcel.class, parcel.chain);
    }

    /// Remembers how many blocks the magazine of a class holds, and that the class is in use.
    fn note(&self, class: SizeClass) {
        let held = self.held(class);
        let counter = &self.counters.held[class.index()];
        counter.add((held as u64).wrapping_sub(counter.get()));
        self.busy[class.index()].set(true);
    }

    /// Blocks of a class at hand; for the calling thread's own cache, or one that no thread has.
    pub(crate) fn held(&self, class: SizeClass) -> usize {
        self.magazine(class).count(class) + self.old[class.index()].count.get()
    }

    /// What this cache holds of a class.
    pub(crate) fn ledger(&self, class: SizeClass) -> Ledger {
        let own = core::ptr::eq(slot::get(), self);
        let magazines = if own { self.held(class) } else { self.counters.held[class.index()].get() as usize };
        let slabs = self.slabs.lock();
        let arrivals = self.inboxes[class.index()].waiting() + slabs.pending_blocks(class);
        Ledger { slabs: slabs.holdings(class), magazines, arrivals }
    }

    /// Bytes of blocks in the outbox, rounded up to what its chains have room for.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.books.granted_bytes()
    }

    /// Runs `f` while no thread can change what the cache's lock guards.
    pub(crate) fn with_slabs_at_rest<T>(&self, f: impl FnOnce() -> T) -> T {
        let _slabs = self.slabs.lock();
        f()
    }

    pub(crate) fn owns(&self, slab: &Slab) -> bool {
        slab.owner() == self.owner().as_ptr()
    }

    /// Checks that the magazines and old lists of the calling thread's cache hold as many blocks as they count, each of the
    /// class. Panics otherwise.
    fn check_magazines(&self) {
        self.shelf.check();
        let old = SizeClass::all().map(|class| self.old[class.index()].count.get() * class.block_size());
        assert_eq!(old.sum::<usize>(), self.old_bytes.get(), "old lists are miscounted");
        for class in SizeClass::all() {
            let (young, old) = (self.magazine(class), &self.old[class.index()]);
            for (head, count) in [(young.top(), young.count(class)), (old.head.get(), old.count.get())] {
                let mut seen = 0;
                for block in blocks_from(head) {
                    seen += 1;
                    assert!(seen <= count, "a magazine is longer than its count");
                    // SAFETY: blocks lie in registered segments.
                    let slab = unsafe { slab_containing(block.start()) };
                    assert_eq!(slab.class(), class, "a magazine holds a block of another class");
                    assert!(slab.is_block_start(block.start()), "a magazine holds what is no block");
                }
                assert_eq!(seen, count, "a magazine is shorter than its count");
            }
        }
    }

    /// In the child of a `fork`: what a thread that does not exist any more had in its hands is not known to be whole, so
    /// it is left where it is; its slabs and what was sent to them go on.
    fn abandon(&self) {
        for class in SizeClass::all() {
            let _ = self.magazine(class).unload(class, 0);
            let _ = self.old[class.index()].take();
            self.counters.held[class.index()].sub(self.counters.held[class.index()].get());
        }
        self.old_bytes.set(0);
        self.shelf.abandon();
        self.forget_account();
        self.outbox().abandon();
    }
}
