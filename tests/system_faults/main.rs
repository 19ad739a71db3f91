//! Every call that the allocator makes to the kernel and to the C library, refused in turn.
//!
//! This program defines those functions itself, so that the allocator linked into it calls these; the library that ships knows
//! nothing of it. A script of all kinds of calls runs in one forked process after the other, each a heap that was never used:
//! in the first its first `mmap` is refused, in the second its second, until a run has no call of that number; then its first
//! `munmap`, and so on. (Counted over all kinds, a call that is made only now and then, a purge that is due, would shift those
//! behind it, and let some be passed over.) After a refusal the contents of all blocks are looked at, the walker finds the heap whole, and the call that failed, made once
//! more, does not. At the end everything is freed, and what the kernel has given and not got back is what the statistics know
//! of. A lock that stayed held would have the process end by its alarm.

#[allow(dead_code, reason = "each test file uses a part of it")]
#[path = "../common/mod.rs"]
mod common;
mod kernel;

use kernel::{COUNTED, KERNEL, KINDS, Kernel, Place, check_others, kernel};
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{panic, ptr};
use terrace::c_face;

/// A live block, and the pattern that it was filled with.
#[derive(Clone, Copy)]
struct Block {
    start: *mut u8,
    size: usize,
    seed: usize,
}

impl Block {
    fn byte(self, offset: usize) -> u8 {
        (self.seed * 31 + offset * 7 + (offset >> 8) + 1) as u8
    }

    /// The bytes that are written and looked at: of small blocks each of a word's, and of all every so many, and the last. Memory that
    /// is not touched saves time.
    fn places(self) -> impl Iterator<Item = usize> {
        let step = match self.size {
            0..0x400 => 7,
            0x400..0x1_0000 => 1021,
            _ => 40_961,
        };
        (0..self.size).step_by(step).chain(self.size.checked_sub(1))
    }

    fn fill(self) {
        for offset in self.places() {
            // SAFETY: the offset lies inside the block, which is the script's.
            let place = unsafe { self.start.add(offset) };
            // SAFETY: as above.
            unsafe { place.write(self.byte(offset)) };
        }
    }

    /// Asserts that the first `len` bytes are as they were filled.
    #[track_caller]
    fn check(self, len: usize) {
        for offset in self.places().filter(|&offset| offset < len) {
            // SAFETY: the offset lies inside the block.
            let place = unsafe { self.start.add(offset) };
            // SAFETY: as above.
            let byte = unsafe { place.read() };
            assert_eq!(byte, self.byte(offset), "byte {offset} of a block of {} was changed", self.size);
        }
    }
}

/// The process that the script runs in.
struct Script {
    blocks: Vec<Block>,
    kernel: &'static Kernel,
    /// How many blocks were had so far.
    seeds: usize,
}

/// Sizes of all regimes, with their boundaries: slabs, runs of pages, mappings.
const SIZES: [usize; 13] = [
    1,
    24,
    500,
    4096,
    20_000,
    32_768,
    32_769,
    100 << 10,
    700 << 10,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    (2 << 20) + 5,
];

/// What a thread is given, and gives back.
struct Errand {
    freed: Vec<Block>,
    had: Vec<Block>,
    key: u32,
    kernel: &'static Kernel,
}

impl Script {
    fn refusals(&self) -> usize {
        self.kernel.refusals.load(Ordering::Relaxed)
    }

    /// Makes a call that gives null only if the kernel refused something meanwhile. If that was refused once, the call made once
    /// more succeeds; if for good, there is nothing.
    #[track_caller]
    fn obtain(&mut self, size: usize, call: impl Fn() -> *mut u8) -> Option<Block> {
        let before = self.refusals();
        let mut start = call();
        if start.is_null() {
            assert!(self.refusals() > before, "{size} bytes were refused, though the kernel refused nothing");
            self.look();
            let again = self.refusals();
            start = call();
            if start.is_null() {
                assert!(
                    self.refusals() > again,
                    "{size} bytes were refused again, though the kernel refused nothing more"
                );
                return None;
            }
        }
        self.seeds += 1;
        Some(Block { start, size, seed: self.seeds })
    }

    #[track_caller]
    fn take(&mut self, size: usize, call: impl Fn() -> *mut u8) -> Option<Block> {
        let block = self.obtain(size, call)?;
        block.fill();
        self.blocks.push(block);
        Some(block)
    }

    /// All contents are as they were, and the structures of the heap are whole.
    fn look(&self) {
        self.blocks.iter().for_each(|block| block.check(block.size));
        terrace::verify();
    }

    fn release(block: Block) {
        block.check(block.size);
        // SAFETY: the block is live, and given up.
        unsafe { c_face::free(block.start) };
    }

    fn of_all_sizes(&mut self) {
        for size in SIZES {
            self.take(size, || c_face::malloc(size));
            if let Some(block) = self.obtain(size, || c_face::calloc(1, size)) {
                for offset in block.places() {
                    // SAFETY: the offset lies inside the block.
                    let place = unsafe { block.start.add(offset) };
                    // SAFETY: as above.
                    assert_eq!(unsafe { place.read() }, 0, "byte {offset} of {size}");
                }
                block.fill();
                self.blocks.push(block);
            }
        }
        for (align, size) in [(64, 100), (4096, 50_000), (64 << 10, 2 << 20), (8 << 20, 100)] {
            if let Some(block) = self.take(size, || c_face::aligned_alloc(align, size)) {
                assert!(block.start.addr().is_multiple_of(align));
            }
        }
    }

    /// Resizes every block, across the regimes in both directions.
    fn resize_all(&mut self) {
        for index in 0..self.blocks.len() {
            let old = self.blocks[index];
            let size = SIZES[(index * 7 + 3) % SIZES.len()];
            // SAFETY: the block is live; if the call fails, it stays so.
            let Some(new) = self.obtain(size, || unsafe { c_face::realloc(old.start, size) }) else {
                old.check(old.size);
                continue;
            };
            Block { start: new.start, ..old }.check(old.size.min(size));
            new.fill();
            self.blocks[index] = new;
        }
    }

    fn release_some(&mut self, one_in: usize) {
        let (gone, kept) =
            std::mem::take(&mut self.blocks).into_iter().partition(|block| block.seed.is_multiple_of(one_in));
        self.blocks = kept;
        Vec::into_iter(gone).for_each(Self::release);
    }

    /// A large block is put together from pages of freed ones, and another one grows by such.
    fn move_pages(&mut self) {
        let grown = self.take(2 << 20, || c_face::malloc(2 << 20));
        let mut pieces = Vec::new();
        for _ in 0..6 {
            pieces.extend(self.obtain(1200 << 10, || c_face::malloc(1200 << 10)));
        }
        pieces.iter().for_each(|piece| piece.fill());
        let (odd, even): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|piece| !piece.seed.is_multiple_of(2));
        odd.into_iter().for_each(Self::release);
        self.take(3 << 20, || c_face::malloc(3 << 20));
        even.into_iter().for_each(Self::release);
        if let Some(old) = grown {
            // SAFETY: the block is live; if the call fails, it stays so.
            if let Some(new) = self.obtain(5 << 20, || unsafe { c_face::realloc(old.start, 5 << 20) }) {
                Block { start: new.start, ..old }.check(old.size);
                new.fill();
                let place = self.blocks.iter().position(|block| block.seed == old.seed).expect("the block is listed");
                self.blocks[place] = new;
            }
        }
    }

    /// A thread frees some of this thread's blocks, has some of its own, and its key's destructor does the same once more.
    fn send_a_thread(&mut self, key: u32) {
        let freed = self.blocks.split_off(self.blocks.len() / 2);
        let errand = Box::into_raw(Box::new(Errand { freed, had: Vec::new(), key, kernel: self.kernel }));
        let mut thread = 0;
        // SAFETY: the function takes an errand, which lives until the thread was joined.
        let begun = unsafe { libc::pthread_create(&mut thread, ptr::null(), run_errand, errand.cast()) };
        assert_eq!(begun, 0);
        // SAFETY: the thread was just begun.
        unsafe { libc::pthread_join(thread, ptr::null_mut()) };
        // SAFETY: the thread has ended, and the errand came from a box.
        let errand = unsafe { Box::from_raw(errand) };
        self.seeds += 10_000;
        self.blocks.extend(errand.had);
        self.blocks.extend(errand.freed);
    }

    /// The child frees what it has of the parent's, and uses all sizes.
    fn fork(&mut self) {
        // SAFETY: the child calls what a process with one thread may call.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            set_alarm();
            self.release_some(2);
            self.of_all_sizes();
            self.release_some(1);
            c_face::malloc_trim(0);
            self.look();
            check_others();
            exit(0);
        }
        wait_for(child);
    }

    fn run(&mut self) {
        let before = terrace::statistics();
        assert_eq!((before.mapped_bytes, before.live_bytes), (0, 0), "the heap of this process is not a fresh one");
        let mut key = 0;
        // SAFETY: the destructor takes what is set.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(end_errand)) }, 0);

        self.kernel.armed.store(1, Ordering::Relaxed);
        c_face::start(nothing_is_wrong);
        self.of_all_sizes();
        self.resize_all();
        self.release_some(2);
        c_face::malloc_trim(0);
        for _ in 0..3000 {
            self.take(100, || c_face::malloc(100));
        }
        self.move_pages();
        self.send_a_thread(key);
        self.send_a_thread(key);
        self.fork();
        // Memory is returned as soon as it is free.
        assert!(terrace::set_option("purge_delay_ms", "0").is_ok());
        self.release_some(3);
        self.of_all_sizes();
        let _ = terrace::statistics();
        unheard(c_face::malloc_stats);
        self.release_some(2);
        self.kernel.armed.store(0, Ordering::Relaxed);

        // The kernel gives again, and so does the heap.
        self.look();
        let refusals = self.refusals();
        self.of_all_sizes();
        self.fork();
        assert_eq!(self.refusals(), refusals);
        self.look();
        self.release_some(1);
        terrace::purge();
        terrace::verify();
        let after = terrace::statistics();
        assert_eq!((after.live_bytes, after.medium, after.large), (0, (0, 0), (0, 0)), "blocks were lost\n{after}");
        assert_eq!(after.large_cached_bytes, 0, "{after}");
        let held = self.kernel.held.load(Ordering::Relaxed) as isize;
        let (known, left) = (after.mapped_bytes as isize, self.kernel.left.load(Ordering::Relaxed) as isize);
        assert!(
            (0..=left + padding()).contains(&(held - known)),
            "the kernel has given {held} bytes and was not let have {left} of them back; the statistics know of {known}\n{after}"
        );
    }
}

/// What of the kernel's memory no book knows of: the unused part of the mapping of the metadata or, where the break is moved, what lies
/// before the first segment on it, at most two segments. The script's pieces of moved pages are larger than the first.
fn padding() -> isize {
    if std::env::var("TERRACE_SOURCE").is_ok_and(|source| source == "mmap") { 1 << 20 } else { 8 << 20 }
}

/// Makes a call whose words on standard error nobody wants.
fn unheard(call: impl FnOnce()) {
    // SAFETY: the path is a C string.
    let nowhere = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY) };
    // SAFETY: descriptors of this process; a number that is not one is refused.
    let before = unsafe { libc::dup(2) };
    let put = |to: c_int| {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::dup2(to, 2) }, 2);
        // SAFETY: as above.
        unsafe { libc::close(to) };
    };
    put(nowhere);
    call();
    put(before);
}

/// The program of these tests has no bugs that the library would report.
extern "C" fn nothing_is_wrong() {}

extern "C" fn run_errand(errand: *mut c_void) -> *mut c_void {
    // SAFETY: the thread that began this one waits, and does not touch the errand.
    let errand = unsafe { &mut *errand.cast::<Errand>() };
    for _ in 0..40 {
        let Some(block) = errand.freed.pop() else { break };
        Script::release(block);
    }
    have_some(errand);
    // SAFETY: the key was made.
    unsafe { libc::pthread_setspecific(errand.key, ptr::from_mut(errand).cast()) };
    ptr::null_mut()
}

unsafe extern "C" fn end_errand(errand: *mut c_void) {
    run_last(errand);
}

fn run_last(errand: *mut c_void) {
    // SAFETY: the thread that began this one still waits.
    have_some(unsafe { &mut *errand.cast::<Errand>() });
}

/// Uses all sizes, and leaves some of the blocks to others.
fn have_some(errand: &mut Errand) {
    let mut script = Script { blocks: Vec::new(), kernel: errand.kernel, seeds: 50_000 + errand.had.len() };
    script.of_all_sizes();
    script.release_some(2);
    script.look();
    errand.had.append(&mut script.blocks);
}

fn set_alarm() {
    // SAFETY: no preconditions; without a handler the signal ends the process.
    unsafe { libc::alarm(120) };
}

fn exit(status: c_int) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(status) }
}

/// Waits for a child, which has to end well.
#[track_caller]
fn wait_for(child: c_int) {
    let mut status = -1;
    // SAFETY: the status is valid for a write.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(!libc::WIFSIGNALED(status), "the process was ended by signal {}", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "the process failed");
}

/// Set in the process that is to run the script.
const ROLE: &str = "ROLE_IN_TEST";

/// Runs the script once for each call, refusing that one and `further` ones after it. In a process of its own: this test program
/// started again for the one test that it is in, with one thread, so that the children that it forks find no lock held.
#[track_caller]
fn refuse_each(test: &str, further: usize, place: Place) {
    if std::env::var(ROLE).is_ok() {
        let seen: Vec<_> = (0..KINDS.len()).map(|kind| refuse_each_here(kind, further, place)).collect();
        for ((name, _), count) in KINDS.iter().zip(&seen) {
            assert!(*count > 0, "no call of {name} was refused: {seen:?}");
        }
        return;
    }
    run_alone(test, &[]);
}

/// Runs a test of this program once more, by itself, as the process that the script runs in.
#[track_caller]
fn run_alone(test: &str, environment: &[(&str, &str)]) {
    let mut again = common::program(&std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, "script");
    again.envs(environment.iter().copied());
    let output = common::run_within(&mut again, Duration::from_secs(1200));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{said}");
}

/// When that many runs in a row had no call of a kind left to refuse, the last of that kind was found. How many there are depends on
/// how long the runs take: a purge is due or not.
const RUNS_BEYOND_THE_LAST: usize = 3;

/// Says how many calls of a kind were the first to be refused.
#[track_caller]
fn refuse_each_here(kind: usize, further: usize, place: Place) -> usize {
    // SAFETY: a fresh mapping, which is shared with children.
    let shared = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<Kernel>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(shared, libc::MAP_FAILED);
    KERNEL.store(shared.cast(), Ordering::Relaxed);
    let kernel = kernel().expect("it was just made");
    kernel.place.store(place as u32, Ordering::Relaxed);
    kernel.wanted.store(further.saturating_add(1), Ordering::Relaxed);
    let (mut nth, mut seen, mut beyond) = (0, 0, 0);
    while beyond < RUNS_BEYOND_THE_LAST {
        if refuse_one(kernel, kind, nth) {
            (seen, beyond) = (seen + 1, 0);
        } else {
            beyond += 1;
        }
        nth += 1;
    }
    KERNEL.store(ptr::null_mut(), Ordering::Relaxed);
    seen
}

/// Runs the script in a process of its own, where that call is the first to be refused. Says whether there was one.
#[track_caller]
fn refuse_one(kernel: &'static Kernel, kind: usize, nth: usize) -> bool {
    kernel.kind.store(kind, Ordering::Relaxed);
    kernel.nth.store(nth, Ordering::Relaxed);
    for counter in kernel.calls.iter().chain([&kernel.refusals, &kernel.held, &kernel.left]) {
        counter.store(0, Ordering::Relaxed);
    }
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        panic::set_hook(Box::new(|what| {
            eprintln!("{what}");
            exit(1);
        }));
        set_alarm();
        COUNTED.store(std::process::id(), Ordering::Relaxed);
        Script { blocks: Vec::new(), kernel, seeds: 0 }.run();
        check_others();
        exit(0);
    }
    let mut status = -1;
    // SAFETY: the status is valid for a write.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    let (name, _) = KINDS[kind];
    assert_eq!(status, 0, "{name} was refused after {nth} calls of it: the process ended with {status:#x}");
    kernel.refusals.load(Ordering::Relaxed) > 0
}

#[test]
fn each_call_may_fail_once() {
    refuse_each("each_call_may_fail_once", 0, Place::Cleared);
}

#[test]
fn three_calls_in_a_row_may_fail() {
    refuse_each("three_calls_in_a_row_may_fail", 2, Place::Untouched);
}

#[test]
fn from_each_call_on_all_may_fail_for_a_while() {
    refuse_each("from_each_call_on_all_may_fail_for_a_while", usize::MAX, Place::Untouched);
}

/// The addresses that pages were to be moved to may be another's by then: those are left alone, and nothing else is lost.
#[test]
fn a_place_that_pages_were_to_be_moved_to_may_become_another_s() {
    if std::env::var(ROLE).is_err() {
        // All memory is mapped, so that the kernel's books and the statistics agree more closely.
        let environment = [("TERRACE_SOURCE", "mmap")];
        return run_alone("a_place_that_pages_were_to_be_moved_to_may_become_another_s", &environment);
    }
    let mremap = KINDS.iter().position(|(name, _)| *name == "mremap").expect("it is one of them");
    for place in [Place::Cleared, Place::Taken, Place::TakenWithoutMemory] {
        assert!(refuse_each_here(mremap, 0, place) > 3, "hardly any pages were moved");
    }
}
