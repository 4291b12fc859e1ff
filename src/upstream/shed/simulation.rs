//! An upstream that has more to do than it can, in virtual time: for the tests, and for `benches/resilience`.

use super::limit::{Limit, Window};
use super::queue::Queue;
use super::{Importance, WINDOW};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// SplitMix64 (Steele, Lea, Flood, 2014): the same numbers in every run.
struct Random(u64);

impl Random {
    /// From 0 to 1, both excluded.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + 1e-17
    }

    /// Exponential, with this mean.
    fn exponential(&mut self, mean: f64) -> f64 {
        -self.next().ln() * mean
    }
}

/// The upstream: so many at once, each for 50 ms on average; the others stand in its own queue, and it knows
/// nothing of who has given up.
const WORKERS: usize = 20;
const SERVICE: f64 = 50_000.0;
/// Clients wait for a second from their arrival.
const PATIENCE: u64 = 1_000_000;
const WAIT: u64 = 100_000;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Answers in time, in a second.
    pub goodput: f64,
    /// Of those that were let in, from their arrival, in milliseconds.
    pub p50: f64,
    /// As `p50`.
    pub p99: f64,
    /// The share of requests.
    pub shed: f64,
    /// At the end.
    pub limit: usize,
}

/// A minute at so much of what the upstream can do, the first ten seconds not counted.
pub fn run(load: f64, limited: bool, seed: u64) -> Outcome {
    const SECONDS: u64 = 60;
    let (mut random, mut now) = (Random(seed), 0_u64);
    let gap = SERVICE / WORKERS as f64 / load;
    // When who is done, by when it arrived and when it was let in.
    let mut working: BinaryHeap<Reverse<(u64, u64, u64)>> = BinaryHeap::new();
    let mut inside: VecDeque<(u64, u64)> = VecDeque::new();
    let (mut queue, mut limit) = (Queue::default(), Limit::default());
    let (mut window, mut since) = (Window::default(), 0);
    let (mut times, mut shed, mut all) = (Vec::new(), 0_u64, 0_u64);
    let mut arrival = 0;
    while now < SECONDS * 1_000_000 {
        let done = working.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        let counts = now >= 10_000_000;
        if arrival <= done {
            now = arrival;
            arrival += random.exponential(gap) as u64 + 1;
            all += u64::from(counts);
            shed += u64::from(queue.push(now, Importance::Normal, now, 128).is_err() && counts);
        } else {
            now = done;
            let Some(Reverse((_, arrived, admitted))) = working.pop() else { break };
            window.answers += 1;
            window.sum += now - admitted;
            if counts {
                times.push(now - arrived);
            }
            if now - since >= WINDOW && window.answers >= limit.wanted() {
                limit.update(window, now, (4.0, 1000.0));
                (window, since) = (Window::default(), now);
            }
        }
        if limited {
            while queue.expired(now, WAIT).is_some() {
                shed += u64::from(counts);
            }
        }
        let most = if limited { limit.get() } else { usize::MAX };
        while working.len() + inside.len() < most {
            // Without a limit all go on at once, in order.
            let Some(arrived) = queue.pop(now, if limited { WAIT } else { u64::MAX }) else { break };
            inside.push_back((arrived, now));
        }
        window.peak = window.peak.max((working.len() + inside.len()) as u64);
        while working.len() < WORKERS {
            let Some((arrived, admitted)) = inside.pop_front() else { break };
            working.push(Reverse((now + random.exponential(SERVICE) as u64 + 1, arrived, admitted)));
        }
    }
    times.sort_unstable();
    let at = |share: f64| {
        times.get((times.len() as f64 * share) as usize).map_or(0.0, |took| *took as f64 / 1000.0)
    };
    let good = times.iter().filter(|took| **took <= PATIENCE).count();
    Outcome {
        goodput: good as f64 / (SECONDS - 10) as f64,
        p50: at(0.5),
        p99: at(0.99),
        shed: shed as f64 / all.max(1) as f64,
        limit: limit.get(),
    }
}
