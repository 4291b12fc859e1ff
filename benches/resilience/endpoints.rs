//! One endpoint of ten is odd: slow, failing, or back and not warm yet.

use crate::random::Random;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tollgate::upstream::ejection::{self, Record};
use tollgate::upstream::ewma::PeakEwma;

pub const ENDPOINTS: usize = 10;
/// Requests a second, all together.
pub const RATE: f64 = 1000.0;
/// How long a simulation is, seconds.
pub const LENGTH: f64 = 60.0;

#[derive(Clone, Copy, PartialEq)]
pub enum Balance {
    RoundRobin,
    LeastRequest,
    PeakEwma,
}

#[derive(Default)]
struct Endpoint {
    in_flight: u64,
    ewma: PeakEwma,
    record: Record,
    requests: u64,
}

/// What a run came to.
pub struct Run {
    /// Milliseconds, ascending.
    pub times: Vec<f64>,
    pub failed: usize,
    /// Requests that endpoint 0 got.
    pub odd: u64,
    /// Of all requests from [`BACK`] on for ten seconds, and those that endpoint 0 got of them.
    pub cold: (u64, u64),
    /// By second of virtual time: the 99th percentile, milliseconds; and how many failed.
    pub seconds: Vec<(f64, u64)>,
}

impl Run {
    /// The share of requests that endpoint 0 got in its first ten seconds.
    pub fn odd_share(&self) -> f64 {
        self.cold.1 as f64 / self.cold.0.max(1) as f64
    }

    pub fn at(&self, share: f64) -> f64 {
        let at = (self.times.len() as f64 * share) as usize;
        self.times.get(at.min(self.times.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}

/// What endpoint 0 is like.
#[derive(Clone, Copy, Default)]
pub struct Odd {
    /// How many times as slow as the others.
    pub slower: f64,
    /// With what probability it fails.
    pub fails: f64,
    /// Who fails is left out by these.
    pub ejects: Option<ejection::Rules>,
    /// It is there from [`BACK`] on, and gets warm evenly over [`COLD`]: is `slower` at first, and then less.
    pub is_cold: bool,
    /// Over so many milliseconds it is given its share by and by.
    pub slow_start: u64,
}

/// When an endpoint that was away is back, and how long it is cold, milliseconds.
pub const BACK: u64 = 20_000;
const COLD: u64 = 10_000;

impl Odd {
    /// How long endpoint 0 takes on average, milliseconds.
    fn takes(&self, millis: u64) -> f64 {
        let cold = if self.is_cold { 1.0 - millis.saturating_sub(BACK) as f64 / COLD as f64 } else { 1.0 };
        10.0 * (1.0 + (self.slower - 1.0) * cold.clamp(0.0, 1.0))
    }

    /// Whether endpoint 0 may have this request.
    fn is_there(&self, millis: u64, random: &mut Random) -> bool {
        !self.is_cold
            || millis >= BACK
                && (self.slow_start == 0 || random.next() < ejection::warmth(BACK, millis, self.slow_start))
    }
}

/// A minute.
pub fn run(balance: Balance, odd: Odd) -> Run {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut endpoints: Vec<Endpoint> = (0..ENDPOINTS).map(|_| Endpoint::default()).collect();
    // When, at which endpoint, after how many microseconds, and whether it failed.
    let mut ends: BinaryHeap<Reverse<(u64, usize, u64, bool)>> = BinaryHeap::new();
    let (mut now, mut turn) = (0.0, 0);
    let mut told = Run { times: Vec::new(), failed: 0, odd: 0, cold: (0, 0), seconds: Vec::new() };
    let (mut second, mut failures) = (Vec::<f64>::new(), 0);
    while now < LENGTH {
        now += random.exponential(1.0 / RATE);
        while let Some(Reverse((end, at, micros, failed))) = ends.peek().copied() {
            if end > (now * 1e6) as u64 {
                break;
            }
            ends.pop();
            let endpoint: &mut Endpoint = &mut endpoints[at];
            endpoint.in_flight -= 1;
            if !failed {
                endpoint.ewma.note(micros, end / 1000);
            }
            let Some(rules) = &odd.ejects else { continue };
            let out = endpoints.iter().filter(|it| it.record.is_out(end / 1000)).count();
            if endpoints[at].record.note(rules, failed) && ejection::may_eject(out, ENDPOINTS, rules.most) {
                endpoints[at].record.eject(rules, end / 1000);
            }
        }
        let millis = (now * 1e3) as u64;
        while told.seconds.len() < now as usize {
            second.sort_by(f64::total_cmp);
            let p99 = second.get(second.len() * 99 / 100).copied().unwrap_or(0.0);
            told.seconds.push((p99, std::mem::take(&mut failures)));
            second.clear();
        }
        let first = usize::from(!odd.is_there(millis, &mut random));
        let open: Vec<usize> =
            (first..ENDPOINTS).filter(|at| !endpoints[*at].record.is_out(millis)).collect();
        let at = match balance {
            Balance::RoundRobin => {
                turn += 1;
                open[turn % open.len()]
            }
            Balance::LeastRequest | Balance::PeakEwma => {
                let (one, two) = (open[random.below(open.len())], open[random.below(open.len())]);
                let cost = |at: usize| match balance {
                    Balance::PeakEwma => endpoints[at].ewma.cost(endpoints[at].in_flight, millis),
                    _ => endpoints[at].in_flight as f64,
                };
                if cost(two) < cost(one) { two } else { one }
            }
        };
        // The more an endpoint has to do, the longer each request takes there.
        let base = if at == 0 { odd.takes(millis) } else { 10.0 };
        let took = random.exponential(base) * (1.0 + endpoints[at].in_flight as f64 / 50.0);
        let failed = at == 0 && random.next() < odd.fails;
        endpoints[at].in_flight += 1;
        endpoints[at].requests += 1;
        if (BACK..BACK + COLD).contains(&millis) {
            told.cold.0 += 1;
            told.cold.1 += u64::from(at == 0);
        }
        told.times.push(took);
        second.push(took);
        told.failed += usize::from(failed);
        failures += u64::from(failed);
        ends.push(Reverse(((now * 1e6 + took * 1e3) as u64, at, (took * 1e3) as u64, failed)));
    }
    told.times.sort_by(f64::total_cmp);
    told.odd = endpoints[0].requests;
    told
}
