//! Where an arena's segments come from: the break, or mappings.

use super::segment::SEGMENT_SIZE;
use crate::limit::LIMIT;
use crate::os;
use core::ptr::{self, NonNull};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Mappings,
    /// Grow the break; for good by mappings once that has failed.
    Break,
}

pub(crate) struct Supply {
    source: Source,
    /// Where the last mapped segment lies: the next one is asked for right below it, as the kernel would place it.
    last: *mut u8,
}

// SAFETY: the pointer is only a hint and never dereferenced.
unsafe impl Send for Supply {}

/// Memory for a segment: aligned, zeroed, and whether it came from the break.
pub(crate) struct Supplied {
    pub(crate) memory: NonNull<u8>,
    pub(crate) from_break: bool,
}

impl Supply {
    pub(crate) const fn new(source: Source) -> Self {
        Self { source, last: ptr::null_mut() }
    }

    pub(crate) fn set_source(&mut self, source: Source) {
        self.source = source;
    }

    pub(crate) fn next_segment(&mut self) -> Option<Supplied> {
        if !LIMIT.charge(SEGMENT_SIZE) {
            return None;
        }
        let supplied = self.ask_kernel();
        if supplied.is_none() {
            LIMIT.refund(SEGMENT_SIZE);
        }
        supplied
    }

    fn ask_kernel(&mut self) -> Option<Supplied> {
        if self.source == Source::Break {
            if let Some(memory) = segment_from_break() {
                return Some(Supplied { memory, from_break: true });
            }
            self.source = Source::Mappings;
        }
        let hint = self.last.map_addr(|last| last.saturating_sub(SEGMENT_SIZE));
        let memory = os::map_aligned(SEGMENT_SIZE, SEGMENT_SIZE, hint)?;
        self.last = memory.as_ptr();
        Some(Supplied { memory, from_break: false })
    }
}

/// Gives a segment's memory back; `false` if the kernel keeps the addresses (their contents are gone all the same).
pub(crate) fn give_back(memory: NonNull<u8>, from_break: bool) -> bool {
    let given = if from_break {
        // SAFETY: the segment ends there.
        let end = unsafe { memory.add(SEGMENT_SIZE) };
        os::shrink_break(end, SEGMENT_SIZE)
    } else {
        os::unmap(memory, SEGMENT_SIZE)
    };
    if given {
        LIMIT.refund(SEGMENT_SIZE);
    }
    given
}

/// Grows the break by one segment, aligned. Memory that the program itself takes by `sbrk` in between is left alone: if it
/// lies in the way of alignment, the break is moved on once more, and after that mappings serve.
fn segment_from_break() -> Option<NonNull<u8>> {
    let here = os::grow_break(0)?.start;
    let padding = here.addr().get().next_multiple_of(SEGMENT_SIZE) - here.addr().get();
    let grown = os::grow_break(padding + SEGMENT_SIZE)?;
    if let Some(segment) = aligned_within(grown.start, grown.len) {
        return Some(segment);
    }
    let more = os::grow_break(SEGMENT_SIZE)?;
    let (start, len) =
        if end_of(&grown) == more.start { (grown.start, grown.len + more.len) } else { (more.start, more.len) };
    aligned_within(start, len)
}

fn end_of(grown: &os::Break) -> NonNull<u8> {
    // SAFETY: one past the last byte of what was grown.
    unsafe { grown.start.add(grown.len) }
}

fn aligned_within(start: NonNull<u8>, len: usize) -> Option<NonNull<u8>> {
    let padding = start.addr().get().next_multiple_of(SEGMENT_SIZE) - start.addr().get();
    // SAFETY: a whole segment fits behind the padding, so the result lies inside the range.
    (padding + SEGMENT_SIZE <= len).then(|| unsafe { start.add(padding) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_from_the_break_survive_a_foreign_sbrk_between_them() {
        let mut supply = Supply::new(Source::Break);
        let first = supply.next_segment().unwrap();
        // SAFETY: growing the break is always allowed; the memory is left unused.
        let foreign = unsafe { libc::sbrk(1000) };
        let second = supply.next_segment().unwrap();
        for supplied in [&first, &second] {
            assert!(supplied.memory.addr().get().is_multiple_of(SEGMENT_SIZE));
            // SAFETY: a whole segment was supplied.
            unsafe { supplied.memory.write_bytes(1, SEGMENT_SIZE) };
        }
        if supply.source == Source::Break {
            assert!(second.memory.as_ptr().addr() >= foreign.addr() + 1000);
        }
    }

    #[test]
    fn mapped_segments_lie_side_by_side_when_they_can() {
        let mut supply = Supply::new(Source::Mappings);
        let segments: std::vec::Vec<_> = (0..4).map(|_| supply.next_segment().unwrap().memory).collect();
        for segment in &segments {
            assert!(segment.addr().get().is_multiple_of(SEGMENT_SIZE));
            assert!(give_back(*segment, false));
        }
    }
}
