//! Options: what a process may set about its allocator. One table says all there is to say about each.
//!
//! An option has a value from the first of these that gives it one: a call (`terrace::set_option`, `mallopt`), the
//! environment (`TERRACE_ARENAS=2`), the program itself (`terrace::options!("arenas=2")` or the C symbol `terrace_options`),
//! the default. The environment is read once, when the library starts; in a program that runs with more rights than its
//! caller it is not looked at. What is unknown or malformed is reported once, with the nearest name, and ignored.

pub(crate) mod layout;
mod table;

pub use table::{OptionDescription, OptionError, options};

use crate::arena::{MAX_RUN_PAGES, PAGE, Source};
use crate::attended::words;
use crate::os;
use crate::report;
use crate::sync::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use core::ffi::CStr;
use table::{Kind, PREFIX, Shown, TABLE, Variable};

/// The options of this process.
pub(crate) static OPTIONS: Options = Options::new();

/// Written by whoever initialises the allocator, as a rule before any thread has a cache, and by calls that set an option;
/// read by any thread. `Relaxed`: each value stands for itself, and a thread that sees it late acts as it would have a
/// moment before.
pub(crate) struct Options {
    /// 0: by the processors.
    arenas: AtomicUsize,
    /// The number of the word in the table: 0 the break, 1 mappings.
    source: AtomicU32,
    purge_delay_ms: AtomicU32,
    background: AtomicU32,
    huge_pages: AtomicU32,
    /// In bytes; `usize::MAX`: none.
    limit: AtomicUsize,
    soft_limit: AtomicUsize,
    /// `usize::MAX`: by the processors.
    thread_cache_bytes: AtomicUsize,
    trim_threshold: AtomicUsize,
    mmap_threshold: AtomicUsize,
    mmap_max: AtomicUsize,
    /// Why calls are attended: the byte of `perturb` in its lowest bits, then the bits below; 0 while they are not.
    attended: AtomicU32,
    /// Events that a ring of the history keeps.
    history: AtomicU32,
    /// 1: events have call stacks.
    history_stacks: AtomicU32,
    /// Events that are printed at exit.
    history_at_exit: AtomicU32,
    /// The number of the word in the table: 0 frame pointers, 1 the unwinder.
    stacks: AtomicU32,
    check_action: AtomicU32,
    /// Bytes that the quarantine holds at most, and the calls from one self-check to the next.
    quarantine_bytes: AtomicUsize,
    self_check_calls: AtomicUsize,
    /// What `stats` says, ended by a zero: a copy, since programs overwrite their environment. Empty if it asks for
    /// nothing; cut off where it is too long for a path.
    stats: [AtomicU8; STATS_LEN],
    /// 1 once the environment was read.
    read: AtomicU32,
}

/// Room for the value of `stats`, in bytes.
pub(crate) const STATS_LEN: usize = if cfg!(loom) { 4 } else { 1024 };
/// The bits of `attended` that are the byte of `perturb`.
const PERTURB_BITS: u32 = 0xff;
/// The bit that is set while the history is on.
const HISTORY_BIT: u32 = 1 << 30;
/// The bit that is set under memcheck.
const MEMCHECK_BIT: u32 = 1 << 31;
const _: () =
    assert!((PERTURB_BITS | words::ALL) & (HISTORY_BIT | MEMCHECK_BIT) == 0 && PERTURB_BITS & words::ALL == 0);
/// The longest ring of events.
const MAX_EVENTS: usize = 1 << 20;
/// The longest delay, in milliseconds: as good as never, and below half of what a 32-bit clock counts.
const NEVER_MS: usize = i32::MAX as usize;
/// What the largest run of pages holds, in bytes.
const LARGEST_RUN: usize = MAX_RUN_PAGES * PAGE;

impl Options {
    const fn new() -> Self {
        Self {
            arenas: AtomicUsize::new(0),
            source: AtomicU32::new(0),
            purge_delay_ms: AtomicU32::new(1000),
            background: AtomicU32::new(0),
            huge_pages: AtomicU32::new(0),
            limit: AtomicUsize::new(usize::MAX),
            soft_limit: AtomicUsize::new(usize::MAX),
            thread_cache_bytes: AtomicUsize::new(usize::MAX),
            trim_threshold: AtomicUsize::new(0),
            mmap_threshold: AtomicUsize::new(1 << 20),
            mmap_max: AtomicUsize::new(usize::MAX),
            attended: AtomicU32::new(0),
            history: AtomicU32::new(0),
            history_stacks: AtomicU32::new(0),
            history_at_exit: AtomicU32::new(0),
            stacks: AtomicU32::new(0),
            check_action: AtomicU32::new(3),
            quarantine_bytes: AtomicUsize::new(16 << 20),
            self_check_calls: AtomicUsize::new(1000),
            stats: [const { AtomicU8::new(0) }; STATS_LEN],
            read: AtomicU32::new(0),
        }
    }

    pub(crate) fn arenas(&self) -> Option<usize> {
        Some(self.arenas.load(Ordering::Relaxed)).filter(|&count| count > 0)
    }

    /// Leaves the number of arenas to the processors again.
    pub(crate) fn forget_arenas(&self) {
        self.arenas.store(0, Ordering::Relaxed);
    }

    pub(crate) fn source(&self) -> Source {
        // The break can only be given back from its end, so that near a limit free segments in its midst would count for ever.
        let is_limited = self.limit() < usize::MAX || self.soft_limit() < usize::MAX;
        if self.source.load(Ordering::Relaxed) == 0 && !is_limited { Source::Break } else { Source::Mappings }
    }

    pub(crate) fn purge_delay_ms(&self) -> u32 {
        self.purge_delay_ms.load(Ordering::Relaxed)
    }

    /// Whether a thread in the background is wanted.
    pub(crate) fn background(&self) -> bool {
        self.background.load(Ordering::Relaxed) != 0
    }

    /// Whether memory in dense use is put into huge pages.
    pub(crate) fn huge_pages(&self) -> bool {
        self.huge_pages.load(Ordering::Relaxed) != 0
    }

    /// Bytes that all thread caches share.
    pub(crate) fn thread_cache_bytes(&self) -> Option<usize> {
        Some(self.thread_cache_bytes.load(Ordering::Relaxed)).filter(|&bytes| bytes < usize::MAX)
    }

    /// Bytes that may be mapped.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Bytes beyond which memory is returned and the program told.
    pub(crate) fn soft_limit(&self) -> usize {
        self.soft_limit.load(Ordering::Relaxed)
    }

    /// Pages that each arena keeps when it returns memory by age.
    pub(crate) fn kept_pages(&self) -> usize {
        self.trim_threshold.load(Ordering::Relaxed) / PAGE
    }

    /// The size above which a block gets a mapping of its own, in bytes.
    pub(crate) fn mmap_threshold(&self) -> usize {
        self.mmap_threshold.load(Ordering::Relaxed)
    }

    /// How many blocks may have mappings of their own before arenas are asked for the next; `usize::MAX` if nobody said.
    pub(crate) fn mmap_max(&self) -> usize {
        self.mmap_max.load(Ordering::Relaxed)
    }

    /// Whether every call takes the slow path and comes to `attended`.
    pub(crate) fn attended(&self) -> bool {
        self.attended_bits() != 0
    }

    fn attended_bits(&self) -> u32 {
        self.attended.load(Ordering::Relaxed)
    }

    /// Whether one of these checks of `attended::words` is on.
    pub(crate) fn has_check(&self, bits: u32) -> bool {
        self.attended_bits() & bits != 0
    }

    /// What the quarantine holds at most.
    pub(crate) fn quarantine_bytes(&self) -> usize {
        self.quarantine_bytes.load(Ordering::Relaxed)
    }

    /// How many calls there are from one self-check to the next.
    pub(crate) fn self_check_calls(&self) -> usize {
        self.self_check_calls.load(Ordering::Relaxed)
    }

    /// The byte that freed blocks are filled with, and new ones with its complement; 0: neither is filled.
    pub(crate) fn perturb_byte(&self) -> u8 {
        (self.attended_bits() & PERTURB_BITS) as u8
    }

    /// A start with no number of its own keeps the size of rings.
    fn store_history(&self, events: usize) {
        if events > 0 {
            self.history.store(events as u32, Ordering::Relaxed);
        }
        self.change_attended(HISTORY_BIT, if events > 0 { HISTORY_BIT } else { 0 });
    }

    pub(crate) fn history_on(&self) -> bool {
        self.attended() && self.attended_bits() & HISTORY_BIT != 0
    }

    /// How many events a ring keeps.
    pub(crate) fn history_events(&self) -> u64 {
        self.history.load(Ordering::Relaxed).max(1).into()
    }

    /// Whether events have call stacks.
    pub(crate) fn history_stacks(&self) -> bool {
        self.history_stacks.load(Ordering::Relaxed) != 0
    }

    /// Whether call stacks are taken by the unwinder.
    pub(crate) fn unwinds(&self) -> bool {
        self.stacks.load(Ordering::Relaxed) != 0
    }

    /// How many events are printed at exit.
    pub(crate) fn history_at_exit(&self) -> usize {
        self.history_at_exit.load(Ordering::Relaxed) as usize
    }

    /// Has calls attended from here on: the process runs under memcheck.
    pub(crate) fn attend_for_memcheck(&self) {
        self.change_attended(MEMCHECK_BIT, MEMCHECK_BIT);
    }

    /// Replaces those bits of `attended`, and none that another call sets meanwhile.
    fn change_attended(&self, bits: u32, to: u32) {
        let mut before = self.attended_bits();
        while let Err(other) =
            self.attended.compare_exchange(before, (before & !bits) | to, Ordering::Relaxed, Ordering::Relaxed)
        {
            before = other;
        }
    }

    /// Whether bad pointers are reported, and whether they end the process.
    pub(crate) fn check_action(&self) -> (bool, bool) {
        let action = self.check_action.load(Ordering::Relaxed);
        (action & 1 != 0, action & 2 != 0)
    }

    /// Whether a bug stops the process for a debugger.
    pub(crate) fn stops_for_debugger(&self) -> bool {
        self.check_action.load(Ordering::Relaxed) & 4 != 0
    }

    /// Switches checks on; what is no check is reported and ignored.
    fn store_checks(&self, list: &[u8]) {
        let wanted = words::read(list, |word, nearest| {
            report::say(format_args!(
                "{PREFIX}CHECK: {} is no check and is ignored; the nearest is {}",
                Shown(word),
                nearest.name
            ));
        });
        if let Some(bytes) = wanted.quarantine {
            self.quarantine_bytes.store(bytes, Ordering::Relaxed);
        }
        if let Some(calls) = wanted.self_check {
            self.self_check_calls.store(calls, Ordering::Relaxed);
        }
        self.change_attended(words::ALL, wanted.bits);
    }

    /// What `stats` says, if it asks for statistics; `buffer` takes the text.
    pub(crate) fn stats<'b>(&self, buffer: &'b mut [u8; STATS_LEN]) -> Option<&'b CStr> {
        for (byte, stored) in buffer.iter_mut().zip(&self.stats) {
            *byte = stored.load(Ordering::Relaxed);
        }
        CStr::from_bytes_until_nul(buffer).ok().filter(|text| !text.is_empty())
    }

    fn store_stats(&self, text: &[u8]) {
        let text = if text == b"0" { b"" } else { text };
        let padded = text.iter().chain(core::iter::repeat(&0));
        self.stats[..STATS_LEN - 1]
            .iter()
            .zip(padded)
            .for_each(|(stored, &byte)| stored.store(byte, Ordering::Relaxed));
    }

    /// Reads what the program and the environment say, unless that was done. Before the C library has set the environment up,
    /// when the loader already allocates, there is nothing to read: the library's own start then asks again.
    /// `true` if it was done now.
    #[unsafe(link_section = ".text.terrace.common")]
    pub(crate) fn read_environment(&self) -> bool {
        if !os::has_environment() || self.read.swap(1, Ordering::Relaxed) != 0 {
            return false;
        }
        if let Some(compiled) = os::compiled_options() {
            self.take_list(compiled.to_bytes());
        }
        let mut seen = [false; TABLE.len()];
        os::for_each_variable(|name, value| {
            let Some(name) = name.strip_prefix(PREFIX.as_bytes()) else { return };
            match find(name) {
                // Of two variables with one name the first counts, as for `getenv`.
                Ok(option) if core::mem::replace(&mut seen[place_of(option)], true) => {}
                Ok(option) => {
                    if self.store(option, value).is_err() {
                        report::say(format_args!(
                            "{} must be {}; the value given, {}, is ignored",
                            Variable(option.name),
                            option.kind,
                            Shown(value)
                        ));
                    }
                }
                Err(nearest) => report::say(format_args!(
                    "{PREFIX}{} is no option and is ignored; the nearest is {}",
                    Shown(name),
                    Variable(nearest.name)
                )),
            }
        });
        true
    }

    /// Takes `name=value` pairs, divided by commas, from the program itself.
    fn take_list(&self, list: &[u8]) {
        for pair in list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
            let cut = pair.iter().position(|&byte| byte == b'=');
            let (name, value) = cut.map_or((pair, &b""[..]), |cut| (&pair[..cut], &pair[cut + 1..]));
            if let Err(error) = self.set(name, value) {
                report::say(format_args!("terrace_options: {}: {error}; it is ignored", Shown(pair)));
            }
        }
    }

    /// Sets an option; says which one it was.
    pub(crate) fn set(&self, name: &[u8], value: &[u8]) -> Result<&'static OptionDescription, OptionError> {
        let option = find(name).map_err(|nearest| OptionError::Unknown { nearest })?;
        self.store(option, value)?;
        Ok(option)
    }

    /// As `set`, for a call while the program runs.
    pub(crate) fn set_by_call(&self, name: &[u8], value: &[u8]) -> Result<&'static OptionDescription, OptionError> {
        match find(name) {
            Ok(option) if matches!(option.kind, Kind::Checks) => Err(OptionError::Late { option }),
            _ => self.set(name, value),
        }
    }

    /// As `set`, for an option of this name that has numbers for values. A number out of bounds is taken for the nearest bound.
    pub(crate) fn set_number(&self, name: &str, number: usize) -> Option<&'static OptionDescription> {
        let option = find(name.as_bytes()).ok()?;
        let Kind::Number { least, most, store } = option.kind else { return None };
        store(self, number.clamp(least, most));
        Some(option)
    }

    fn store(&self, option: &'static OptionDescription, value: &[u8]) -> Result<(), OptionError> {
        let malformed = OptionError::Malformed { option };
        match option.kind {
            Kind::Number { least, most, store } => {
                let text = core::str::from_utf8(value).map_err(|_| malformed)?;
                let number = text.parse().ok().filter(|number| (least..=most).contains(number)).ok_or(malformed)?;
                store(self, number);
            }
            Kind::Word { words, store } => {
                store(self, words.iter().position(|word| word.as_bytes() == value).ok_or(malformed)?);
            }
            Kind::Amount { store } => store(self, amount(value, os::memory_of_process).ok_or(malformed)?),
            Kind::Text { store } => store(self, value),
            Kind::Checks => self.store_checks(value),
        }
        Ok(())
    }
}

/// The bytes that a text like `512M` or `90%` stands for; the largest number for 0.
fn amount(text: &[u8], all: impl FnOnce() -> usize) -> Option<usize> {
    let (digits, unit) = match text.split_last()? {
        (unit, digits) if !unit.is_ascii_digit() => (digits, unit.to_ascii_uppercase()),
        _ => (text, b'B'),
    };
    let number: usize = core::str::from_utf8(digits).ok()?.parse().ok()?;
    let shift = match unit {
        b'%' if number <= 100 => {
            let share = (all() as u128 * number as u128 / 100) as usize;
            return Some(if number == 0 { usize::MAX } else { share });
        }
        b'B' => 0,
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        _ => return None,
    };
    Some(number.checked_mul(1 << shift)?).map(|bytes| if bytes == 0 { usize::MAX } else { bytes })
}

/// The option of this name, in small or capital letters; or else the one whose name comes nearest.
fn find(name: &[u8]) -> Result<&'static OptionDescription, &'static OptionDescription> {
    if let Some(option) = TABLE.iter().find(|option| option.name.as_bytes().eq_ignore_ascii_case(name)) {
        return Ok(option);
    }
    Err(TABLE.iter().min_by_key(|option| distance(option.name.as_bytes(), name)).unwrap_or(&TABLE[0]))
}

fn place_of(option: &'static OptionDescription) -> usize {
    TABLE.iter().position(|other| core::ptr::eq(other, option)).unwrap_or(0)
}

/// How many letters have to be added, dropped or replaced to turn one name into the other, whatever their case. Of a very
/// long name only the beginning is compared.
pub(crate) fn distance(name: &[u8], given: &[u8]) -> usize {
    const LONGEST: usize = 48;
    let given = &given[..given.len().min(LONGEST)];
    let mut row = [0; LONGEST + 1];
    row.iter_mut().enumerate().for_each(|(i, cell)| *cell = i);
    for (i, letter) in name.iter().enumerate() {
        // `diagonal` is the cell above the one to the left.
        let mut diagonal = core::mem::replace(&mut row[0], i + 1);
        for (j, other) in given.iter().enumerate() {
            let replaced = diagonal + usize::from(!letter.eq_ignore_ascii_case(other));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[given.len()]
}

/// Compiles options into a program: `terrace::options!("purge_delay_ms=500,arenas=2");`, once, anywhere in it. A C program
/// defines `const char *terrace_options = "purge_delay_ms=500,arenas=2";` instead. The environment goes before.
///
/// On processors other than x86-64 and aarch64 it has no effect.
#[macro_export]
macro_rules! options {
    ($list:literal) => {
        #[doc(hidden)]
        mod terrace_compiled_options {
            static LIST: [u8; concat!($list, "\0").len()] = $crate::bytes_of(concat!($list, "\0"));
            // In assembler, since the symbol has to be as weak here as where it is asked for: whoever optimises at link time sees
            // both at once.
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            ::core::arch::global_asm!(
                ".pushsection .data.rel.ro.terrace_options,\"aw\",@progbits",
                ".weak terrace_options",
                ".type terrace_options, @object",
                ".size terrace_options, 8",
                ".p2align 3",
                "terrace_options:",
                ".8byte {list}",
                ".popsection",
                list = sym LIST,
            );
        }
    };
}

/// For [`options!`].
#[doc(hidden)]
pub const fn bytes_of<const LEN: usize>(text: &str) -> [u8; LEN] {
    let (mut bytes, mut i) = ([0; LEN], 0);
    while i < LEN {
        bytes[i] = text.as_bytes()[i];
        i += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_table_s_words_agree_with_its_bounds() {
        for option in &TABLE {
            assert!(option.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", option.name);
        }
        let values = |name: &[u8]| find(name).unwrap_or_else(|_| panic!("no option")).values;
        assert_eq!(values(b"mmap_threshold"), std::format!("bytes, {} to {LARGEST_RUN}", crate::size_class::MAX_SMALL));
        assert_eq!(values(b"arenas"), std::format!("1 to {}", crate::arena::MAX_ARENAS));
        let fresh = Options::new();
        assert_eq!(fresh.mmap_threshold().to_string(), find(b"mmap_threshold").unwrap_or(&TABLE[0]).default);
        assert_eq!(fresh.purge_delay_ms().to_string(), find(b"purge_delay_ms").unwrap_or(&TABLE[0]).default);
    }

    #[test]
    fn a_name_is_found_in_any_case_and_a_wrong_one_leads_to_the_nearest() {
        let nearest = |name: &[u8]| find(name).map_or_else(|nearest| nearest.name, |_| "itself");
        assert_eq!(nearest(b"ARENAS"), "itself");
        assert_eq!(nearest(b"purge_delay_ms"), "itself");
        assert_eq!(nearest(b"PURGE_DELAY"), "purge_delay_ms");
        assert_eq!(nearest(b"ARENA"), "arenas");
        assert_eq!(nearest(b"statistics"), "stats");
        assert_eq!(nearest(b"MMAP_TRESHOLD"), "mmap_threshold");
        assert_eq!(nearest(&[b'x'; 5000]), nearest(&[b'x'; 48]));
    }

    #[test]
    fn a_distance_counts_single_letters() {
        assert_eq!(distance(b"arenas", b"arenas"), 0);
        assert_eq!(distance(b"arenas", b"AREAS"), 1);
        assert_eq!(distance(b"stats", b"status"), 1);
        assert_eq!(distance(b"stats", b""), 5);
        assert_eq!(distance(b"brk", b"mmap"), 4);
    }

    #[test]
    fn an_amount_is_bytes_or_a_share() {
        let of = |text: &[u8]| amount(text, || 4 << 30);
        assert_eq!((of(b"1000"), of(b"64k"), of(b"512M")), (Some(1000), Some(64 << 10), Some(512 << 20)));
        assert_eq!((of(b"3G"), of(b"25%"), of(b"100%")), (Some(3 << 30), Some(1 << 30), Some(4 << 30)));
        assert_eq!((of(b"0"), of(b"0%"), of(b"0M")), (Some(usize::MAX), Some(usize::MAX), Some(usize::MAX)));
        for wrong in [&b""[..], b"%", b"M", b"101%", b"1.5G", b"-1", b"12Q", b"99999999999999G"] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
        assert_eq!(amount(b"100%", || usize::MAX), Some(usize::MAX));
    }

    #[test]
    fn values_are_taken_from_a_list_and_out_of_bounds_ones_are_not() {
        let options = Options::new();
        options.take_list(b" arenas=3, purge_delay_ms=7,,source=mmap,check_action=9,stats=/a=b");
        assert_eq!(options.arenas(), Some(3));
        assert_eq!(options.purge_delay_ms(), 7);
        assert_eq!(options.source(), Source::Mappings);
        assert_eq!(options.check_action(), (true, true), "9 is no value of it");
        assert_eq!(options.stats(&mut [0; STATS_LEN]), Some(c"/a=b"));
        assert!(options.set(b"stats", b"0").is_ok());
        assert_eq!(options.stats(&mut [0; STATS_LEN]), None);
        assert!(
            matches!(options.set(b"arena", b"3"), Err(OptionError::Unknown { nearest }) if nearest.name == "arenas")
        );
        assert!(matches!(options.set(b"arenas", b"17"), Err(OptionError::Malformed { .. })));
        assert_eq!(options.arenas(), Some(3));
    }
}
