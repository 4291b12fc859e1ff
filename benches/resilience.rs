//! A simulation in virtual time, always the same: what the parts that look after upstreams do with one slow
//! endpoint of ten, one that fails, and an outage. It prints the table in `loadtest/RESULTS.md`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tollgate::upstream::breaker::{self, Breaker};
use tollgate::upstream::ejection::{self, Record};
use tollgate::upstream::ewma::PeakEwma;

const ENDPOINTS: usize = 10;
/// Requests a second, all together.
const RATE: f64 = 1000.0;
/// How long a simulation is, seconds.
const LENGTH: f64 = 60.0;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next()).ln()
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() * count as f64) as usize
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Balance {
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
struct Run {
    /// Milliseconds, ascending.
    times: Vec<f64>,
    failed: usize,
    /// Requests that endpoint 0 got.
    odd: u64,
}

impl Run {
    fn at(&self, share: f64) -> f64 {
        let at = (self.times.len() as f64 * share) as usize;
        self.times.get(at.min(self.times.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }
}

/// Endpoint 0 is `slower` times as slow as the others, and fails with the probability `fails`.
fn run(balance: Balance, slower: f64, fails: f64, ejects: Option<ejection::Rules>) -> Run {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut endpoints: Vec<Endpoint> = (0..ENDPOINTS).map(|_| Endpoint::default()).collect();
    // When, at which endpoint, after how many microseconds, and whether it failed.
    let mut ends: BinaryHeap<Reverse<(u64, usize, u64, bool)>> = BinaryHeap::new();
    let (mut now, mut turn) = (0.0, 0);
    let mut told = Run { times: Vec::new(), failed: 0, odd: 0 };
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
            let Some(rules) = &ejects else { continue };
            let out = endpoints.iter().filter(|it| it.record.is_out(end / 1000)).count();
            if endpoints[at].record.note(rules, failed) && ejection::may_eject(out, ENDPOINTS, rules.most) {
                endpoints[at].record.eject(rules, end / 1000);
            }
        }
        let millis = (now * 1e3) as u64;
        let open: Vec<usize> = (0..ENDPOINTS).filter(|at| !endpoints[*at].record.is_out(millis)).collect();
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
        let base = if at == 0 { 10.0 * slower } else { 10.0 };
        let took = random.exponential(base) * (1.0 + endpoints[at].in_flight as f64 / 50.0);
        let failed = at == 0 && random.next() < fails;
        endpoints[at].in_flight += 1;
        endpoints[at].requests += 1;
        told.times.push(took);
        told.failed += usize::from(failed);
        ends.push(Reverse(((now * 1e6 + took * 1e3) as u64, at, (took * 1e3) as u64, failed)));
    }
    told.times.sort_by(f64::total_cmp);
    told.odd = endpoints[0].requests;
    told
}

/// An outage from the 20th to the 40th second: calls that were made into it, all that there were in it, and how
/// long after its end the last one was refused, in seconds.
fn outage(rules: &breaker::Rules) -> (u64, u64, f64) {
    let breaker = Breaker::default();
    let (mut made, mut all, mut last) = (0, 0, 40_000);
    for micros in (0..60_000_000_u64).step_by(1000) {
        let now = micros / 1000;
        let down = (20_000..40_000).contains(&now);
        all += u64::from(down);
        match breaker.ask(rules, now) {
            Ok(pass) => {
                made += u64::from(down);
                breaker.note(rules, pass, (down, 1), now);
            }
            Err(_) if now >= 40_000 => last = now,
            Err(_) => {}
        }
    }
    (made, all, (last - 40_000) as f64 / 1000.0)
}

#[expect(clippy::print_stdout, reason = "a bench tells what it measured")]
fn main() {
    println!("One of ten endpoints is odd; {RATE} requests a second for {LENGTH} s of virtual time.\n");
    println!("| | balance | p50 ms | p99 ms | p99.9 ms | failed | to the odd one |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let ejects = ejection::Rules { consecutive: 5, eject_for: 30_000, longest: 300_000, most: 0.5 };
    for (what, slower, fails, rules) in [
        ("all alike", 1.0, 0.0, None),
        ("20 times as slow", 20.0, 0.0, None),
        ("fails", 1.0, 1.0, None),
        ("fails, left out", 1.0, 1.0, Some(ejects)),
    ] {
        for (name, balance) in [
            ("round_robin", Balance::RoundRobin),
            ("least_request", Balance::LeastRequest),
            ("peak_ewma", Balance::PeakEwma),
        ] {
            let told = run(balance, slower, fails, rules);
            let requests = told.times.len() as f64;
            println!(
                "| {what} | `{name}` | {:.1} | {:.1} | {:.1} | {:.2} % | {:.2} % |",
                told.at(0.5),
                told.at(0.99),
                told.at(0.999),
                100.0 * told.failed as f64 / requests,
                100.0 * told.odd as f64 / requests,
            );
        }
    }
    let rules = breaker::Rules {
        failures: 0.5,
        slow: None,
        of_at_least: 20,
        within: 10_000,
        open_for: 5000,
        probes: 3,
    };
    let (made, all, after) = outage(&rules);
    println!(
        "\nAn outage of 20 s behind a breaker (50 % of 10 s, open for 5 s): {made} of {all} calls went into it,"
    );
    println!("and {after:.1} s after its end the last one was refused.");
}
