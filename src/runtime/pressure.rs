//! How hard it is for the gateway itself, and what it does not take on then.

use crate::values::Importance;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How hard it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    #[default]
    Calm,
    /// Something has come to its threshold: no new connections, and nothing of low importance.
    High,
    /// It has gone far beyond: only what is of high importance.
    Critical,
}

impl Level {
    /// As logs name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Whether requests that matter this much are refused.
    pub const fn sheds(self, importance: Importance) -> bool {
        match self {
            Self::Calm => false,
            Self::High => matches!(importance, Importance::Low),
            Self::Critical => !matches!(importance, Importance::High),
        }
    }
}

/// The level of the process, for requests to look at: one relaxed read each.
#[derive(Debug, Default)]
pub struct Pressure {
    level: AtomicU8,
    /// The standing delay of the workers, in nanoseconds.
    delay: AtomicU64,
}

impl Pressure {
    /// The level.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Calm,
            1 => Level::High,
            _ => Level::Critical,
        }
    }

    /// The delay, in seconds.
    pub fn delay(&self) -> f64 {
        self.delay.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Says how it is. `delay` is in nanoseconds.
    pub fn set(&self, level: Level, delay: u64) {
        self.level.store(level as u8, Ordering::Relaxed);
        self.delay.store(delay, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_least_goes_first() {
        let pressure = Pressure::default();
        let shed = |level| {
            pressure.set(level, 0);
            Importance::ALL.map(|importance| pressure.level().sheds(importance))
        };
        assert_eq!(shed(Level::Calm), [false, false, false]);
        assert_eq!(shed(Level::High), [true, false, false]);
        assert_eq!(shed(Level::Critical), [true, true, false]);
    }
}
