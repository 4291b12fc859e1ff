use super::{Problem, text_value};
use std::{fmt, str::FromStr};

/// A number of bytes with its unit, in powers of 1024: `512B`, `64KiB`, `10MiB`, `1GiB`, `2TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const REMEDY: &str = "write a number and its unit, such as `512B`, `64KiB`, `10MiB` or `1GiB`";

impl ByteSize {
    /// `n` KiB, for defaults.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB, for defaults.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; saturates where `usize` is smaller.
    pub fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// True for `0B`.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for ByteSize {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(40).collect();
            Problem::new(format!("`{shown}` is not a size: {why}")).remedy(REMEDY)
        };
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(unit_at);
        if digits.is_empty() {
            return Err(wrong("no number"));
        }
        if unit.is_empty() {
            return Err(wrong("its unit is missing"));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(wrong("its unit is not known"));
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*scale))
            .map(Self)
            .ok_or_else(|| wrong("it is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        let (unit, scale) =
            UNITS.iter().find(|(_, scale)| self.0.is_multiple_of(*scale)).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

text_value!(
    ByteSize,
    "^[0-9]+(B|KiB|MiB|GiB|TiB)$",
    "a size with its unit, such as `64KiB` or `10MiB`",
    ["10MiB"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_units() {
        for (text, bytes) in
            [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("10MiB", 10_485_760), ("1GiB", 1 << 30)]
        {
            let parsed: ByteSize = text.parse().unwrap();
            assert_eq!(parsed.bytes(), bytes, "{text}");
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn a_size_without_a_unit_is_refused() {
        for text in ["", "10", "10MB", "10 MiB", "-1B", "MiB", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
