//! What came of the requests.

use parking_lot::Mutex;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Ways in which the other side fails its client.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    Refused,
    Lost,
    Cut,
    Late,
    Wrong,
}

const FAILURES: [&str; 5] = ["refused", "lost", "cut", "late", "wrong"];

/// Other things that happen.
#[derive(Clone, Copy)]
pub enum Event {
    Silent,
    Repeated,
    Told,
    Opened,
}

const EVENTS: [&str; 4] = ["silent", "repeated", "told", "opened"];

/// So many failures are told in words.
const EXAMPLES: usize = 5;

#[derive(Default)]
pub struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    failures: [u64; 5],
    events: [u64; 4],
    times: Histogram,
    examples: Vec<String>,
}

impl Tally {
    /// A request that was due then has its answer.
    pub fn answered(&self, due: Instant) {
        self.0.lock().times.add(due.elapsed());
    }

    pub fn failed(&self, failure: Failure, why: impl Display) {
        let mut counts = self.0.lock();
        counts.failures[failure as usize] += 1;
        if counts.examples.len() < EXAMPLES {
            counts.examples.push(format!("{}: {why}", FAILURES[failure as usize]));
        }
    }

    pub fn count(&self, event: Event) {
        self.0.lock().events[event as usize] += 1;
    }

    pub fn examples(&self) -> Vec<String> {
        self.0.lock().examples.clone()
    }

    pub fn line(&self, took: Duration) -> String {
        let counts = self.0.lock();
        let answered = counts.times.count();
        let mut words = vec![
            format!("answered={answered}"),
            format!("rate={:.0}", answered as f64 / took.as_secs_f64()),
            format!("failed={}", counts.failures.iter().sum::<u64>()),
        ];
        let named = FAILURES.iter().zip(&counts.failures).chain(EVENTS.iter().zip(&counts.events));
        words.extend(named.map(|(name, count)| format!("{name}={count}")));
        for (name, share) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)] {
            words.push(format!("{name}={}", counts.times.quantile(share)));
        }
        words.join(" ")
    }
}

/// Times by microseconds, each within 1/32 of its value.
#[derive(Default)]
struct Histogram {
    buckets: Vec<u64>,
    max: u64,
}

const STEPS: u64 = 32;

impl Histogram {
    fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.max = self.max.max(micros);
    }

    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper end of the bucket in which this share of all times is reached; never above the largest.
    fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reached = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        reached.map_or(0, |bucket| upper_end(bucket as u64).min(self.max))
    }
}

/// Below `STEPS` one for each number; above, `STEPS` for each doubling.
fn bucket(micros: u64) -> usize {
    let doublings = u64::from(micros.max(1).ilog2()).saturating_sub(u64::from(STEPS.ilog2()));
    (doublings * STEPS + (micros >> doublings)) as usize
}

fn upper_end(bucket: u64) -> u64 {
    let doublings = (bucket / STEPS).saturating_sub(1);
    let step = bucket - doublings * STEPS;
    ((step + 1) << doublings) - 1
}
