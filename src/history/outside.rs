//! Reading the history of another process, or of a dead one, by the root of its heap. For the command; every number that is read may
//! be anything.

use super::Event;
use super::ring::WORDS;
use crate::inspect::{Memory, Root, Unreadable};

/// A ring of another process.
#[derive(Clone, Copy, Debug)]
pub struct OutsideRing {
    address: usize,
    capacity: u64,
    written: u64,
}

/// Frames of a stack, at most.
pub const MAX_FRAMES: usize = 64;

fn word(memory: &dyn Memory, base: usize, offset: u32) -> Result<u64, Unreadable> {
    let mut bytes = [0; 8];
    memory.read(base.wrapping_add(offset as usize), &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Shows each ring of a heap's history, newest first. There is none when the history was never on.
///
/// # Errors
/// When a ring cannot be read; those before it were shown.
pub fn rings(memory: &dyn Memory, root: &Root, mut show: impl FnMut(OutsideRing)) -> Result<(), Unreadable> {
    /// More rings than a process has threads; a list that goes in circles ends here.
    const MOST: usize = 1 << 16;
    let layout = &root.layout.history;
    let mut next = word(memory, root.history, layout.newest)? as usize;
    for _ in 0..MOST {
        if next == 0 {
            break;
        }
        let (capacity, written) = (word(memory, next, layout.capacity)?, word(memory, next, layout.written)?);
        if capacity > 0 {
            show(OutsideRing { address: next, capacity, written });
        }
        next = word(memory, next, layout.older)? as usize;
    }
    Ok(())
}

/// Writes the return addresses of the stack with this number, the innermost first, into `frames`; how many there are. 0 for the
/// number 0, and where nothing can be read.
pub fn frames(memory: &dyn Memory, root: &Root, number: u32, frames: &mut [usize; MAX_FRAMES]) -> usize {
    let layout = &root.layout.stacks;
    let (page, place) = (number / layout.page_places.max(1), number % layout.page_places.max(1));
    if number == 0 || page >= layout.page_count {
        return 0;
    }
    let follow = |base: usize, offset: u32| word(memory, base, offset).ok().map(|word| word as usize);
    let stack = follow(root.stacks, layout.pages + page * 8).filter(|&page| page != 0);
    let Some(stack @ 1..) = stack.and_then(|page| follow(page, place * 8)) else { return 0 };
    let mut count = 0;
    for (index, frame) in frames.iter_mut().take(layout.depth as usize).enumerate() {
        match follow(stack, layout.frames + index as u32 * 8) {
            Some(address @ 1..) => *frame = address,
            _ => break,
        }
        count += 1;
    }
    count
}

impl OutsideRing {
    /// Where it lies in its process: its name for who looks again later.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Its length with all its slots, in bytes.
    pub fn bytes(&self, root: &Root) -> usize {
        let layout = &root.layout.history;
        (self.capacity as usize).saturating_mul(layout.slot_bytes as usize).saturating_add(layout.ring_bytes as usize)
    }

    /// How many events were ever written to it.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Shows the events that it holds whose numbers are at least `from`, oldest first. Those that are overwritten meanwhile are left
    /// out.
    pub fn events(&self, memory: &dyn Memory, root: &Root, from: u64, mut show: impl FnMut(&Event)) {
        /// No ring has more.
        const MOST: u64 = 1 << 20;
        let layout = &root.layout.history;
        for number in from.max(self.written.saturating_sub(self.capacity.min(MOST)))..self.written {
            let slot = (number % self.capacity) as usize * layout.slot_bytes as usize;
            let slot = self.address.wrapping_add(layout.ring_bytes as usize).wrapping_add(slot);
            // The version is read before the words, and again after them.
            let version = || word(memory, slot, layout.version);
            let (whole, mut words) = (Ok(number.wrapping_mul(2).wrapping_add(2)), [0; WORDS]);
            let read = version() == whole
                && words
                    .iter_mut()
                    .zip((0..).step_by(8))
                    .all(|(place, offset)| word(memory, slot, layout.words + offset).map(|word| *place = word).is_ok())
                && version() == whole;
            if let Some(event) = Event::of(&words).filter(|_| read) {
                show(&event);
            }
        }
    }
}
