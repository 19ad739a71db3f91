//! The shadow oracle: an interval map of live blocks, with a pattern through each block, beside the allocator.
//!
//! Whatever sequence of calls `proptest` finds, no two live blocks overlap, each is aligned and as large as it was asked
//! for, holds what was written to it until it is freed, and zeroed blocks are zero; after every step the allocator's own
//! structures are checked. Blocks are allocated, resized and freed by several threads, which are born and die meanwhile. Both faces
//! have to pass: Rust's, which is told the layout of each block, and C's, which finds it out, and knows blocks of no bytes.

use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc;
use terrace::{Terrace, c_face};

#[derive(Clone, Copy, Debug)]
enum Face {
    Rust,
    C,
}

/// jemalloc's flag for zeroed memory.
const MALLOCX_ZERO: i32 = 0x40;

impl Face {
    /// The layout that a block of so many bytes, so aligned, has. Rust has no blocks of no bytes; C aligns all to 16.
    fn layout(self, size: usize, align: usize) -> Layout {
        match self {
            Face::Rust => Layout::from_size_align(size.max(1), align),
            Face::C => Layout::from_size_align(size, align.max(16)),
        }
        .unwrap()
    }

    /// Allocates; also says whether the block is zeroed, which of C's functions for alignments only jemalloc's can be asked for.
    fn allocate(self, layout: Layout, zeroed: bool) -> (*mut u8, bool) {
        let (size, align) = (layout.size(), layout.align());
        match self {
            // SAFETY: the layout's size is not zero.
            Face::Rust if zeroed => (unsafe { Terrace.alloc_zeroed(layout) }, true),
            // SAFETY: as above.
            Face::Rust => (unsafe { Terrace.alloc(layout) }, false),
            Face::C if align > 16 && zeroed => (c_face::mallocx(size, align.ilog2() as i32 | MALLOCX_ZERO), true),
            Face::C if align > 16 && size % 2 == 0 => {
                let mut start = std::ptr::null_mut();
                // SAFETY: the place is valid for a write.
                assert_eq!(unsafe { c_face::posix_memalign(&mut start, align, size) }, 0, "no memory for {layout:?}");
                (start, false)
            }
            Face::C if align > 16 => (c_face::aligned_alloc(align, size), false),
            Face::C if zeroed => (c_face::calloc(1, size), true),
            Face::C => (c_face::malloc(size), false),
        }
    }

    /// # Safety
    /// The block is live and of this layout, and given up; in Rust, the size is not 0.
    unsafe fn reallocate(self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match self {
            // SAFETY: the caller's promise.
            Face::Rust => unsafe { Terrace.realloc(start, layout, size) },
            // SAFETY: the caller's promise.
            Face::C => unsafe { c_face::realloc(start, size) },
        }
    }

    /// # Safety
    /// The block is live and of this layout, and given up.
    unsafe fn free(self, start: *mut u8, layout: Layout) {
        match self {
            // SAFETY: the caller's promise.
            Face::Rust => unsafe { Terrace.dealloc(start, layout) },
            // SAFETY: the caller's promise.
            Face::C => unsafe { c_face::free(start) },
        }
    }
}

/// A live block, as the oracle knows it.
#[derive(Debug)]
struct Shadow {
    face: Face,
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
        face: Face,
        size: usize,
        align: usize,
        zeroed: bool,
    },
    Resize {
        which: usize,
        size: usize,
    },
    Free {
        which: usize,
    },
    /// Hand the block to another thread, which frees it.
    Send {
        which: usize,
    },
    Purge,
}

/// Sizes of all regimes, with their boundaries; large ones rarely.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        40 => 0_usize..600,
        20 => 0_usize..40_000,
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
        8 => (face(), size(), align(), any::<bool>())
            .prop_map(|(face, size, align, zeroed)| Step::Allocate { face, size, align, zeroed }),
        3 => (any::<usize>(), size()).prop_map(|(which, size)| Step::Resize { which, size }),
        5 => any::<usize>().prop_map(|which| Step::Free { which }),
        3 => any::<usize>().prop_map(|which| Step::Send { which }),
        1 => Just(Step::Purge),
    ]
}

fn face() -> impl Strategy<Value = Face> {
    prop_oneof![Just(Face::Rust), Just(Face::C)]
}

fn allocate(oracle: &Mutex<Oracle>, face: Face, layout: Layout, zeroed: bool, seed: u8) -> Shadow {
    let (start, zeroed) = face.allocate(layout, zeroed);
    assert!(!start.is_null(), "no memory for {layout:?}");
    assert!(start.addr().is_multiple_of(layout.align()), "{start:p} is not aligned for {layout:?}");
    oracle.lock().unwrap().enter(start, layout.size());
    let shadow = Shadow { face, start, layout, seed };
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
    if matches!(shadow.face, Face::C) {
        assert!(c_face::malloc_usable_size(shadow.start) >= shadow.layout.size(), "{shadow:?} is too short");
    }
    // SAFETY: the block is live, of this layout, and given up here.
    unsafe { shadow.face.free(shadow.start, shadow.layout) };
}

/// In C, a block keeps no alignment but the usual one, and one that is to have no bytes is freed: `None`.
fn resize(oracle: &Mutex<Oracle>, shadow: Shadow, size: usize) -> Option<Shadow> {
    let align = if matches!(shadow.face, Face::C) { 16 } else { shadow.layout.align() };
    let new_layout = shadow.face.layout(size, align);
    let size = new_layout.size();
    let mut live = oracle.lock().unwrap();
    live.leave(shadow.start);
    // SAFETY: the block is live and of this layout; Rust's new size is not zero and does not overflow.
    let start = unsafe { shadow.face.reallocate(shadow.start, shadow.layout, size) };
    if size == 0 {
        assert!(start.is_null(), "{shadow:?} was freed");
        return None;
    }
    assert!(!start.is_null() && start.addr().is_multiple_of(new_layout.align()));
    live.enter(start, size);
    drop(live);
    // What was marked in the old block and still fits has to be there; the marks of large blocks depend on their size.
    let moved = Shadow { start, ..shadow };
    moved.check(size.min(moved.layout.size()));
    let resized = Shadow { layout: new_layout, seed: moved.seed.wrapping_add(1), ..moved };
    resized.write();
    Some(resized)
}

/// Takes a block out, by a number that stands for a share of the way through them.
fn pick(live: &mut Vec<Shadow>, which: usize) -> Shadow {
    let index = (which as u128 * live.len() as u128) >> usize::BITS;
    live.swap_remove(index as usize)
}

/// Runs the steps on one thread; blocks to be freed elsewhere go into `outgoing`, and what `incoming` holds is freed here.
fn run(
    oracle: &Mutex<Oracle>,
    steps: &[Step],
    outgoing: &mpsc::Sender<Shadow>,
    incoming: Option<&mpsc::Receiver<Shadow>>,
) {
    let mut live: Vec<Shadow> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Allocate { face, size, align, zeroed } => {
                live.push(allocate(oracle, *face, face.layout(*size, *align), *zeroed, number as u8));
            }
            Step::Resize { which, size } if !live.is_empty() => {
                let shadow = pick(&mut live, *which);
                live.extend(resize(oracle, shadow, *size));
            }
            Step::Free { which } if !live.is_empty() => free(oracle, pick(&mut live, *which)),
            Step::Send { which } if !live.is_empty() => {
                outgoing.send(pick(&mut live, *which)).unwrap();
            }
            Step::Purge => terrace::purge(),
            _ => {}
        }
        if let Some(incoming) = incoming {
            incoming.try_iter().for_each(|shadow| free(oracle, shadow));
        }
        if cfg!(debug_assertions) {
            terrace::verify();
        }
    }
    live.into_iter().for_each(|shadow| free(oracle, shadow));
}

/// Plays each list of steps in a thread of its own, all at once.
fn play(programs: &[Vec<Step>]) {
    let oracle = Mutex::new(Oracle::default());
    let (sender, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        for steps in programs {
            let (sender, oracle, receiver) = (sender.clone(), &oracle, &receiver);
            scope.spawn(move || {
                run(oracle, steps, &sender, None);
                // Others' blocks, some of them of threads that have ended by now.
                let sent: Vec<Shadow> = receiver.lock().unwrap().try_iter().collect();
                sent.into_iter().for_each(|shadow| free(oracle, shadow));
            });
        }
    });
    receiver.into_inner().unwrap().try_iter().for_each(|shadow| free(&oracle, shadow));
    terrace::verify();
    assert!(oracle.into_inner().unwrap().live.is_empty());
}

/// Plays the steps in this thread, which also frees what it sends.
fn play_alone(steps: &[Step]) {
    let oracle = Mutex::new(Oracle::default());
    let (sender, receiver) = mpsc::channel();
    run(&oracle, steps, &sender, Some(&receiver));
    receiver.try_iter().for_each(|shadow| free(&oracle, shadow));
    terrace::verify();
    assert!(oracle.into_inner().unwrap().live.is_empty());
}

fn allocate_in_rust(size: usize, align: usize, zeroed: bool) -> Step {
    Step::Allocate { face: Face::Rust, size, align, zeroed }
}

/// Found by `proptest`: a block aligned to a segment's quarter beside one of nearly half a segment, both new.
#[test]
fn two_threads_ask_for_an_alignment_and_a_length_at_once() {
    play(&[vec![allocate_in_rust(1, 1 << 20, false)], vec![allocate_in_rust((2 << 20) - 1, 16, false)]]);
}

/// Found by `proptest`, as it left it.
#[test]
fn sizes_of_all_regimes_grow_shrink_and_go() {
    let (allocate, resize) = (allocate_in_rust, |which, size| Step::Resize { which, size });
    play_alone(&[
        resize(12213162055179897983, 292),
        Step::Send { which: 551239987767821918 },
        allocate(601386, 8, true),
        Step::Free { which: 3077907879920642679 },
        Step::Send { which: 17155310897423337872 },
        allocate(1707, 16, false),
        allocate(476, 8, false),
        Step::Send { which: 4848923665660163571 },
        Step::Send { which: 2689758208265408714 },
        Step::Send { which: 5081071657367097653 },
        resize(8755066283265829992, 31899),
        Step::Free { which: 2056610349593545513 },
        Step::Free { which: 373276671928548954 },
        resize(14798178760353179736, 29124),
        allocate(240, 8, false),
        Step::Send { which: 8712371466969385962 },
        allocate(264, 2, true),
        allocate(16, 16, true),
        resize(15685571130925289811, 13189),
        allocate(33554431, 8, true),
        Step::Free { which: 8170302119621672494 },
        resize(6411476243983920603, 248),
        Step::Free { which: 899996264493012264 },
        allocate(103, 8, true),
        Step::Send { which: 393350521635026930 },
        allocate(31796, 256, true),
        allocate(561, 16, false),
        resize(13656736971426982122, 2074),
        allocate(10483, 8, false),
        Step::Free { which: 15688126752647804577 },
        Step::Free { which: 2608585318362772811 },
        Step::Free { which: 14769458956008242979 },
        allocate(185, 8, true),
        resize(15591508299036113130, 186),
        allocate(451, 512, true),
        allocate(12822, 8, false),
        Step::Free { which: 4944983541206086285 },
        allocate(258, 2, true),
        Step::Free { which: 7395930972930338396 },
        allocate(457, 8, false),
        resize(12142256998754689572, 37007),
        Step::Send { which: 12735944027736755605 },
        resize(17849580768759483545, 1074709),
        allocate(239, 2, false),
        allocate(37261, 8, true),
        allocate(778170, 8, true),
        Step::Send { which: 919555982874816743 },
        Step::Free { which: 12460967908472873512 },
        Step::Free { which: 8515064063136345524 },
        allocate(558, 8, true),
        resize(10156512430666177419, 299984),
        Step::Send { which: 8469878620706247874 },
        resize(10593865773223424694, 1048576),
        resize(15239669174059245648, 448009),
        resize(4174720742155495551, 166),
        resize(602729772397021940, 33737),
        Step::Free { which: 1346803852674658967 },
        Step::Free { which: 2412680086254480821 },
        resize(7678073902814910764, 471),
        resize(18081822221683056292, 457),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_thread_gets_disjoint_blocks_that_keep_their_contents(steps in prop::collection::vec(step(), 1..120)) {
        play_alone(&steps);
    }

    #[test]
    fn threads_that_free_each_others_blocks_and_die_lose_none(
        programs in prop::collection::vec(prop::collection::vec(step(), 1..60), 2..5)
    ) {
        play(&programs);
    }
}
