use super::unit::Measure;
use super::{Problem, text_value};
use std::{fmt, str::FromStr};

/// A number of bytes with its unit, in powers of 1024: `512B`, `64KiB`, `10MiB`, `1GiB`, `2TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

const SIZE: Measure = Measure {
    kind: "a size",
    remedy: "write a number and its unit, such as `512B`, `64KiB`, `10MiB` or `1GiB`",
    units: [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)],
    most: u64::MAX,
    too_much: "it is too large",
};

impl ByteSize {
    /// `n` bytes, for defaults.
    pub const fn of(n: u64) -> Self {
        Self(n)
    }

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
        SIZE.parse(text).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SIZE.write(self.0, "0B", f)
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
