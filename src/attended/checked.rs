//! Blocks while checks are on: how they are handed out, resized and freed, and when they are looked at.
//!
//! Once a check is on it stays on: a block that lies in a place with red zones has to come back here. So checks can be asked for
//! at the start alone, by the environment or the program, when one thread has no more than a few plain blocks; those are freed
//! as they came.

use super::books::{BOOKS, Event, Known, State};
use super::trouble::{self, Bug};
use super::words::{FILL, GUARDS, LEAKS, QUARANTINE, RED_ZONES, SELF_CHECK, STACKS};
use super::{leaks, zones};
use crate::arena;
use crate::heap;
use crate::heap::Block;
use crate::history::Kind;
use crate::options::OPTIONS;
use crate::size_class::SizeClass;
use crate::stacks::{self, Caller};
use crate::sync::Mutex;
use crate::{os, report, tcache, verify};
use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

/// Bugs that one look over all blocks tells of, at most; the others are counted.
const TOLD: usize = 8;

fn event(caller: Caller) -> Event {
    let stack = if OPTIONS.has_check(STACKS) { stacks::capture(caller) } else { None };
    Event { thread: os::thread_id(), stack }
}

/// A block with what the checks put around it.
pub(super) fn allocate(size: usize, align: usize, class: Option<SizeClass>, caller: Caller) -> Option<NonNull<u8>> {
    count_call();
    let (start, place) = zones::place(size, align, class)?;
    let allocated = event(caller);
    let known = Known { start, size, place, state: State::Live, allocated, freed: allocated };
    if OPTIONS.has_check(RED_ZONES) {
        known.paint();
    }
    match OPTIONS.perturb_byte() {
        0 if OPTIONS.has_check(FILL) => known.fill(zones::FRESH),
        0 => {}
        byte => known.fill(!byte),
    }
    if !BOOKS.lock().enter(known) {
        zones::give_back(&place);
        return None;
    }
    Some(start)
}

/// Frees a block that was handed out by `allocate`; `false`, and no change, when none ever started at the address. What is no
/// live block is reported.
pub(super) fn free(call: &str, start: NonNull<u8>, caller: Caller) -> bool {
    count_call();
    let freed = event(caller);
    let Some(left) = BOOKS.lock().leave(start, freed) else { return false };
    let known = match left {
        Ok(known) => known,
        Err(known) => {
            trouble::tell(call, &Bug::BadPointer(start), &known);
            return true;
        }
    };
    tell_overruns(call, &known);
    let quarantine = OPTIONS.has_check(QUARANTINE);
    if !(quarantine && zones::close(&known.place)) && (quarantine || OPTIONS.has_check(FILL)) {
        known.fill(zones::FREED);
    } else if let (false, byte @ 1..) = (quarantine, OPTIONS.perturb_byte()) {
        known.fill(byte);
    }
    BOOKS.lock().keep(start);
    let most = if quarantine { OPTIONS.quarantine_bytes() } else { 0 };
    loop {
        let Some(gone) = BOOKS.lock().let_go(most) else { return true };
        if quarantine && let Some(damage) = gone.late_write() {
            trouble::tell("quarantine", &Bug::LateWrite(damage), &gone);
        }
        zones::give_back(&gone.place);
    }
}

fn tell_overruns(call: &str, known: &Known) {
    if OPTIONS.has_check(RED_ZONES) {
        for damage in known.overruns().into_iter().flatten() {
            trouble::tell(call, &Bug::Overrun(damage), known);
        }
    }
}

/// Moves a block to a place of another size. `None` when no block was ever handed out at the address; `Some(None)` when it is
/// no live one, which is reported, or when there is no memory.
pub(super) fn reallocate(start: NonNull<u8>, size: usize, align: usize, caller: Caller) -> Option<Option<NonNull<u8>>> {
    let known = BOOKS.lock().find(start)?;
    if known.state != State::Live {
        trouble::tell("realloc", &Bug::BadPointer(start), &known);
        os::set_errno(libc::EINVAL);
        return Some(None);
    }
    let class = heap::class_of_layout(size, align);
    let Some(new) = allocate(size, align, class, caller) else {
        os::set_errno(libc::ENOMEM);
        // There is no memory for a smaller block; the one there is will do, where a Rust program's free finds it.
        let stays = size <= known.size && (class.is_none() || arena::contains(start.as_ptr()));
        return Some(stays.then_some(start));
    };
    super::record(Kind::Allocation, new, size, Some(caller));
    // SAFETY: two live blocks do not overlap, and both have that many bytes.
    unsafe { new.copy_from_nonoverlapping(start, known.size.min(size)) };
    record_free(start, caller);
    free("realloc", start, caller);
    Some(Some(new))
}

/// Writes down that a live block is freed: as one of another thread's, if its place lies in a slab that another thread has.
pub(super) fn record_free(start: NonNull<u8>, caller: Caller) {
    if !OPTIONS.history_on() {
        return;
    }
    let known = BOOKS.lock().find(start);
    let Some(known) = known.filter(|known| known.state == State::Live) else { return };
    let is_small = known.place.mapping().is_none() && matches!(heap::look_up(known.place.base), Ok(Block::Small(_)));
    let is_own = !is_small || tcache::has_slab_of(known.place.base);
    super::record(if is_own { Kind::Free } else { Kind::RemoteFree }, start, known.size, Some(caller));
}

/// What was asked for of the block that starts at an address, in bytes.
pub(super) fn size_of(start: NonNull<u8>) -> Option<usize> {
    BOOKS.lock().find(start).filter(|known| known.state == State::Live).map(|known| known.size)
}

/// Reports an address that lies in the place of a block, but is not its start; `false` when it lies in none.
pub(super) fn tell_inside(call: &str, address: NonNull<u8>) -> bool {
    let found = BOOKS.lock().find_around(address.addr().get());
    let Some(known) = found else { return false };
    trouble::tell(call, &Bug::BadPointer(address), &known);
    true
}

/// Looks at the red zones of all blocks, and at those in quarantine; says what is not as it was filled, and how many bugs that
/// were.
pub(super) fn check(call: &str) -> usize {
    let (mut found, mut count) = ([const { None }; TOLD], 0);
    let mut note = |bug, known| {
        if let Some(place) = found.get_mut(count) {
            *place = Some((bug, known));
        }
        count += 1;
    };
    for known in BOOKS.lock().all() {
        match known.state {
            State::Live if OPTIONS.has_check(RED_ZONES) => {
                known.overruns().into_iter().flatten().for_each(|damage| note(Bug::Overrun(damage), known));
            }
            State::Quarantined if OPTIONS.has_check(QUARANTINE) => {
                known.late_write().into_iter().for_each(|damage| note(Bug::LateWrite(damage), known));
            }
            _ => {}
        }
    }
    for (bug, known) in found.iter().flatten() {
        trouble::tell(call, bug, known);
    }
    if count > TOLD && report::speaks() {
        let (more, blocks) = (count - TOLD, if count - TOLD == 1 { "block was" } else { "blocks were" });
        report::say(format_args!("{call}: {more} more {blocks} overwritten"));
    }
    count
}

/// Arranges for the last words, once. In a library this is done when it starts: the C library may call `calloc` while it registers
/// functions for the exit, and then waits for ever for its own lock.
pub(super) fn arrange_for_exit() {
    let is_arranged = core::mem::replace(&mut BOOKS.lock().ready_for_exit, true);
    if !is_arranged {
        // Where there is no memory to remember the function, nothing is said at exit.
        let _ = os::on_exit(at_exit);
        if OPTIONS.has_check(GUARDS) {
            os::catch_refused_access(refused_access);
        }
    }
}

/// Counts a call; now and then all structures are looked at. In a Rust program the first one arranges for the last words.
fn count_call() {
    end_if_verifying();
    arrange_for_exit();
    let due = OPTIONS.has_check(SELF_CHECK) && BOOKS.lock().count_call(OPTIONS.self_check_calls());
    if due {
        verify_alone();
    }
}

/// Looks at all structures, unless another thread does so.
fn verify_alone() {
    let is_free = |verifying: &mut u32| {
        let free = *verifying == 0;
        if free {
            *verifying = os::thread_id();
        }
        free
    };
    if !is_free(&mut VERIFYING.lock()) {
        return;
    }
    let whole = NotWhole;
    verify::verify();
    core::mem::forget(whole);
    *VERIFYING.lock() = 0;
}

/// Ends the process if the calling thread is looking at all structures: then one of them is not whole, and what wants memory is
/// the message of a panic. Locks are held that the call would wait for.
fn end_if_verifying() {
    if super::is_verifying() {
        drop(NotWhole);
    }
}

/// The kernel's number of the thread that looks at all structures; 0 while none does.
pub(super) static VERIFYING: Mutex<u32> = Mutex::new(0);

/// A thread that was looking is not there in a child of `fork`.
pub(super) fn renew_in_child() {
    VERIFYING.renew_in_child();
    *VERIFYING.lock() = 0;
}

/// Ends the process when a look at the structures does not come to its end: nothing may unwind through the allocator.
struct NotWhole;

impl Drop for NotWhole {
    fn drop(&mut self) {
        report::fatal("the self-check found that the heap is damaged");
    }
}

extern "C" fn at_exit() {
    if trouble::books_with_patience().is_none() {
        // The process is being exited by a signal that came as this thread had the books.
        return;
    }
    check("exit");
    if OPTIONS.has_check(LEAKS) {
        leaks::tell();
    }
}

extern "C" fn refused_access(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives it to the handler of this signal.
    trouble::refused_access(unsafe { os::refused_address(info) });
    os::let_signal_go_on();
}
