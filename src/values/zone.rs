use super::{Problem, text_value};
use jiff::tz::TimeZone;
use std::{fmt, str::FromStr};

/// A time zone by its name in the IANA database: `UTC`, `Europe/Berlin`. The system's database is asked
/// first, and a built-in one where the system has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: Box<str>,
    zone: TimeZone,
}

impl Zone {
    /// What times are worked out with.
    pub const fn get(&self) -> &TimeZone {
        &self.zone
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".into(), zone: TimeZone::UTC }
    }
}

impl FromStr for Zone {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if text == "UTC" {
            return Ok(Self::default());
        }
        let shown: String = text.chars().take(40).collect();
        let wrong = |_| {
            Problem::new(format!("`{shown}` is not a time zone"))
                .remedy("write a name of the IANA database, such as `UTC` or `Europe/Berlin`")
        };
        TimeZone::get(text).map(|zone| Self { name: text.into(), zone }).map_err(wrong)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

text_value!(
    Zone,
    "^[A-Za-z0-9_+/-]+$",
    "a time zone by its IANA name, such as `UTC` or `Europe/Berlin`",
    ["UTC"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_by_name() {
        for name in ["UTC", "Europe/Berlin", "America/St_Johns", "Etc/GMT+5"] {
            assert_eq!(name.parse::<Zone>().unwrap().to_string(), name);
        }
        for name in ["", "Middle/Earth", "../../etc/passwd", "CEST+1"] {
            assert!(name.parse::<Zone>().is_err(), "{name}");
        }
    }
}
