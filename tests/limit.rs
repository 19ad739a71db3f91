//! Limits on memory, soft and hard: what happens at them, and that the heap stays usable.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use terrace::Terrace;

/// The limits are the process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
const MIB: usize = 1 << 20;

/// Blocks of one size, freed with it.
struct Blocks {
    layout: Layout,
    held: Vec<*mut u8>,
}

impl Blocks {
    fn of(size: usize) -> Self {
        Self { layout: Layout::from_size_align(size, 8).unwrap(), held: Vec::new() }
    }

    /// Takes blocks until there is no memory, or so many bytes; says how many bytes those are.
    fn take(&mut self, most: usize) -> usize {
        while self.bytes() < most {
            // SAFETY: the size is not zero.
            let block = unsafe { Terrace.alloc(self.layout) };
            if block.is_null() {
                assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOMEM));
                break;
            }
            // SAFETY: the block is this test's.
            unsafe { block.write_bytes(0xA5, self.layout.size()) };
            self.held.push(block);
        }
        self.bytes()
    }

    fn bytes(&self) -> usize {
        self.held.len() * self.layout.size()
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        for block in self.held.drain(..) {
            // SAFETY: the block is this test's.
            assert_eq!(unsafe { block.wrapping_add(self.layout.size() - 1).read() }, 0xA5, "a block was overwritten");
            // SAFETY: it is of this layout and given up.
            unsafe { Terrace.dealloc(block, self.layout) };
        }
    }
}

#[test]
fn beyond_the_hard_limit_there_is_no_memory_and_the_heap_stays_usable() {
    let _alone = ONE_AT_A_TIME.lock();
    terrace::set_option("limit", "64M").unwrap();
    // Blocks of slabs, runs, and mappings of their own; twice, since the first round leaves its memory behind.
    for size in [100, 30_000, 200_000, 2 * MIB, 100, 5 * MIB] {
        let mut blocks = Blocks::of(size);
        let taken = blocks.take(usize::MAX);
        assert!(taken <= 64 * MIB, "{taken} bytes of blocks of {size}");
        assert!(taken >= 64 * MIB * 3 / 4, "only {taken} bytes of blocks of {size}\n{}", terrace::statistics());
        let mapped = terrace::statistics().mapped_bytes;
        assert!(mapped <= 64 * MIB, "{mapped} bytes are mapped");
        // A block that fails to grow is as it was.
        let kept = blocks.held[0];
        // SAFETY: the block is this test's, and stays unless another is given.
        let grown = unsafe { Terrace.realloc(kept, blocks.layout, 80 * MIB) };
        assert!(grown.is_null());
        // One that was freed can be had again.
        let last = blocks.held.pop().unwrap();
        // SAFETY: the block is this test's and given up.
        unsafe { Terrace.dealloc(last, blocks.layout) };
        assert_eq!(blocks.take(taken), taken, "blocks of {size}");
    }
    terrace::set_option("limit", "0").unwrap();
    assert_eq!(Blocks::of(2 * MIB).take(100 * MIB), 100 * MIB);
}

#[test]
fn what_the_thread_has_on_its_shelf_serves_where_there_is_no_other_memory() {
    let _alone = ONE_AT_A_TIME.lock();
    // What other tests left would be used first.
    terrace::purge();
    terrace::set_option("limit", "64M").unwrap();
    let (mut medium, mut small) = (Blocks::of(128 << 10), Blocks::of(100));
    medium.take(usize::MAX);
    let before = small.take(usize::MAX);
    // The first ones: the last may have mappings of their own.
    for block in medium.held.drain(..2) {
        // SAFETY: the block is this test's and given up.
        unsafe { Terrace.dealloc(block, medium.layout) };
    }
    let taken = small.take(usize::MAX) - before;
    assert!(taken >= 200 << 10, "{taken} bytes of {} that were freed", 256 << 10);
    terrace::set_option("limit", "0").unwrap();
}

static CALLS: AtomicUsize = AtomicUsize::new(0);
static KEPT: Mutex<Option<usize>> = Mutex::new(None);

extern "C" fn count_and_free(mapped: usize, limit: usize) {
    assert!(mapped > limit && limit == 32 * MIB, "{mapped} bytes, limit {limit}");
    CALLS.fetch_add(1, Ordering::Relaxed);
    // It may free and allocate.
    if let Some(block) = KEPT.lock().unwrap().take() {
        let layout = Layout::from_size_align(8 * MIB, 8).unwrap();
        // SAFETY: the block was kept for this.
        unsafe { Terrace.dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
    }
    drop(Blocks::of(1000));
}

#[test]
fn beyond_the_soft_limit_free_memory_goes_first_and_then_the_program_is_told() {
    let _alone = ONE_AT_A_TIME.lock();
    terrace::purge();
    terrace::set_option("purge_delay_ms", "1000000").unwrap();
    terrace::set_option("soft_limit", "32M").unwrap();
    terrace::set_limit_callback(Some(count_and_free));
    // Memory that was freed is returned, and nobody is told.
    for _ in 0..3 {
        assert!(Blocks::of(100).take(20 * MIB) >= 20 * MIB);
        assert_eq!(Blocks::of(5 * MIB).take(15 * MIB), 15 * MIB);
    }
    assert_eq!(CALLS.load(Ordering::Relaxed), 0);
    let layout = Layout::from_size_align(8 * MIB, 8).unwrap();
    // SAFETY: the size is not zero.
    *KEPT.lock().unwrap() = Some(unsafe { Terrace.alloc(layout) }.expose_provenance());
    // The program is told once, and frees what it kept.
    let mut blocks = Blocks::of(100);
    blocks.take(29 * MIB);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    assert!(KEPT.lock().unwrap().is_none());
    // Not again while it stays beyond, but when it comes back.
    assert_eq!(Blocks::of(3 * MIB).take(40 * MIB), 42 * MIB);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    drop(blocks);
    terrace::purge();
    assert_eq!(Blocks::of(3 * MIB).take(40 * MIB), 42 * MIB);
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
    terrace::set_limit_callback(None);
    for (name, value) in [("soft_limit", "0"), ("purge_delay_ms", "1000")] {
        terrace::set_option(name, value).unwrap();
    }
}

#[test]
fn a_share_is_of_what_the_process_may_have() {
    let _alone = ONE_AT_A_TIME.lock();
    // A percent of it is less than what is asked for here, and some of it is to be had.
    terrace::set_option("limit", "1%").unwrap();
    let mut buffer = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::open("/proc/meminfo").unwrap(), &mut buffer).unwrap();
    let kilobytes: usize = buffer.split_whitespace().nth(1).unwrap().parse().unwrap();
    let share = kilobytes * 1024 / 100;
    let layout = Layout::from_size_align(share + MIB, 8).unwrap();
    // SAFETY: the size is not zero.
    assert!(unsafe { Terrace.alloc(layout) }.is_null());
    terrace::set_option("limit", "0").unwrap();
    // SAFETY: the size is not zero.
    let block = unsafe { Terrace.alloc(layout) };
    assert!(!block.is_null());
    // SAFETY: it is a block of this layout.
    unsafe { Terrace.dealloc(block, layout) };
    assert_eq!(
        terrace::set_option("limit", "many").unwrap_err().to_string(),
        "limit must be a number of bytes, as 512M, or a share, as 90%"
    );
}
