//! Hammers the allocator from many threads and checks every block.
//!
//! Threads share a table of slots. Each step takes whatever a random slot holds, checks that it still has the pattern that
//! its allocator wrote, resizes or frees it, and puts a new block in: so blocks are freed by others, threads are born and
//! die with blocks of theirs alive, and sizes of all regimes mix. With `--verify` the allocator's structures are walked now
//! and then. Runs with the same seed make the same calls per thread; how threads interleave is up to the machine.

use clap::Parser;
use std::alloc::{GlobalAlloc, Layout};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use terrace::Terrace;

/// Under ThreadSanitizer the standard library's own blocks stay with the system: it is not instrumented, and its `Arc`
/// orders its last drop by a fence, which the sanitizer does not see.
#[cfg(not(feature = "sanitized"))]
#[global_allocator]
static GLOBAL: Terrace = Terrace;

#[derive(Parser)]
#[command(about = "Hammers the Terrace allocator from many threads and checks every block")]
struct Arguments {
    /// Where the random numbers begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long to run, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How many threads run at a time.
    #[arg(long, default_value_t = 4)]
    threads: u64,
    /// Steps after which a thread ends and another takes its place.
    #[arg(long, default_value_t = 20_000)]
    life: u64,
    /// Blocks that are alive at a time, at most.
    #[arg(long, default_value_t = 10_000)]
    slots: usize,
    /// Walk the allocator's structures whenever a thread ends.
    #[arg(long)]
    verify: bool,
}

/// What stands at the head of each block.
#[repr(C)]
struct Head {
    size: usize,
    align: usize,
    seed: u64,
}

/// A linear congruential generator: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn size(&mut self) -> usize {
        let span = match self.below(1000) {
            0..=799 => 600,
            800..=959 => 9_000,
            960..=989 => 60_000,
            990..=998 => 900_000,
            _ => 6 << 20,
        };
        size_of::<Head>() + self.below(span) as usize
    }

    fn align(&mut self) -> usize {
        if self.below(50) == 0 { 1 << self.below(16) } else { 8 }.max(align_of::<Head>())
    }
}

/// Bytes of a block's body that carry the pattern.
fn marked(size: usize) -> impl Iterator<Item = usize> {
    let begin = size_of::<Head>();
    (begin..size).step_by(if size > 4096 { 509 } else { 13 }).chain(size.checked_sub(1).filter(|&last| last >= begin))
}

fn pattern(seed: u64, offset: usize) -> u8 {
    (seed as usize).wrapping_add(offset) as u8
}

/// Fills a fresh block.
///
/// # Safety
/// The block has `layout.size()` bytes, at least a head's, and is the caller's.
unsafe fn write(block: *mut u8, layout: Layout, seed: u64) {
    // SAFETY: the caller's promise; the alignment is at least a head's.
    unsafe { block.cast::<Head>().write(Head { size: layout.size(), align: layout.align(), seed }) };
    for offset in marked(layout.size()) {
        // SAFETY: the offset is below the block's size.
        let byte = unsafe { block.add(offset) };
        // SAFETY: as above.
        unsafe { byte.write(pattern(seed, offset)) };
    }
}

/// Checks a block and gives its layout.
///
/// # Safety
/// The block was filled by `write` and is the caller's.
unsafe fn check(block: *mut u8, up_to: usize) -> Layout {
    // SAFETY: the caller's promise.
    let head = unsafe { block.cast::<Head>().read() };
    for offset in marked(head.size).filter(|&offset| offset < up_to) {
        // SAFETY: the offset is below the block's size.
        let byte = unsafe { block.add(offset) };
        // SAFETY: as above.
        let found = unsafe { byte.read() };
        assert_eq!(found, pattern(head.seed, offset), "byte {offset} of a block of {} bytes was changed", head.size);
    }
    Layout::from_size_align(head.size, head.align).expect("the head of a block was changed")
}

fn step(random: &mut Random, slots: &[AtomicPtr<u8>]) {
    let slot = &slots[random.below(slots.len() as u64) as usize];
    let old = slot.swap(std::ptr::null_mut(), Ordering::AcqRel);
    let mut kept = std::ptr::null_mut();
    if !old.is_null() {
        // SAFETY: a block in a slot was filled, and the swap made it this thread's.
        let layout = unsafe { check(old, usize::MAX) };
        if random.below(8) == 0 {
            let size = random.size();
            // SAFETY: the block is of this layout, and the size is not zero.
            kept = unsafe { Terrace.realloc(old, layout, size) };
            assert!(!kept.is_null(), "no memory");
            if size >= layout.size() {
                // SAFETY: what was there is still there.
                unsafe { check(kept, layout.size()) };
            }
            let layout = Layout::from_size_align(size, layout.align()).expect("sizes are small");
            // SAFETY: the block has that size now.
            unsafe { write(kept, layout, random.next()) };
        } else {
            // SAFETY: the block is of this layout and given up.
            unsafe { Terrace.dealloc(old, layout) };
        }
    }
    if kept.is_null() {
        let layout = Layout::from_size_align(random.size(), random.align()).expect("sizes are small");
        // SAFETY: the size is not zero.
        kept = unsafe { Terrace.alloc(layout) };
        assert!(!kept.is_null(), "no memory");
        assert!(kept.addr().is_multiple_of(layout.align()));
        // SAFETY: the block was just allocated.
        unsafe { write(kept, layout, random.next()) };
    }
    let displaced = slot.swap(kept, Ordering::AcqRel);
    if !displaced.is_null() {
        // SAFETY: as above.
        let layout = unsafe { check(displaced, usize::MAX) };
        // SAFETY: as above.
        unsafe { Terrace.dealloc(displaced, layout) };
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let slots: Vec<AtomicPtr<u8>> = (0..arguments.slots).map(|_| AtomicPtr::default()).collect();
    let (born, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                while Instant::now() < end {
                    let number = born.fetch_add(1, Ordering::Relaxed);
                    let life = || {
                        let mut random = Random(arguments.seed.wrapping_add(number).wrapping_mul(0x9E37_79B9));
                        for _ in 0..arguments.life {
                            step(&mut random, &slots);
                        }
                    };
                    std::thread::scope(|scope| scope.spawn(life).join()).expect("a thread found a broken block");
                    steps.fetch_add(arguments.life, Ordering::Relaxed);
                    if arguments.verify {
                        terrace::verify();
                    }
                }
            });
        }
    });
    for slot in &slots {
        let block = slot.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !block.is_null() {
            // SAFETY: a block in a slot was filled.
            let layout = unsafe { check(block, usize::MAX) };
            // SAFETY: the block is of this layout and given up.
            unsafe { Terrace.dealloc(block, layout) };
        }
    }
    terrace::verify();
    let (steps, threads) = (steps.into_inner(), born.into_inner());
    // Whoever reads only the first line is welcome to.
    let _ =
        write!(std::io::stdout(), "{steps} steps on {threads} threads, every block whole\n{}", terrace::statistics());
    ExitCode::SUCCESS
}
