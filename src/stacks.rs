//! Call stacks: the return addresses of the frames above a call, kept once each.
//!
//! They are taken by frame pointers, or, with `TERRACE_STACKS=unwind`, by the unwinder of the C runtime (`os/unwinder.rs`).
//!
//! - Frame pointers: nothing is known here about the code of the frames. One that does not keep its frame pointer cuts a stack
//!   short, or leads into the weeds. So each frame is read by a system call, which fails where there is no memory.
//! - The unwinder may allocate, and so may the loader while it is found: such calls come by here, on the same thread, and are given no
//!   stack. No lock of the allocator's is held meanwhile. Its first frames are the allocator's own: a stack begins with the address to
//!   which the program's call returns.
//!
//! Names of functions are a tool's matter: a stack is told as modules and offsets, which `addr2line` takes.
//!
//! Checks keep references to stacks; events of the history, which are read from outside as well, their numbers.

use crate::layout::StacksLayout;
use crate::options::OPTIONS;
use crate::os::{LoaderBusy, Unwinder};
use crate::sync::{Cell, Mutex};
use crate::{metadata, os, report, tcache};
use core::fmt::{self, Write};
use core::mem::offset_of;

/// Frames of a stack, at most.
const DEPTH: usize = 16;
const BUCKETS: usize = 1 << 10;
/// Stacks with numbers, at most: pages of the table, and places of a page. A stack beyond has none.
const PAGES: usize = 128;
const PLACES: usize = 512;
/// A frame is no larger than this, in bytes.
const LARGEST_FRAME: usize = 8 << 20;
/// Frames of the allocator's own, at most.
const OWN_FRAMES: usize = 32;

/// Where a call came from: the frame pointer that its caller had, and the address to which it returns.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "no part of the public interface")]
pub struct Caller {
    pub frame: usize,
    pub returns_to: usize,
}

#[repr(C)]
pub(crate) struct Stack {
    frames: [usize; DEPTH],
    /// From 1 on; 0 if there is none.
    number: u32,
    next: Cell<Option<&'static Stack>>,
}

type Place = Cell<Option<&'static Stack>>;

#[repr(C)]
pub(crate) struct Stacks {
    /// Stack `n` is at place `n mod PLACES` of page `n / PLACES`. Readers outside of the process look here without the lock: a page
    /// and a place are filled before anybody has the number.
    pages: [Cell<Option<&'static [Place; PLACES]>>; PAGES],
    /// The last number that was given.
    last: u32,
    buckets: [Place; BUCKETS],
    unwinder: Search,
}

/// What is known of the C runtime's unwinder.
#[derive(Clone, Copy)]
enum Search {
    NotYet,
    Found(Unwinder),
    InVain,
}

// SAFETY: a stack's frames are never changed, and the links are reached only under the lock.
unsafe impl Send for Stacks {}
// SAFETY: as above.
unsafe impl Sync for Stack {}

/// Ranks as the books do; neither is taken with the other held.
pub(crate) static STACKS: Mutex<Stacks> = Mutex::new(Stacks {
    pages: [const { Cell::new(None) }; PAGES],
    last: 0,
    buckets: [const { Cell::new(None) }; BUCKETS],
    unwinder: Search::NotYet,
});

impl Stacks {
    pub(crate) const LAYOUT: StacksLayout = StacksLayout {
        pages: (Mutex::<Self>::VALUE + offset_of!(Self, pages)) as u32,
        page_count: PAGES as u32,
        page_places: PLACES as u32,
        frames: offset_of!(Stack, frames) as u32,
        depth: DEPTH as u32,
    };

    /// Where the next stack is to be entered, and its number; `None` when there is no room.
    fn next_place(&mut self) -> Option<(&'static Place, u32)> {
        let number = self.last + 1;
        let page = self.pages.get(number as usize / PLACES)?;
        if page.get().is_none() {
            let memory = metadata::allocate::<[Place; PLACES]>()?;
            // SAFETY: the memory is aligned, large enough, nobody else's, and reads as zero, which is `None` for a reference.
            page.set(Some(unsafe { memory.as_ref() }));
        }
        self.last = number;
        Some((&page.get()?[number as usize % PLACES], number))
    }
}

/// The stack above a call; `None` if nothing of it is known, there is no memory, or the call is one of the unwinder's own.
pub(crate) fn capture(caller: Caller) -> Option<&'static Stack> {
    let mut frames = [0; DEPTH];
    if !OPTIONS.unwinds() {
        follow_pointers(caller, &mut frames);
    } else if !while_unwinding(|| unwind(caller, &mut frames) || follow_pointers(caller, &mut frames))? {
        return None;
    }
    if frames[0] == 0 { None } else { enter(frames) }
}

/// Looks for the unwinder, if it is wanted: the loader can be asked when the library starts, and when the option is set. The thread
/// gets a cache, in which it is noted that it looks.
pub(crate) fn prepare() {
    if OPTIONS.unwinds() {
        tcache::start();
        while_unwinding(unwinder);
    }
}

/// Runs `f`, unless the call comes out of such an `f` of this thread's. One without a cache gets it run whatever it is in: its
/// allocations are few, and it has no unwinder.
fn while_unwinding<T>(f: impl FnOnce() -> T) -> Option<T> {
    let Some(unwinding) = tcache::unwinding() else { return Some(f()) };
    if unwinding.replace(true) {
        return None;
    }
    let result = f();
    unwinding.set(false);
    Some(result)
}

/// The unwinder, if there is one; when there is none for the first time, that is said.
fn unwinder() -> Option<Unwinder> {
    // Without a cache nothing says that the thread is unwinding.
    tcache::unwinding()?;
    let known = STACKS.lock().unwinder;
    match known {
        Search::Found(unwinder) => return Some(unwinder),
        Search::InVain => return None,
        Search::NotYet => {}
    }
    let found = match Unwinder::find() {
        Ok(found) => found,
        Err(LoaderBusy) => return None,
    };
    let before = core::mem::replace(&mut STACKS.lock().unwinder, found.map_or(Search::InVain, Search::Found));
    if found.is_none() && matches!(before, Search::NotYet) {
        report::say(format_args!(
            "there is no unwinder here (libgcc_s.so.1 or libunwind.so.1): call stacks are taken by frame pointers"
        ));
    }
    found
}

/// Takes a stack by the unwinder; `false` if there is none, or it does not come by the caller.
fn unwind(caller: Caller, frames: &mut [usize; DEPTH]) -> bool {
    let Some(unwinder) = unwinder() else { return false };
    let (mut own, mut count) = (0, 0);
    unwinder.walk(&mut |address| {
        if count > 0 || address == caller.returns_to {
            frames[count] = address;
            count += 1;
        } else {
            own += 1;
        }
        count < DEPTH && own < OWN_FRAMES
    });
    count > 0
}

/// Takes a stack by frame pointers; `false` if nothing is known of it.
fn follow_pointers(caller: Caller, frames: &mut [usize; DEPTH]) -> bool {
    let mut count = 0;
    if caller.returns_to != 0 {
        frames[0] = caller.returns_to;
        count = 1;
    }
    let mut frame = caller.frame;
    while count < DEPTH && frame != 0 && frame.is_multiple_of(size_of::<usize>()) {
        let mut record = [[0; size_of::<usize>()]; 2];
        if !os::copy_own_memory(frame, record.as_flattened_mut()) {
            break;
        }
        let [older, returns_to] = record.map(usize::from_ne_bytes);
        if returns_to == 0 {
            break;
        }
        frames[count] = returns_to;
        count += 1;
        // Stacks grow downwards.
        if older <= frame || older - frame > LARGEST_FRAME {
            break;
        }
        frame = older;
    }
    count > 0
}

/// The stack of these frames, of which one is kept.
fn enter(frames: [usize; DEPTH]) -> Option<&'static Stack> {
    let hash = frames.iter().fold(0_u64, |hash, &frame| (hash ^ frame as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut stacks = STACKS.lock();
    let bucket = &stacks.buckets[(hash >> 32) as usize % BUCKETS];
    if let Some(known) =
        core::iter::successors(bucket.get(), |stack| stack.next.get()).find(|stack| stack.frames == frames)
    {
        return Some(known);
    }
    let memory = metadata::allocate::<Stack>()?;
    let next = Cell::new(bucket.get());
    let (place, number) = stacks.next_place().unzip();
    // SAFETY: the memory is aligned, large enough, and nobody else's.
    unsafe { memory.write(Stack { frames, number: number.unwrap_or(0), next }) };
    // SAFETY: as above; it was just written, and lives for ever.
    let stack: &'static Stack = unsafe { memory.as_ref() };
    if let Some(place) = place {
        place.set(Some(stack));
    }
    stacks.buckets[(hash >> 32) as usize % BUCKETS].set(Some(stack));
    Some(stack)
}

/// The return addresses of the stack with this number, the innermost first; none for 0, and for a number that was never given.
pub(crate) fn frames_of(number: u32) -> &'static [usize] {
    /// A signal may have come as this thread had the lock: then it would wait for itself.
    const TRIES: usize = 1000;
    for _ in 0..TRIES {
        if let Some(stacks) = STACKS.try_lock() {
            let page = stacks.pages.get(number as usize / PLACES).and_then(Cell::get);
            return page.and_then(|page| page[number as usize % PLACES].get()).map_or(&[], Stack::frames);
        }
        os::yield_now();
    }
    &[]
}

/// Writes the frames of the stack with this number, each as a line.
pub(crate) fn write(number: u32, mut line: impl FnMut(fmt::Arguments<'_>)) {
    write_frames(frames_of(number), &mut line);
}

fn write_frames(frames: &[usize], line: &mut dyn FnMut(fmt::Arguments<'_>)) {
    for (number, &frame) in frames.iter().enumerate() {
        // What is no code is no frame: the stack was cut short there.
        let Some(location) = Location::of(frame) else { break };
        line(format_args!("    #{number} {location}"));
    }
}

impl Stack {
    /// Its number, by which it is found again; 0 if it has none.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    fn frames(&self) -> &[usize] {
        let count = self.frames.iter().position(|&frame| frame == 0).unwrap_or(DEPTH);
        &self.frames[..count]
    }

    /// Says each frame as a line.
    pub(crate) fn tell(&self) {
        write_frames(self.frames(), &mut |line| report::say(line));
    }
}

/// An address as what is mapped there, and how far from where its file begins.
struct Location {
    address: usize,
    file: [u8; 240],
    len: usize,
    offset: usize,
}

impl Location {
    /// `None` for an address where there is no code.
    fn of(address: usize) -> Option<Self> {
        let mut location = None;
        // The first mapping of a file is where offsets count from.
        let mut first = (0, [0_u8; 240], 0);
        os::for_each_line(c"/proc/self/maps", |line| {
            let Some((range, rights, file)) = parts_of(line) else { return };
            let file = &file[..file.len().min(240)];
            if &first.1[..first.2] != file {
                first.0 = range.start;
                first.1[..file.len()].copy_from_slice(file);
                first.2 = file.len();
            }
            if range.contains(&address) && rights.contains('x') {
                location = Some(Self { address, file: first.1, len: first.2, offset: address - first.0 });
            }
        });
        location
    }
}

/// The addresses, the rights and the file of a line of the kernel's list of mappings.
fn parts_of(line: &[u8]) -> Option<(core::ops::Range<usize>, &str, &[u8])> {
    let line = core::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(from)?..number(to)?, words.next()?, line.find('/').map_or(&[], |at| &line.as_bytes()[at..])))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len == 0 {
            return write!(f, "{:#x}", self.address);
        }
        for &byte in &self.file[..self.len] {
            f.write_char(if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '?' })?;
        }
        write!(f, "+{:#x}", self.offset)
    }
}

pub(crate) fn lock_for_fork() {
    STACKS.lock_for_fork();
}

pub(crate) fn unlock_after_fork() {
    STACKS.unlock_after_fork();
}

pub(crate) fn renew_in_child() {
    STACKS.renew_in_child();
}
