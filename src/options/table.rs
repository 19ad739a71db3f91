//! The table of the options, and how options and what is wrong with them are written.

use super::{LARGEST_RUN, MAX_EVENTS, NEVER_MS, Options, PERTURB_BITS};
use crate::arena::MAX_ARENAS;
use crate::size_class::MAX_SMALL;
use crate::sync::Ordering;
use core::fmt;

/// Every variable of the environment that begins so is meant for this library.
pub(super) const PREFIX: &str = "TERRACE_";

/// What there is to know about an option.
#[derive(Clone, Copy)]
pub struct OptionDescription {
    /// Its name for calls and in programs; the variable of the environment is `TERRACE_` and the name in capitals.
    pub name: &'static str,
    /// Its values in words.
    pub values: &'static str,
    /// Its value if nothing sets it.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A whole number between two bounds, which belong to it.
    Number { least: usize, most: usize, store: fn(&Options, usize) },
    /// A number of bytes, or a share of the memory that the process may have; 0 is stored as the largest number.
    Amount { store: fn(&Options, usize) },
    /// One of some words, stored by its place among them.
    Word { words: &'static [&'static str], store: fn(&Options, usize) },
    /// Any text.
    Text { store: fn(&Options, &[u8]) },
    /// Words of `attended::words`. Can be set at the start alone, not by a call.
    Checks,
}

/// Every option.
pub(super) static TABLE: [OptionDescription; 19] = [
    OptionDescription {
        name: "arenas",
        values: "1 to 16",
        default: "the processors that the process may use",
        meaning: "how many arenas threads are spread over",
        kind: Kind::Number { least: 1, most: MAX_ARENAS, store: |o, n| o.arenas.store(n, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "source",
        values: "`brk` or `mmap`",
        default: "`brk`",
        meaning: "where the first arena gets its memory; the others always map theirs, and so does the first where there is a limit",
        kind: Kind::Word { words: &["brk", "mmap"], store: |o, n| o.source.store(n as u32, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "purge_delay_ms",
        values: "milliseconds",
        default: "1000",
        meaning: "how long free memory is kept before it returns to the kernel",
        kind: Kind::Number {
            least: 0,
            most: NEVER_MS,
            store: |o, n| o.purge_delay_ms.store(n as u32, Ordering::Relaxed),
        },
    },
    OptionDescription {
        name: "background",
        values: "0 or 1",
        default: "0",
        meaning: "1: a thread in the background returns free memory, also while the program is idle",
        kind: Kind::Number { least: 0, most: 1, store: |o, n| o.background.store(n as u32, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "huge_pages",
        values: "0 or 1",
        default: "0",
        meaning: "1: memory that has long been in dense use is put into huge pages, by the thread that does its housekeeping",
        kind: Kind::Number { least: 0, most: 1, store: |o, n| o.huge_pages.store(n as u32, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "thread_cache_bytes",
        values: "bytes",
        default: "4 MiB for each processor, 64 MiB at least",
        meaning: "what all threads together may have at hand, beyond 64 KiB for each",
        kind: Kind::Number {
            least: 0,
            most: usize::MAX,
            store: |o, n| o.thread_cache_bytes.store(n, Ordering::Relaxed),
        },
    },
    OptionDescription {
        name: "limit",
        values: "bytes as `512M` (`K`, `M`, `G`), a share as `90%`, or 0",
        default: "0: none",
        meaning: "how much may be mapped before there is no memory; a share is of what the process's control group, or the machine, has",
        kind: Kind::Amount { store: |o, n| o.limit.store(n, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "soft_limit",
        values: "as for `limit`",
        default: "0: none",
        meaning: "when more is mapped, all free memory is returned, and then the limit callback called",
        kind: Kind::Amount { store: |o, n| o.soft_limit.store(n, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "trim_threshold",
        values: "bytes",
        default: "0",
        meaning: "how much free memory each arena keeps, however old it is",
        kind: Kind::Number { least: 0, most: usize::MAX, store: |o, n| o.trim_threshold.store(n, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "mmap_threshold",
        values: "bytes, 32768 to 4128768",
        default: "1048576",
        meaning: "blocks larger than this get mappings of their own",
        kind: Kind::Number {
            least: MAX_SMALL,
            most: LARGEST_RUN,
            store: |o, n| o.mmap_threshold.store(n, Ordering::Relaxed),
        },
    },
    OptionDescription {
        name: "mmap_max",
        values: "a number of blocks",
        default: "half of the mappings that the kernel allows a process (`vm.max_map_count`)",
        meaning: "when so many blocks have mappings of their own, others get theirs only if no arena can hold them",
        kind: Kind::Number { least: 0, most: usize::MAX, store: |o, n| o.mmap_max.store(n, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "perturb",
        values: "0 to 255",
        default: "0",
        meaning: "unless 0, new blocks are filled with the complement of this byte, and freed ones with it; slow",
        kind: Kind::Number { least: 0, most: 255, store: |o, n| o.change_attended(PERTURB_BITS, n as u32) },
    },
    OptionDescription {
        name: "history",
        values: "0 to 1048576 events",
        default: "0",
        meaning: "unless 0, so many of each thread's last events are kept, to be shown; slow",
        kind: Kind::Number { least: 0, most: MAX_EVENTS, store: Options::store_history },
    },
    OptionDescription {
        name: "history_stacks",
        values: "0 or 1",
        default: "0",
        meaning: "1: each event of the history has the call stack; slower still",
        kind: Kind::Number { least: 0, most: 1, store: |o, n| o.history_stacks.store(n as u32, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "history_at_exit",
        values: "a number of events",
        default: "0",
        meaning: "prints so many of the last events of all threads at exit, to standard error",
        kind: Kind::Number {
            least: 0,
            most: u32::MAX as usize,
            store: |o, n| o.history_at_exit.store(n as u32, Ordering::Relaxed),
        },
    },
    OptionDescription {
        name: "stacks",
        values: "`frames` or `unwind`",
        default: "`frames`",
        meaning: "how call stacks are taken: by frame pointers, as far as code keeps them, or by the unwinder of the C runtime, which is slower",
        kind: Kind::Word { words: &["frames", "unwind"], store: |o, n| o.stacks.store(n as u32, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "check_action",
        values: "0 to 7",
        default: "3",
        meaning: "on a bad pointer, and what a check finds, a sum: 1 reports it, 4 stops for a debugger, 2 aborts; 0 ignores it",
        kind: Kind::Number { least: 0, most: 7, store: |o, n| o.check_action.store(n as u32, Ordering::Relaxed) },
    },
    OptionDescription {
        name: "check",
        values: "words of [checks.md](checks.md)",
        default: "none",
        meaning: "looks for bugs of the program; can only be set at the start, not by a call",
        kind: Kind::Checks,
    },
    OptionDescription {
        name: "stats",
        values: "`1`, or a file's path",
        default: "off",
        meaning: "prints statistics at exit, to standard error or appended to the file",
        kind: Kind::Text { store: Options::store_stats },
    },
];

impl OptionDescription {
    /// Whether this text, as one would write it in the environment, is the option's default; `false` where the default is no fixed
    /// value.
    pub fn is_default(&self, value: &str) -> bool {
        self.default.trim_matches('`').split(':').next() == Some(value)
    }
}

/// Every option, for documentation and tools.
pub fn options() -> &'static [OptionDescription] {
    &TABLE
}

/// Why an option could not be set.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum OptionError {
    /// There is no option of that name.
    Unknown {
        /// The option whose name comes nearest.
        nearest: &'static OptionDescription,
    },
    /// The option does not have such a value.
    Malformed {
        /// The option.
        option: &'static OptionDescription,
    },
    /// The option can only be set at the start, by the environment or the program itself.
    Late {
        /// The option.
        option: &'static OptionDescription,
    },
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionError::Unknown { nearest } => write!(f, "there is no such option; the nearest is {}", nearest.name),
            OptionError::Malformed { option } => write!(f, "{} must be {}", option.name, option.kind),
            OptionError::Late { option } => {
                write!(
                    f,
                    "{} can only be set at the start, by {} or the program's options",
                    option.name,
                    Variable(option.name)
                )
            }
        }
    }
}

impl fmt::Debug for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for OptionError {}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Number { least, most: usize::MAX, .. } => write!(f, "a number from {least} on"),
            Kind::Number { least, most, .. } => write!(f, "a number from {least} to {most}"),
            Kind::Word { words, .. } => {
                let mut separator = "";
                words.iter().try_for_each(|word| write!(f, "{}{word}", core::mem::replace(&mut separator, " or ")))
            }
            Kind::Amount { .. } => write!(f, "a number of bytes, as 512M, or a share, as 90%"),
            Kind::Text { .. } => write!(f, "a text"),
            Kind::Checks => write!(f, "a list of checks"),
        }
    }
}

/// The option's row of the table in the documentation.
impl fmt::Display for OptionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, values, default, meaning, .. } = self;
        write!(f, "| `{}` | `{name}` | {values} | {default} | {meaning} |", Variable(name))
    }
}

/// The variable of the environment for an option's name.
pub(super) struct Variable<'n>(pub(super) &'n str);

impl fmt::Display for Variable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}")?;
        self.0.chars().try_for_each(|letter| write!(f, "{}", letter.to_ascii_uppercase()))
    }
}

/// Text of the program's or its caller's, for a report: what is not plain is shown as a question mark, and it is cut off after
/// 60 bytes.
pub(super) struct Shown<'t>(pub(super) &'t [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |&byte: &u8| if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '?' };
        self.0.iter().take(60).map(shown).try_for_each(|letter| write!(f, "{letter}"))
    }
}
