//! The shadow oracle: an interval map of live blocks, with a pattern through each block, beside the allocator.
//!
//! Whatever sequence of calls `proptest` finds, no two live blocks overlap, each is aligned and as large as it was asked
//! for, holds what was written to it until it is freed, and zeroed blocks are zero; after every step the allocator's own
//! structures are checked. Blocks are allocated, resized and freed by several threads, which are born and die meanwhile.

use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc;
use terrace::Terrace;

/// A live block, as the oracle knows it.
#[derive(Debug)]
struct Shadow {
    start: *mut u8,
    layout: Layout,
    seed: u8,
}

// SAFETY: the block belongs to whoever holds its shadow.
unsafe impl Send for Shadow {}

impl Shadow {
    /// The bytes that carry the pattern: all of a small block, and of a large one the beginning, the end and a byte a page.
    fn marked(&self) -> impl Iterator<Item = usize> + use<> {
        let size = self.layout.size();
        let dense = size.min(1024);
        let end = size.saturating_sub(64).max(dense);
        (0..dense).chain((dense..end).step_by(4096)).chain(end..size)
    }

    fn expected(&self, offset: usize) -> u8 {
        self.seed.wrapping_add((offset / 7) as u8) ^ offset as u8
    }

    fn write(&self) {
        for offset in self.marked() {
            // SAFETY: the offset is below the block's size.
            let byte = unsafe { self.start.add(offset) };
            // SAFETY: as above.
            unsafe { byte.write(self.expected(offset)) };
        }
    }

    fn check(&self, up_to: usize) {
        for offset in self.marked().filter(|&offset| offset < up_to) {
            // SAFETY: the offset is below the block's size.
            let byte = unsafe { self.start.add(offset) };
            // SAFETY: as above.
            let found = unsafe { byte.read() };
            assert_eq!(found, self.expected(offset), "byte {offset} of {self:?} was changed");
        }
    }
}

/// The live blocks by address, of all threads.
#[derive(Default)]
struct Oracle {
    live: BTreeMap<usize, usize>,
}

impl Oracle {
    fn enter(&mut self, start: *mut u8, size: usize) {
        let (start, end) = (start.addr(), start.addr() + size.max(1));
        if let Some((&below, &below_end)) = self.live.range(..end).next_back() {
            assert!(below_end <= start, "{start:#x}..{end:#x} overlaps {below:#x}..{below_end:#x}");
        }
        self.live.insert(start, end);
    }

    fn leave(&mut self, start: *mut u8) {
        assert!(self.live.remove(&start.addr()).is_some());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allocate {
        size: usize,
        align: usize,
        zeroed: bool,
    },
    Resize {
        which: prop::sample::Index,
        size: usize,
    },
    Free {
        which: prop::sample::Index,
    },
    /// Hand the block to another thread, which frees it.
    Send {
        which: prop::sample::Index,
    },
    Purge,
}

/// Sizes of all regimes, with their boundaries; large ones rarely.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        40 => 1_usize..600,
        20 => 1_usize..40_000,
        6 => (5_u32..26, -1_isize..2).prop_map(|(shift, off)| (1_usize << shift).wrapping_add_signed(off)),
        4 => 32_000_usize..1_100_000,
        1 => 1_000_000_usize..(64 << 20),
    ]
}

fn align() -> impl Strategy<Value = usize> {
    prop_oneof![10 => Just(8_usize), 5 => Just(16_usize), 4 => (0_u32..13).prop_map(|s| 1 << s), 1 => (12_u32..24).prop_map(|s| 1 << s)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (size(), align(), any::<bool>()).prop_map(|(size, align, zeroed)| Step::Allocate { size, align, zeroed }),
        3 => (any::<prop::sample::Index>(), size()).prop_map(|(which, size)| Step::Resize { which, size }),
        5 => any::<prop::sample::Index>().prop_map(|which| Step::Free { which }),
        3 => any::<prop::sample::Index>().prop_map(|which| Step::Send { which }),
        1 => Just(Step::Purge),
    ]
}

fn allocate(oracle: &Mutex<Oracle>, layout: Layout, zeroed: bool, seed: u8) -> Shadow {
    let start = if zeroed {
        // SAFETY: the layout's size is not zero.
        unsafe { Terrace.alloc_zeroed(layout) }
    } else {
        // SAFETY: as above.
        unsafe { Terrace.alloc(layout) }
    };
    assert!(!start.is_null(), "no memory for {layout:?}");
    assert!(start.addr().is_multiple_of(layout.align()), "{start:p} is not aligned for {layout:?}");
    oracle.lock().unwrap().enter(start, layout.size());
    let shadow = Shadow { start, layout, seed };
    if zeroed {
        for offset in shadow.marked() {
            // SAFETY: the offset is below the block's size.
            let byte = unsafe { start.add(offset) };
            // SAFETY: as above; the block is zeroed.
            assert_eq!(unsafe { byte.read() }, 0, "byte {offset} of a zeroed block");
        }
    }
    shadow.write();
    shadow
}

fn free(oracle: &Mutex<Oracle>, shadow: Shadow) {
    shadow.check(usize::MAX);
    oracle.lock().unwrap().leave(shadow.start);
    // SAFETY: the block is live, of this layout, and given up here.
    unsafe { Terrace.dealloc(shadow.start, shadow.layout) };
}

fn resize(oracle: &Mutex<Oracle>, shadow: Shadow, size: usize) -> Shadow {
    let new_layout = Layout::from_size_align(size, shadow.layout.align()).unwrap();
    let mut live = oracle.lock().unwrap();
    live.leave(shadow.start);
    // SAFETY: the block is live and of this layout; the new size is not zero and does not overflow.
    let start = unsafe { Terrace.realloc(shadow.start, shadow.layout, size) };
    assert!(!start.is_null() && start.addr().is_multiple_of(new_layout.align()));
    live.enter(start, size);
    drop(live);
    // What was marked in the old block and still fits has to be there; the marks of large blocks depend on their size.
    let moved = Shadow { start, ..shadow };
    moved.check(size.min(moved.layout.size()));
    let resized = Shadow { layout: new_layout, seed: moved.seed.wrapping_add(1), ..moved };
    resized.write();
    resized
}

/// Runs the steps on one thread; blocks to be freed elsewhere go into `outgoing`, and what `incoming` holds is freed here.
fn run(
    oracle: &Mutex<Oracle>,
    steps: &[Step],
    outgoing: &mpsc::Sender<Shadow>,
    incoming: Option<&mpsc::Receiver<Shadow>>,
    verify: bool,
) {
    let mut live: Vec<Shadow> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Allocate { size, align, zeroed } => {
                let layout = Layout::from_size_align(*size, *align).unwrap();
                live.push(allocate(oracle, layout, *zeroed, number as u8));
            }
            Step::Resize { which, size } if !live.is_empty() => {
                let shadow = live.swap_remove(which.index(live.len()));
                live.push(resize(oracle, shadow, *size));
            }
            Step::Free { which } if !live.is_empty() => free(oracle, live.swap_remove(which.index(live.len()))),
            Step::Send { which } if !live.is_empty() => {
                outgoing.send(live.swap_remove(which.index(live.len()))).unwrap();
            }
            Step::Purge => terrace::purge(),
            _ => {}
        }
        if let Some(incoming) = incoming {
            incoming.try_iter().for_each(|shadow| free(oracle, shadow));
        }
        if verify {
            terrace::verify();
        }
    }
    live.into_iter().for_each(|shadow| free(oracle, shadow));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_thread_gets_disjoint_blocks_that_keep_their_contents(steps in prop::collection::vec(step(), 1..120)) {
        let oracle = Mutex::new(Oracle::default());
        let (sender, receiver) = mpsc::channel();
        run(&oracle, &steps, &sender, Some(&receiver), cfg!(debug_assertions));
        receiver.try_iter().for_each(|shadow| free(&oracle, shadow));
        terrace::verify();
        prop_assert!(oracle.into_inner().unwrap().live.is_empty());
    }

    #[test]
    fn threads_that_free_each_others_blocks_and_die_lose_none(
        programs in prop::collection::vec(prop::collection::vec(step(), 1..60), 2..5)
    ) {
        let oracle = Mutex::new(Oracle::default());
        let (sender, receiver) = mpsc::channel();
        let receiver = Mutex::new(receiver);
        std::thread::scope(|scope| {
            for steps in &programs {
                let (sender, oracle, receiver) = (sender.clone(), &oracle, &receiver);
                scope.spawn(move || {
                    run(oracle, steps, &sender, None, false);
                    // Others' blocks, some of them of threads that have ended by now.
                    let sent: Vec<Shadow> = receiver.lock().unwrap().try_iter().collect();
                    sent.into_iter().for_each(|shadow| free(oracle, shadow));
                });
            }
        });
        receiver.into_inner().unwrap().try_iter().for_each(|shadow| free(&oracle, shadow));
        terrace::verify();
        prop_assert!(oracle.into_inner().unwrap().live.is_empty());
    }
}
