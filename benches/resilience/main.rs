//! Simulations in virtual time, always the same: what the parts that look after upstreams do with one slow endpoint of
//! ten, one that fails, one that is not warm yet, outages, clients that try again, and more to do than can be done.
//!
//! It prints the tables in `loadtest/RESULTS.md`; with `-- --svg FILE` it draws the curves beside them.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured")]

mod endpoints;
mod overload;
mod plot;
mod random;
mod storm;

use endpoints::{BACK, Balance, LENGTH, Odd, RATE};
use overload::simulation;
use plot::Panel;
use storm::{Retrying, Second, Trouble};
use tollgate::upstream::breaker::{self, Breaker};
use tollgate::upstream::ejection;

const BALANCES: [(&str, Balance); 3] = [
    ("round_robin", Balance::RoundRobin),
    ("least_request", Balance::LeastRequest),
    ("peak_ewma", Balance::PeakEwma),
];

/// The curves: of one that is slow by the manner of balancing, of one that fails with and without ejection.
fn odd_endpoints() -> [Panel<'static>; 2] {
    let (mut slow, mut failing) = (Vec::new(), Vec::new());
    println!("One of ten endpoints is odd; {RATE} requests a second for {LENGTH} s of virtual time.\n");
    println!("| | balance | p50 ms | p99 ms | p99.9 ms | failed | to the odd one |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let ejects = ejection::Rules { consecutive: 5, eject_for: 30_000, longest: 300_000, most: 0.5 };
    let alike = Odd { slower: 1.0, ..Odd::default() };
    for (what, odd) in [
        ("all alike", alike),
        ("20 times as slow", Odd { slower: 20.0, ..alike }),
        ("fails", Odd { fails: 1.0, ..alike }),
        ("fails, left out", Odd { fails: 1.0, ejects: Some(ejects), ..alike }),
    ] {
        for (name, balance) in BALANCES {
            let told = endpoints::run(balance, odd);
            let requests = told.times.len() as f64;
            println!(
                "| {what} | `{name}` | {:.1} | {:.1} | {:.1} | {:.2} % | {:.2} % |",
                told.at(0.5),
                told.at(0.99),
                told.at(0.999),
                100.0 * told.failed as f64 / requests,
                100.0 * told.odd as f64 / requests,
            );
            if odd.slower > 1.0 {
                let points =
                    (900..1000).map(|share| (f64::from(share) / 10.0, told.at(f64::from(share) / 1000.0)));
                slow.push((name, points.collect()));
            } else if odd.fails > 0.0 && balance == Balance::LeastRequest {
                let points =
                    told.seconds.iter().enumerate().map(|(at, (_, failed))| (at as f64, *failed as f64));
                failing.push((if odd.ejects.is_some() { "left out" } else { "without" }, points.collect()));
            }
        }
    }
    [
        Panel { title: "One of ten is 20 times as slow", units: (" %", "ms"), curves: slow },
        Panel { title: "One of ten fails, least_request", units: (" s", "failed/s"), curves: failing },
    ]
}

/// One that is back and cold; its curves are those of `least_request`.
fn cold_endpoint() -> Panel<'static> {
    println!("\nOne of ten is back after {} s, at first 20 times as slow, warm after 10 s.\n", BACK / 1000);
    println!("| balance | `slow_start` | p99 ms of the worst second | p99 ms of the 10 s | to it in 10 s |");
    println!("| --- | --- | --- | --- | --- |");
    let mut curves = Vec::new();
    for (name, balance) in BALANCES {
        for (what, slow_start) in [("without", 0), ("10s", 10_000)] {
            let odd = Odd { slower: 20.0, is_cold: true, slow_start, ..Odd::default() };
            let told = endpoints::run(balance, odd);
            let from = (BACK / 1000) as usize;
            let cold = told.seconds.get(from..from + 10).unwrap_or_default();
            let worst = cold.iter().map(|(p99, _)| *p99).fold(0.0, f64::max);
            let mean = cold.iter().map(|(p99, _)| p99).sum::<f64>() / cold.len().max(1) as f64;
            println!("| `{name}` | {what} | {worst:.0} | {mean:.0} | {:.1} % |", 100.0 * told.odd_share());
            if balance == Balance::LeastRequest {
                let seconds = told.seconds.iter().enumerate().skip(from - 5).take(20);
                let points = seconds.map(|(second, (p99, _))| (second as f64, *p99)).collect();
                curves.push((if slow_start > 0 { "slow_start" } else { "without" }, points));
            }
        }
    }
    Panel { title: "A cold endpoint, least_request", units: (" s", "p99 ms"), curves }
}

/// An outage from the 20th to the 40th second behind a breaker.
fn breaker() {
    let rules = breaker::Rules {
        failures: 0.5,
        slow: None,
        of_at_least: 20,
        within: 10_000,
        open_for: 5000,
        probes: 3,
    };
    let breaker = Breaker::default();
    // Calls that were made into it, all that there were in it, and when the last one was refused.
    let (mut made, mut all, mut last) = (0, 0, 40_000);
    for now in 0..60_000_u64 {
        let down = (20_000..40_000).contains(&now);
        all += u64::from(down);
        match breaker.ask(&rules, now) {
            Ok(pass) => {
                made += u64::from(down);
                breaker.note(&rules, pass, (down, 1), now);
            }
            Err(_) if now >= 40_000 => last = now,
            Err(_) => {}
        }
    }
    let after = (last - 40_000) as f64 / 1000.0;
    println!(
        "\nAn outage of 20 s behind a breaker (50 % of 10 s, open for 5 s): {made} of {all} calls went into it,"
    );
    println!("and {after:.1} s after its end the last one was refused.");
}

/// The curves are those of an upstream that stands still.
fn storms() -> Panel<'static> {
    let ill = storm::TROUBLE;
    println!(
        "\n{RATE} requests a second, and an upstream that can do 1600; from {} s to {} s it is ill.",
        ill.start, ill.end
    );
    println!("Attempts have a second, requests three attempts.\n");
    println!(
        "| meanwhile | who tries again | retries of requests, ill | worst second | answered later on | well again after |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut curves = Vec::new();
    for (what, trouble) in [("fails after 5 ms", Trouble::Fails), ("stands still", Trouble::StandsStill)] {
        for (who, retrying) in [
            ("by budget", Retrying::ByBudget),
            ("everybody", Retrying::Everybody),
            ("nobody", Retrying::Nobody),
        ] {
            let seconds = storm::run(retrying, trouble);
            let from = ill.start as usize;
            let (during, later) = seconds[from..].split_at((ill.end - ill.start) as usize);
            let sum = |seconds: &[Second], of: fn(&Second) -> u64| seconds.iter().map(of).sum::<u64>() as f64;
            let share = |second: &Second| second.retries as f64 / second.requests.max(1) as f64;
            let is_ill = |second: &Second| (second.well as f64) < 0.95 * second.requests as f64;
            let well = later.iter().rposition(is_ill).map_or(0, |last| last + 1);
            let again = if well == later.len() { "never".to_owned() } else { format!("{well} s") };
            println!(
                "| {what} | {who} | {:.1} % | {:.1} % | {:.1} % | {again} |",
                100.0 * sum(during, |it| it.retries) / sum(during, |it| it.requests),
                100.0 * seconds.iter().map(share).fold(0.0, f64::max),
                100.0 * sum(later, |it| it.well) / sum(later, |it| it.requests),
            );
            if trouble == Trouble::StandsStill {
                let points = seconds.iter().enumerate().map(|(at, it)| (at as f64, it.well as f64)).collect();
                curves.push((who, points));
            }
        }
    }
    Panel { title: "5 s of standstill, who tries again", units: (" s", "answers/s"), curves }
}

fn overload() -> [Panel<'static>; 2] {
    println!("\nMore than an upstream of 20 workers can do, with `limits: {{}}` and without.\n");
    println!(
        "| load | in time, per second | p50 ms | p99 ms | shed | limit | without: in time, per second | p50 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let (mut good, mut times) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for load in [0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0] {
        let [with, without] = [true, false].map(|limited| simulation::run(load, limited, 2026));
        println!(
            "| {:.0} % | {:.1} | {:.0} | {:.0} | {:.0} % | {} | {:.1} | {:.0} |",
            load * 100.0,
            with.goodput,
            with.p50,
            with.p99,
            with.shed * 100.0,
            with.limit,
            without.goodput,
            without.p50
        );
        for (at, outcome) in [with, without].iter().enumerate() {
            good[at].push((load * 100.0, outcome.goodput));
            times[at].push((load * 100.0, outcome.p99.min(2000.0)));
        }
    }
    let curves = |[with, without]: [Vec<(f64, f64)>; 2]| vec![("limits", with), ("without", without)];
    [
        Panel {
            title: "More than can be done: answers in time",
            units: (" %", "answers/s"),
            curves: curves(good),
        },
        Panel { title: "Of those let in (cut at 2 s)", units: (" %", "p99 ms"), curves: curves(times) },
    ]
}

fn main() {
    let [slow, failing] = odd_endpoints();
    let cold = cold_endpoint();
    breaker();
    let storms = storms();
    let [good, times] = overload();
    let mut words = std::env::args().skip_while(|word| word != "--svg").skip(1);
    if let Some(path) = words.next() {
        let drawn = std::fs::write(&path, plot::svg(&[slow, failing, cold, storms, good, times]));
        println!("\n{path}: {drawn:?}");
    }
}
