//! A decision of a local rate limit: a million keys, two threads that ask at once.

use std::hash::Hasher as _;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use tollgate::policy::shared::gcra::{Ask, Family, Pace, Store};

const KEYS: u64 = 1_000_000;
const THREADS: u64 = 2;
const TURNS: u64 = 5_000_000;

/// The time of a decision in nanoseconds, on each of the threads. `limits` is how many are asked together,
/// `keys` how many different keys there are.
fn measure(store: &Store, families: &[Family], pace: Pace, keys: u64) -> f64 {
    let start = Barrier::new(THREADS as usize);
    let turns = TURNS / families.len() as u64;
    let times: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let start = &start;
                scope.spawn(move || {
                    let mut random = 0x2545_f491_4f6c_dd1d_u64 ^ (thread << 32);
                    start.wait();
                    let began = on_cpu();
                    for _ in 0..turns {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let now = store.now();
                        let ask = |family| {
                            let mut hasher = store.hasher(family);
                            hasher.write_u64(random % keys);
                            Ask { family, digest: hasher.finish(), pace, cost: pace.cost(1) }
                        };
                        match families {
                            [family] => std::hint::black_box(store.take(&[ask(family)], now)),
                            several => {
                                let asks: Vec<Ask<'_>> = several.iter().map(ask).collect();
                                std::hint::black_box(store.take(&asks, now))
                            }
                        };
                    }
                    (on_cpu() - began) as f64 / turns as f64
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    times.iter().sum::<f64>() / times.len() as f64
}

/// What this thread has run so far, in nanoseconds: other programs on the machine do not count.
fn on_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// Waits until the kernel has put most of the table into large pages, a minute at most; how much it has, in MiB.
#[expect(clippy::disallowed_methods, reason = "a bench waits for the kernel")]
fn settle(store: &Store) -> u64 {
    let large = || {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("AnonHugePages:"));
        line.and_then(|line| line.trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    let began = Instant::now();
    while large() * 4 < ((store.bytes() as u64 * 3) >> 20) && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(200));
    }
    large()
}

#[expect(clippy::print_stdout, reason = "a bench tells what it measured")]
fn main() {
    let store = Store::new(KEYS as usize);
    let Some(pace) = "10/m".parse().ok().and_then(|rate| Pace::new(rate, 10)) else { return };
    let families = |count: usize| (0..count).map(|at| store.family(&at.to_string())).collect::<Vec<_>>();
    for (what, limits, keys) in [
        ("one limit, a million keys (first, they are new)", 1, KEYS),
        ("one limit, a million keys", 1, KEYS),
        ("one limit, a thousand keys", 1, 1000),
        ("one limit, one key", 1, 1),
        ("two limits, a thousand keys", 2, 1000),
    ] {
        println!(
            "{what}: {:.0} ns a decision, clock and hash included",
            measure(&store, &families(limits), pace, keys)
        );
        if what.ends_with("(first, they are new)") {
            println!("then {} MiB are in large pages", settle(&store));
        }
    }
    println!("{} keys, {} bytes, {} forgotten", store.len(), store.bytes(), store.forgotten());
}
