//! How many of something a key may have: exact, in one word a key.
//!
//! The algorithm is GCRA, the generic cell rate algorithm (ITU-T I.371, annex A; "virtual scheduling"). For
//! each key stands the time at which all of it will be there again. A take of `n` units moves that time on
//! by `n` intervals, and is refused if it would come to lie further in the future than the burst is long.
//! Nothing counts in windows, so there is no border at which twice as much passes.

mod carried;
mod pages;
mod slot;
mod store;

#[cfg(test)]
mod tests;

pub use store::{Ask, Family, Outcome, Store};

use crate::values::Rate;
use std::time::Duration;

/// Ticks in a nanosecond. A time in ticks fits 18 years.
pub const TICKS: u64 = 16;

/// A time since the store was made, in sixteenths of a nanosecond.
pub type Ticks = u64;

/// A span in ticks; what is too long is as long as can be.
pub fn ticks(span: Duration) -> Ticks {
    u64::try_from(span.as_nanos().saturating_mul(u128::from(TICKS))).unwrap_or(u64::MAX >> 1)
}

/// Ticks as a span, rounded up to whole nanoseconds.
pub const fn span(ticks: Ticks) -> Duration {
    Duration::from_nanos(ticks.div_ceil(TICKS))
}

/// How fast units come back, and how many there are at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two units, in ticks; rounded up, so that the rate is never exceeded. It falls short of it by
    /// less than 7 in 100,000 at a million a second, and by less than 7 in 100,000,000 at a thousand.
    interval: Ticks,
    /// The most units at once, 1 at least.
    burst: u32,
}

/// The longest that a burst may take to come back.
pub const LONGEST: Duration = Duration::from_secs(366 * 86_400);

impl Pace {
    /// A pace; none if the burst would take longer than [`LONGEST`] to come back.
    pub fn new(rate: Rate, burst: u32) -> Option<Self> {
        let per = rate.per().as_nanos() * u128::from(TICKS);
        let interval = u64::try_from(per.div_ceil(u128::from(rate.count().max(1)))).ok()?;
        let burst = burst.max(1);
        let whole = interval.checked_mul(u64::from(burst))?;
        (span(whole) <= LONGEST).then_some(Self { interval, burst })
    }

    /// A share of it: as many units less, each of which comes back as much later. One unit is always left.
    #[must_use]
    pub fn share(self, share: f64) -> Self {
        let share = share.clamp(0.0001, 1.0);
        let burst = ((f64::from(self.burst) * share) as u32).max(1);
        let interval = (self.interval as f64 / share).ceil() as u64;
        Self { interval: interval.min(ticks(LONGEST) / u64::from(burst)), burst }
    }

    /// The most units at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Between two units, in ticks.
    pub const fn interval(self) -> Ticks {
        self.interval
    }

    /// How long all units take to come back.
    pub const fn whole(self) -> Ticks {
        self.interval * self.burst as u64
    }

    /// Units in ticks. More than the burst cost as much as the burst: they pass when all is there.
    pub const fn cost(self, units: u32) -> Ticks {
        let units = if units < self.burst { units } else { self.burst };
        self.interval * units as u64
    }

    /// When all will be there again after a take that costs `cost`, if all would be there at `full`.
    ///
    /// # Errors
    /// It cannot be had now; how long it has to wait.
    pub const fn take(self, full: Ticks, now: Ticks, cost: Ticks) -> Result<Ticks, Ticks> {
        let from = if full > now { full } else { now };
        let next = from + cost;
        let ahead = next - now;
        if ahead <= self.whole() { Ok(next) } else { Err(ahead - self.whole()) }
    }

    /// Whole units that can be had now.
    pub const fn left(self, full: Ticks, now: Ticks) -> u32 {
        let used = full.saturating_sub(now);
        (self.whole().saturating_sub(used) / self.interval) as u32
    }

    /// How long until there is a whole unit more than [`Self::left`]; none if all are there.
    pub const fn until_more(self, full: Ticks, now: Ticks) -> Option<Ticks> {
        let used = full.saturating_sub(now);
        if used == 0 {
            return None;
        }
        let next = (self.left(full, now) as u64 + 1) * self.interval;
        Some(used.saturating_sub(self.whole().saturating_sub(next)))
    }
}

/// What of a time at which all is there becomes of it at another interval: as many units are gone as before.
fn at_interval(full: Ticks, now: Ticks, (from, to): (Ticks, Ticks)) -> Ticks {
    let used = u128::from(full.saturating_sub(now));
    let used = (used * u128::from(to)).div_ceil(u128::from(from.max(1)));
    now.saturating_add(u64::try_from(used).unwrap_or(u64::MAX >> 2))
}
