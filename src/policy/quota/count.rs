//! What a key has used of a period: no HTTP, no clock. Times are milliseconds since 1970.
//!
//! A period of the calendar has one count, which begins anew with the next period. A rolling one has
//! [`PARTS`] parts of equal length and the one that has begun: a unit comes back when the part that it was
//! taken in is a period old. So there are never more than the quota's units in any stretch that is as long
//! as the period, wherever it begins, and a unit comes back at most a thirtieth of the period later than it
//! could.

use super::parts::{PARTS, Parts};
use crate::values::{Period, Zone};
use arc_swap::ArcSwap;
use jiff::civil::{Date, Weekday};
use jiff::{Timestamp, ToSpan as _};
use std::sync::Arc;

/// Milliseconds since 1970.
pub type Millis = u64;

/// What time zones may differ by: a count that ends later than its period by more is of another clock.
const APART: Millis = 26 * 3_600_000;

/// Which periods are counted.
#[derive(Debug)]
pub enum Window {
    /// Those of the calendar.
    Calendar {
        /// Which.
        period: Period,
        /// Where.
        zone: Zone,
        /// The one that was asked about last.
        last: ArcSwap<Span>,
    },
    /// The last one, at any moment.
    Rolling(Period),
}

/// From a moment until before another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first millisecond.
    pub start: Millis,
    /// The first millisecond after it.
    pub end: Millis,
}

/// A moment, as a window sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// When.
    pub now: Millis,
    period: Place,
}

/// Where in a window a moment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In this period of the calendar.
    Calendar(Span),
    /// In this part since 1970, of which each has so many milliseconds.
    Rolling { part: u64, length: Millis },
}

/// What was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    /// In the period that ends then.
    Calendar {
        /// When it ends.
        end: Millis,
        /// So much.
        used: u64,
    },
    /// In parts.
    Rolling(Box<Parts>),
}

impl Window {
    /// Those of a quota.
    pub fn new(period: Period, zone: &Zone, rolling: bool) -> Self {
        if rolling {
            Self::Rolling(period)
        } else {
            Self::Calendar { period, zone: zone.clone(), last: ArcSwap::default() }
        }
    }

    /// The moment.
    pub fn at(&self, now: Millis) -> At {
        let period = match self {
            Self::Rolling(period) => {
                let length = period.seconds() * 1000 / PARTS as u64;
                Place::Rolling { part: now / length, length }
            }
            Self::Calendar { period, zone, last } => {
                let mut span = **last.load();
                if !span.holds(now) {
                    span = Span::around(now, *period, zone);
                    last.store(Arc::new(span));
                }
                Place::Calendar(span)
            }
        };
        At { now, period }
    }

    /// How long a period is in seconds, rounded up: of the calendar, the one at this moment.
    pub const fn seconds(&self, at: At) -> u64 {
        match (self, at.period) {
            (Self::Calendar { .. }, Place::Calendar(span)) => (span.end - span.start).div_ceil(1000),
            (Self::Calendar { period, .. } | Self::Rolling(period), _) => period.seconds(),
        }
    }
}

impl At {
    /// As a store is told: `c`, the period's end and start; or `r`, the length of a part and nothing.
    pub(super) const fn written(self) -> (&'static str, u64, u64) {
        match self.period {
            Place::Calendar(span) => ("c", span.end, span.start),
            Place::Rolling { length, .. } => ("r", length, 0),
        }
    }

    /// True if what was used at this moment still counts at another one.
    pub(super) const fn counts_at(self, now: Self) -> bool {
        match (self.period, now.period) {
            (Place::Calendar(then), Place::Calendar(now)) => then.end == now.end,
            (Place::Rolling { part: then, length }, Place::Rolling { part, length: same }) => {
                length == same && part.saturating_sub(then) <= PARTS as u64
            }
            _ => false,
        }
    }
}

impl Span {
    const fn holds(self, now: Millis) -> bool {
        self.start <= now && now < self.end
    }

    /// The period of the calendar that holds this moment. Where a clock is put forward or back within it, it
    /// is as long as the calendar says.
    fn around(now: Millis, period: Period, zone: &Zone) -> Self {
        let seconds = period.seconds() * 1000;
        // What no calendar reaches counts by UTC.
        Self::of_calendar(now, period, zone).filter(|span| span.holds(now)).unwrap_or_else(|| {
            let start = now - now % seconds;
            Self { start, end: start.saturating_add(seconds) }
        })
    }

    fn of_calendar(now: Millis, period: Period, zone: &Zone) -> Option<Self> {
        let now = Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?;
        let today = zone.get().to_datetime(now).date();
        let (start, end) = match period {
            Period::Minute | Period::Hour => {
                // By the offset of now: what stands on the clock, whatever the zone's offset is.
                let on_the_clock = now.as_second() + i64::from(zone.get().to_offset(now).seconds());
                let length = i64::try_from(period.seconds()).ok()?;
                let start = now.as_second() - on_the_clock.rem_euclid(length);
                return Self::of_seconds(start, start + length);
            }
            Period::Day => (today, today.checked_add(1.day()).ok()?),
            Period::Week => {
                let days = i64::from(today.weekday().since(Weekday::Monday));
                let start = today.checked_sub(days.days()).ok()?;
                (start, start.checked_add(7.days()).ok()?)
            }
            Period::Month => {
                let start = today.first_of_month();
                (start, start.checked_add(1.month()).ok()?)
            }
        };
        let second = |date: Date| Some(zone.get().to_timestamp(date.at(0, 0, 0, 0)).ok()?.as_second());
        Self::of_seconds(second(start)?, second(end)?)
    }

    fn of_seconds(start: i64, end: i64) -> Option<Self> {
        let millis = |second: i64| u64::try_from(second).ok()?.checked_mul(1000);
        Some(Self { start: millis(start)?, end: millis(end)? })
    }
}

impl Count {
    /// Nothing used at this moment.
    pub fn new(at: At) -> Self {
        match at.period {
            Place::Calendar(span) => Self::Calendar { end: span.end, used: 0 },
            Place::Rolling { part, length } => {
                Self::Rolling(Box::new(Parts { newest: part, length, used: [0; PARTS + 1] }))
            }
        }
    }

    /// What counts at this moment; what does not any more is forgotten.
    pub fn used(&mut self, at: At) -> u64 {
        match (&mut *self, at.period) {
            // Of another zone it ends earlier or later, and goes on until then. What ends much later is of a
            // clock that was wrong.
            (Self::Calendar { end, used }, Place::Calendar(span))
                if *end > at.now && *end <= span.end.saturating_add(APART) =>
            {
                return *used;
            }
            (Self::Rolling(parts), Place::Rolling { part, length }) if parts.length == length => {
                return parts.roll(part);
            }
            _ => {}
        }
        *self = Self::new(at);
        0
    }

    /// Adds to what is used, after [`Self::used`] of the same moment.
    pub fn add(&mut self, cost: u64) {
        let cell = match self {
            Self::Calendar { used, .. } => used,
            Self::Rolling(parts) => {
                let newest = parts.newest;
                parts.cell(newest)
            }
        };
        *cell = cell.saturating_add(cost);
    }

    /// Takes back what was taken at that moment, if it still counts.
    pub fn give_back(&mut self, taken_at: At, cost: u64) {
        match (self, taken_at.period) {
            (Self::Calendar { end, used }, Place::Calendar(span)) if *end == span.end => {
                *used = used.saturating_sub(cost);
            }
            (Self::Rolling(parts), Place::Rolling { part, length })
                if parts.length == length && parts.counts(part) =>
            {
                let cell = parts.cell(part);
                *cell = cell.saturating_sub(cost);
            }
            _ => {}
        }
    }

    /// How long until `cost` more can be had of `max`, in milliseconds; 0 if they can be had now.
    pub fn wait(&mut self, at: At, (cost, max): (u64, u64)) -> Millis {
        let used = self.used(at);
        let excess = used.saturating_add(cost.min(max)).saturating_sub(max);
        if excess == 0 {
            return 0;
        }
        match self {
            Self::Calendar { end, .. } => end.saturating_sub(at.now),
            Self::Rolling(parts) => parts.back(excess).saturating_sub(at.now),
        }
    }

    /// When all of it, or the next part of it, comes back: `None` if nothing is used.
    pub fn more(&mut self, at: At) -> Option<Millis> {
        if self.used(at) == 0 {
            return None;
        }
        match self {
            Self::Calendar { end, .. } => Some(*end),
            Self::Rolling(parts) => Some(parts.back(1)),
        }
    }

    /// True if nothing of it counts any more.
    pub fn is_over(&self, now: Millis) -> bool {
        match self {
            Self::Calendar { end, used } => *end <= now || *used == 0,
            Self::Rolling(parts) => {
                let part = now / parts.length.max(1);
                part.saturating_sub(parts.newest) > PARTS as u64 || parts.used.iter().all(|used| *used == 0)
            }
        }
    }

    /// The parts that are used, each by when it began; of a calendar period the one, by when it ends.
    pub fn written(&self) -> (Millis, Vec<(u64, u64)>) {
        match self {
            Self::Calendar { end, used } => (0, vec![(*end, *used)]),
            Self::Rolling(parts) => {
                let first = parts.newest.saturating_sub(PARTS as u64);
                let all = (first..=parts.newest).map(|part| (part, parts.used[Parts::place(part)]));
                let mut all: Vec<_> = all.filter(|(_, used)| *used > 0).collect();
                if all.last().is_none_or(|(part, _)| *part != parts.newest) {
                    all.push((parts.newest, 0));
                }
                (parts.length, all)
            }
        }
    }

    /// From what [`Self::written`] gave; `None` if that is nothing it gives.
    pub fn read(length: Millis, all: &[(u64, u64)]) -> Option<Self> {
        if length == 0 {
            let [(end, used)] = all else { return None };
            return Some(Self::Calendar { end: *end, used: *used });
        }
        let newest = all.iter().map(|(part, _)| *part).max()?;
        let known = Period::ALL.iter().any(|period| period.seconds() * 1000 / PARTS as u64 == length);
        let mut parts = Parts { newest, length, used: [0; PARTS + 1] };
        for (part, used) in all {
            if newest - part > PARTS as u64 {
                return None;
            }
            *parts.cell(*part) = *used;
        }
        known.then(|| Self::Rolling(Box::new(parts)))
    }

    /// Adds what another count of the same key has.
    pub fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Calendar { end, used }, Self::Calendar { end: other_end, used: more })
                if end == other_end =>
            {
                *used = used.saturating_add(*more);
            }
            (Self::Rolling(own), Self::Rolling(other)) if own.length == other.length => {
                own.roll(other.newest.max(own.newest));
                let first =
                    own.newest.saturating_sub(PARTS as u64).max(other.newest.saturating_sub(PARTS as u64));
                for part in first..=other.newest {
                    let cell = own.cell(part);
                    *cell = cell.saturating_add(other.used[Parts::place(part)]);
                }
            }
            // Whichever goes on for longer is the later one.
            (own, other) if other.last() > own.last() => *own = other.clone(),
            _ => {}
        }
    }

    const fn last(&self) -> u64 {
        match self {
            Self::Calendar { end, .. } => *end,
            Self::Rolling(parts) => parts.newest.saturating_mul(parts.length),
        }
    }

    /// The memory that it takes besides itself, in bytes.
    pub const fn bytes(&self) -> usize {
        match self {
            Self::Calendar { .. } => 0,
            Self::Rolling(_) => size_of::<Parts>(),
        }
    }
}
