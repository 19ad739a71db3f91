//! Call stacks: the return addresses of the frames above a call, by frame pointers, kept once each.
//!
//! Nothing is known here about the code of the frames: one that does not keep its frame pointer cuts a stack short, or leads into
//! the weeds. So each frame is read by a system call, which fails where there is no memory. Names of functions are a tool's
//! matter: a stack is told as modules and offsets, which `addr2line` takes.

use crate::sync::{Cell, Mutex};
use crate::{metadata, os, report};
use core::fmt::{self, Write};

/// Frames of a stack, at most.
const DEPTH: usize = 16;
const BUCKETS: usize = 1 << 10;
/// A frame is no larger than this, in bytes.
const LARGEST_FRAME: usize = 8 << 20;

/// Where a call came from: the frame pointer that its caller had, and the address to which it returns.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) frame: usize,
    pub(crate) returns_to: usize,
}

pub(super) struct Stack {
    frames: [usize; DEPTH],
    next: Cell<Option<&'static Stack>>,
}

struct Stacks {
    buckets: [Cell<Option<&'static Stack>>; BUCKETS],
}

// SAFETY: a stack's frames are never changed, and the links are reached only under the lock.
unsafe impl Send for Stacks {}
// SAFETY: as above.
unsafe impl Sync for Stack {}

/// Ranks as the books do; neither is taken with the other held.
static STACKS: Mutex<Stacks> = Mutex::new(Stacks { buckets: [const { Cell::new(None) }; BUCKETS] });

/// The stack above a call; `None` if nothing of it is known, or there is no memory.
pub(super) fn capture(caller: Caller) -> Option<&'static Stack> {
    let mut frames = [0; DEPTH];
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
    if count == 0 {
        return None;
    }
    let hash = frames.iter().fold(0_u64, |hash, &frame| (hash ^ frame as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let stacks = STACKS.lock();
    let bucket = &stacks.buckets[(hash >> 32) as usize % BUCKETS];
    if let Some(known) =
        core::iter::successors(bucket.get(), |stack| stack.next.get()).find(|stack| stack.frames == frames)
    {
        return Some(known);
    }
    let memory = metadata::allocate::<Stack>()?;
    // SAFETY: the memory is aligned, large enough, and nobody else's.
    unsafe { memory.write(Stack { frames, next: Cell::new(bucket.get()) }) };
    // SAFETY: as above; it was just written, and lives for ever.
    let stack: &'static Stack = unsafe { memory.as_ref() };
    bucket.set(Some(stack));
    Some(stack)
}

impl Stack {
    /// Says each frame as a line.
    pub(super) fn tell(&self) {
        for (number, &frame) in self.frames.iter().enumerate().take_while(|(_, frame)| **frame != 0) {
            // What is no code is no frame: the stack was cut short there.
            let Some(location) = Location::of(frame) else { break };
            report::say(format_args!("    #{number} {location}"));
        }
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

pub(super) fn lock_for_fork() {
    STACKS.lock_for_fork();
}

pub(super) fn unlock_after_fork() {
    STACKS.unlock_after_fork();
}

pub(super) fn renew_in_child() {
    STACKS.renew_in_child();
}
