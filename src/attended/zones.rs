//! How a block lies in its place while checks are on, and what is written around it and into it.
//!
//! ```text
//!  base                     start            start + size            base + len
//!  │  left alone │ red zone │ the program's bytes │ red zone │ left alone │
//!  guarded:  no access ║ red zone │ the program's bytes │ < alignment ║ no access
//! ```
//!
//! The front is as long as the block's alignment, 16 bytes at least; so is the rear zone, which goes to the end of the place.
//! Of long zones only the part next to the block is filled and looked at.

use super::books::{Known, Place};
use super::words::GUARDS;
use crate::heap;
use crate::limit::LIMIT;
use crate::options::OPTIONS;
use crate::os;
use crate::size_class::SizeClass;
use crate::tcache;
use core::ptr::NonNull;

/// The byte of red zones.
const RED: u8 = 0xBD;
/// The byte of freed blocks. As an address it is none that a processor takes.
pub(super) const FREED: u8 = 0xDE;
/// The byte of new blocks.
pub(super) const FRESH: u8 = !FREED;
/// The least length of a red zone, in bytes.
const LEAST: usize = 16;
/// What is filled and looked at of a zone, at most, in bytes.
pub(super) const MOST: usize = 4096;

/// A range of bytes that is not as it was filled.
#[derive(Clone, Copy)]
pub(super) struct Damage {
    pub(super) first: NonNull<u8>,
    /// One after the last.
    pub(super) end: NonNull<u8>,
}

/// Finds room for a block; where it starts, and where in.
pub(super) fn place(size: usize, align: usize, class: Option<SizeClass>) -> Option<(NonNull<u8>, Place)> {
    let align = align.max(LEAST);
    let total = size.checked_add(align)?.checked_add(LEAST).filter(|&total| total <= isize::MAX as usize)?;
    if class.is_none()
        && OPTIONS.has_check(GUARDS)
        && let Some(guarded) = guarded(size, align)
    {
        return Some(guarded);
    }
    let (base, len) = match SizeClass::of_layout(total, align) {
        Some(class) => (tcache::take(class)?, class.block_size()),
        // What a Rust program frees by such a layout is looked for in segments alone.
        None if class.is_some() => (heap::allocate_run(total, align, true)?.start, total),
        None => (heap::allocate_pages_plainly(total, align)?.start, total),
    };
    // SAFETY: the place has more bytes than that.
    let start = unsafe { base.add(align) };
    Some((start, Place::in_block(base, len)))
}

/// A mapping with a page at both ends that cannot be touched. The block ends at the second, as closely as its alignment lets it.
fn guarded(size: usize, align: usize) -> Option<(NonNull<u8>, Place)> {
    let page = os::page_size();
    let room = size.max(1).checked_next_multiple_of(page)?;
    let slack = if align > page { align } else { 0 };
    let len = room.checked_add(slack)?.checked_add(2 * page).filter(|&len| len <= isize::MAX as usize)?;
    if !LIMIT.charge(len) {
        return None;
    }
    let Some(mapping) = os::map(len) else {
        LIMIT.refund(len);
        return None;
    };
    let first = mapping.addr().get();
    let start = if align > page {
        (first + page).next_multiple_of(align)
    } else {
        (first + len - page - size.max(1)) & !(align - 1)
    };
    let (from, to) = (start & !(page - 1), (start + size.max(1)).next_multiple_of(page));
    let at = |address: usize| mapping.map_addr(|base| base.saturating_add(address - first));
    if !os::forbid(mapping, from - first) || !os::forbid(at(to), first + len - to) {
        os::unmap(mapping, len);
        LIMIT.refund(len);
        return None;
    }
    Some((at(start), Place::in_mapping(at(from), to - from, mapping, len)))
}

/// Gives the memory of a place back.
pub(super) fn give_back(place: &Place) {
    match place.mapping() {
        Some((start, len)) => {
            os::unmap(start, len);
            LIMIT.refund(len);
        }
        None => {
            if let Ok(block) = heap::look_up(place.base) {
                // SAFETY: the place was found so, and nobody else knows it.
                unsafe { heap::release(place.base, &block) };
            }
        }
    }
}

/// Makes every access to a freed block's pages fault, if it has pages of its own; whether it does.
pub(super) fn close(place: &Place) -> bool {
    place.mapping().is_some() && os::forbid(place.base, place.len)
}

impl Known {
    fn front(&self) -> (NonNull<u8>, usize) {
        let before = self.start.addr().get() - self.place.base.addr().get();
        let len = before.min(MOST);
        // SAFETY: the place begins `before` bytes before the block.
        (unsafe { self.start.sub(len) }, len)
    }

    fn rear(&self) -> (NonNull<u8>, usize) {
        let before = self.start.addr().get() - self.place.base.addr().get();
        // SAFETY: the block lies in its place with all its bytes.
        let end = unsafe { self.start.add(self.size) };
        (end, (self.place.len - before - self.size).min(MOST))
    }

    /// Fills the red zones.
    pub(super) fn paint(&self) {
        for (start, len) in [self.front(), self.rear()] {
            // SAFETY: the zone lies in the block's place, outside of the program's bytes.
            unsafe { start.write_bytes(RED, len) };
        }
    }

    /// Fills the program's bytes.
    pub(super) fn fill(&self, byte: u8) {
        // SAFETY: the block has that many bytes, and is in nobody's hands but the caller's.
        unsafe { self.start.write_bytes(byte, self.size) };
    }

    /// What is wrong before the block, and behind it. The block must be live, or leaving by the calling thread.
    pub(super) fn overruns(&self) -> [Option<Damage>; 2] {
        [self.front(), self.rear()].map(|(start, len)| differing(start, len, RED))
    }

    /// What was written to a block in quarantine whose pages can be touched.
    pub(super) fn late_write(&self) -> Option<Damage> {
        if self.place.mapping().is_some() { None } else { differing(self.start, self.size, FREED) }
    }
}

/// The bytes of a range from the first to the last that are not `byte`.
fn differing(start: NonNull<u8>, len: usize, byte: u8) -> Option<Damage> {
    // SAFETY: the caller's range lies in a place; a program that writes there meanwhile is what is being looked for.
    let bytes = unsafe { core::slice::from_raw_parts(start.as_ptr(), len) };
    let first = bytes.iter().position(|&other| other != byte)?;
    let last = bytes.iter().rposition(|&other| other != byte)?;
    let at = |offset: usize| start.map_addr(|base| base.saturating_add(offset));
    Some(Damage { first: at(first), end: at(last + 1) })
}
