//! What is said about a bug that a check has found: a sentence, who had the block, and the bytes around the place.

use super::books::{BOOKS, Books, Event, Known, State};
use super::zones::Damage;
use crate::report::Bytes;
use crate::sync::Guard;
use crate::{os, report};
use core::fmt;
use core::ptr::NonNull;

/// A bug of the program.
pub(super) enum Bug {
    /// An address was given that is no block's, or a freed one's.
    BadPointer(NonNull<u8>),
    /// Bytes before or behind a block were overwritten.
    Overrun(Damage),
    /// Bytes of a freed block were overwritten.
    LateWrite(Damage),
    /// A byte was touched that cannot be.
    Touched(usize),
}

/// A bug of a block's, found by a call.
struct Sentence<'b>(&'b Bug, &'b Known, &'b str);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, start) = (self.1.size, self.1.start.addr().get());
        let block = |f: &mut fmt::Formatter<'_>| write!(f, "the block of {} at {:p}", Bytes(size), self.1.start);
        let from_start = |f: &mut fmt::Formatter<'_>, at: usize| {
            if at < start {
                write!(f, "{} before ", Bytes(start - at))
            } else if at < start + size {
                write!(f, "{} inside ", Bytes(at - start))
            } else {
                write!(f, "{} behind the end of ", Bytes(at - start - size))
            }
        };
        match self.0 {
            Bug::BadPointer(address) if *address == self.1.start => {
                block(f)?;
                write!(f, " was freed already ({})", if self.2 == "free" { "double free" } else { "use after free" })
            }
            Bug::BadPointer(address) => {
                write!(f, "the address lies ")?;
                from_start(f, address.addr().get())?;
                block(f)?;
                if self.1.state != State::Live {
                    write!(f, ", which was freed")?;
                }
                write!(f, "; only its first byte can be given")
            }
            Bug::Overrun(Damage { first, end }) => {
                let (first, end) = (first.addr().get(), end.addr().get());
                // Behind the end the first byte that is wrong is the nearest one, before the start the last.
                if first < start {
                    write!(f, "{} before ", Bytes(start - end + 1))?;
                } else {
                    from_start(f, first)?;
                }
                block(f)?;
                let (name, count) = (if first < start { "underflow" } else { "overflow" }, Bytes(end - first));
                write!(f, " the red zone was overwritten, {count} of it ({name})")
            }
            Bug::LateWrite(Damage { first, end }) => {
                let (first, end) = (first.addr().get(), end.addr().get());
                from_start(f, first)?;
                block(f)?;
                write!(f, " there was a write after it was freed, {} (use after free)", Bytes(end - first))
            }
            Bug::Touched(address) => {
                from_start(f, *address)?;
                block(f)?;
                let why = match self.1.state {
                    State::Live if *address < start => "the guard before it was touched (underflow)",
                    State::Live => "the guard behind it was touched (overflow)",
                    _ => "there was an access after it was freed (use after free)",
                };
                write!(f, " {why}")
            }
        }
    }
}

/// Says what was found, and does what `check_action` wants; the process may go on.
pub(super) fn tell(call: &str, bug: &Bug, known: &Known) {
    tell_only(call, bug, known);
    report::act();
}

/// Says what was found.
pub(super) fn tell_only(call: &str, bug: &Bug, known: &Known) {
    if !report::speaks() {
        return;
    }
    match bug {
        &Bug::BadPointer(address) => report::say(format_args!("{call}({address:p}): {}", Sentence(bug, known, call))),
        _ => report::say(format_args!("{call}: {}", Sentence(bug, known, call))),
    }
    history_of(known);
    crate::history::tell_of(known.start.as_ptr());
    let readable = match known.state {
        State::Live | State::Leaving => true,
        State::Quarantined => known.place.mapping().is_none(),
        // What lies there now is another's, or nobody's.
        State::Gone | State::Unused => false,
    };
    match bug {
        Bug::BadPointer(_) | Bug::Touched(_) if !readable => {}
        Bug::BadPointer(address) => dump(known, *address, *address),
        Bug::Overrun(damage) | Bug::LateWrite(damage) => dump(known, damage.first, damage.end),
        Bug::Touched(_) => {}
    }
}

/// Who had the block. The one place for what more is known of its past.
fn history_of(known: &Known) {
    said_of("allocated", &known.allocated);
    if known.state != State::Live {
        said_of("freed", &known.freed);
    }
}

fn said_of(what: &str, event: &Event) {
    report::say(format_args!("  {what} by thread {}", event.thread));
    if let Some(stack) = event.stack {
        stack.tell();
    }
}

/// Sixteen bytes of memory, those that matter marked.
struct Row {
    bytes: [u8; 16],
    address: usize,
    marked: core::ops::Range<usize>,
    /// What of it can be read.
    known: core::ops::Range<usize>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:012x} ", self.address)?;
        let each = || (self.address..).zip(self.bytes);
        for (at, byte) in each() {
            let mark = if self.marked.contains(&at) { '>' } else { ' ' };
            if self.known.contains(&at) { write!(f, "{mark}{byte:02x}")? } else { write!(f, "   ")? }
        }
        write!(f, "  |")?;
        for (at, byte) in each().filter(|(at, _)| self.known.contains(at)) {
            let _ = at;
            write!(f, "{}", if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '.' })?;
        }
        write!(f, "|")
    }
}

/// Shows the rows around some bytes of a block's place, those bytes marked: one row before, at most four with them, one after. The
/// kernel reads them, since another thread may give the memory back meanwhile; what it cannot read is left out.
fn dump(known: &Known, first: NonNull<u8>, end: NonNull<u8>) {
    let base = known.place.base.addr().get();
    let place = base..base + known.place.len;
    let marked = first.addr().get()..end.addr().get();
    let last = marked.end.min(marked.start + 64);
    let mut address = (marked.start & !15).saturating_sub(16);
    while address < (last.next_multiple_of(16) + 16).min(place.end) {
        let mut row = Row { bytes: [0; 16], address, marked: marked.clone(), known: place.clone() };
        let (from, to) = (address.max(place.start), (address + 16).min(place.end));
        if from < to && os::copy_own_memory(from, &mut row.bytes[from - address..to - address]) {
            report::say(format_args!("{row}"));
        }
        address += 16;
    }
}

/// The books, unless whoever has them does not give them up in a second: it may be the calling thread, which a signal interrupted.
pub(super) fn books_with_patience() -> Option<Guard<'static, Books>> {
    const PATIENCE_MS: u64 = 1000;
    let begun = os::clock_ms();
    loop {
        let books = BOOKS.try_lock();
        if books.is_some() || os::clock_ms() - begun > PATIENCE_MS {
            return books;
        }
        os::yield_now();
    }
}

/// The signal for an access that the processor refused, at an address: says so if it lies in a block with guards. The books
/// may be in the hands of the thread that was interrupted; then nothing is said.
pub(super) fn refused_access(address: usize) {
    let Some(books) = books_with_patience() else { return };
    let found = books.find_around(address);
    drop(books);
    let Some(known) = found else { return };
    if known.place.mapping().is_some() {
        tell_only("access", &Bug::Touched(address), &known);
        report::call_hook();
    }
}
