//! What is said on standard error when a call is bad, in one sentence, before the process aborts.
//!
//! Every bad pointer is found before anything was done with it, except for blocks freed twice that come to light when they
//! are settled on their slab.

use crate::history;
use crate::options::OPTIONS;
use crate::os;
use crate::sync::Mutex;
use core::fmt::{self, Write};

/// What is wrong with a pointer that was given to `free`, `realloc` or a relative.
pub(crate) enum Fault {
    /// In no memory of the allocator's.
    Foreign,
    /// Inside a block of `size` bytes, `offset` bytes after its start.
    Inside { size: usize, offset: usize },
    /// A block of `size` bytes that was freed and not handed out since.
    Freed { size: usize },
    /// In the memory, of `size` bytes, of large blocks that were freed.
    FreedMapping { size: usize },
    /// In the allocator's memory, where no block was handed out.
    NoBlock,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Foreign => write!(
                f,
                "the address was never given out by this allocator, or is that of a large block freed long ago"
            ),
            Fault::Inside { size, offset } => {
                write!(
                    f,
                    "the address lies {} inside a block of {}; only its first byte can be given",
                    Bytes(offset),
                    Bytes(size)
                )
            }
            Fault::Freed { size } => write!(f, "the block of {} was freed already (double free)", Bytes(size)),
            Fault::FreedMapping { size } => {
                write!(f, "the address lies in {} of large blocks that were freed already (double free?)", Bytes(size))
            }
            Fault::NoBlock => write!(f, "the address lies in free memory of the heap, where there is no block"),
        }
    }
}

/// A number of bytes, in words.
pub(crate) struct Bytes(pub(crate) usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// A sentence put together on the stack; what does not fit is cut off.
struct Sentence {
    bytes: [u8; 400],
    len: usize,
}

impl Write for Sentence {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.len;
        let part = &text.as_bytes()[..text.len().min(room)];
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
        Ok(())
    }
}

/// Writes `terrace: ` and the text to standard error, as one line.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let mut sentence = Sentence { bytes: [0; 400], len: 0 };
    // Writing into the buffer cannot fail.
    let _ = writeln!(sentence, "terrace: {text}");
    os::write_standard_error(&sentence.bytes[..sentence.len]);
}

/// Reports a bad pointer and aborts, unless the options say otherwise; then the call that was given it does nothing.
#[cold]
pub(crate) fn bad_pointer(call: &str, address: *const u8, fault: Fault) {
    if speaks() {
        say(format_args!("{call}({address:p}): {fault}"));
        history::tell_of(address);
    }
    act();
}

/// Whether what is found is said.
pub(crate) fn speaks() -> bool {
    OPTIONS.check_action().0
}

/// Does what the options want done once a bug was said: calls the hook, stops for a debugger, aborts. The process may go on.
pub(crate) fn act() {
    call_hook();
    if OPTIONS.stops_for_debugger() {
        os::trap();
    }
    if OPTIONS.check_action().1 {
        os::abort();
    }
}

/// What is called when a bug was found: the C library's `terrace_on_error`, where that is linked in.
static HOOK: Mutex<Option<extern "C" fn()>> = Mutex::new(None);

/// Has a function called whenever a bug was found.
pub(crate) fn set_hook(hook: extern "C" fn()) {
    *HOOK.lock() = Some(hook);
}

/// Calls the hook, if there is one.
pub(crate) fn call_hook() {
    let hook = HOOK.try_lock().and_then(|hook| *hook);
    if let Some(hook) = hook {
        hook();
    }
}

/// Reports a bad pointer that was found when it had done its damage already, and aborts whatever the options say.
#[cold]
pub(crate) fn harm_done(call: &str, address: *const u8, fault: Fault) -> ! {
    bad_pointer(call, address, fault);
    os::abort();
}

/// Reports that the allocator cannot go on and aborts.
#[cold]
pub(crate) fn fatal(what: &str) -> ! {
    fatal_with(format_args!("{what}"))
}

/// As `fatal`, for a sentence that has to be put together.
#[cold]
pub(crate) fn fatal_with(what: fmt::Arguments<'_>) -> ! {
    say(what);
    os::abort();
}
