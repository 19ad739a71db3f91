//! The history for C programs.

use crate::history;
use crate::report;

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

/// `terrace_history_print`: writes the events of blocks in which the address lies, or for NULL all events, to standard error.
pub fn history_print(address: *const u8) {
    let show = |event: &Event| report::say(format_args!("history: {event}"));
    if address.is_null() { history::for_each(show) } else { history::of(address, show) }
}
