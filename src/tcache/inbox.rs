//! The inbox of one class of one cache: where other threads leave chains of blocks for the owner of their slabs.
//!
//! ```text
//!  head ──▶ chain 3 ──▶ chain 2 ──▶ chain 1          a stack of chains; pushed by anyone, taken whole
//!  (count)    │           │           │
//!             □           □           □
//! ```
//!
//! The head is a parcel: the first chain's head in the low 48 bits, and above it how many blocks are waiting (65,535 stands for more), so that a
//! sender learns from its own step whether they pile up.
//!
//! | step | ordering | why |
//! |---|---|---|
//! | `push`: compare-and-swap of the head | `Release` on success | what the blocks' users wrote, and the links of the chain, are visible to whoever takes it |
//! | `take_all`, `take_some`: swap with empty | `Acquire` | pairs with every push in the stack: each push is a read-modify-write of the same word, so the release sequences run on through the later ones |
//! | `put_whole`: compare-and-swap of empty | `Relaxed` | this thread has neither read nor written what it leaves, else it pushes it; the pushes' release sequences run on through its swap and this |
//!
//! Nobody takes less than all by one step: what a thread leaves of it, it puts back. A push needs no more than that the head that it
//! links to is the head, so it does not matter what came and went meanwhile: there is no ABA.

use super::magazine::List;
use crate::block::{Chain, Chains, FreeBlock, Parcel};
use crate::sync::{AtomicPtr, Ordering};

pub(crate) struct Inbox {
    head: AtomicPtr<FreeBlock>,
}

impl Inbox {
    pub(crate) const fn new() -> Self {
        Self { head: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Leaves a chain; says how many blocks are waiting now.
    pub(crate) fn push(&self, chain: Chain) -> u16 {
        let mut current = Parcel(self.head.load(Ordering::Relaxed));
        loop {
            Chains::link(chain, current.head());
            let waiting = current.count().saturating_add(chain.count);
            let new = Parcel::new(Some(chain.head), waiting);
            match self.head.compare_exchange_weak(current.0, new.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return waiting,
                Err(now) => current = Parcel(now),
            }
        }
    }

    /// Takes all that is waiting.
    pub(crate) fn take_all(&self) -> Chains {
        if self.is_empty() {
            return Chains::EMPTY;
        }
        Chains::of(self.take_whole())
    }

    fn take_whole(&self) -> Parcel {
        Parcel(self.head.swap(Parcel::EMPTY.0, Ordering::Acquire))
    }

    /// Takes chains that hold at least so many blocks together, if so many wait, as one list; the rest stays.
    pub(crate) fn take_some(&self, least: usize) -> Option<List> {
        if self.waiting() < least {
            return None;
        }
        let taken = self.take_whole();
        let mut chains = Chains::of(taken);
        let list = List::join(|| chains.pop(), least)?;
        self.put_back(chains, taken.count() < Parcel::MANY);
        Some(list)
    }

    /// Puts back what was taken and, if it is `untouched`, not looked at.
    fn put_back(&self, mut chains: Chains, untouched: bool) {
        if chains.head.is_some() && !(untouched && self.put_whole(chains.parcel())) {
            // Others have come meanwhile, or all heads were looked at.
            while let Some(chain) = chains.pop() {
                self.push(chain);
            }
        }
    }

    /// Leaves all that was taken, if nothing has come since.
    fn put_whole(&self, taken: Parcel) -> bool {
        self.head.compare_exchange(Parcel::EMPTY.0, taken.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// How many blocks are waiting; 65,535 stands for more.
    pub(crate) fn waiting(&self) -> usize {
        usize::from(Parcel(self.head.load(Ordering::Relaxed)).count())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockPtr;
    use core::ptr::NonNull;
    use std::vec::Vec;

    fn chain(len: u16) -> (Chain, Vec<BlockPtr>) {
        let blocks: Vec<BlockPtr> = (0..len)
            .map(|_| {
                let memory = std::boxed::Box::leak(std::boxed::Box::new([0_u64; 2]));
                // SAFETY: a fresh, leaked allocation of the test's own.
                unsafe { BlockPtr::from_start(NonNull::from(memory).cast()) }
            })
            .collect();
        for pair in blocks.windows(2) {
            pair[0].set_next(Some(pair[1]));
        }
        blocks[blocks.len() - 1].set_next(None);
        (Chain { head: blocks[0], count: len }, blocks)
    }

    #[test]
    fn chains_come_out_whole_and_last_in_first_out() {
        let inbox = Inbox::new();
        let (first, first_blocks) = chain(3);
        let (second, second_blocks) = chain(1);
        assert_eq!(inbox.push(first), 3);
        assert_eq!(inbox.push(second), 4);
        let mut chains = inbox.take_all();
        assert!(inbox.is_empty());
        for (blocks, count) in [(second_blocks, 1), (first_blocks, 3)] {
            let chain = chains.pop().unwrap();
            assert_eq!(chain.count, count);
            assert_eq!(chain.blocks().collect::<Vec<_>>(), blocks);
        }
        assert!(chains.is_empty());
        assert!(inbox.take_all().is_empty());
    }

    #[test]
    fn who_takes_some_leaves_the_rest() {
        let inbox = Inbox::new();
        let sent = [chain(3), chain(1), chain(2)];
        for (chain, _) in &sent {
            inbox.push(*chain);
        }
        assert!(inbox.take_some(7).is_none(), "there are six");
        let list = inbox.take_some(3).expect("the latest two have three");
        assert_eq!(crate::block::blocks_from(list.head).collect::<Vec<_>>(), [&sent[2].1[..], &sent[1].1[..]].concat());
        assert_eq!((list.count, inbox.waiting()), (3, 3));
        assert_eq!(inbox.push(chain(1).0), 4);
        let mut rest = inbox.take_all();
        assert_eq!(rest.pop().map(|chain| chain.count), Some(1));
        assert_eq!(rest.pop().map(|chain| chain.blocks().collect::<Vec<_>>()), Some(sent[0].1.clone()));
        assert!(rest.is_empty());
    }

    #[test]
    fn chains_pushed_by_many_threads_all_arrive_once() {
        let inbox = Inbox::new();
        let mut arrived = 0;
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for i in 0..2000 {
                        inbox.push(chain(1 + i % 3).0);
                    }
                });
            }
            scope.spawn(|| {
                while arrived < 3 * (2000 + 1999) {
                    arrived += inbox.take_some(2).map_or(0, |list| list.count);
                    let mut chains = inbox.take_all();
                    while let Some(chain) = chains.pop() {
                        assert_eq!(chain.blocks().count(), usize::from(chain.count));
                        arrived += usize::from(chain.count);
                    }
                }
            });
        });
        assert_eq!(arrived, 3 * (2000 + 1999));
    }
}
