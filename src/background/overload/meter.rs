//! From what is measured to a level.
//!
//! Of the delay only what stands counts: the least in a second. A burst makes single tasks wait, and so does a
//! neighbour on the machine, and both pass; a worker that has more to do than it can do makes all of them wait.
//! (Nichols and Jacobson, Controlling Queue Delay, 2012, tell good queues from bad ones by the same minimum.)

use crate::config::model::process::Overload;
use crate::runtime::pressure::Level;
use std::collections::VecDeque;
use std::time::Duration;

/// How many measurements in a row have to show a delay.
pub const WINDOW: usize = 10;
/// By how much the stress has to be below a level before it is over.
const SLACK: f64 = 0.1;

/// What is measured at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// How long a worker took to come to a new task.
    pub delay: Duration,
    /// Memory in use, as a share of what there is.
    pub memory: f64,
    /// Client connections, as a share of what there are file descriptors for.
    pub connections: f64,
}

/// What has been measured lately.
#[derive(Debug, Default)]
pub struct Meter {
    delays: VecDeque<Duration>,
    level: Level,
}

impl Meter {
    /// The level after a measurement, and the standing delay.
    pub fn take(&mut self, sample: Sample, limits: &Overload) -> (Level, Duration) {
        if self.delays.len() == WINDOW {
            self.delays.pop_front();
        }
        self.delays.push_back(sample.delay);
        let filled = self.delays.len() == WINDOW;
        let standing = self.delays.iter().min().copied().filter(|_| filled).unwrap_or_default();
        let stress = delay_stress(standing, limits.delay.get())
            .max(share_stress(sample.memory, limits.memory.fraction()))
            .max(share_stress(sample.connections, limits.descriptors.fraction()));
        self.level = match (level(stress), level(stress + SLACK)) {
            (now, _) if now >= self.level => now,
            // It goes down only when there is some way to the level above.
            (_, with_slack) => with_slack.min(self.level),
        };
        (self.level, standing)
    }
}

/// 1 at the threshold, 2 at twice of it.
fn delay_stress(delay: Duration, threshold: Duration) -> f64 {
    if threshold.is_zero() { 0.0 } else { delay.as_secs_f64() / threshold.as_secs_f64() }
}

/// 1 at the threshold, 2 half-way from there to all there is. A threshold of all there is means none.
fn share_stress(share: f64, threshold: f64) -> f64 {
    if threshold >= 1.0 || threshold <= 0.0 {
        0.0
    } else if share < threshold {
        share / threshold
    } else {
        1.0 + (share - threshold) / ((1.0 - threshold) / 2.0)
    }
}

fn level(stress: f64) -> Level {
    match stress {
        stress if stress >= 2.0 => Level::Critical,
        stress if stress >= 1.0 => Level::High,
        _ => Level::Calm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> Overload {
        serde_yaml::from_str("{ delay: 100ms, memory: 90%, descriptors: 80% }").unwrap()
    }

    fn delay(millis: u64) -> Sample {
        Sample { delay: Duration::from_millis(millis), ..Sample::default() }
    }

    #[test]
    fn a_delay_counts_only_while_it_stands() {
        let (mut meter, limits) = (Meter::default(), limits());
        let mut take = |millis| meter.take(delay(millis), &limits);
        for _ in 1..WINDOW {
            assert_eq!(take(150), (Level::Calm, Duration::ZERO), "it may still pass");
        }
        assert_eq!(take(150), (Level::High, Duration::from_millis(150)));
        assert_eq!(take(3000).0, Level::High, "one that is much longer changes nothing");
        assert_eq!(take(1), (Level::Calm, Duration::from_millis(1)), "one that had not to wait");
        for _ in 1..WINDOW {
            assert_eq!(take(5000).0, Level::Calm);
        }
        assert_eq!(take(200), (Level::Critical, Duration::from_millis(200)));
    }

    #[test]
    fn shares_count_at_once_and_have_to_fall_some_way() {
        let limits = limits();
        let mut meter = Meter::default();
        let mut at = |memory| meter.take(Sample { memory, ..Sample::default() }, &limits).0;
        for (memory, level) in [
            (0.89, Level::Calm),
            (0.90, Level::High),
            (0.949, Level::High),
            (0.951, Level::Critical),
            (0.948, Level::Critical),
            (0.944, Level::High),
            (0.85, Level::High),
            (0.80, Level::Calm),
        ] {
            assert_eq!(at(memory), level, "{memory}");
        }
        let mut meter = Meter::default();
        let connections = |connections| Sample { connections, ..Sample::default() };
        assert_eq!(meter.take(connections(0.8), &limits).0, Level::High);
        assert_eq!(meter.take(connections(0.95), &limits).0, Level::Critical);
        assert_eq!(meter.take(connections(0.1), &limits).0, Level::Calm);
    }

    #[test]
    fn what_has_no_bound_never_counts() {
        let limits = serde_yaml::from_str("{ delay: 0s, memory: 100%, descriptors: 100% }").unwrap();
        let mut meter = Meter::default();
        let sample = Sample { delay: Duration::from_secs(60), memory: 1.0, connections: 1.0 };
        for _ in 0..2 * WINDOW {
            assert_eq!(meter.take(sample, &limits).0, Level::Calm);
        }
    }

    proptest! {
        /// Whatever came before, a second of calm ends it, and one share beyond its threshold begins it.
        #[test]
        fn it_neither_sticks_nor_sleeps(before in prop::collection::vec((0u64..1000, 0.0..1.0f64), 0..50)) {
            let limits = limits();
            let mut meter = Meter::default();
            for (millis, memory) in before {
                meter.take(Sample { memory, ..delay(millis) }, &limits);
            }
            let mut last = Level::Critical;
            for _ in 0..WINDOW {
                last = meter.take(Sample::default(), &limits).0;
            }
            prop_assert_eq!(last, Level::Calm);
            let full = Sample { memory: 0.99, ..Sample::default() };
            prop_assert_eq!(meter.take(full, &limits).0, Level::Critical);
        }
    }
}
