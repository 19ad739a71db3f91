//! The history for C programs.

use crate::history;

pub use crate::history::{Event, stop as history_stop};

/// `terrace_history_start`.
pub fn history_start(events: u32) {
    history::start(events);
}

/// `terrace_history_of`: writes the last `most` events of blocks in which the address lies, oldest first; gives how many events
/// there are.
///
/// # Safety
/// `events` must have room for `most` events; it may be NULL if that is 0.
pub unsafe fn history_of(address: *const u8, events: *mut Event, most: usize) -> usize {
    let mut count = 0;
    history::of(address, |_| count += 1);
    let (mut skip, mut written) = (count - most.min(count), 0);
    history::of(address, |event| {
        if skip > 0 {
            skip -= 1;
        } else if written < most {
            // SAFETY: there is room for so many.
            let place = unsafe { events.add(written) };
            // SAFETY: as above.
            unsafe { place.write(*event) };
            written += 1;
        }
    });
    count
}

/// `terrace_event_frames`: writes the return addresses of an event's call stack, the innermost first and `most` at most; gives how many
/// there are.
///
/// # Safety
/// `frames` must have room for `most` addresses; it may be NULL if that is 0.
pub unsafe fn event_frames(event: &Event, frames: *mut *const u8, most: usize) -> usize {
    let found = event.frames();
    for (index, &frame) in found.iter().take(most).enumerate() {
        // SAFETY: there is room for so many.
        let place = unsafe { frames.add(index) };
        // SAFETY: as above.
        unsafe { place.write(core::ptr::without_provenance(frame)) };
    }
    found.len()
}

/// `terrace_history_print`: writes the events of blocks in which the address lies, or for NULL all events, to standard error.
pub fn history_print(address: *const u8) {
    if address.is_null() { history::for_each(history::tell) } else { history::of(address, history::tell) }
}
