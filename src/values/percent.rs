use super::{Problem, text_value};
use std::{fmt, str::FromStr};

/// A share from `0%` to `100%`, in steps of 0.01 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u16);

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(10_000);

    /// A share in hundredths of a percent, for defaults; more than 10,000 are all of it.
    pub const fn from_basis_points(points: u16) -> Self {
        if points > 10_000 { Self::ALL } else { Self(points) }
    }

    /// The share as a fraction from 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// The share in hundredths of a percent, 0 to 10,000.
    pub const fn basis_points(self) -> u16 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        text.strip_suffix('%')
            .filter(|digits| digits.bytes().all(|c| c.is_ascii_digit() || c == b'.'))
            .and_then(|digits| digits.parse::<f64>().ok())
            .map(|value| value * 100.0)
            .filter(|points| (0.0..=10_000.0).contains(points) && points.fract().abs() < 1e-6)
            .map(|points| Self(points.round() as u16))
            .ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                Problem::new(format!("`{shown}` is not a share"))
                    .remedy("write a number from 0 to 100 and `%`, such as `5%` or `0.25%`")
            })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

text_value!(Percent, "^[0-9]+(\\.[0-9]{1,2})?%$", "a share, such as `5%`", ["5%"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, points) in [("0%", 0), ("0.25%", 25), ("50%", 5_000), ("100%", 10_000)] {
            let parsed: Percent = text.parse().unwrap();
            assert_eq!(parsed.basis_points(), points, "{text}");
            assert_eq!(parsed.to_string(), text);
        }
        for text in ["", "%", "5", "101%", "-1%", "0.001%", "1e1%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }
}
