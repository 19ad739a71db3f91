//! The life of a cache: made for a thread, left dormant when the thread ends, taken up again by another.
//!
//! | state | meaning | who may change it |
//! |---|---|---|
//! | 0 `LIVE` | a thread has it | that thread when it ends, to `DORMANT` or `WARM` (`Release`); a child of `fork`, for threads that it does not have |
//! | 1 `DORMANT` | nobody has it; magazines and outbox are empty, slabs and inbox are not | any thread, to `LIVE`, by compare-and-swap (`Acquire`) |
//! | 2 `WARM` | the same, but its magazines are as its thread left them | any thread, to `LIVE` or `COOLING`, likewise |
//! | 3 `COOLING` | somebody settles what lies in them | the same, to `DORMANT`, or to `WARM` if something is left (`Release`) |
//!
//! `Acquire` on claiming pairs with `Release` on leaving: the next thread finds the cache as the last one left it, and so does who cools
//! it. The slabs of a cache that no thread has may also be taken one by one, under its lock, which needs no change of state.
//!
//! Whoever takes up a warm cache hands out first what is in the processor's cache still. A cache that stays warm for a while is
//! cooled by whoever keeps house; at once, by a thread that needs memory or room in the pool, by an explicit purge, and by `fork`
//! (decision 30).
//!
//! A thread's end: the destructor of a `pthread_key`. It asks to be run once more, so that other destructors of the first
//! round still find a cache; the second time it gives the cache up, warm, and leaves the slot on `DEAD`. The C library itself
//! frees and allocates after that: such calls go through the *orphanage*, a cache behind a lock, and their frees travel
//! home alone. So do those of a thread whose end the C library cannot be asked to tell.

use super::slot::{self, DEAD, NEWBORN};
use super::{Owner, PURGER, ThreadCache, fork};
use crate::arena::{ARENAS, Slab};
use crate::block::{BlockPtr, Chain};
use crate::inspect::root;
use crate::large::LARGE;
use crate::layout::CachesLayout;
use crate::options::OPTIONS;
use crate::os::valgrind::{self, Unreported};
use crate::size_class::SizeClass;
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Cell, Mutex, Once, Ordering};
use crate::{metadata, os};
use core::ffi::c_void;
use core::mem::offset_of;
use core::{iter, ptr};

pub(super) const LIVE: u32 = 0;
const DORMANT: u32 = 1;
const WARM: u32 = 2;
const COOLING: u32 = 3;

/// What all caches may hold beyond their floors, unless the option says so: as much for each processor as one thread can use, so
/// that threads that run at once get all they can use, and those that only wait share the rest.
const POOL_EACH: usize = 4 << 20;
const POOL_LEAST: usize = 64 << 20;
/// Caches that one walk visits at most.
const SOME: usize = 32;

/// All caches of this process.
pub(crate) static CACHES: Caches = Caches::new();

pub(crate) struct Caches {
    /// The cache made last; a list by `next`. Grows under `making`, read by any thread: stored with `Release` and loaded
    /// with `Acquire`, so that a walk from there reaches every cache made before. Nothing ever leaves it.
    newest: AtomicPtr<ThreadCache>,
    /// Where the next bounded walk begins: a cache, or null for the newest. Any thread moves it on, `Relaxed`: what a walk
    /// touches in a cache is atomic or locked, and whole while it reads as zero; a link not seen yet only ends the round
    /// early.
    cursor: AtomicPtr<ThreadCache>,
    /// How many caches were made. Written under `making`, read for statistics: `Relaxed`.
    count: AtomicUsize,
    /// How many caches are dormant, or about to be: a hint that saves the search, so `Relaxed`. A cache is counted before it can
    /// be claimed, so the number never goes below zero.
    dormant: AtomicUsize,
    /// How many of them are warm, or being cooled: likewise, and whether the purger has something to do. Raised before a cache is left warm,
    /// and by its thread only; lowered when it was taken up or is cold.
    warm: AtomicUsize,
    /// Bytes that caches have reserved beyond their floors. Read and written by any thread on slow paths: `Relaxed`, since a sum
    /// orders nothing.
    reserved: AtomicUsize,
    /// How many they may be, unless the option says so. Written when the second cache is made, read by any thread: `Relaxed`.
    pool: AtomicUsize,
    /// Held while a cache is made, and by `fork`, so that the child knows all caches.
    making: Mutex<()>,
    /// The cache of threads that have none any more. Ranks above the caches' own locks.
    orphanage: Mutex<Option<&'static ThreadCache>>,
    process: Once,
    /// Done when the C library will call for forks.
    forks: Once,
    /// Done when it will call for the ends of threads, too.
    farewell: Once,
    /// The key whose destructor ends a thread's cache, plus one; 0 if there is none. Written inside `farewell`, and by the end of the library.
    key: AtomicU32,
}

impl Caches {
    pub(crate) const LAYOUT: CachesLayout =
        CachesLayout { newest: offset_of!(Self, newest) as u32, count: offset_of!(Self, count) as u32 };

    pub(crate) const fn new() -> Self {
        Self {
            newest: AtomicPtr::new(ptr::null_mut()),
            cursor: AtomicPtr::new(ptr::null_mut()),
            count: AtomicUsize::new(0),
            dormant: AtomicUsize::new(0),
            warm: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            pool: AtomicUsize::new(POOL_LEAST),
            making: Mutex::new(()),
            orphanage: Mutex::new(None),
            process: Once::new(),
            forks: Once::new(),
            farewell: Once::new(),
            key: AtomicU32::new(0),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static ThreadCache> {
        // SAFETY: caches live for ever.
        let newest = unsafe { self.newest.load(Ordering::Acquire).as_ref() };
        core::iter::successors(newest, |cache| cache.older())
    }

    /// A bounded number of caches, from where the last such walk ended: what a slow path looks at must not grow with the
    /// number of threads.
    pub(crate) fn some(&self) -> impl Iterator<Item = &'static ThreadCache> {
        // SAFETY: caches live for ever.
        let begin = unsafe { self.cursor.load(Ordering::Relaxed).as_ref() };
        let mut next = begin.or_else(|| self.iter().next());
        let mut left = SOME.min(self.count.load(Ordering::Relaxed));
        core::iter::from_fn(move || {
            let cache = next.filter(|_| left > 0)?;
            left -= 1;
            let after = cache.older();
            next = after.or_else(|| self.iter().next());
            self.cursor
                .store(after.map_or(ptr::null_mut(), |cache| ptr::from_ref(cache).cast_mut()), Ordering::Relaxed);
            Some(cache)
        })
    }

    /// The same from where the walk of one thread ended, which it notes down for itself.
    pub(super) fn some_from(
        &self,
        next: &Cell<Option<&'static ThreadCache>>,
    ) -> impl Iterator<Item = &'static ThreadCache> {
        (0..SOME.min(self.count.load(Ordering::Relaxed))).map_while(|_| {
            let cache = next.get().or_else(|| self.iter().next())?;
            next.set(cache.older());
            Some(cache)
        })
    }

    /// How many caches there are, and how many of them no thread has.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.count.load(Ordering::Relaxed), self.dormant.load(Ordering::Relaxed))
    }

    /// Takes a slab of the class that has blocks to give from a cache that no thread has. Called with the taker's lock
    /// held; others are only tried.
    pub(super) fn slab_from_dormant(&self, taker: &ThreadCache, class: SizeClass) -> Option<&'static Slab> {
        if self.dormant.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let dormant = |cache: &&'static ThreadCache| cache.state.load(Ordering::Relaxed) != LIVE;
        self.some().filter(dormant).find_map(|cache| {
            // Blocks at hand there would keep slabs of the class from being had.
            cache.cool(iter::once(class));
            cache.give_slab(taker, class)
        })
    }

    /// The same from an idle cache, before the kernel is asked for memory: an idle thread must not keep its partly free slabs
    /// from the others.
    pub(super) fn slab_from_idle(&self, taker: &ThreadCache, class: SizeClass) -> Option<&'static Slab> {
        self.idle(os::clock_ms())
            .filter(|cache| !ptr::eq(*cache, taker))
            .find_map(|cache| cache.give_slab(taker, class))
    }

    /// A bounded number of caches whose threads have not been seen for a while, or that no thread has.
    pub(super) fn idle(&self, now_ms: u64) -> impl Iterator<Item = &'static ThreadCache> {
        self.some().filter(move |cache| cache.is_idle(now_ms))
    }

    /// Whether no thread has a cache, but for the orphanage's.
    fn are_all_dormant(&self) -> bool {
        let orphans = self.orphanage.try_lock().is_none_or(|cache| cache.is_some());
        let (made, dormant) = self.counts();
        made <= dormant + usize::from(orphans)
    }

    /// Bytes that caches have taken from the pool.
    #[cfg(any(test, loom))]
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Checks the counts while no thread comes or goes. Panics where they are wrong.
    #[cfg(loom)]
    pub(crate) fn check(&self) {
        let warm = self.warm.load(Ordering::Relaxed);
        let states: std::vec::Vec<u32> = self.iter().map(|cache| cache.state.load(Ordering::Relaxed)).collect();
        let count = |wanted: &[u32]| states.iter().filter(|state| wanted.contains(state)).count();
        assert_eq!(self.counts(), (states.len(), count(&[DORMANT, WARM])), "caches are counted wrongly");
        assert_eq!(warm, count(&[WARM]), "warm caches are counted wrongly");
        let reserved = self.iter().map(|cache| cache.account.reserved()).sum::<usize>();
        assert_eq!(self.reserved_bytes(), reserved, "what caches have reserved is counted wrongly");
    }

    fn claim_dormant(&self) -> Option<&'static ThreadCache> {
        if self.dormant.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.iter().find(|cache| cache.claim())
    }

    /// Whether there may be a warm cache.
    pub(super) fn has_warm(&self) -> bool {
        self.warm.load(Ordering::Relaxed) > 0
    }

    /// Settles what lies in the magazines of caches that no thread has.
    pub(super) fn cool_all(&self) {
        if self.has_warm() {
            self.iter().for_each(|cache| {
                cache.cool(SizeClass::all());
            });
        }
    }

    /// Has threads spread over as many arenas as the options, or the processors, say.
    #[unsafe(link_section = ".text.terrace.common")]
    fn spread(&self) {
        let processors = os::processors();
        ARENAS.set_count(OPTIONS.arenas().unwrap_or(processors));
        self.pool.store(POOL_LEAST.max(processors * POOL_EACH), Ordering::Relaxed);
    }

    /// Takes bytes from the pool for a cache; `false`, and none, if there are not so many, even without those of some warm caches.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let reserves_without = |cache: &'static ThreadCache| cache.cool(SizeClass::all()) && self.try_reserve(bytes);
        self.try_reserve(bytes) || self.has_warm() && self.some().any(reserves_without)
    }

    fn try_reserve(&self, bytes: usize) -> bool {
        let pool = OPTIONS.thread_cache_bytes().unwrap_or_else(|| self.pool.load(Ordering::Relaxed));
        let fits = self.reserved.fetch_add(bytes, Ordering::Relaxed) + bytes <= pool;
        if !fits {
            self.unreserve(bytes);
        }
        fits
    }

    pub(crate) fn unreserve(&self, bytes: usize) {
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The same after the option was set, if there are several threads.
    pub(crate) fn set_arena_count(&self) {
        if self.count.load(Ordering::Relaxed) > 1 {
            self.spread();
        }
    }

    #[unsafe(link_section = ".text.terrace.common")]
    fn make(&self) -> Option<&'static ThreadCache> {
        let memory = metadata::allocate::<ThreadCache>()?;
        // SAFETY: the memory is aligned, large enough, zeroed, nobody else's, and lives for ever.
        let cache = unsafe { ThreadCache::create(memory) };
        if self.count.load(Ordering::Relaxed) == 1 {
            // The second thread: from here on more than one arena is worth its memory.
            self.spread();
        }
        let _making = self.making.lock();
        let number = self.count.load(Ordering::Relaxed);
        cache.arena.set(number);
        cache.seen.store(os::clock_ms(), Ordering::Relaxed);
        cache.next.store(self.newest.load(Ordering::Relaxed), Ordering::Relaxed);
        self.newest.store(memory.as_ptr(), Ordering::Release);
        self.count.store(number + 1, Ordering::Relaxed);
        Some(cache)
    }
}

impl ThreadCache {
    /// Takes the cache, if no thread has it.
    fn claim(&self) -> bool {
        let claim_from = |state: u32| self.state.compare_exchange(state, LIVE, Ordering::Acquire, Ordering::Relaxed);
        let claimed = match claim_from(WARM) {
            Err(DORMANT) => claim_from(DORMANT),
            claimed => claimed,
        };
        if claimed.is_ok() {
            let counted = CACHES.dormant.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(counted > 0, "a cache was claimed that was not counted as dormant");
        }
        if claimed == Ok(WARM) {
            CACHES.warm.fetch_sub(1, Ordering::Relaxed);
        }
        claimed.is_ok()
    }

    /// Leaves the cache, whose thread has ended, to whoever claims it. Whether it is warm.
    fn leave(&self) -> bool {
        let is_warm = self.has_at_hand();
        // Counted first, so that no claim is ever subtracted before.
        CACHES.dormant.fetch_add(1, Ordering::Relaxed);
        if is_warm {
            CACHES.warm.fetch_add(1, Ordering::Relaxed);
        }
        self.leave_as(is_warm);
        is_warm
    }

    fn leave_as(&self, is_warm: bool) {
        self.state.store(if is_warm { WARM } else { DORMANT }, Ordering::Release);
    }

    /// Settles what lies in the magazines of some classes, if the cache is warm, and no thread is at work on its slabs. Whether it was
    /// warm. May be called with the lock of another cache held.
    pub(super) fn cool(&'static self, classes: impl Iterator<Item = SizeClass>) -> bool {
        let is_mine = self.state.compare_exchange(WARM, COOLING, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if is_mine {
            self.try_empty_magazines(classes);
            let is_warm = self.has_at_hand();
            if !is_warm {
                CACHES.warm.fetch_sub(1, Ordering::Relaxed);
            }
            self.leave_as(is_warm);
        }
        is_mine
    }

    /// Whether its thread was not seen for a while.
    pub(super) fn is_idle(&self, now_ms: u64) -> bool {
        /// In milliseconds.
        const IDLE: u64 = 500;
        now_ms.saturating_sub(self.seen.load(Ordering::Relaxed)) >= IDLE
    }

    /// The cache that was made before this one. Whoever came from `newest` sees it: it was written before that was.
    fn older(&self) -> Option<&'static ThreadCache> {
        // SAFETY: caches live for ever.
        unsafe { self.next.load(Ordering::Relaxed).as_ref() }
    }

    /// Hands a slab of the class that has blocks to give over to another cache, whose lock the caller holds.
    fn give_slab(&self, taker: &ThreadCache, class: SizeClass) -> Option<&'static Slab> {
        let mut slabs = self.slabs.try_lock()?;
        self.settle_arrivals(&mut slabs, class);
        let slab = slabs.hand_over(class)?;
        slab.set_owner(taker.owner());
        Some(slab)
    }
}

/// The calling thread's cache, if it has one.
pub(super) fn own() -> Option<&'static ThreadCache> {
    let cache = slot::get();
    (!ptr::eq(cache, &NEWBORN) && !ptr::eq(cache, &DEAD)).then_some(cache)
}

/// The calling thread's cache; a new thread gets one. `None` for a thread whose cache is gone, and when there is no memory
/// for one, or none for the C library to note that the thread's end matters.
#[inline]
pub(super) fn own_or_attach() -> Option<&'static ThreadCache> {
    own().or_else(|| if ptr::eq(slot::get(), &NEWBORN) { attach() } else { None })
}

/// What the library does when it is loaded: the process is initialised, and the C library calls for forks from now on, before the
/// program registers handlers of its own, or forks. Takes no memory but what the C library may want for its notes.
#[unsafe(link_section = ".text.terrace.common")]
pub(super) fn load() {
    begin_process();
    if ptr::eq(slot::get(), &NEWBORN) {
        // What the C library allocates meanwhile must not come back here.
        slot::set(&DEAD);
        CACHES.forks.attempt(fork::register);
        slot::set(&NEWBORN);
    }
}

/// Makes sure that the process is initialised; without a thread that allocates, that takes no memory.
#[unsafe(link_section = ".text.terrace.common")]
pub(super) fn begin_process() {
    CACHES.process.call(|| {
        PURGER.begin_process();
        root::begin();
        OPTIONS.read_environment();
        if valgrind::detect() {
            OPTIONS.attend_for_memcheck();
            LARGE.hide();
        }
        ARENAS.initialise(OPTIONS.source());
    });
}

#[cold]
#[unsafe(link_section = ".text.terrace.common")]
fn attach() -> Option<&'static ThreadCache> {
    begin_process();
    let cache = CACHES.claim_dormant().or_else(|| CACHES.make())?;
    cache.farewells.set(0);
    cache.unwinding.set(false);
    cache.thread.store(os::thread_id(), Ordering::Relaxed);
    // From here on this thread can allocate, which the calls below may do.
    slot::set(cache);
    CACHES.farewell.attempt(|| {
        if CACHES.key.load(Ordering::Relaxed) == 0 {
            let Some(key) = os::thread_key(thread_ends) else { return false };
            CACHES.key.store(key + 1, Ordering::Relaxed);
        }
        CACHES.forks.attempt(fork::register);
        CACHES.forks.is_done()
    });
    if !ask_for_destructor(cache) {
        // What the thread had at hand at its end would be lost. It tries again at its next slow call.
        slot::set(&NEWBORN);
        cache.empty_out();
        cache.leave();
        return None;
    }
    Some(cache)
}

/// Gives up the key whose destructor ends caches. Not with musl, which never unloads a library: so the destructor stays where it is,
/// and there up to version 1.2.3 the lock of all keys may be held for ever in a child of `fork`, by a thread that it does not have.
pub(super) fn forget_exit_key() {
    if cfg!(target_env = "musl") {
        return;
    }
    let key = CACHES.key.swap(0, Ordering::Relaxed);
    if key != 0 {
        os::thread_key_delete(key - 1);
    }
}

fn ask_for_destructor(cache: &'static ThreadCache) -> bool {
    let key = CACHES.key.load(Ordering::Relaxed);
    key != 0 && os::thread_key_set(key - 1, ptr::from_ref(cache).cast_mut().cast())
}

#[unsafe(link_section = ".text.terrace.common")]
unsafe extern "C" fn thread_ends(cache: *mut c_void) {
    // SAFETY: the key's value is the thread's cache, which lives for ever.
    let cache = unsafe { &*cache.cast::<ThreadCache>() };
    if cache.farewells.replace(1) == 0 && ask_for_destructor(cache) {
        return;
    }
    let _unreported = Unreported::begin();
    slot::set(&DEAD);
    if OPTIONS.attended() {
        // Nothing stays at hand then.
        cache.empty_out();
    } else {
        cache.hand_back();
    }
    if cache.leave() {
        PURGER.note_sent();
    }
    if CACHES.are_all_dormant() {
        PURGER.end();
    }
}

/// Runs `f` on the cache that stands in for those of threads that have none.
pub(super) fn with_orphanage<T>(f: impl FnOnce(&'static ThreadCache) -> Option<T>) -> Option<T> {
    let mut orphanage = CACHES.orphanage.lock();
    let cache = match *orphanage {
        Some(cache) => cache,
        None => *orphanage.insert(CACHES.make()?),
    };
    f(cache)
}

/// Leaves a chain in the inbox of its blocks' owner.
pub(super) fn deliver(owner: *mut Owner, class: SizeClass, chain: Chain) {
    // SAFETY: owners of slabs are caches, which live for ever.
    let owner = unsafe { &*owner.cast::<ThreadCache>() };
    owner.receive(class, chain);
}

/// Sends one block home without an outbox.
pub(super) fn send_alone(owner: *mut Owner, class: SizeClass, block: BlockPtr) {
    block.set_next(None);
    deliver(owner, class, Chain { head: block, count: 1 });
}

impl Caches {
    /// The locks of this layer, in the order in which `fork` takes them: before those of the layers below.
    pub(crate) fn lock_for_fork(&self) {
        self.orphanage.lock_for_fork();
        self.making.lock_for_fork();
        self.iter().for_each(|cache| cache.slabs.lock_for_fork());
    }

    pub(crate) fn unlock_after_fork(&self) {
        self.iter().for_each(|cache| cache.slabs.unlock_after_fork());
        self.making.unlock_after_fork();
        self.orphanage.unlock_after_fork();
    }

    /// In the child: caches of threads that it does not have become dormant, without what those threads had in hand.
    pub(crate) fn renew_in_child(&self) {
        self.making.renew_in_child();
        self.orphanage.renew_in_child();
        let own: *const ThreadCache = slot::get();
        let mut dormant = 0;
        for cache in self.iter() {
            cache.slabs.renew_in_child();
            if ptr::eq(cache, own) {
                cache.thread.store(os::thread_id(), Ordering::Relaxed);
                continue;
            }
            cache.abandon();
            // The child has no other thread yet that this could order.
            cache.state.store(DORMANT, Ordering::Relaxed);
            dormant += 1;
        }
        self.dormant.store(dormant, Ordering::Relaxed);
        self.warm.store(0, Ordering::Relaxed);
        // The orphanage's cache was made dormant with the others; the next thread that needs one gets another.
        *self.orphanage.lock() = None;
    }
}
