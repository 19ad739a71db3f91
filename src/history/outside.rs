//! Reading the history of a process from outside of it: the places in `HISTORY`, the rings and their slots, by
//! whatever reads its memory. For the command; every number that is read may be anything.

use super::ring::{Ring, Slot, WORDS};
use super::{Event, History};
use core::mem::offset_of;

/// What the record begins with.
pub const MAGIC: [u8; 16] = *b"terrace history\n";

/// The version of the record, the rings and their slots.
pub const VERSION: u32 = 1;

/// How many bytes after the magic the record's own address stands.
pub const OWN_ADDRESS: usize = offset_of!(History, address);

/// Bytes of a slot.
const SLOT: usize = size_of::<Slot>();

/// A ring of another process.
#[derive(Clone, Copy, Debug)]
pub struct OutsideRing {
    address: usize,
    capacity: u64,
    written: u64,
}

/// Reads a word of another process.
fn word(read: &impl Fn(usize, &mut [u8]) -> bool, address: usize) -> Option<u64> {
    let mut bytes = [0; 8];
    read(address, &mut bytes).then(|| u64::from_ne_bytes(bytes))
}

/// The version of the record at an address, by a function that reads the process's memory; `None` if there is no record.
pub fn version(read: impl Fn(usize, &mut [u8]) -> bool, record: usize) -> Option<u32> {
    let mut magic = [0; MAGIC.len()];
    let found =
        read(record, &mut magic) && magic == MAGIC && word(&read, record.checked_add(OWN_ADDRESS)?)? == record as u64;
    found.then(|| word(&read, record.checked_add(offset_of!(History, version))?)).flatten().map(|half| half as u32)
}

/// Shows each ring, newest first, of the record at an address, which has this version.
pub fn rings(read: impl Fn(usize, &mut [u8]) -> bool, record: usize, mut show: impl FnMut(OutsideRing)) {
    /// More rings than a process has threads; a list that goes in circles ends here.
    const MOST: usize = 1 << 16;
    let mut next = record.checked_add(offset_of!(History, rings)).and_then(|place| word(&read, place));
    for _ in 0..MOST {
        let Some(address @ 1..) = next.map(|address| address as usize) else { return };
        let field = |offset| address.checked_add(offset).and_then(|place| word(&read, place));
        let [Some(capacity), Some(written)] = [Ring::CAPACITY, Ring::WRITTEN].map(field) else { return };
        show(OutsideRing { address, capacity, written });
        next = field(Ring::OLDER);
    }
}

impl OutsideRing {
    /// Where it lies in its process: its name for who looks again later.
    pub fn address(&self) -> usize {
        self.address
    }

    /// How many events were ever written to it.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Shows the events that it holds whose numbers are at least `from`, oldest first. Those that are overwritten meanwhile are left
    /// out.
    pub fn events(&self, read: impl Fn(usize, &mut [u8]) -> bool, from: u64, mut show: impl FnMut(&Event)) {
        /// No ring has more.
        const MOST: u64 = 1 << 20;
        for number in from.max(self.written.saturating_sub(self.capacity.min(MOST)))..self.written {
            let slot =
                self.address.wrapping_add(size_of::<Ring>()).wrapping_add((number % self.capacity) as usize * SLOT);
            // The version is read before the words, and again after them.
            let mut bytes = [0; SLOT];
            let whole = Some(number.wrapping_mul(2).wrapping_add(2));
            if word(&read, slot) != whole || !read(slot, &mut bytes) || word(&read, slot) != whole {
                continue;
            }
            let mut words = [0; WORDS];
            for (word, bytes) in words.iter_mut().zip(bytes[SLOT - WORDS * 8..].chunks_exact(8)) {
                *word = u64::from_ne_bytes([
                    bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
                ]);
            }
            if let Some(event) = Event::of(&words) {
                show(&event);
            }
        }
    }
}
