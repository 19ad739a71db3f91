//! History: what happened to blocks lately, thread by thread.
//!
//! While it is on (`TERRACE_HISTORY`, or [`start`]) every call is attended (`src/attended/`) and writes an event into the ring of its
//! thread's cache (`ring.rs`). Readers merge the rings by time. The command reads them from outside, by the heap's root. Nothing
//! here allocates through the allocator, and no lock is held while an event is shown, so whoever is shown it may allocate.

#[doc(hidden)]
pub mod outside;
mod ring;

pub(crate) use ring::{Ring, Rings};

use crate::heap;
use crate::layout::HistoryLayout;
use crate::options::OPTIONS;
use crate::os;
use crate::report;
use crate::report::Bytes;
use crate::stacks::{self, Caller, Stack};
use crate::sync::{Cell, Mutex};
use crate::tcache;
use core::fmt;
use core::mem::offset_of;
use core::ptr;
use ring::WORDS;

/// Where the rings of this process are found.
pub(crate) struct History {
    rings: Rings,
    /// The ring of threads that have no cache any more. Its lock is only tried, so that nobody waits for it across a `fork`.
    orphans: Mutex<Cell<Option<&'static Ring>>>,
}

/// The history of this process.
pub(crate) static HISTORY: History = History { rings: Rings::new(), orphans: Mutex::new(Cell::new(None)) };

impl History {
    pub(crate) const LAYOUT: HistoryLayout =
        HistoryLayout { newest: (offset_of!(Self, rings) + Rings::NEWEST) as u32, ..Ring::LAYOUT };
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[non_exhaustive]
pub enum Kind {
    /// A block was given to the program.
    Allocation = 1,
    /// A block was freed by a thread that has its slab, or that has a run of pages or a mapping of its own.
    Free = 2,
    /// A block was freed by another thread than the one that has its slab.
    RemoteFree = 3,
    /// A block was resized; `other` is where it was before.
    Resize = 4,
    /// Free memory was returned to the kernel.
    Purge = 5,
}

impl Kind {
    /// Its name, as it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Allocation => "allocation",
            Kind::Free => "free",
            Kind::RemoteFree => "remote free",
            Kind::Resize => "resize",
            Kind::Purge => "purge",
        }
    }

    fn of(number: u64) -> Option<Self> {
        [Kind::Allocation, Kind::Free, Kind::RemoteFree, Kind::Resize, Kind::Purge]
            .into_iter()
            .find(|kind| *kind as u64 == number)
    }
}

/// One thing that happened. The layout is that of `struct terrace_event` in `terrace.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
#[non_exhaustive]
pub struct Event {
    /// When, in nanoseconds of the monotonic clock.
    pub time_ns: u64,
    /// The block's first byte; 0 for a purge.
    pub address: usize,
    /// The bytes that were asked for; of a freed block those that it had; of a purge those that were returned.
    pub size: usize,
    /// For a resize, where the block was before; 0 otherwise.
    pub other: usize,
    /// What.
    pub kind: Kind,
    /// Which thread, by the kernel's number.
    pub thread: u32,
    /// The number of the call stack, for [`Event::frames`]; 0 if none was kept.
    pub stack: u32,
}

impl Event {
    /// Whether it happened to a block that the address lies in, or lay.
    pub fn concerns(&self, address: usize) -> bool {
        self.kind != Kind::Purge
            && (address == self.other && address != 0 || address.wrapping_sub(self.address) < self.size.max(1))
    }

    /// From where it was done, if this process has written it down (option `history_stacks`): return addresses, the innermost first.
    pub fn frames(&self) -> &'static [usize] {
        stacks::frames_of(self.stack)
    }

    /// The last word has the kind in its lowest 8 bits, above them the number of the stack, and the thread in its upper 32.
    fn words(&self) -> [u64; WORDS] {
        let about = self.kind as u64 | u64::from(self.stack & 0xff_ffff) << 8 | u64::from(self.thread) << 32;
        [self.time_ns, self.address as u64, self.size as u64, self.other as u64, about]
    }

    fn of(words: &[u64; WORDS]) -> Option<Self> {
        let [time_ns, address, size, other, about] = *words;
        Some(Self {
            time_ns,
            address: address as usize,
            size: size as usize,
            other: other as usize,
            kind: Kind::of(about & 0xff)?,
            thread: (about >> 32) as u32,
            stack: about as u32 >> 8,
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, microseconds) = (self.time_ns / 1_000_000_000, self.time_ns / 1000 % 1_000_000);
        let Self { address, size, thread, .. } = self;
        write!(f, "{seconds}.{microseconds:06} s  thread {thread}  {:<11}", self.kind.name())?;
        match self.kind {
            Kind::Purge => write!(f, "  {} returned to the kernel", Bytes(*size)),
            Kind::Resize => write!(f, "  {address:#x}  {}, before at {:#x}", Bytes(*size), self.other),
            _ => write!(f, "  {address:#x}  {}", Bytes(*size)),
        }
    }
}

/// Switches the history on: each thread's last `events` events are kept. A ring that is there already keeps its size. 0 events
/// switch it off, as [`stop`] does.
///
/// Threads that run meanwhile first use up what they have at hand; what they do till then is not recorded.
///
/// ```
/// # #[global_allocator]
/// # static GLOBAL: terrace::Terrace = terrace::Terrace;
/// terrace::history::start(1000);
/// let block = Box::new([0_u8; 1000]);
/// let mut kinds = Vec::new();
/// terrace::history::of(&raw const *block, |event| kinds.push((event.kind, event.size)));
/// assert_eq!(kinds.last(), Some(&(terrace::history::Kind::Allocation, 1000)));
/// terrace::history::stop();
/// ```
pub fn start(events: u32) {
    heap::set_number("history", events as usize);
}

/// Switches the history off. What was recorded stays, to be read.
pub fn stop() {
    heap::set_number("history", 0);
}

/// Shows each event that is kept of any thread, in the order of time. What happens meanwhile is not shown.
pub fn for_each(mut show: impl FnMut(&Event)) {
    let end = os::clock_ns();
    let mut last = (0, ptr::null(), 0);
    while let Some((mark, event)) = next(last, end) {
        show(&event);
        last = mark;
    }
}

/// Shows each event that is kept of blocks in which the address lies, or lay, in the order of time.
pub fn of<T: ?Sized>(address: *const T, mut show: impl FnMut(&Event)) {
    let address = address.cast::<u8>().addr();
    for_each(|event| {
        if event.concerns(address) {
            show(event);
        }
    });
}

/// An event's place in the order of time: when, in which ring, its number there plus one.
type Mark = (u64, *const Ring, u64);

/// The first event after a mark, and not after `end`.
fn next(last: Mark, end: u64) -> Option<(Mark, Event)> {
    let mut found: Option<(Mark, Event)> = None;
    for ring in HISTORY.rings.iter() {
        if let Some((mark, event)) = next_in(ring, last)
            && event.time_ns <= end
            && found.is_none_or(|(earlier, _)| mark < earlier)
        {
            found = Some((mark, event));
        }
    }
    found
}

/// The first event of a ring after a mark: its events are in the order of time.
fn next_in(ring: &Ring, last: Mark) -> Option<(Mark, Event)> {
    let mark_of = |number, time_ns| (time_ns, ptr::from_ref(ring), number + 1);
    let mut numbers = ring.numbers();
    while numbers.start < numbers.end {
        let middle = numbers.start + (numbers.end - numbers.start) / 2;
        let mut time = [0];
        // What was overwritten is older than all that is left.
        if !ring.read(middle, &mut time) || mark_of(middle, time[0]) <= last {
            numbers.start = middle + 1;
        } else {
            numbers.end = middle;
        }
    }
    // It may be overwritten between the search and this; then a later one is the first.
    ring.numbers().filter(|&number| number >= numbers.start).find_map(|number| {
        let mut words = [0; WORDS];
        let event = ring.read(number, &mut words).then(|| Event::of(&words))??;
        Some((mark_of(number, event.time_ns), event))
    })
}

/// Bytes of all rings that are mapped, and of their pages that have memory.
pub(crate) fn bytes() -> (usize, usize) {
    HISTORY.rings.iter().map(Ring::bytes).fold((0, 0), |sum, ring| (sum.0 + ring.0, sum.1 + ring.1))
}

/// A block that something happened to, and from where.
#[derive(Clone, Copy)]
pub(crate) struct Happening {
    pub(crate) kind: Kind,
    pub(crate) address: usize,
    pub(crate) size: usize,
    pub(crate) other: usize,
    pub(crate) caller: Option<Caller>,
}

/// Writes down what happened to a block, if the history is on.
pub(crate) fn record(happening: Happening) {
    if !OPTIONS.history_on() {
        return;
    }
    let Happening { kind, address, size, other, caller } = happening;
    let stack = caller.filter(|_| OPTIONS.history_stacks()).and_then(stacks::capture).map_or(0, Stack::number);
    let mut event = Event { time_ns: 0, address, size, other, kind, thread: os::thread_id(), stack };
    let mut write = |place: &Cell<Option<&'static Ring>>| {
        let ring = place.get().or_else(|| HISTORY.rings.make(OPTIONS.history_events()));
        place.set(ring);
        if let Some(ring) = ring {
            // Read last, so that a ring's events are in the order of time.
            event.time_ns = os::clock_ns();
            ring.write(&event.words());
        }
    };
    match tcache::own_ring() {
        Some(place) => write(place),
        None => {
            if let Some(place) = HISTORY.orphans.try_lock() {
                write(&place);
            }
        }
    }
}

/// Writes down that so many bytes went back to the kernel, if any did.
pub(crate) fn record_purge(bytes: usize) {
    if bytes > 0 {
        record(Happening { kind: Kind::Purge, address: 0, size: bytes, other: 0, caller: None });
    }
}

/// Writes all events that are kept, with their stacks, in the order of time, under a heading that says how many they are.
///
/// # Errors
/// When the text cannot be written.
pub fn write(out: &mut dyn fmt::Write) -> fmt::Result {
    let mut count = 0_usize;
    for_each(|_| count += 1);
    if count == 0 {
        let why = if OPTIONS.history_on() {
            "nothing has happened yet"
        } else {
            "it was never on; TERRACE_HISTORY=1000 switches it on"
        };
        return writeln!(out, "history: {why}");
    }
    let (events, state) =
        (if count == 1 { "event" } else { "events" }, if OPTIONS.history_on() { "" } else { ", now off" });
    writeln!(out, "history: {count} {events}{state}")?;
    let mut done = Ok(());
    for_each(|event| {
        if done.is_ok() {
            done = writeln!(out, "  {event}");
            stacks::write(event.stack, |line| done = done.and_then(|()| writeln!(out, "  {line}")));
        }
    });
    done
}

/// Tells on standard error of an event, with its stack if it has one.
pub(crate) fn tell(event: &Event) {
    report::say(format_args!("history: {event}"));
    stacks::write(event.stack, report::say);
}

/// Tells on standard error what is known of the block at an address: its last few events.
pub(crate) fn tell_of(address: *const u8) {
    /// More than an allocation, a free, and those of the block before and after.
    const LAST: usize = 8;
    tell_last(LAST, |event| event.concerns(address.addr()));
}

/// Tells on standard error the last events of this process, which has that name, under a heading.
pub(crate) fn tell_end(last: usize, name: &str) {
    let mut count = 0_usize;
    for_each(|_| count += 1);
    if count > 0 {
        let (process, shown) = (os::process_id(), last.min(count));
        report::say(format_args!(
            "history of process {process} ({name}), the last {shown} of {count} events that were kept:"
        ));
        tell_last(last, |_| true);
    }
}

/// Tells on standard error the last events of those that are wanted, in the order of time.
pub(crate) fn tell_last(last: usize, wanted: impl Fn(&Event) -> bool) {
    let mut count = 0_usize;
    for_each(|event| count += usize::from(wanted(event)));
    let mut skip = count.saturating_sub(last);
    for_each(|event| match (wanted(event), skip) {
        (false, _) => {}
        (true, 0) => tell(event),
        (true, _) => skip -= 1,
    });
}
