//! Where the values of options lie and how they are to be read, for readers outside of the process; a part of the
//! [root](crate::inspect). An option that is added or moves changes this record and no reader.

use super::{HISTORY_BIT, Options, PERTURB_BITS, STATS_LEN, words};
use core::mem::offset_of;

/// Options that the record has room for; those that are not used have the form 0.
pub(crate) const MAX_SETTINGS: usize = 24;
/// Checks that the record has room for.
pub(crate) const MAX_CHECKS: usize = 8;

/// How a value is stored. A value that was left to the library has no text.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Form {
    /// None: no option.
    End = 0,
    /// 32 bits, those of the mask, down to the lowest of them.
    Number = 1,
    /// 32 bits, which count while the bit of the mask is set in `attended`.
    NumberWhile = 2,
    /// 64 bits.
    Long = 3,
    /// 64 bits; all of them set stand for 0.
    Amount = 4,
    /// 64 bits; all of them set: left to the library.
    LongIfSet = 5,
    /// 64 bits; 0: left to the library.
    LongIfAny = 6,
    /// 32 bits: the number of a word among those from the one on whose place is the mask.
    Word = 7,
    /// 32 bits, of which those of the mask, from its lowest bit on, stand for the checks.
    Checks = 8,
    /// Bytes, as many as the mask says at most, ended by 0.
    Text = 9,
}

/// Of one option its name, filled up with zeroes, and where its value lies, in bytes from the first of all options.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SettingLayout {
    pub(crate) name: [u8; 20],
    pub(crate) form: u32,
    pub(crate) offset: u32,
    pub(crate) mask: u32,
}

/// Of one check its word, and where the amount behind it lies (64 bits); 0 if it has none.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CheckLayout {
    pub(crate) name: [u8; 12],
    pub(crate) amount: u32,
}

/// What the root carries of the options.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SettingsLayout {
    /// Where the word `attended` lies.
    pub(crate) attended: u32,
    pub(crate) words: [[u8; 8]; 4],
    pub(crate) checks: [CheckLayout; MAX_CHECKS],
    pub(crate) settings: [SettingLayout; MAX_SETTINGS],
}

const fn padded<const N: usize>(text: &str) -> [u8; N] {
    let (bytes, mut padded, mut i) = (text.as_bytes(), [0; N], 0);
    while i < bytes.len() {
        padded[i] = bytes[i];
        i += 1;
    }
    padded
}

const fn setting(name: &str, form: Form, offset: usize, mask: u32) -> SettingLayout {
    SettingLayout { name: padded(name), form: form as u32, offset: offset as u32, mask }
}

const fn check(name: &str, amount: usize) -> CheckLayout {
    CheckLayout { name: padded(name), amount: amount as u32 }
}

macro_rules! at {
    ($field:ident) => {
        offset_of!(Options, $field)
    };
}

const ALL: u32 = u32::MAX;
const NONE: SettingLayout = setting("", Form::End, 0, 0);

impl Options {
    pub(crate) const LAYOUT: SettingsLayout = SettingsLayout {
        attended: at!(attended) as u32,
        words: [padded("brk"), padded("mmap"), padded("frames"), padded("unwind")],
        // By their bits, the lowest first.
        checks: [
            check("fill", 0),
            check("red-zones", 0),
            check("quarantine", at!(quarantine_bytes)),
            check("guards", 0),
            check("leaks", 0),
            check("stacks", 0),
            check("self-check", at!(self_check_calls)),
            check("", 0),
        ],
        settings: [
            setting("arenas", Form::LongIfAny, at!(arenas), 0),
            setting("source", Form::Word, at!(source), 0),
            setting("purge_delay_ms", Form::Number, at!(purge_delay_ms), ALL),
            setting("background", Form::Number, at!(background), ALL),
            setting("huge_pages", Form::Number, at!(huge_pages), ALL),
            setting("thread_cache_bytes", Form::LongIfSet, at!(thread_cache_bytes), 0),
            setting("limit", Form::Amount, at!(limit), 0),
            setting("soft_limit", Form::Amount, at!(soft_limit), 0),
            setting("trim_threshold", Form::Long, at!(trim_threshold), 0),
            setting("mmap_threshold", Form::Long, at!(mmap_threshold), 0),
            setting("mmap_max", Form::LongIfSet, at!(mmap_max), 0),
            setting("perturb", Form::Number, at!(attended), PERTURB_BITS),
            setting("history", Form::NumberWhile, at!(history), HISTORY_BIT),
            setting("history_stacks", Form::Number, at!(history_stacks), ALL),
            setting("history_at_exit", Form::Number, at!(history_at_exit), ALL),
            setting("stacks", Form::Word, at!(stacks), 2),
            setting("check_action", Form::Number, at!(check_action), ALL),
            setting("check", Form::Checks, at!(attended), words::ALL),
            setting("stats", Form::Text, at!(stats), STATS_LEN as u32),
            NONE,
            NONE,
            NONE,
            NONE,
            NONE,
        ],
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attended::checks;
    use crate::options::options;
    use std::string::{String, ToString};

    fn text(padded: &[u8]) -> String {
        String::from_utf8_lossy(padded).trim_end_matches('\0').to_string()
    }

    #[test]
    fn every_option_and_every_check_can_be_read_from_outside() {
        let laid_out = Options::LAYOUT.settings.iter().filter(|setting| setting.form != Form::End as u32);
        assert!(laid_out.map(|setting| text(&setting.name)).eq(options().iter().map(|option| option.name.to_string())));
        let lowest = words::ALL.trailing_zeros();
        let known: std::vec::Vec<_> = checks().iter().filter(|check| check.bits().count_ones() == 1).collect();
        for check in &known {
            let place = (check.bits().trailing_zeros() - lowest) as usize;
            assert_eq!(text(&Options::LAYOUT.checks[place].name), check.name);
        }
        assert_eq!(known.len(), words::ALL.count_ones() as usize);
    }
}
