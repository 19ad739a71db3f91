//! Options: what a process may set about its allocator, by environment variables, once at start.
//!
//! | variable | value | default | meaning |
//! |---|---|---|---|
//! | `TERRACE_ARENAS` | 1 to 16 | the processors that the process may use | how many arenas threads are spread over |
//! | `TERRACE_SOURCE` | `brk` or `mmap` | `brk` | where arena 0 gets its memory; the others always map theirs |
//! | `TERRACE_PURGE_DELAY_MS` | milliseconds | 1000 | how long free memory is kept before it returns to the kernel |
//! | `TERRACE_MMAP_THRESHOLD` | bytes | 1048576 | blocks larger than this get mappings of their own |
//! | `TERRACE_STATS` | `1` or a file's path | off | print statistics at exit, to standard error or appended to the file |
//!
//! A malformed value is reported once and ignored. In a program that runs with more rights than its caller the environment
//! is not looked at.

use crate::arena::{MAX_ARENAS, MAX_RUN_PAGES, PAGE, Source};
use crate::os;
use crate::report;
use crate::size_class::MAX_SMALL;
use crate::sync::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use core::ffi::CStr;

/// The options of this process.
pub(crate) static OPTIONS: Options = Options::new();

/// Written once, as a rule before any thread has a cache, by the thread that initialises the allocator; read by any. `Relaxed`: the
/// initialisation itself is what readers synchronise with.
pub(crate) struct Options {
    /// 0: by the processors.
    arenas: AtomicUsize,
    /// 0: the break. 1: mappings.
    source: AtomicU32,
    purge_delay_ms: AtomicU32,
    mmap_threshold: AtomicUsize,
    /// What `TERRACE_STATS` says, ended by a zero: a copy, since programs overwrite their environment. Empty if it asks for
    /// nothing; cut off where it is too long for a path.
    stats: [AtomicU8; STATS_LEN],
    /// 1 once the environment was read.
    read: AtomicU32,
}

/// The largest run that an arena is asked for, in bytes, unless the option says less.
const MMAP_THRESHOLD: usize = 1 << 20;

/// Room for the value of `TERRACE_STATS`, in bytes.
pub(crate) const STATS_LEN: usize = if cfg!(loom) { 4 } else { 1024 };

impl Options {
    const fn new() -> Self {
        Self {
            arenas: AtomicUsize::new(0),
            source: AtomicU32::new(0),
            purge_delay_ms: AtomicU32::new(1000),
            mmap_threshold: AtomicUsize::new(MMAP_THRESHOLD),
            stats: [const { AtomicU8::new(0) }; STATS_LEN],
            read: AtomicU32::new(0),
        }
    }

    pub(crate) fn arenas(&self) -> Option<usize> {
        Some(self.arenas.load(Ordering::Relaxed)).filter(|&count| count > 0)
    }

    pub(crate) fn source(&self) -> Source {
        if self.source.load(Ordering::Relaxed) == 0 { Source::Break } else { Source::Mappings }
    }

    pub(crate) fn purge_delay_ms(&self) -> u32 {
        self.purge_delay_ms.load(Ordering::Relaxed)
    }

    /// The size above which a block gets a mapping of its own, in bytes.
    pub(crate) fn mmap_threshold(&self) -> usize {
        self.mmap_threshold.load(Ordering::Relaxed)
    }

    /// What `TERRACE_STATS` says, if it asks for statistics; `buffer` takes the text.
    pub(crate) fn stats<'b>(&self, buffer: &'b mut [u8; STATS_LEN]) -> Option<&'b CStr> {
        for (byte, stored) in buffer.iter_mut().zip(&self.stats) {
            *byte = stored.load(Ordering::Relaxed);
        }
        CStr::from_bytes_until_nul(buffer).ok().filter(|text| !text.is_empty())
    }

    /// Reads the environment, unless that was done. Before the C library has set the environment up, when the loader already
    /// allocates, there is nothing to read: the library's own start then asks again.
    /// `true` if it was done now.
    pub(crate) fn read_environment(&self) -> bool {
        if !os::has_environment() || self.read.swap(1, Ordering::Relaxed) != 0 {
            return false;
        }
        if let Some(count) = number(c"TERRACE_ARENAS", 1, MAX_ARENAS) {
            self.arenas.store(count, Ordering::Relaxed);
        }
        if let Some(delay) = number(c"TERRACE_PURGE_DELAY_MS", 0, i32::MAX as usize) {
            self.purge_delay_ms.store(delay as u32, Ordering::Relaxed);
        }
        if let Some(bytes) = number(c"TERRACE_MMAP_THRESHOLD", MAX_SMALL, MAX_RUN_PAGES * PAGE) {
            self.mmap_threshold.store(bytes, Ordering::Relaxed);
        }
        match os::environment(c"TERRACE_SOURCE").map(CStr::to_bytes) {
            None | Some(b"brk") => {}
            Some(b"mmap") => self.source.store(1, Ordering::Relaxed),
            Some(_) => report::say(format_args!("TERRACE_SOURCE must be brk or mmap; the value given is ignored")),
        }
        if let Some(stats) = os::environment(c"TERRACE_STATS")
            && !matches!(stats.to_bytes(), b"" | b"0")
        {
            let stored = self.stats[..STATS_LEN - 1].iter().zip(stats.to_bytes());
            stored.for_each(|(stored, &byte)| stored.store(byte, Ordering::Relaxed));
        }
        true
    }
}

/// The number that a variable gives, if it is set and lies between the bounds.
fn number(name: &CStr, least: usize, most: usize) -> Option<usize> {
    let text = os::environment(name)?;
    let parsed = text.to_str().ok().and_then(|text| text.parse().ok()).filter(|n| (least..=most).contains(n));
    if parsed.is_none() {
        let name = name.to_str().unwrap_or("an option");
        report::say(format_args!("{name} must be a number from {least} to {most}; the value given is ignored"));
    }
    parsed
}
