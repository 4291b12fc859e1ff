use super::{Problem, text_value};
use std::{fmt, str::FromStr};

/// So many in a period: `10000/day`, `1000000/month`. 1 to 1,000,000,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    count: u64,
    period: Period,
}

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday (ISO 8601).
    Week,
    /// From the first to the last day.
    Month,
}

/// The most in a period.
const MOST: u64 = 1_000_000_000_000;

impl Quota {
    /// How many.
    pub const fn count(self) -> u64 {
        self.count
    }

    /// In what period.
    pub const fn period(self) -> Period {
        self.period
    }
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// How long it is in seconds; of a month, 30 days.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Quota {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(40).collect();
            Problem::new(format!("`{shown}` is not a quota: {why}"))
                .remedy("write a number and a period, such as `10000/day` or `1000000/month`")
        };
        let (count, period) = text.split_once('/').ok_or_else(|| wrong("its period is missing"))?;
        let digits = !count.is_empty() && count.bytes().all(|c| c.is_ascii_digit());
        let count = match count.parse::<u64>() {
            Ok(count @ 1..=MOST) if digits => count,
            Ok(0) if digits => return Err(wrong("nothing would pass")),
            _ if digits => return Err(wrong("the number is too large")),
            _ => return Err(wrong("no number")),
        };
        let period = Period::ALL.into_iter().find(|known| known.as_str() == period);
        let period = period.ok_or_else(|| wrong("a period is minute, hour, day, week or month"))?;
        Ok(Self { count, period })
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period)
    }
}

text_value!(
    Quota,
    "^[0-9]+/(minute|hour|day|week|month)$",
    "so many in a period, such as `10000/day` or `1000000/month`",
    ["1000000/month"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_with_periods() {
        for (text, count, period) in [
            ("1/minute", 1, Period::Minute),
            ("5000/hour", 5_000, Period::Hour),
            ("10000/day", 10_000, Period::Day),
            ("7/week", 7, Period::Week),
            ("1000000000000/month", MOST, Period::Month),
        ] {
            let quota: Quota = text.parse().unwrap();
            assert_eq!((quota.count(), quota.period()), (count, period), "{text}");
            assert_eq!(quota.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_quota_is_refused() {
        for text in
            ["", "100", "/day", "100/", "0/day", "-1/day", "+1/day", "1.5/day", "100/d", "1/year", "1 /day"]
        {
            assert!(text.parse::<Quota>().is_err(), "{text}");
        }
        assert!("1000000000001/day".parse::<Quota>().is_err());
    }
}
