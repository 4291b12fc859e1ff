use super::{Duration, Problem, text_value};
use std::{fmt, str::FromStr, time};

/// So many in a time: `100/s`, `30/m`, `5000/h`, `1/10s`. 1 to 1,000,000,000 in at most 366 days, and at
/// most one in each nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    /// Which is what was written; `1s` is written `s`.
    per: Duration,
}

/// The most in a time.
const MOST: u32 = 1_000_000_000;
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

impl Rate {
    /// How many.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// In what time.
    pub const fn per(self) -> time::Duration {
        self.per.get()
    }
}

impl FromStr for Rate {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(40).collect();
            Problem::new(format!("`{shown}` is not a rate: {why}"))
                .remedy("write a number and a time, such as `100/s`, `30/m`, `5000/h`, `20000/d` or `1/10s`")
        };
        let (count, per) = text.split_once('/').ok_or_else(|| wrong("its time is missing"))?;
        let digits = !count.is_empty() && count.bytes().all(|c| c.is_ascii_digit());
        let count: u32 = match count.parse() {
            Ok(count @ 1..=MOST) if digits => count,
            Ok(0) if digits => return Err(wrong("nothing would pass")),
            _ if digits => return Err(wrong("the number is too large")),
            _ => return Err(wrong("no number")),
        };
        let spelt =
            if per.starts_with(|c: char| c.is_ascii_digit()) { per.into() } else { format!("1{per}") };
        let per: Duration = spelt.parse().map_err(|_| wrong("its time is not one"))?;
        if per.is_zero() || per > LONGEST {
            return Err(wrong("its time is 1ms to 366d"));
        }
        if u128::from(count) > per.get().as_nanos() {
            return Err(wrong("it is more than one in a nanosecond"));
        }
        Ok(Self { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = self.per.to_string();
        let unit = per.strip_prefix('1').filter(|unit| !unit.starts_with(|c: char| c.is_ascii_digit()));
        write!(f, "{}/{}", self.count, unit.unwrap_or(&per))
    }
}

text_value!(
    Rate,
    "^[0-9]+/[0-9]*(ms|s|m|h|d)$",
    "so many in a time, such as `100/s`, `30/m` or `1/10s`",
    ["100/s"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_with_times() {
        for (text, count, ms) in [
            ("100/s", 100, 1000),
            ("30/m", 30, 60_000),
            ("5000/h", 5000, 3_600_000),
            ("1/10s", 1, 10_000),
            ("7/15m", 7, 900_000),
            ("1000000/d", 1_000_000, 86_400_000),
            ("5/1ms", 5, 1),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.count(), rate.per().as_millis()), (count, ms), "{text}");
            assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate, "{text}");
        }
        assert_eq!("100/1s".parse::<Rate>().unwrap().to_string(), "100/s");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            "100",
            "/s",
            "100/",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "100/w",
            "1/0s",
            "100 /s",
            "1/367d",
            "4000000000/s",
            "2000000/1ms",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
