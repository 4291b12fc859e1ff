use super::unit::Measure;
use super::{Problem, text_value};
use std::{fmt, str::FromStr, time};

/// A time span with its unit: `250ms`, `30s`, `5m`, `12h`, `7d`. Whole numbers of milliseconds,
/// at most 10 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

const SPAN: Measure = Measure {
    kind: "a time span",
    remedy: "write a number and its unit, such as `250ms`, `30s`, `5m`, `12h` or `7d`",
    units: [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)],
    most: 10 * 366 * 86_400_000,
    too_much: "it is longer than 10 years",
};

impl Duration {
    /// A span of whole milliseconds, for defaults.
    pub const fn from_millis(ms: u64) -> Self {
        Self(time::Duration::from_millis(ms))
    }

    /// A span of whole seconds, for defaults.
    pub const fn from_secs(secs: u64) -> Self {
        Self(time::Duration::from_secs(secs))
    }

    /// The span as the standard library has it.
    pub const fn get(self) -> time::Duration {
        self.0
    }

    /// True for `0s`.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for Duration {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        SPAN.parse(text).map(Self::from_millis)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SPAN.write(self.0.as_millis() as u64, "0s", f)
    }
}

text_value!(
    Duration,
    "^[0-9]+(ms|s|m|h|d)$",
    "a time span with its unit, such as `250ms`, `30s` or `5m`",
    ["30s"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_with_units() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000),
        ] {
            let parsed: Duration = text.parse().unwrap();
            assert_eq!(parsed.get().as_millis(), ms, "{text}");
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn a_span_without_a_unit_is_refused() {
        for text in ["", "30", "s", "1.5s", "-1s", "30 s", "30S", "99999999999d", "3w"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
