//! How quantities are written for people: sizes with a unit that suits them, large counts in groups of three digits.

use std::fmt;

/// A number of bytes: `512 B`, `3.9 MiB`. Honours a width.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (divisor, unit) = match self.0 {
            0..0x400 => return f.pad(&format!("{} B", self.0)),
            0x400..0x10_0000 => (0x400, "KiB"),
            0x10_0000..0x4000_0000 => (0x10_0000, "MiB"),
            0x4000_0000..0x100_0000_0000 => (0x4000_0000, "GiB"),
            _ => (0x100_0000_0000_u64, "TiB"),
        };
        let tenths = u128::from(self.0) * 10 / u128::from(divisor);
        f.pad(&format!("{}.{} {unit}", tenths / 10, tenths % 10))
    }
}

/// A count: `3,201,133`. Honours a width.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// A count and what is counted: `1 block`, `3,201,133 blocks`.
#[derive(Clone, Copy, Debug)]
pub struct Many(pub u64, pub &'static str);

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = match (self.0, self.1.ends_with(['h', 's'])) {
            (1, _) => "",
            (_, true) => "es",
            (_, false) => "s",
        };
        f.pad(&format!("{} {}{plural}", Count(self.0), self.1))
    }
}

/// A time in milliseconds: `250 ms`, `12 s`, `5 min`, `3 h`, `2 d`. Honours a width.
#[derive(Clone, Copy, Debug)]
pub struct Milliseconds(pub u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MINUTE: u64 = 60_000;
        let (divisor, unit) = match self.0 {
            0..10_000 => (1, "ms"),
            10_000..600_000 => (1000, "s"),
            600_000..36_000_000 => (MINUTE, "min"),
            36_000_000..864_000_000 => (60 * MINUTE, "h"),
            _ => (1440 * MINUTE, "d"),
        };
        f.pad(&format!("{} {unit}", self.0 / divisor))
    }
}

/// A part of a whole in percent, rounded: `86 %`; `< 1 %` for less than a half that is not nothing. Honours a width.
#[derive(Clone, Copy, Debug)]
pub struct Share(pub u64, pub u64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(part, whole) = *self;
        let percent = (u128::from(part) * 200 + u128::from(whole)).checked_div(u128::from(whole) * 2).unwrap_or(0);
        if percent == 0 && part > 0 { f.pad("< 1 %") } else { f.pad(&format!("{percent} %")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quantity_has_the_unit_that_suits_it() {
        let sizes = [0, 1023, 1024, 4_100_000, 1 << 30, u64::MAX].map(|bytes| Size(bytes).to_string());
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "3.9 MiB", "1.0 GiB", "16777215.9 TiB"]);
        assert_eq!(format!("{:>10}|{:<8}|", Size(1536), Size(1)), "   1.5 KiB|1 B     |");
        assert_eq!([0, 999, 1000, 1_234_567].map(|n| Count(n).to_string()), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1, 1_000].map(|n| Many(n, "block").to_string()), ["0 blocks", "1 block", "1,000 blocks"]);
        assert_eq!(Many(2, "batch").to_string(), "2 batches");
        let times = [0, 9_999, 10_000, 600_000, 36_000_000, 900_000_000].map(|ms| Milliseconds(ms).to_string());
        assert_eq!(times, ["0 ms", "9999 ms", "10 s", "10 min", "10 h", "10 d"]);
        let shares = [(0, 0), (0, 5), (1, 1000), (2, 3), (5, 5)].map(|(a, b)| Share(a, b).to_string());
        assert_eq!(shares, ["0 %", "0 %", "< 1 %", "67 %", "100 %"]);
    }
}
