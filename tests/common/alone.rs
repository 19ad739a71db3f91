//! Tests that measure what the process has at hand.

use std::alloc::{GlobalAlloc, Layout};
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use terrace::Terrace;

/// Runs one such test at a time, without what the threads of another had at hand when they ended: each in a thread that has ended for good
/// before the next begins, and that has a cache from the beginning, so that it takes up none that its own threads leave.
pub fn alone(test: fn()) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = std::thread::spawn(move || {
        let layout = Layout::new::<u64>();
        // SAFETY: the size is not zero.
        let own = unsafe { Terrace.alloc(layout) };
        terrace::purge();
        test();
        // SAFETY: the block was allocated above.
        unsafe { Terrace.dealloc(own, layout) };
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}
