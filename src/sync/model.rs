//! What stands in for atomics, cells and memory while a model runs (`cfg(loom)` only).
//!
//! Loom's atomics and cells have to be made by a call, inside the execution that uses them. The allocator's lie in statics and
//! in memory that reads as zero: nobody makes them. So here an atomic is only a place with the value that it begins with, and
//! the loom object that stands for it is found by its address:
//!
//! ```text
//!  AtomicU32 at 0x…40 ──▶ objects[0x…40] ──▶ one of loom's atomics, from a pool that the main thread made before
//!  initial value 7                            the others began; it holds value − 7, and so began at zero
//! ```
//!
//! That is how the kernel's zeroes and a program's statics behave: they are there before any thread is. It also puts every
//! static back to its first value when an execution ends, lets `const fn new` stay, and leaves the code that ships unchanged.
//! Cells, what a lock guards, and the words in free blocks stay where they are; each access is reported, by its address, to a
//! cell of loom's that knows which accesses happened before, so that a race in raw memory is found as one in `loom::cell` is.
//!
//! All operations note the place in the source that made them. That is what lets one run weaken the ordering of one
//! operation, and lets the runner list which model reached which atomic.
//!
//! The words whose orders of accesses matter are those that some thread writes while others run. Which those are a first, short
//! round finds out; loads of others need no exchange (see [`Loads`]), since no order of theirs makes a difference. A round that
//! finds one more is made again.
//!
//! With `cfg(shuttle)` as well, shuttle takes loom's place: schedules at random, no orderings, no races.

use super::orders::{self, Access, Fact};
use core::cell::Cell as Plain;
use core::panic::Location;
use core::ptr;
pub use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::vec::Vec;

mod atomics;

pub(crate) use atomics::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

#[cfg(not(shuttle))]
use loom::thread as engine;
#[cfg(shuttle)]
use shuttle::thread as engine;

#[cfg(not(shuttle))]
use loom::sync::{Condvar, MutexGuard};
#[cfg(not(shuttle))]
pub(super) use loom::sync::{Mutex, atomic::AtomicUsize as Word};
#[cfg(shuttle)]
use shuttle::sync::{Condvar, MutexGuard};
#[cfg(shuttle)]
pub(super) use shuttle::sync::{Mutex, atomic::AtomicUsize as Word};

/// The right to a lock of the engine's.
pub(super) type Guard<'a> = MutexGuard<'a, ()>;

#[cfg(not(shuttle))]
type Tracker = loom::cell::UnsafeCell<()>;

/// How loads are made. Loom tries both orders of two accesses only if the later one found is not a plain load: it leaves out
/// schedules in which a load comes before the store that it conflicts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loads {
    /// As they are.
    #[default]
    Plain,
    /// As compare-exchanges that change nothing: all orders are tried, but none of these loads sees a stale value.
    Exchanges,
    /// As they are, each access of an atomic being led by a compare-exchange of a word beside it: all orders are tried, and loads
    /// see what is stale.
    Led,
}

/// How the atomics behave during a check.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// How loads are made.
    pub loads: Loads,
    /// Whether locks are wholes; see `whole_locks.rs`.
    pub whole_locks: bool,
    /// The operation that is weakened, if one is.
    pub weakened: Option<Weakened>,
    /// Whether the threads of a model begin and end one at a time.
    pub in_phases: bool,
    /// The seeded bug that is switched on, if one is, in a copy of the sources that has them.
    pub bug: std::string::String,
}

/// Whether a seeded bug is switched on. The sources that ship ask for none.
pub fn bug(name: &str) -> bool {
    BEHAVIOUR.with_borrow(|behaviour| behaviour.bug == name)
}

/// One ordering of one operation, and what takes its place.
#[derive(Clone, Debug)]
pub struct Weakened {
    /// The file that has the operation, from the root of the repository.
    pub file: std::string::String,
    /// The line of the operation's name.
    pub line: u32,
    /// 0, or 1 for the ordering of a failed compare-exchange.
    pub argument: usize,
    /// The ordering that is used instead.
    pub ordering: Ordering,
}

/// An operation in the source: file, line, number of the ordering argument, and that ordering.
pub type Site = (&'static str, u32, usize, &'static str);

#[derive(Default)]
struct Execution {
    atomics: BTreeMap<usize, Rc<Word>>,
    /// The words that lead the accesses of those, by address and reader.
    leaders: BTreeMap<(usize, usize), Rc<Word>>,
    /// What each thread added to a sum that nobody reads meanwhile.
    parts: BTreeMap<(usize, usize), Rc<Word>>,
    /// The words whose accesses have one order anyway.
    plain: BTreeMap<usize, usize>,
    spare_atomics: Vec<Rc<Word>>,
    #[cfg(not(shuttle))]
    cells: BTreeMap<usize, Rc<Tracker>>,
    #[cfg(not(shuttle))]
    spare_cells: Vec<Rc<Tracker>>,
    sleepers: BTreeMap<usize, Arc<Bucket>>,
    spare_buckets: Vec<Arc<Bucket>>,
    /// The threads' numbers, from 1, in the order in which they were begun.
    threads: HashMap<engine::ThreadId, usize>,
    /// Threads that were begun and not joined.
    running: usize,
    /// Where what [`keep`] holds begins and ends: other executions have something else there.
    kept_at: Vec<(usize, usize)>,
    /// What the models made with [`keep`].
    kept: Vec<Box<dyn core::any::Any>>,
}

struct Bucket {
    lock: Mutex<()>,
    woken: Condvar,
}

/// How many objects of each kind a pool has; of the first two, until the first execution has shown how many are needed.
/// A crowd can come to sleep at many more locks in one execution than the few threads of loom's models.
const ATOMICS: usize = 400;
const CELLS: usize = 4000;
const BUCKETS: usize = if cfg!(shuttle) { 64 } else { 12 };

std::thread_local! {
    static EXECUTION: RefCell<Execution> = RefCell::default();
    static BEHAVIOUR: RefCell<Behaviour> = RefCell::default();
    static SITES: RefCell<HashMap<(usize, usize), (Site, u64)>> = RefCell::default();
    /// How often a lock that is held is looked at before its thread sleeps.
    static SPINS: Plain<u32> = const { Plain::new(0) };
    /// Executions of this round so far, those of the last one, and the most objects that one of them used.
    static COUNT: Plain<usize> = const { Plain::new(0) };
    static LAST_COUNT: Plain<usize> = const { Plain::new(0) };
    static MOST: Plain<(usize, usize)> = const { Plain::new((ATOMICS, CELLS)) };
    /// How often the pools were doubled.
    static ENLARGED: Plain<u32> = const { Plain::new(0) };
}

/// Chooses how the atomics behave from now on, and forgets what was counted.
pub fn set_behaviour(behaviour: Behaviour) {
    BEHAVIOUR.set(behaviour);
    SITES.take();
    orders::forget();
    COUNT.set(0);
    MOST.set((ATOMICS, CELLS));
}

/// Begins a round: what the last one found out counts from now on. `false` if that is nothing.
pub fn next_round() -> bool {
    let more = orders::learn();
    LAST_COUNT.set(COUNT.replace(0));
    enlarge_pools(ENLARGED.get());
    more
}

/// Has locks that are held looked at so often before their thread sleeps, until the execution ends.
pub(crate) fn set_spins(spins: u32) {
    SPINS.set(spins);
}

pub(crate) fn spins() -> u32 {
    SPINS.get()
}

/// Makes all pools larger by a power of two.
pub fn enlarge_pools(times: u32) {
    ENLARGED.set(times);
    MOST.set((ATOMICS << times, CELLS << times));
}

/// How often the pools were doubled.
pub(super) fn enlarged() -> u32 {
    ENLARGED.get()
}

/// Whether the threads of a model begin and end one at a time.
pub(crate) fn is_in_phases() -> bool {
    BEHAVIOUR.with_borrow(|behaviour| behaviour.in_phases)
}

pub(super) fn locks_are_whole() -> bool {
    BEHAVIOUR.with_borrow(|behaviour| behaviour.whole_locks)
}

pub(super) fn used_up(pool: &str) -> ! {
    panic!("the pool of {pool} is too small for this model");
}

/// How many executions the last round had.
pub fn executions() -> usize {
    LAST_COUNT.get()
}

/// The operations that were reached since the behaviour was set, and how often.
pub fn sites() -> Vec<(Site, u64)> {
    SITES.with_borrow(|sites| sites.values().copied().collect())
}

/// Begins an execution: called by the main thread before it makes others.
pub(crate) fn begin() {
    let (atomics, cells) = MOST.get();
    let execution = Execution {
        spare_atomics: (0..atomics).map(|_| Rc::new(Word::new(0))).collect(),
        #[cfg(not(shuttle))]
        spare_cells: (0..cells).map(|_| Rc::new(Tracker::new(()))).collect(),
        spare_buckets: (0..BUCKETS).map(|_| Arc::new(Bucket { lock: Mutex::new(()), woken: Condvar::new() })).collect(),
        ..Execution::default()
    };
    let _ = cells;
    drop(EXECUTION.replace(execution));
    super::whole_locks::begin();
    orders::begin();
    let _ = thread_number();
    SPINS.set(0);
    COUNT.set(COUNT.get() + 1);
}

/// Ends an execution: what it used is given up while loom still knows it.
pub(crate) fn end() {
    super::whole_locks::end();
    let execution = EXECUTION.take();
    #[cfg(not(shuttle))]
    if COUNT.get() == 1 {
        // Other schedules may use some more.
        let with_reserve = |used: usize| (used + used / 2 + 16) << ENLARGED.get();
        MOST.set((
            with_reserve(execution.atomics.len() + execution.leaders.len() + execution.parts.len()),
            with_reserve(execution.cells.len()),
        ));
    }
    drop(execution);
}

/// Keeps a value until the execution ends, so that no other takes its address.
pub fn keep<T: 'static>(value: T) -> &'static T {
    let kept = Box::new(value);
    let address = ptr::from_ref(&*kept);
    EXECUTION.with_borrow_mut(|execution| {
        execution.kept_at.push((address.addr(), address.addr() + size_of::<T>()));
        execution.kept.push(kept);
    });
    // SAFETY: the box is dropped when the execution ends, after its threads.
    unsafe { &*address }
}

/// The number of the calling thread.
pub(crate) fn thread_number() -> usize {
    number_of(engine::current().id())
}

fn number_of(id: engine::ThreadId) -> usize {
    EXECUTION.with_borrow_mut(|execution| {
        let next = execution.threads.len() + 1;
        *execution.threads.entry(id).or_insert(next)
    })
}

/// A value that nothing here ever stores, so that an exchange for it fails, and only reads.
const NEVER: usize = 0x5EED_5EED_5EED_5EED;

/// Threads of a model.
pub mod thread {
    use super::{EXECUTION, engine, number_of};
    pub use engine::yield_now;
    #[cfg(not(shuttle))]
    pub use loom::sync::mpsc;
    #[cfg(shuttle)]
    pub use shuttle::sync::mpsc;

    /// The right to wait for a thread's end.
    pub struct JoinHandle<T>(engine::JoinHandle<T>);

    /// Begins a thread.
    pub fn spawn<T: 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T>
    where
        T: Send,
    {
        EXECUTION.with_borrow_mut(|execution| execution.running += 1);
        let thread = engine::spawn(body);
        number_of(thread.thread().id());
        JoinHandle(thread)
    }

    impl<T> JoinHandle<T> {
        /// Waits for the thread's end.
        pub fn join(self) -> std::thread::Result<T> {
            let result = self.0.join();
            EXECUTION.with_borrow_mut(|execution| execution.running -= 1);
            result
        }
    }
}

pub(super) fn is_kept(address: usize) -> bool {
    EXECUTION.with_borrow(|execution| execution.kept_at.iter().any(|&(start, end)| (start..end).contains(&address)))
}

/// Whether several threads run.
pub(super) fn several_run() -> bool {
    EXECUTION.with_borrow(|execution| execution.running > 0)
}

/// A compare-exchange that changes nothing, but has its place among all accesses of the word.
pub(super) fn exchange_nothing(word: &Word) {
    let _ = word.compare_exchange(NEVER, NEVER, Ordering::Relaxed, Ordering::Relaxed);
}

/// Makes the exchanges that lead an access: each reader of a word has one of its own, so that two loads have no order; who writes
/// passes by those of all other readers. Whether there was one.
fn lead(address: usize, access: Access) -> bool {
    if loads() != Loads::Led {
        return false;
    }
    let own = thread_number();
    if access == Access::Read {
        orders::note(Fact::ReadBy(address, own));
    }
    if !orders::is_contested(address) {
        return false;
    }
    let readers: Vec<usize> = match access {
        // Its address is another's in other executions: all that use it have one order.
        _ if is_kept(address) => std::vec![0],
        Access::Read => std::vec![own],
        Access::Written => orders::readers(address).filter(|&thread| thread != own).collect(),
    };
    for &reader in &readers {
        let leader = EXECUTION.with_borrow_mut(|execution| {
            let Execution { leaders, spare_atomics, .. } = execution;
            let made = || spare_atomics.pop().unwrap_or_else(|| used_up("atomics"));
            Rc::clone(leaders.entry((address, reader)).or_insert_with(made))
        });
        exchange_nothing(&leader);
    }
    !readers.is_empty()
}

fn atomic_at(address: usize) -> Rc<Word> {
    super::super::os::kernel::check_mapped(address);
    EXECUTION.with_borrow_mut(|execution| {
        let Execution { atomics, spare_atomics, .. } = execution;
        let made = || spare_atomics.pop().unwrap_or_else(|| used_up("atomics"));
        Rc::clone(atomics.entry(address).or_insert_with(made))
    })
}

/// What the calling thread added to a sum.
fn part_of(address: usize) -> Rc<Word> {
    super::super::os::kernel::check_mapped(address);
    let own = thread_number();
    EXECUTION.with_borrow_mut(|execution| {
        let Execution { parts, spare_atomics, .. } = execution;
        let made = || spare_atomics.pop().unwrap_or_else(|| used_up("atomics"));
        Rc::clone(parts.entry((address, own)).or_insert_with(made))
    })
}

fn sum_of_parts(address: usize) -> usize {
    let parts: Vec<_> = EXECUTION.with_borrow(|execution| {
        execution.parts.range((address, 0)..=(address, usize::MAX)).map(|(_, part)| Rc::clone(part)).collect()
    });
    parts.iter().fold(0, |sum, part| sum.wrapping_add(part.load(Ordering::Relaxed)))
}

/// Makes a write. If it was led, its order among the others is settled: loom need not try again.
fn write<T>(was_led: bool, write: impl FnOnce() -> T) -> T {
    #[cfg(not(shuttle))]
    if was_led {
        loom::stop_exploring();
        let result = write();
        loom::explore();
        return result;
    }
    let _ = was_led;
    write()
}

/// Makes an operation of a word whose accesses have one order anyway: on a value that no schedule hangs on. It is the difference
/// from the first value, as everywhere. `None` where the accesses have to be ordered.
fn plainly<T>(address: usize, access: Access, operation: impl FnOnce(&mut usize) -> T) -> Option<T> {
    if !locks_are_whole() || is_kept(address) || !orders::is_ordered_anyway(address, access) {
        return None;
    }
    super::super::os::kernel::check_mapped(address);
    EXECUTION.with_borrow_mut(|execution| Some(operation(execution.plain.entry(address).or_default())))
}

#[cfg(not(shuttle))]
fn tracker_at(address: usize) -> Rc<Tracker> {
    super::super::os::kernel::check_mapped(address);
    EXECUTION.with_borrow_mut(|execution| {
        let Execution { cells, spare_cells, .. } = execution;
        let made = || spare_cells.pop().unwrap_or_else(|| used_up("cells"));
        Rc::clone(cells.entry(address).or_insert_with(made))
    })
}

/// Reports that the calling thread reads plain memory.
#[track_caller]
pub fn track_read<T>(place: *const T) {
    let _ = place;
    #[cfg(not(shuttle))]
    if !std::thread::panicking() && !orders::is_void() {
        tracker_at(place.addr()).with(|_| ());
    }
}

/// Reports that the calling thread writes plain memory.
#[track_caller]
pub fn track_write<T>(place: *const T) {
    let _ = place;
    #[cfg(not(shuttle))]
    if !std::thread::panicking() && !orders::is_void() {
        tracker_at(place.addr()).with_mut(|_| ());
    }
}

/// The kernel clears memory: whoever touched it before must have done so before this.
pub(crate) fn track_clear(start: usize, len: usize, gone: bool) {
    let _ = (start, len, gone);
    #[cfg(not(shuttle))]
    if !orders::is_void() {
        let range = start..start + len;
        let touched: Vec<_> = EXECUTION
            .with_borrow(|execution| execution.cells.range(range.clone()).map(|(_, cell)| Rc::clone(cell)).collect());
        touched.iter().for_each(|cell| cell.with_mut(|_| ()));
    }
    if gone {
        EXECUTION.with_borrow_mut(|execution| {
            execution.plain.retain(|address, _| !(start..start + len).contains(address));
            execution.atomics.retain(|address, _| !(start..start + len).contains(address));
            execution.leaders.retain(|(address, _), _| !(start..start + len).contains(address));
            #[cfg(not(shuttle))]
            execution.cells.retain(|address, _| !(start..start + len).contains(address));
        });
    }
}

fn bucket(address: usize) -> Arc<Bucket> {
    EXECUTION.with_borrow_mut(|execution| {
        let Execution { sleepers, spare_buckets, .. } = execution;
        let made = || spare_buckets.pop().unwrap_or_else(|| used_up("futexes"));
        Arc::clone(sleepers.entry(address).or_insert_with(made))
    })
}

/// The kernel compares the word under its own lock, which every waker takes as well; a thread that is never woken is a
/// deadlock, which loom reports.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32) {
    let bucket = bucket(word.address());
    let guard = bucket.lock.lock().unwrap();
    if word.peek() == expected {
        drop(bucket.woken.wait(guard).unwrap());
    }
}

pub(crate) fn futex_wake_one(word: &AtomicU32) {
    let bucket = bucket(word.address());
    let _guard = bucket.lock.lock().unwrap();
    bucket.woken.notify_one();
}

fn name_of(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::Relaxed => "Relaxed",
        Ordering::Acquire => "Acquire",
        Ordering::Release => "Release",
        Ordering::AcqRel => "AcqRel",
        _ => "SeqCst",
    }
}

/// Notes the operation, and says which ordering it is to be made with.
fn ordering_at(at: &'static Location<'static>, argument: usize, ordering: Ordering) -> Ordering {
    SITES.with_borrow_mut(|sites| {
        let new = || ((at.file(), at.line(), argument, name_of(ordering)), 0);
        sites.entry((ptr::from_ref(at).addr(), argument)).or_insert_with(new).1 += 1;
    });
    BEHAVIOUR.with_borrow(|behaviour| match &behaviour.weakened {
        Some(weakened)
            if weakened.line == at.line() && weakened.argument == argument && at.file().ends_with(&*weakened.file) =>
        {
            weakened.ordering
        }
        _ => ordering,
    })
}

fn loads() -> Loads {
    BEHAVIOUR.with_borrow(|behaviour| behaviour.loads)
}

/// A cell whose accesses are reported.
#[derive(Default)]
pub(crate) struct Cell<T>(Plain<T>);

impl<T> Cell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Plain::new(value))
    }

    #[track_caller]
    pub(crate) fn get(&self) -> T
    where
        T: Copy,
    {
        track_read(self);
        self.0.get()
    }

    #[track_caller]
    pub(crate) fn set(&self, value: T) {
        self.replace(value);
    }

    #[track_caller]
    pub(crate) fn replace(&self, value: T) -> T {
        track_write(self);
        self.0.replace(value)
    }

    #[track_caller]
    pub(crate) fn take(&self) -> T
    where
        T: Default,
    {
        self.replace(T::default())
    }
}
