//! The kernel and the C library as the models know them (`cfg(loom)` only): what this module does not define is the real
//! `libc`'s.
//!
//! Address space is a range that is reserved once, the break at its lower end, mappings above it, lowest place first; all of it
//! reads as zero when an execution begins. Each call that moves the books is one step that conflicts with every other, and
//! orders nothing else. Returning or clearing memory counts as a write to all of it, so that whoever still uses it has a race;
//! touching what is not mapped ends the model.

use crate::sync::model::{self, Ordering, thread};
pub(crate) use crate::sync::model::{futex_wait, futex_wake_one};
use core::ffi::c_void;
use core::ptr;
pub(crate) use libc::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::vec::Vec;

/// The reserved range, in bytes, and how much of it the break may take.
const SPACE: usize = 512 << 20;
const BREAK: usize = 64 << 20;
const PAGE: usize = 4096;

/// Where the range lies, if the program has nothing there: what is computed of addresses is then the same each time.
const PLACE: usize = 0x2000_0000_0000;

/// Short ranges are cleared by hand, longer ones by the real kernel.
const SHORT: usize = 64 << 10;

type Destructor = unsafe extern "C" fn(*mut c_void);
type Handler = extern "C" fn();

#[derive(Default)]
struct Kernel {
    /// Mapped ranges: where each begins and ends.
    mapped: BTreeMap<usize, usize>,
    /// How far the break is from the space's start.
    brk: usize,
    keys: Vec<Option<Destructor>>,
    values: HashMap<(usize, usize), usize>,
    slots: HashMap<usize, usize>,
    fork_handlers: Vec<(Handler, Handler, Handler)>,
    clock_ms: u64,
    /// How many of the next calls of `mmap`, `mremap` and `sbrk` are refused.
    refusals: usize,
    /// Threads that the allocator started, until they are joined.
    started: Vec<Option<thread::JoinHandle<()>>>,
    /// What runs inside calls of the C library that may call `malloc`.
    calls_back: Option<fn()>,
}

std::thread_local! {
    static KERNEL: RefCell<Kernel> = RefCell::default();
    static START: Cell<usize> = const { Cell::new(0) };
    /// Ranges that the last execution may have written.
    static USED: RefCell<Vec<(usize, usize)>> = RefCell::default();
}

/// Every step that moves the books is a read-modify-write of this.
static BOOKS: crate::sync::AtomicUsize = crate::sync::AtomicUsize::new(0);

fn space() -> usize {
    if START.get() == 0 {
        let align = 64 << 20;
        // SAFETY: a fresh mapping.
        let start = unsafe {
            libc::mmap(
                at(PLACE),
                SPACE + align,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert!(start != MAP_FAILED, "no address space for the models");
        START.set(start.expose_provenance().next_multiple_of(align));
    }
    START.get()
}

fn at(address: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(address)
}

fn clear(start: usize, len: usize) {
    let by_hand = |start, len| {
        // SAFETY: inside the reserved space, in nobody's use.
        unsafe { at(start).cast::<u8>().write_bytes(0, len) };
    };
    if len <= SHORT {
        return by_hand(start, len);
    }
    let (first, last) = (start.next_multiple_of(PAGE), (start + len) / PAGE * PAGE);
    by_hand(start, first - start);
    by_hand(last, start + len - last);
    // SAFETY: as above.
    let done = unsafe { libc::madvise(at(first), last - first, MADV_DONTNEED) };
    assert_eq!(done, 0);
}

/// Begins an execution: nothing is mapped, everything reads as zero.
pub(crate) fn begin() {
    for (start, end) in USED.take() {
        clear(start, end - start);
    }
    drop(KERNEL.replace(Kernel { clock_ms: 1000, ..Kernel::default() }));
}

fn note_used(start: usize, end: usize) {
    USED.with_borrow_mut(|used| {
        if !used.contains(&(start, end)) {
            used.push((start, end));
        }
    });
}

/// Ends the model if an address of the modelled space is not mapped.
pub(crate) fn check_mapped(address: usize) {
    let start = START.get();
    if start == 0 || !(start..start + SPACE).contains(&address) {
        return;
    }
    KERNEL.with_borrow(|kernel| {
        let in_break = address < start + kernel.brk;
        let in_mapping = kernel.mapped.range(..=address).next_back().is_some_and(|(_, &end)| address < end);
        assert!(in_break || in_mapping, "memory is used that is not mapped");
    });
}

fn step() {
    BOOKS.fetch_add(1, Ordering::Relaxed);
}

/// Sets the clock, in milliseconds.
pub(crate) fn set_clock(ms: u64) {
    KERNEL.with_borrow_mut(|kernel| kernel.clock_ms = ms);
}

/// Has the next calls that ask for memory refused.
pub(crate) fn refuse(calls: usize) {
    KERNEL.with_borrow_mut(|kernel| kernel.refusals = calls);
}

/// Has a function run inside each call of the C library that may call `malloc`.
pub(crate) fn call_back(function: fn()) {
    KERNEL.with_borrow_mut(|kernel| kernel.calls_back = Some(function));
}

fn may_call_malloc() {
    if let Some(function) = KERNEL.with_borrow(|kernel| kernel.calls_back) {
        function();
    }
}

fn refused() -> bool {
    KERNEL.with_borrow_mut(|kernel| {
        let refused = kernel.refusals > 0;
        kernel.refusals -= usize::from(refused);
        refused
    })
}

impl Kernel {
    fn is_free(&self, start: usize, end: usize) -> bool {
        start >= space() + BREAK
            && end <= space() + SPACE
            && self.mapped.range(..end).next_back().is_none_or(|(_, &other)| other <= start)
    }

    fn place(&self, len: usize) -> Option<usize> {
        let ends = core::iter::once(space() + BREAK).chain(self.mapped.values().copied());
        ends.into_iter().find(|&start| self.is_free(start, start + len))
    }

    fn enter(&mut self, start: usize, len: usize) -> *mut c_void {
        self.mapped.insert(start, start + len);
        note_used(start, start + len);
        at(start)
    }

    /// Takes a range out of the mappings that hold it.
    fn withdraw(&mut self, start: usize, end: usize) {
        let touching: Vec<_> =
            self.mapped.range(..end).filter(|&(_, &other)| other > start).map(|(&from, &to)| (from, to)).collect();
        for (from, to) in touching {
            self.mapped.remove(&from);
            if from < start {
                self.mapped.insert(from, start);
            }
            if to > end {
                self.mapped.insert(end, to);
            }
        }
    }
}

pub(crate) unsafe fn mmap(hint: *mut c_void, len: usize, _: i32, flags: i32, _: i32, _: off_t) -> *mut c_void {
    step();
    if refused() || len > SPACE {
        return MAP_FAILED;
    }
    let (hint, len) = (hint.addr(), len.next_multiple_of(PAGE));
    KERNEL.with_borrow_mut(|kernel| {
        if hint != 0 && hint.is_multiple_of(PAGE) && kernel.is_free(hint, hint + len) {
            return kernel.enter(hint, len);
        }
        if flags & MAP_FIXED_NOREPLACE != 0 {
            return MAP_FAILED;
        }
        kernel.place(len).map_or(MAP_FAILED, |start| kernel.enter(start, len))
    })
}

pub(crate) unsafe fn munmap(start: *mut c_void, len: usize) -> i32 {
    step();
    let start = start.addr();
    check_mapped(start);
    check_mapped(start + len - 1);
    model::track_clear(start, len, true);
    KERNEL.with_borrow_mut(|kernel| kernel.withdraw(start, start + len));
    clear(start, len);
    0
}

pub(crate) unsafe fn madvise(start: *mut c_void, len: usize, _: i32) -> i32 {
    check_mapped(start.addr());
    check_mapped(start.addr() + len - 1);
    model::track_clear(start.addr(), len, false);
    clear(start.addr(), len);
    0
}

/// With `MREMAP_FIXED` the place is an argument more.
pub(crate) unsafe fn mremap(start: *mut c_void, old_len: usize, len: usize, flags: i32, place: *mut u8) -> *mut c_void {
    step();
    if refused() {
        super::set_errno(EFAULT);
        return MAP_FAILED;
    }
    let start = start.addr();
    check_mapped(start);
    check_mapped(start + old_len - 1);
    let moved = KERNEL.with_borrow_mut(|kernel| {
        kernel.withdraw(start, start + old_len);
        let to = if flags & MREMAP_FIXED != 0 {
            kernel.withdraw(place.addr(), place.addr() + len);
            Some(place.addr())
        } else if len <= old_len || kernel.is_free(start, start + len) {
            Some(start)
        } else {
            kernel.place(len)
        };
        kernel.enter(to.unwrap_or(start), if to.is_some() { len } else { old_len });
        to
    });
    let Some(to) = moved else { return MAP_FAILED };
    model::track_clear(start, old_len, true);
    if to != start {
        model::track_clear(to, len, true);
        // SAFETY: both ranges lie in the reserved space, and do not overlap.
        unsafe { at(start).cast::<u8>().copy_to_nonoverlapping(at(to).cast(), old_len.min(len)) };
        clear(start, old_len);
    } else if len < old_len {
        clear(start + len, old_len - len);
    }
    at(to)
}

pub(crate) unsafe fn sbrk(increment: intptr_t) -> *mut c_void {
    step();
    if increment > 0 && refused() {
        return at(usize::MAX);
    }
    let (start, old) = (space(), KERNEL.with_borrow(|kernel| kernel.brk));
    let new = old.wrapping_add_signed(increment);
    if new > BREAK {
        return at(usize::MAX);
    }
    if new < old {
        model::track_clear(start + new, old - new, true);
        clear(start + new, old - new);
    } else if new > old {
        note_used(start + old, start + new);
    }
    KERNEL.with_borrow_mut(|kernel| kernel.brk = new);
    at(start + old)
}

pub(crate) unsafe fn clock_gettime(_: clockid_t, now: *mut timespec) -> i32 {
    let ms = KERNEL.with_borrow(|kernel| kernel.clock_ms);
    let time = timespec { tv_sec: (ms / 1000) as time_t, tv_nsec: (ms % 1000 * 1_000_000) as c_long };
    // SAFETY: the caller's pointer is valid.
    unsafe { now.write(time) };
    0
}

/// Lets the others go on, and some time pass.
pub(crate) fn futex_wait_for(_: &crate::sync::AtomicU32, _: u32, ms: u32) {
    KERNEL.with_borrow_mut(|kernel| kernel.clock_ms += u64::from(ms.min(100)));
    thread::yield_now();
}

pub(crate) fn start_thread(body: extern "C" fn(*mut c_void) -> *mut c_void, _: usize) -> Option<usize> {
    may_call_malloc();
    let thread = thread::spawn(move || {
        body(ptr::null_mut());
        thread_ends();
    });
    KERNEL.with_borrow_mut(|kernel| {
        kernel.started.push(Some(thread));
        // Never zero, which stands for no thread.
        Some(kernel.started.len())
    })
}

pub(crate) fn join_thread(thread: usize) {
    let thread = KERNEL.with_borrow_mut(|kernel| kernel.started[thread - 1].take());
    thread.expect("a thread is joined once").join().unwrap();
}

pub(crate) unsafe fn sched_yield() -> i32 {
    thread::yield_now();
    0
}

pub(crate) unsafe fn pthread_self() -> pthread_t {
    model::thread_number() as pthread_t
}

pub(crate) unsafe fn abort() -> ! {
    panic!("the allocator aborts")
}

pub(crate) unsafe fn pthread_key_create(key: *mut pthread_key_t, destructor: Option<Destructor>) -> i32 {
    may_call_malloc();
    let number = KERNEL.with_borrow_mut(|kernel| {
        kernel.keys.push(destructor);
        kernel.keys.len() - 1
    });
    // SAFETY: the caller's pointer is valid.
    unsafe { key.write(number as pthread_key_t) };
    0
}

pub(crate) unsafe fn pthread_key_delete(key: pthread_key_t) -> i32 {
    KERNEL.with_borrow_mut(|kernel| kernel.keys[key as usize] = None);
    0
}

pub(crate) unsafe fn pthread_setspecific(key: pthread_key_t, value: *const c_void) -> i32 {
    may_call_malloc();
    let place = (model::thread_number(), key as usize);
    KERNEL.with_borrow_mut(|kernel| kernel.values.insert(place, value.expose_provenance()));
    0
}

pub(crate) unsafe fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> i32 {
    may_call_malloc();
    KERNEL.with_borrow_mut(|kernel| kernel.fork_handlers.push((prepare, parent, child)));
    0
}

/// Runs what a thread of the C library's runs at its end: the destructors of its keys, up to four times.
pub(crate) fn thread_ends() {
    for _ in 0..4 {
        let number = model::thread_number();
        let due = KERNEL.with_borrow_mut(|kernel| {
            let Kernel { keys, values, .. } = kernel;
            let of_thread: Vec<_> = values.extract_if(|&(thread, _), _| thread == number).collect();
            of_thread.into_iter().filter_map(|((_, key), value)| Some((keys[key]?, value))).collect::<Vec<_>>()
        });
        if due.is_empty() {
            return;
        }
        for (destructor, value) in due {
            // SAFETY: the destructor of this key, with the thread's value.
            unsafe { destructor(at(value)) };
        }
    }
}

/// Where the process goes on after a `fork`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Parent,
    Child,
}

/// Calls the handlers around a `fork`; `between` runs while the locks are held, as handlers of the program's own do. In the child
/// the model goes on in this thread, and the others must have ended.
pub(crate) fn fork(between: impl FnOnce(), side: Side) {
    let handlers = KERNEL.with_borrow(|kernel| kernel.fork_handlers.clone());
    assert!(!handlers.is_empty(), "no handlers were registered");
    handlers.iter().rev().for_each(|(prepare, _, _)| prepare());
    between();
    handlers.iter().for_each(|(_, parent, child)| if side == Side::Parent { parent() } else { child() });
}

/// A thread that stands still: its slot, and the values of its keys.
#[must_use]
pub(crate) struct Standing(Option<usize>, Vec<(usize, usize)>);

/// Has the calling thread stand still, and go on as a new one.
pub(crate) fn stand_still() -> Standing {
    let number = model::thread_number();
    KERNEL.with_borrow_mut(|kernel| {
        let values = kernel.values.extract_if(|&(thread, _), _| thread == number);
        let values = values.map(|((_, key), value)| (key, value)).collect();
        Standing(kernel.slots.remove(&number), values)
    })
}

/// Has the calling thread go on as one that stood still.
pub(crate) fn go_on(standing: Standing) {
    let number = model::thread_number();
    KERNEL.with_borrow_mut(|kernel| {
        kernel.slots.extend(standing.0.map(|slot| (number, slot)));
        kernel.values.extend(standing.1.into_iter().map(|(key, value)| ((number, key), value)));
    });
}

/// The calling thread's slot, null at first.
pub(crate) fn slot() -> *const c_void {
    let number = model::thread_number();
    at(KERNEL.with_borrow(|kernel| kernel.slots.get(&number).copied().unwrap_or(0)))
}

pub(crate) fn set_slot(value: *const c_void) {
    let number = model::thread_number();
    KERNEL.with_borrow_mut(|kernel| kernel.slots.insert(number, value.expose_provenance()));
}

/// No process ends inside a model, so the function is never called.
pub(crate) unsafe fn atexit(_: extern "C" fn()) -> c_int {
    0
}
