//! The purger: a thread in the background that returns memory when no other thread comes round to do it. An option.
//!
//! | state | meaning | who may change it |
//! |---|---|---|
//! | 0 `NONE` | there is no purger | a thread that finds one wanted, to `STARTING` (compare-and-swap) |
//! | 1 `STARTING` | that thread makes it | that thread, to `BUSY` or back (`Release`: the handle is there) |
//! | 2 `BUSY` | there may be something to return: it works, or sleeps until that is due | itself, to `ASLEEP`; whoever ends it, to `STOPPING` |
//! | 3 `ASLEEP` | it saw nothing to return, and sleeps until it is woken | whoever puts something there, to `BUSY`; itself, likewise; whoever ends it, to `STOPPING` |
//! | 4 `STOPPING` | it has to end | itself, to `STOPPED` |
//! | 5 `STOPPED` | it touches nothing any more and is about to return | whoever ended it, to `NONE`, once it has returned |
//! | 6 `OVER` | the process exits: no purger any more | nobody |
//!
//! A child of `fork` begins at `NONE`.
//!
//! No wake-up is lost: what decays is put in its place under a lock, and `note` looks at the state afterwards. The purger says
//! that it is asleep first, and then looks once more at all the places, under the same locks. If it does not see what was put,
//! its look came before, and the lock hands its word on to whoever put it. So `Relaxed` is enough for both. Chains that threads send
//! each other are put under no lock; whoever sends one passes through the gate, in which the purger says that it is asleep.
//!
//! It does not count for the program. It blocks every signal, has no cache, and ends when no thread has a cache any more:
//! else the C library would wait for it after the last thread of the program. It is never started by a thread without a cache,
//! by one that is forking, or in a process that came from `vfork` and shares its parent's memory.

use super::slot::{self, DEAD};
use super::{CACHES, lifecycle};
use crate::arena::{ARENAS, PAGE};
use crate::history;
use crate::large::LARGE;
use crate::options::OPTIONS;
use crate::os;
use crate::os::valgrind::Unreported;
use crate::size_class::SizeClass;
use crate::sync::{AtomicU32, AtomicUsize, Mutex, Ordering, is_forking};
use core::ffi::c_void;

const NONE: u32 = 0;
const STARTING: u32 = 1;
const BUSY: u32 = 2;
const ASLEEP: u32 = 3;
const STOPPING: u32 = 4;
const STOPPED: u32 = 5;
const OVER: u32 = 6;

/// Its stack, in bytes, of which it touches a few pages.
const STACK: usize = 64 << 10;
/// How long whoever ends it waits for its last word, in milliseconds: it may wait for a lock whose holder never goes on, since
/// it is being exited from a signal's handler.
const PATIENCE_MS: u32 = 2000;
/// It looks this often in a purge delay, and not more often than every so many milliseconds.
const LOOKS_IN_DELAY: u32 = 4;
const LEAST_MS: u32 = 25;

/// The purger of this process.
pub(crate) static PURGER: Purger = Purger::new();

pub(crate) struct Purger {
    state: AtomicU32,
    /// The thread's handle. Written by the thread that starts it, before `BUSY`; read by whoever ends it.
    thread: AtomicUsize,
    /// Held while the purger says that it sleeps; see `note_sent`. The lowest of all locks.
    gate: Mutex<()>,
    /// The process that the state is about. Written before a second thread can be there, read by any thread: `Relaxed`.
    process: AtomicU32,
}

impl Purger {
    pub(crate) const fn new() -> Self {
        Self {
            state: AtomicU32::new(NONE),
            thread: AtomicUsize::new(0),
            gate: Mutex::new(()),
            process: AtomicU32::new(0),
        }
    }

    /// Remembers the process: when the allocator is initialised, and in a child of `fork`, which has no purger.
    pub(super) fn begin_process(&self) {
        self.process.store(os::process_id() as u32, Ordering::Relaxed);
        self.gate.renew_in_child();
        self.state.store(NONE, Ordering::Relaxed);
    }

    /// Says that something was put where it decays. May be called with locks held.
    #[inline]
    pub(crate) fn note(&self) {
        if self.state.load(Ordering::Relaxed) == ASLEEP {
            self.wake();
        }
    }

    /// As `note`, of a chain that was sent, which is put in its place under no lock: the one that is taken here stands in for it.
    #[inline]
    pub(crate) fn note_sent(&self) {
        if OPTIONS.background() {
            drop(self.gate.lock());
            self.note();
        }
    }

    #[cold]
    fn wake(&self) {
        if self.state.compare_exchange(ASLEEP, BUSY, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            os::futex_wake_one(&self.state);
        }
    }

    /// Has it look at once, on account of a new purge delay.
    pub(crate) fn look_again(&self) {
        self.wake();
        os::futex_wake_one(&self.state);
    }

    /// Starts it, if it is wanted and not there. Must not be called with a lock held, since the C library calls `malloc`.
    #[inline]
    pub(crate) fn start_if_wanted(&self) {
        if self.state.load(Ordering::Relaxed) == NONE && OPTIONS.background() {
            self.start();
        }
    }

    #[cold]
    fn start(&self) {
        let is_own_process = self.process.load(Ordering::Relaxed) == os::process_id() as u32;
        if lifecycle::own().is_none()
            || is_forking()
            || !is_own_process
            || self.state.compare_exchange(NONE, STARTING, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let thread = os::start_thread(body, STACK);
        if let Some(thread) = thread {
            self.thread.store(thread, Ordering::Relaxed);
        }
        // Without a thread it is tried again after a while, when the clock is looked at next.
        let next = if thread.is_some() { BUSY } else { NONE };
        if self.state.compare_exchange(STARTING, next, Ordering::Release, Ordering::Relaxed).is_ok() {
            os::futex_wake_one(&self.state);
        }
    }

    /// Has it ended when the process exits, or the library is unloaded, if the options ask for one: after all functions that the
    /// program registers, should it not come to register its end itself. May allocate.
    pub(crate) fn prepare_exit(&self) {
        /// 1 once the function is registered. `Relaxed`, as in `register_end`.
        static PREPARED: AtomicU32 = AtomicU32::new(0);
        if OPTIONS.background() {
            register_end(&PREPARED);
        }
    }

    fn run(&self) {
        loop {
            match self.state.load(Ordering::Relaxed) {
                BUSY if return_what_is_due() => {
                    let interval = (OPTIONS.purge_delay_ms() / LOOKS_IN_DELAY).max(LEAST_MS);
                    os::futex_wait_for(&self.state, BUSY, interval);
                }
                BUSY => self.fall_asleep(),
                state @ (STARTING | ASLEEP) => os::futex_wait(&self.state, state),
                _ => break,
            }
        }
        self.state.store(STOPPED, Ordering::Relaxed);
        os::futex_wake_one(&self.state);
    }

    fn fall_asleep(&self) {
        let asleep = {
            let _gate = self.gate.lock();
            self.state.compare_exchange(BUSY, ASLEEP, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if asleep && is_something_left() {
            let _ = self.state.compare_exchange(ASLEEP, BUSY, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Ends it, and waits until it has returned. It may be started again.
    pub(crate) fn end(&self) {
        if self.process.load(Ordering::Relaxed) != os::process_id() as u32 {
            // A copy that no handler of `fork` knew of.
            return;
        }
        for running in [BUSY, ASLEEP, BUSY] {
            // `Acquire`: the handle was written before the state became BUSY.
            if self.state.compare_exchange(running, STOPPING, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return self.await_end();
            }
        }
    }

    fn await_end(&self) {
        os::futex_wake_one(&self.state);
        let begun = os::clock_ms();
        while self.state.load(Ordering::Relaxed) == STOPPING {
            let waited = os::clock_ms().saturating_sub(begun) as u32;
            if waited >= PATIENCE_MS {
                return;
            }
            os::futex_wait_for(&self.state, STOPPING, PATIENCE_MS - waited);
        }
        os::join_thread(self.thread.load(Ordering::Relaxed));
        self.state.store(NONE, Ordering::Relaxed);
    }

    /// Ends it for good, at the process's exit.
    pub(crate) fn end_for_good(&self) {
        self.end();
        // While it is being started by another thread it is left alone; the kernel ends it.
        let _ = self.state.compare_exchange(NONE, OVER, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether there is none.
    #[cfg(loom)]
    pub(crate) fn is_none(&self) -> bool {
        self.state.load(Ordering::Relaxed) == NONE
    }
}

extern "C" fn body(_: *mut c_void) -> *mut c_void {
    /// As in `prepare_exit`.
    static REGISTERED: AtomicU32 = AtomicU32::new(0);
    slot::set(&DEAD);
    // By this thread: the one that started it may be on a slow path of a `calloc` that the C library calls with the lock held that
    // this waits for. So it has ended when functions run that the program registered before.
    register_end(&REGISTERED);
    os::name_thread(c"terrace-purger");
    PURGER.run();
    core::ptr::null_mut()
}

/// Has the purger ended when the process exits, or the library is unloaded, once for each flag: 1 once the function is registered,
/// written and read by any thread; `Relaxed`, since it only keeps the second one away.
fn register_end(registered: &AtomicU32) {
    extern "C" fn at_exit() {
        PURGER.end_for_good();
    }
    if registered.swap(1, Ordering::Relaxed) == 0 {
        // Where there is no memory to remember the function, the kernel ends the thread.
        let _ = os::on_exit(at_exit);
    }
}

/// Returns what is due of idle caches, arenas, and kept mappings; whether there is something that will be due.
fn return_what_is_due() -> bool {
    /// What it looks through of a cache, and returns of an arena, before others have their turn; see `settling`.
    const BUDGET: usize = 1 << 18;
    let (now, delay) = (os::clock_ms(), OPTIONS.purge_delay_ms());
    let _unreported = Unreported::begin();
    let has_warm = CACHES.has_warm();
    let mut from_slabs = 0;
    for cache in CACHES.iter().filter(|cache| cache.is_idle(now)) {
        if has_warm {
            cache.cool(SizeClass::all());
        }
        from_slabs += cache.keep_house_of_idle(now, delay, BUDGET);
    }
    let from_arenas = ARENAS.purge_keeping(OPTIONS.kept_pages(), delay, BUDGET, false);
    history::record_purge((from_slabs + from_arenas) * PAGE + LARGE.purge(delay));
    ARENAS.gather_huge_pages();
    is_something_left()
}

fn is_something_left() -> bool {
    CACHES.has_warm()
        || CACHES.iter().any(|cache| cache.has_something_to_return())
        || ARENAS.has_something_to_return(OPTIONS.kept_pages())
        || LARGE.totals().2 > 0
}
