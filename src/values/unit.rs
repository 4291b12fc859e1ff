//! Numbers with units.

use super::Problem;
use std::fmt;

/// A kind of value that is a whole number with a unit.
pub(super) struct Measure {
    /// Such as `a size`.
    pub kind: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
    /// Units and how many of the smallest they are, the largest first.
    pub units: [(&'static str, u64); 5],
    /// The most, in the smallest unit.
    pub most: u64,
    /// What is wrong with more.
    pub too_much: &'static str,
}

impl Measure {
    /// Reads `30s` or `64KiB` as a number of the smallest unit.
    pub fn parse(&self, text: &str) -> Result<u64, Problem> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(unit_at);
        let scale = self.units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let scaled = |scale| digits.parse::<u64>().ok()?.checked_mul(scale);
        let why = match scale {
            _ if digits.is_empty() => "no number",
            _ if unit.is_empty() => "its unit is missing",
            None => "its unit is not known",
            Some(scale) => match scaled(scale) {
                Some(value) if value <= self.most => return Ok(value),
                _ => self.too_much,
            },
        };
        let shown: String = text.chars().take(40).collect();
        Err(Problem::new(format!("`{shown}` is not {}: {why}", self.kind)).remedy(self.remedy))
    }

    /// Writes a number of the smallest unit in the largest one that divides it.
    pub fn write(&self, value: u64, zero: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, scale): &&(&str, u64)| value.is_multiple_of(*scale);
        match self.units.iter().find(fits) {
            Some((unit, scale)) if value > 0 => write!(f, "{}{unit}", value / scale),
            _ => f.write_str(zero),
        }
    }
}
