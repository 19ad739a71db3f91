//! The words of `TERRACE_CHECK`: one table says all there is to say about each check.

use crate::options::distance;
use core::fmt;

/// A check that can be switched on.
#[derive(Clone, Copy)]
pub struct CheckDescription {
    /// Its word.
    pub name: &'static str,
    /// What may stand behind the word, after `=`, and what counts without it; empty if nothing may.
    pub amount: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Its bits in the word `attended` of the options.
    bits: u32,
    kind: Amount,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Amount {
    None,
    Bytes,
    Calls,
}

pub(crate) const FILL: u32 = 1 << 8;
pub(crate) const RED_ZONES: u32 = 1 << 9;
pub(crate) const QUARANTINE: u32 = 1 << 10;
pub(crate) const GUARDS: u32 = 1 << 11;
pub(crate) const LEAKS: u32 = 1 << 12;
pub(crate) const STACKS: u32 = 1 << 13;
pub(crate) const SELF_CHECK: u32 = 1 << 14;
/// The bits of all checks.
pub(crate) const ALL: u32 = FILL | RED_ZONES | QUARANTINE | GUARDS | LEAKS | STACKS | SELF_CHECK;

/// Every check.
static TABLE: [CheckDescription; 8] = [
    CheckDescription {
        name: "red-zones",
        amount: "",
        meaning: "at least 16 bytes before and behind each block must stay as they were filled; looked at when the block is \
                  freed or resized, by `terrace_check()`, and at exit",
        bits: RED_ZONES,
        kind: Amount::None,
    },
    CheckDescription {
        name: "quarantine",
        amount: "bytes, with K, M or G; 16M",
        meaning: "freed blocks are filled with 0xDE and kept from reuse, so many bytes of them; they must stay as they were \
                  filled; looked at when they leave, by `terrace_check()`, and at exit",
        bits: QUARANTINE,
        kind: Amount::Bytes,
    },
    CheckDescription {
        name: "fill",
        amount: "",
        meaning: "new blocks are filled with 0x21, freed ones with 0xDE",
        bits: FILL,
        kind: Amount::None,
    },
    CheckDescription {
        name: "guards",
        amount: "",
        meaning: "each block above 32 KiB ends at a page that cannot be touched, and has one before it; with `quarantine` none \
                  of its pages can be touched once it is freed; the access is reported before the signal takes its course",
        bits: GUARDS,
        kind: Amount::None,
    },
    CheckDescription {
        name: "leaks",
        amount: "",
        meaning: "at exit, the blocks that were not freed, by size, the most bytes first",
        bits: LEAKS,
        kind: Amount::None,
    },
    CheckDescription {
        name: "stacks",
        amount: "",
        meaning: "reports say from where a block was allocated and freed, and `leaks` counts by that as well; needs code that \
                  keeps frame pointers (`-fno-omit-frame-pointer`), or `TERRACE_STACKS=unwind`",
        bits: STACKS,
        kind: Amount::None,
    },
    CheckDescription {
        name: "self-check",
        amount: "calls; 1000",
        meaning: "after so many calls all structures of the heap are checked",
        bits: SELF_CHECK,
        kind: Amount::Calls,
    },
    CheckDescription { name: "all", amount: "", meaning: "all of them", bits: ALL, kind: Amount::None },
];

#[cfg(test)]
impl CheckDescription {
    pub(crate) fn bits(&self) -> u32 {
        self.bits
    }
}

/// Every check, for documentation and tools.
pub fn checks() -> &'static [CheckDescription] {
    &TABLE
}

/// The check's row of the table in the documentation.
impl fmt::Display for CheckDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, amount, meaning, .. } = self;
        write!(f, "| `{name}` | {amount} | {meaning} |")
    }
}

/// What a list of words asks for.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) bits: u32,
    pub(crate) quarantine: Option<usize>,
    pub(crate) self_check: Option<usize>,
}

/// Reads a list of words with commas between them; `refused` is told what is no check, or has no such amount, and which check
/// comes nearest.
pub(crate) fn read(list: &[u8], mut refused: impl FnMut(&[u8], &CheckDescription)) -> Wanted {
    let mut wanted = Wanted::default();
    for word in list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty()) {
        let cut = word.iter().position(|&byte| byte == b'=');
        let (name, amount) = cut.map_or((word, None), |cut| (&word[..cut], Some(&word[cut + 1..])));
        let nearest = TABLE.iter().min_by_key(|check| distance(check.name.as_bytes(), name)).unwrap_or(&TABLE[0]);
        let number = amount.map(number_of);
        match (nearest.kind, number) {
            _ if !nearest.name.as_bytes().eq_ignore_ascii_case(name) => refused(word, nearest),
            (_, None) => wanted.bits |= nearest.bits,
            (Amount::Bytes, Some(Some(bytes))) => {
                wanted.bits |= nearest.bits;
                wanted.quarantine = Some(bytes);
            }
            (Amount::Calls, Some(Some(calls))) if calls > 0 => {
                wanted.bits |= nearest.bits;
                wanted.self_check = Some(calls);
            }
            _ => refused(word, nearest),
        }
    }
    wanted
}

/// A number, in units of 1,024 to the power of its letter.
fn number_of(text: &[u8]) -> Option<usize> {
    let (digits, unit) = match text {
        [digits @ .., b'k' | b'K'] => (digits, 1 << 10),
        [digits @ .., b'm' | b'M'] => (digits, 1 << 20),
        [digits @ .., b'g' | b'G'] => (digits, 1 << 30),
        digits => (digits, 1),
    };
    core::str::from_utf8(digits).ok()?.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn read_with_refusals(list: &str) -> (Wanted, Vec<(String, &'static str)>) {
        let mut refusals = Vec::new();
        let wanted = read(list.as_bytes(), |word, nearest| {
            refusals.push((String::from_utf8_lossy(word).to_string(), nearest.name));
        });
        (wanted, refusals)
    }

    #[test]
    fn words_and_their_amounts_are_read() {
        let (wanted, refusals) = read_with_refusals("red-zones, quarantine=2M,,FILL,self-check=7");
        assert_eq!(refusals, []);
        let bits = RED_ZONES | QUARANTINE | FILL | SELF_CHECK;
        assert_eq!(wanted, Wanted { bits, quarantine: Some(2 << 20), self_check: Some(7) });
        assert_eq!(read_with_refusals("all").0.bits, ALL);
        assert_eq!(read_with_refusals("").0, Wanted::default());
    }

    #[test]
    fn what_is_no_check_is_refused_with_the_nearest() {
        let (wanted, refusals) = read_with_refusals("redzones,quarantine=x,leak,self-check=0,fill=3,guards");
        assert_eq!(wanted.bits, GUARDS);
        let words = [
            ("redzones", "red-zones"),
            ("quarantine=x", "quarantine"),
            ("leak", "leaks"),
            ("self-check=0", "self-check"),
            ("fill=3", "fill"),
        ];
        assert_eq!(refusals, words.map(|(word, nearest)| (word.to_string(), nearest)));
    }
}
