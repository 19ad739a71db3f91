//! Settling: how blocks get from magazines and inboxes back to the lists of their slabs, and when.
//!
//! A list is settled when its magazine overflows, when its class was idle between two turns of the housekeeping, or is thin, and when
//! no thread took up the cache of one that ended; what waits in an inbox, by whoever finds the owner idle. The housekeeping comes round on slow paths, by the
//! clock; `tick` must not be called with a cache's lock held, since it takes it.

use super::magazine::List;
use super::paths::{freed_twice, known};
use super::slab_sets::{Settled, SlabSets};
use super::{CACHES, PURGER, ThreadCache, lifecycle};
use crate::arena::{ARENAS, PAGE, slab_containing};
use crate::block::{BlockPtr, Chain, Parcel, blocks_from};
use crate::history;
use crate::large::LARGE;
use crate::options::OPTIONS;
use crate::os;
use crate::size_class::{self, SizeClass};
use crate::sync::{Cell, Ordering};
use core::ptr::NonNull;

/// The clock is looked at after this many slow calls.
const CALLS_BETWEEN_CLOCKS: u32 = 32;
/// A thread does its housekeeping this often at most, in milliseconds, unless the purge delay is shorter: then as often as that.
const HOUSEKEEPING_MS: u64 = 100;
/// But never more often than this, in milliseconds.
const HOUSEKEEPING_LEAST_MS: u64 = 10;
/// Within a tick of the coarse clock, some milliseconds, a class is resettled fewer times than this.
const TIMES_A_TICK: u16 = 16;
/// Pages that one housekeeping returns to the kernel at most, per arena.
const PURGE_BUDGET: usize = 16 << 10;
/// How much of a cache one housekeeping looks through for memory to give back, in blocks: some milliseconds.
const GIVE_BACK_BUDGET: usize = 1 << 18;
/// A thread that comes by seldom does as much at once as so many turns would have done meanwhile.
const MOST_TURNS: u64 = 8;
/// Bytes that a thread keeps in old lists at most, over all classes. With the young lists, which hold up to 32 KiB a class (and
/// at least four blocks), this bounds what a thread has at hand to some 4 MiB if it uses every class at once.
const OLD_BYTES: usize = 1 << 20;
/// When this many bytes of a class wait in an inbox, the sender settles them itself if the owner is not about to.
const PILE_BYTES: usize = 2 << 20;

impl ThreadCache {
    /// Makes room in a full magazine: the young list becomes the old one, or is settled if there is one. For settling goes from block
    /// to block, and those that were freed last are in the processor's caches still (decision 36).
    pub(super) fn rotate(&'static self, class: SizeClass) {
        let most = self.enlarge(class);
        let young = self.magazine(class).unload(class, most);
        if self.has_old(class) {
            self.settle(young);
        } else {
            self.put_old(class, young);
        }
        if self.old_bytes.get() > OLD_BYTES {
            let others = SizeClass::all().filter(|&other| other != class);
            others.for_each(|other| self.settle(self.take_old(other)));
        }
        self.heed_allowance(class);
        self.note(class);
    }

    /// Where much of a class is free, has what was freed, and the block, go to their slabs, and so what is allocated come from the fullest.
    /// Otherwise the magazine would hand out again what is freed anywhere, and a class that shrinks would shrink in all of its
    /// slabs. There is no room then, so that freeing the block once more is noticed. `false`, and no change, where the class is not
    /// thin, or blocks were only freed of late, or the same was done in this tick of the clock: blocks that come and go as fast as that
    /// are not what keeps slabs in use.
    pub(super) fn resettle_if_thin(&'static self, class: SizeClass, block: BlockPtr) -> bool {
        let (count, granted) = (self.magazine(class).count(class), self.grants[class.index()].get() as usize);
        if 4 * count >= 3 * granted || !Self::may_in_tick(&self.resettled[class.index()]) {
            return false;
        }
        let is_thin = self.slabs.lock().is_thin(class);
        self.thin[class.index()].set(is_thin);
        if is_thin {
            let [young, old] = self.take_magazine(class);
            block.set_next(young.head);
            self.settle(List { head: Some(block), count: young.count + 1 });
            self.settle(old);
            self.settled_last.set(Some(block));
            self.note(class);
        }
        is_thin
    }

    /// Whether what the stamp counts was done fewer than `TIMES_A_TICK` times in this tick of the coarse clock; then it is done once more.
    /// A stamp that is a multiple of 4,096 milliseconds old, or was never set, may be taken for one of this tick: then it is done later.
    pub(super) fn may_in_tick(stamp: &Cell<u16>) -> bool {
        let (tick, last) = ((os::clock_ms() * u64::from(TIMES_A_TICK)) as u16, stamp.get());
        let next = if last / TIMES_A_TICK == tick / TIMES_A_TICK { last.wrapping_add(1) } else { tick + 1 };
        let may = next / TIMES_A_TICK == tick / TIMES_A_TICK;
        if may {
            stamp.set(next);
        }
        may
    }

    /// Whether this is the block of a thin class that was freed last, and went to its slab, and is there still.
    #[inline(always)]
    pub(super) fn was_settled_last(&self, start: NonNull<u8>) -> bool {
        self.settled_last.get().is_some_and(|last| last.start() == start) && self.is_settled(start)
    }

    #[cold]
    fn is_settled(&self, start: NonNull<u8>) -> bool {
        let _slabs = self.slabs.lock();
        // SAFETY: blocks lie in registered segments.
        let slab = unsafe { slab_containing(start) }.first();
        slab.owner() == self.owner().as_ptr() && slab.has_listed(start)
    }

    /// Puts the blocks of a list on the lists of their slabs.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(super) fn settle(&'static self, list: List) {
        if list.head.is_none() {
            return;
        }
        self.counters.settled_lists.add(1);
        // Gathering may lead to housekeeping, which takes the lock.
        let foreign = self.settle_own(&mut self.slabs.lock(), list);
        PURGER.note();
        for block in blocks_from(foreign) {
            // SAFETY: blocks lie in registered segments.
            let slab = unsafe { slab_containing(block.start()) };
            self.gather(known(slab.owner(), block, slab.class()), slab.class(), block);
        }
    }

    /// Puts the blocks of a list on the lists of their slabs, but for those of others' slabs, which it gives back as a list.
    #[inline(always)]
    fn settle_own(&self, slabs: &mut SlabSets, list: List) -> Option<BlockPtr> {
        let (now, mut foreign) = (os::clock_ms() as u32, None);
        let mut blocks = blocks_from(list.head).peekable();
        while let Some(block) = blocks.next() {
            match slabs.settle(self.owner(), block, &mut blocks, now) {
                Settled::Listed => {}
                Settled::Foreign(_) => {
                    block.set_next(foreign);
                    foreign = Some(block);
                }
                Settled::Twice(block, size) => freed_twice(block, size),
            }
        }
        foreign
    }

    /// Leaves a chain in this cache's inbox, for any thread. Where chains pile up, the owner seems idle: the sender then
    /// settles them.
    pub(super) fn receive(&'static self, class: SizeClass, chain: Chain) {
        let waiting = usize::from(self.inboxes[class.index()].push(chain));
        if (waiting == usize::from(Parcel::MANY) || waiting * class.block_size() >= PILE_BYTES)
            && let Some(mut slabs) = self.slabs.try_lock()
        {
            self.settle_arrivals(&mut slabs, class);
        }
        PURGER.note_sent();
    }

    /// Settles what waits in the inbox of a class. For any thread that holds this cache's lock.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(super) fn settle_arrivals(&self, slabs: &mut SlabSets, class: SizeClass) {
        let now = os::clock_ms() as u32;
        let mut arrived = self.inboxes[class.index()].take_all();
        while let Some(chain) = slabs.pop_pending(class).or_else(|| arrived.pop()) {
            let mut blocks = chain.blocks().peekable();
            while let Some(block) = blocks.next() {
                match slabs.settle(self.owner(), block, &mut blocks, now) {
                    Settled::Listed => {}
                    Settled::Foreign(owner) => lifecycle::send_alone(known(owner, block, class), class, block),
                    Settled::Twice(block, size) => freed_twice(block, size),
                }
            }
        }
    }

    /// Settles what other threads sent, in all classes, unless the owner is at work on its slabs right now.
    pub(super) fn reclaim_if_idle(&self) {
        if let Some(mut slabs) = self.slabs.try_lock() {
            self.settle_all_arrivals(&mut slabs);
            slabs.release_empty();
        }
    }

    /// Does for an idle owner what its own housekeeping would do, except for what it has at hand. Says how many pages inside
    /// slabs lost their memory.
    pub(super) fn keep_house_of_idle(&self, now_ms: u64, age_ms: u32, budget: usize) -> usize {
        self.slabs.try_lock().map_or(0, |mut slabs| {
            self.settle_all_arrivals(&mut slabs);
            slabs.give_back(now_ms as u32, age_ms, budget)
        })
    }

    /// Whether a slab holds something that goes back in time, or blocks wait that others sent.
    pub(super) fn has_something_to_return(&self) -> bool {
        let slabs = self.slabs.lock();
        let waiting = |class: SizeClass| slabs.has_pending(class) || !self.inboxes[class.index()].is_empty();
        slabs.is_aging() || SizeClass::all().any(waiting)
    }

    fn settle_all_arrivals(&self, slabs: &mut SlabSets) {
        for class in SizeClass::all() {
            if slabs.has_pending(class) || !self.inboxes[class.index()].is_empty() {
                self.settle_arrivals(slabs, class);
            }
        }
    }

    /// Looks at the clock now and then, and does the housekeeping when it is due.
    #[inline(always)]
    pub(super) fn tick(&'static self) {
        self.count_calls(1);
    }

    /// Whether the next slow call looks at the clock.
    #[inline(always)]
    pub(super) fn is_clock_next(&self) -> bool {
        self.slow_calls.get() % CALLS_BETWEEN_CLOCKS == CALLS_BETWEEN_CLOCKS - 1
    }

    /// Counts a call as that many slow ones.
    #[inline(always)]
    pub(super) fn count_calls(&'static self, calls: u32) {
        let before = self.slow_calls.get();
        let now = before.wrapping_add(calls);
        self.slow_calls.set(now);
        if before / CALLS_BETWEEN_CLOCKS != now / CALLS_BETWEEN_CLOCKS {
            self.look_at_clock();
        }
    }

    #[cold]
    #[inline(never)]
    #[unsafe(link_section = ".text.terrace.common")]
    pub(super) fn look_at_clock(&'static self) {
        let now = os::clock_ms();
        self.seen.store(now, Ordering::Relaxed);
        let interval = match u64::from(OPTIONS.purge_delay_ms()) {
            // Free runs go at once then, and pages inside slabs with the usual turn.
            0 => HOUSEKEEPING_MS,
            delay => delay.clamp(HOUSEKEEPING_LEAST_MS, HOUSEKEEPING_MS),
        };
        let turns = (now - self.last_housekeeping.get()) / interval;
        if turns > 0 {
            self.last_housekeeping.set(now);
            self.keep_house(now, turns.min(MOST_TURNS) as usize);
        }
        PURGER.start_if_wanted();
    }

    /// Sends what lies in the outbox, settles the magazines of classes that were idle or became thin, and returns what is due.
    #[cold]
    #[unsafe(link_section = ".text.terrace.common")]
    fn keep_house(&'static self, now: u64, turns: usize) {
        let delay = OPTIONS.purge_delay_ms();
        let mut idle = [false; size_class::COUNT];
        let became_thin = self.look_for_thin();
        for class in SizeClass::all() {
            idle[class.index()] = !self.busy[class.index()].get();
            // With the room that it has a class that became thin would hand out what is freed for long.
            if idle[class.index()] || became_thin[class.index()] {
                self.settle_magazine(class);
            }
            self.busy[class.index()].set(false);
        }
        self.clear_idle_shelf();
        // What was settled and belongs to others is there, too.
        self.outbox().drain().for_each(|parcel| self.send(parcel));
        let mut pages = {
            let mut slabs = self.slabs.lock();
            for class in SizeClass::all() {
                if idle[class.index()] {
                    self.settle_arrivals(&mut slabs, class);
                }
            }
            slabs.give_back(now as u32, delay, turns * GIVE_BACK_BUDGET)
        };
        self.return_reserve();
        let has_warm = CACHES.has_warm();
        for cache in CACHES.idle(now) {
            if has_warm {
                cache.cool(SizeClass::all());
            }
            pages += cache.keep_house_of_idle(now, delay, turns * GIVE_BACK_BUDGET);
        }
        pages += ARENAS.purge_keeping(OPTIONS.kept_pages(), delay, turns * PURGE_BUDGET, false);
        history::record_purge(pages * PAGE + LARGE.purge(delay));
        ARENAS.gather_huge_pages();
    }

    /// Looks which classes are thin; which of them were not so when that was looked at last.
    fn look_for_thin(&self) -> [bool; size_class::COUNT] {
        let (slabs, mut became_thin) = (self.slabs.lock(), [false; size_class::COUNT]);
        for class in SizeClass::all() {
            let is_thin = slabs.is_thin(class);
            let was_thin = self.thin[class.index()].replace(is_thin);
            became_thin[class.index()] = is_thin && !was_thin;
        }
        became_thin
    }

    #[unsafe(link_section = ".text.terrace.common")]
    pub(super) fn settle_magazine(&'static self, class: SizeClass) {
        self.take_magazine(class).into_iter().for_each(|list| self.settle(list));
        self.note(class);
    }

    /// Takes all that is at hand of a class, and its room.
    fn take_magazine(&self, class: SizeClass) -> [List; 2] {
        let lists = [self.magazine(class).unload(class, 0), self.take_old(class)];
        self.revoke(class);
        lists
    }

    /// Settles what lies in the magazines of some classes of a cache that no thread has and the caller is cooling; nothing while another
    /// thread is at work on its slabs.
    #[cold]
    pub(super) fn try_empty_magazines(&'static self, classes: impl Iterator<Item = SizeClass>) {
        let Some(mut slabs) = self.slabs.try_lock() else { return };
        for class in classes.filter(|&class| self.is_granted(class)) {
            for list in self.take_magazine(class) {
                for block in blocks_from(self.settle_own(&mut slabs, list)) {
                    // SAFETY: blocks lie in registered segments.
                    let slab = unsafe { slab_containing(block.start()) };
                    self.put_out(known(slab.owner(), block, class), class, block);
                }
            }
            self.note(class);
        }
        drop(slabs);
        self.outbox().drain().for_each(|parcel| self.send(parcel));
        self.return_reserve();
        PURGER.note();
    }

    /// Gives away everything that the thread holds.
    pub(super) fn empty_out(&'static self) {
        SizeClass::all().for_each(|class| self.settle_magazine(class));
        self.hand_back();
    }

    /// Gives away everything but the blocks in magazines, and notes down how many those are.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(super) fn hand_back(&'static self) {
        for class in SizeClass::all().filter(|&class| self.is_granted(class)) {
            if self.held(class) == 0 {
                let _none = self.take_magazine(class);
            }
            self.note(class);
        }
        self.clear_shelf();
        self.return_reserve();
        self.outbox().drain().for_each(|parcel| self.send(parcel));
        let mut slabs = self.slabs.lock();
        self.settle_all_arrivals(&mut slabs);
        slabs.release_empty();
        self.seen.store(os::clock_ms(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::magazine::limit;
    use super::*;
    use crate::heap;
    use std::vec::Vec;

    #[test]
    fn of_more_frees_than_a_magazine_holds_the_first_stay_and_the_last_are_settled() {
        let class = SizeClass::of(1024).unwrap();
        let free_many = move || {
            // The cache may be one that another thread has left, with what it had at hand.
            crate::tcache::flush();
            let blocks: Vec<_> = (0..3 * limit(class)).map(|_| NonNull::new(heap::allocate_c(1024)).unwrap()).collect();
            for block in &blocks {
                // SAFETY: the block was just allocated.
                unsafe { heap::free(block.as_ptr()) };
            }
            let cache = lifecycle::own().unwrap();
            let old: Vec<_> = blocks_from(cache.old[class.index()].head.get()).map(BlockPtr::start).collect();
            assert!(
                !old.is_empty() && old.iter().all(|block| blocks[..old.len()].contains(block)),
                "{old:?} of {blocks:?}"
            );
            assert!(blocks.iter().any(|&block| cache.is_settled(block)), "nothing was settled");
        };
        std::thread::spawn(free_many).join().unwrap();
    }
}
