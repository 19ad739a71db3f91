//! Supply: where the blocks of an empty magazine come from, the nearest first.
//!
//! ```text
//!  old list ▸ own inbox ▸ lists of own slabs ▸ own outbox ▸ others' inboxes ▸ a slab: dormant, free pages, idle, the kernel
//!  ──────────── the cache's own ─────────────   ── blocks of others' slabs ──     ────────────── memory ──────────────
//! ```
//!
//! A thread that has nothing of its own left uses what is free in transit before it takes memory: where more threads run than there
//! are processors, most owners sleep, and what is sent to them waits for longer than it takes others to need as much.

use super::allowance::few;
use super::magazine::List;
use super::{CACHES, PURGER, ThreadCache, reclaim};
use crate::arena::{ARENAS, Growth, Slab};
use crate::block::BlockPtr;
use crate::large::LARGE;
use crate::options::OPTIONS;
use crate::size_class::SizeClass;

/// Blocks of other caches' slabs are used from this size on, where they share no pair of cache lines with others, or only at their
/// ends. Smaller ones go home: neighbours in a line are best one thread's.
pub(super) const FOREIGN_LEAST: SizeClass = SizeClass::of(128).unwrap();
/// Less than this many bytes of them is not worth it. In the models three of their larger blocks: only the models of this step have
/// so many on the way.
const FOREIGN_WORTH: usize = if cfg!(loom) { 96 << 10 } else { 4 << 10 };

impl ThreadCache {
    /// Takes a block that is at hand, or makes some be.
    #[inline(always)]
    pub(super) fn pop_or_refill(&'static self, class: SizeClass) -> Option<BlockPtr> {
        self.magazine(class).pop().or_else(|| self.refill(class))
    }

    /// Fills the empty magazine of a class and takes a block from it.
    #[inline(never)]
    #[unsafe(link_section = ".text.terrace.common")]
    pub(super) fn refill(&'static self, class: SizeClass) -> Option<BlockPtr> {
        let mut list = self.take_old(class);
        if list.head.is_none() {
            self.counters.refills.add(1);
            self.tick();
            let most = self.may_fetch(class);
            list = self.fetch(class, most)?;
            if list.count > most {
                // Chains that another thread sent, or this one gathered, as they came.
                let rest = list.cut(most);
                self.settle(rest);
            }
        }
        let magazine = self.magazine(class);
        if OPTIONS.attended() {
            return self.take_attended(class, list);
        }
        if magazine.count(class) > 0 {
            // Fetching let the C library call back into the allocator, which filled the magazine meanwhile.
            self.put_old(class, list);
            return magazine.pop();
        }
        magazine.load(class, list, self.grant_fetched(class, &list));
        self.note(class);
        magazine.pop()
    }

    /// Gets blocks of a class: what other threads sent back, what the slabs have, what lies in transit, or a new slab.
    /// No more of a slab's than `most`, and a few of a thin class's, but for one that is in a hurry.
    fn fetch(&'static self, class: SizeClass, mut most: usize) -> Option<List> {
        let mut slabs = self.slabs.lock();
        if !slabs.has_pending(class) {
            slabs.keep_pending(class, self.inboxes[class.index()].take_all());
        }
        let is_thin = slabs.is_thin(class);
        self.thin[class.index()].set(is_thin);
        if is_thin {
            // Blocks that go round between threads would keep every slab a little in use for ever.
            self.settle_arrivals(&mut slabs, class);
            if Self::may_in_tick(&self.fetched[class.index()]) {
                most = most.min(few(class));
            }
        }
        if let Some(chain) = slabs.pop_pending(class) {
            return Some(List::of(chain));
        }
        if let Some(list) = slabs.give(class, most).or_else(|| self.fetch_foreign(class)) {
            return Some(list);
        }
        let slab = self.new_slab(class)?;
        slabs.adopt(slab);
        slabs.give(class, most)
    }

    /// Gets blocks of other caches' slabs: such as this thread has freed, or such as wait for their owner.
    fn fetch_foreign(&self, class: SizeClass) -> Option<List> {
        if class < FOREIGN_LEAST || OPTIONS.attended() {
            return None;
        }
        let least = class.blocks_in(FOREIGN_WORTH, 1, usize::MAX);
        self.outbox().take_back(class, least).or_else(|| {
            let list =
                CACHES.some_from(&self.lender).find_map(|cache| cache.inboxes[class.index()].take_some(least))?;
            // Who looked meanwhile did not see what was put back.
            PURGER.note_sent();
            Some(list)
        })
    }

    /// Gets a slab: from a cache that no thread has, from the arenas as they are, from what idle caches give up, and only
    /// then from the kernel. Called with this cache's lock held.
    fn new_slab(&'static self, class: SizeClass) -> Option<&'static Slab> {
        let take = |growth| self.take_slab(class, growth);
        CACHES
            .slab_from_dormant(self, class)
            .or_else(|| take(Growth::Denied))
            .or_else(|| {
                reclaim();
                take(Growth::Denied)
            })
            .or_else(|| CACHES.slab_from_idle(self, class))
            .or_else(|| take(Growth::Allowed))
            .or_else(|| {
                // The kernel is out of memory or addresses: it gets back all that is kept for later.
                self.clear_shelf();
                CACHES.cool_all();
                reclaim();
                LARGE.purge(0);
                ARENAS.purge(0, usize::MAX, true);
                take(Growth::Allowed)
            })
    }

    #[inline(never)]
    #[unsafe(link_section = ".text.terrace.common")]
    fn take_slab(&'static self, class: SizeClass, growth: Growth) -> Option<&'static Slab> {
        let (slab, owed) = ARENAS.take_slab(&self.arena, class, self.owner(), growth)?;
        LARGE.yield_bytes(owed);
        Some(slab)
    }
}
