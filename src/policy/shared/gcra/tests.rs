use super::store::{Ask, Family, Outcome, Store};
use super::{Pace, TICKS, Ticks, at_interval};
use proptest::prelude::*;
use std::hash::Hasher as _;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

const SECOND: Ticks = 1_000_000_000 * TICKS;

fn pace(rate: &str, burst: u32) -> Pace {
    Pace::new(rate.parse().unwrap(), burst).unwrap()
}

/// What a limit promises, written down as plainly as can be: a bucket in fractions of a unit, exact in
/// whole numbers, for times in microseconds.
struct Bucket {
    /// Units a million times the period.
    level: u128,
    last: u64,
    count: u128,
    micros: u128,
    burst: u128,
}

impl Bucket {
    fn new(count: u32, micros: u64, burst: u32) -> Self {
        let (count, micros, burst) = (count.into(), micros.into(), burst.into());
        Self { level: micros * burst, last: 0, count, micros, burst }
    }

    fn take(&mut self, at: u64, units: u32) -> bool {
        let come = u128::from(at - self.last) * self.count;
        self.level = (self.level + come).min(self.micros * self.burst);
        self.last = at;
        let cost = u128::from(units).min(self.burst) * self.micros;
        let admits = self.level >= cost;
        if admits {
            self.level -= cost;
        }
        admits
    }
}

fn digest(store: &Store, family: &Family, key: u64) -> u64 {
    let mut hasher = store.hasher(family);
    hasher.write_u64(key);
    hasher.finish()
}

fn ask<'a>(store: &Store, family: &'a Family, key: u64, pace: Pace, units: u32) -> Ask<'a> {
    Ask { family, digest: digest(store, family, key), pace, cost: pace.cost(units) }
}

proptest! {
    /// Whatever the order of calls: exactly what the plain model admits is admitted. Rates that divide a
    /// second evenly; the others are slower than written by less than a tick for each unit.
    #[test]
    fn it_decides_as_the_plain_model_does(
        count in prop::sample::select(vec![1_u32, 2, 5, 10, 64, 100, 625, 1000, 1_000_000]),
        burst in 1_u32..50,
        calls in prop::collection::vec((0_u64..3_000_000, 0_u32..8, 0_u64..4), 1..200),
    ) {
        let store = Store::new(1000);
        let family = store.family("a");
        let pace = pace(&format!("{count}/s"), burst);
        let mut models: Vec<Bucket> = (0..4).map(|_| Bucket::new(count, 1_000_000, burst)).collect();
        let mut at = 0;
        for (after, units, key) in calls {
            at += after % (3_000_000 / u64::from(count)).max(2);
            let taken = store.take(&[ask(&store, &family, key, pace, units)], at * 1000 * TICKS);
            let model = models[key as usize].take(at, units);
            prop_assert_eq!(taken == Outcome::Admitted, model, "at {} µs, {} units of key {}", at, units, key);
        }
    }

    /// At any rate never more than it says, in any stretch of time.
    #[test]
    fn no_stretch_of_time_has_more_than_burst_and_rate(
        count in 1_u32..5000,
        per in 1_u64..100,
        burst in 1_u32..20,
        gaps in prop::collection::vec(0_u64..50_000_000, 1..150),
    ) {
        let store = Store::new(1000);
        let family = store.family("a");
        let pace = pace(&format!("{count}/{per}s"), burst);
        let mut admitted = Vec::new();
        let mut at: Ticks = 0;
        for gap in gaps {
            at += gap;
            if store.take(&[ask(&store, &family, 1, pace, 1)], at) == Outcome::Admitted {
                admitted.push(at);
            }
        }
        for from in 0..admitted.len() {
            for to in from..admitted.len() {
                let span = u128::from(admitted[to] - admitted[from]);
                let most = u128::from(burst) + span * u128::from(count) / u128::from(per * SECOND);
                prop_assert!((to - from + 1) as u128 <= most);
            }
        }
    }

    /// Several limits admit together or not at all: as models of which none is asked unless all would admit.
    #[test]
    fn several_limits_take_from_all_or_from_none(
        bursts in prop::collection::vec(1_u32..10, 2..5),
        calls in prop::collection::vec((0_u64..400_000, 1_u32..4), 1..150),
    ) {
        let store = Store::new(1000);
        let families: Vec<Family> = (0..bursts.len()).map(|at| store.family(&at.to_string())).collect();
        let mut models: Vec<Bucket> = bursts.iter().map(|burst| Bucket::new(10, 1_000_000, *burst)).collect();
        let mut at = 0;
        for (after, units) in calls {
            at += after;
            let asks: Vec<Ask<'_>> = families.iter().zip(&bursts)
                .map(|(family, burst)| ask(&store, family, 7, pace("10/s", *burst), units))
                .collect();
            let taken = store.take(&asks, at * 1000 * TICKS) == Outcome::Admitted;
            let would = models.iter().all(|model| {
                Bucket { ..*model }.take(at, units)
            });
            if would {
                models.iter_mut().for_each(|model| assert!(model.take(at, units)));
            }
            prop_assert_eq!(taken, would);
        }
    }
}

/// Threads that ask for the same keys at once, with clocks of their own that run apart.
fn storm(threads: usize, store: &Store, work: impl Fn(usize, Ticks) -> u64 + Sync) -> (u64, Ticks) {
    let (start, total) = (Barrier::new(threads), AtomicU64::new(0));
    let began = store.now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (start, total, work) = (&start, &total, &work);
            scope.spawn(move || {
                start.wait();
                let mut admitted = 0;
                for _ in 0..20_000 {
                    admitted += work(thread, store.now());
                }
                total.fetch_add(admitted, Ordering::Relaxed);
            });
        }
    });
    (total.into_inner(), store.now() - began)
}

#[test]
fn threads_together_get_no_more_than_one() {
    for round in 0..5 {
        let store = Store::new(1000);
        let family = store.family("a");
        let pace = pace("1000/s", 100);
        let (admitted, span) = storm(4, &store, |_, now| {
            u64::from(store.take(&[ask(&store, &family, round, pace, 1)], now) == Outcome::Admitted)
        });
        let most = 100 + span * 1000 / SECOND;
        assert!(admitted <= most, "{admitted} of {most}");
        // Whoever was refused, was refused rightly: what came in the time was given out, but for what has
        // just come.
        assert!(admitted >= 100, "{admitted}");
    }
}

#[test]
fn threads_that_ask_several_limits_in_any_order_take_from_all_or_none() {
    let store = Store::new(1000);
    let families = ["a", "b", "c"].map(|name| store.family(name));
    // So slow that nothing comes back meanwhile; so small that almost all are refused.
    let paces = [pace("1/h", 1000), pace("1/h", 500), pace("1/h", 800)];
    let counts: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
    storm(4, &store, |thread, now| {
        let pick: &[usize] = [&[0, 1, 2][..], &[2, 1], &[1, 0], &[2, 0]][thread % 4];
        let asks: Vec<Ask<'_>> =
            pick.iter().map(|at| ask(&store, &families[*at], 1, paces[*at], 1)).collect();
        let admitted = store.take(&asks, now) == Outcome::Admitted;
        if admitted {
            for at in pick {
                counts[*at].fetch_add(1, Ordering::Relaxed);
            }
        }
        u64::from(admitted)
    });
    let now = store.now();
    for ((family, pace), count) in families.iter().zip(&paces).zip(&counts) {
        let digest = digest(&store, family, 1);
        let left = pace.left(store.full(digest, *pace, now), now);
        assert_eq!(
            u64::from(left) + count.load(Ordering::Relaxed),
            u64::from(pace.burst()),
            "what is gone was admitted"
        );
    }
    let used_up = |at: usize| counts[at].load(Ordering::Relaxed) == u64::from(paces[at].burst());
    for pick in [&[0, 1, 2][..], &[2, 1], &[1, 0], &[2, 0]] {
        assert!(pick.iter().any(|at| used_up(*at)), "who was refused was refused rightly: {pick:?}");
    }
}

#[test]
fn threads_that_bring_new_keys_never_give_a_key_two_places() {
    // With room to spare: filled to the brim, a store may forget a key whose places are taken by others.
    let store = Store::new(200_000);
    let family = store.family("a");
    let pace = pace("1/h", 1);
    let turn = AtomicU64::new(0);
    let (admitted, _) = storm(4, &store, |_, now| {
        // Each key comes about four times, at about the same time, by different threads.
        let key = turn.fetch_add(1, Ordering::Relaxed) / 4;
        u64::from(store.take(&[ask(&store, &family, key, pace, 1)], now) == Outcome::Admitted)
    });
    assert_eq!((admitted, store.forgotten()), (20_000, 0), "once for each key");
}

#[test]
fn keys_that_are_back_at_all_of_it_make_room() {
    let store = Store::new(1000);
    let family = store.family("a");
    let pace = pace("1/s", 1);
    for key in 0..100_000 {
        // A thousand keys a second, each of which is back after one.
        let now = key * SECOND / 1000;
        assert_eq!(store.take(&[ask(&store, &family, key, pace, 1)], now), Outcome::Admitted);
        assert_ne!(store.take(&[ask(&store, &family, key, pace, 1)], now), Outcome::Admitted);
    }
    assert!(store.bytes() <= 30_000, "{} bytes", store.bytes());
    assert!(store.forgotten() <= 20, "{} forgotten", store.forgotten());
}

#[test]
fn a_full_table_forgets_who_has_least_to_remember() {
    let store = Store::new(1000);
    let family = store.family("a");
    let (short, long) = (pace("1/s", 1), pace("1/h", 1));
    store.take(&[ask(&store, &family, 0, long, 1)], 0);
    for key in 1..100_000 {
        store.take(&[ask(&store, &family, key, short, 1)], 0);
    }
    assert!(store.forgotten() > 90_000);
    assert_ne!(store.take(&[ask(&store, &family, 0, long, 1)], 0), Outcome::Admitted, "it is still known");
}

#[test]
fn a_million_keys_fit_into_what_is_said() {
    let store = Store::new(1_000_000);
    let family = store.family("a");
    let pace = pace("1/h", 1);
    for key in 0..1_000_000 {
        store.take(&[ask(&store, &family, key, pace, 1)], SECOND);
    }
    assert!(store.forgotten() <= 10, "{} forgotten", store.forgotten());
    assert_eq!(store.len() as u64 + store.forgotten(), 1_000_000, "all are known once");
    assert!(store.bytes() <= 26_000_000, "{} bytes", store.bytes());
}

#[test]
fn another_rate_keeps_the_count() {
    let store = Store::new(1000);
    let family = store.family("a");
    let (old, new) = (pace("10/m", 10), pace("10/h", 10));
    [old, new].iter().for_each(|pace| family.learn(pace.interval()));
    let now = SECOND;
    for _ in 0..7 {
        assert_eq!(store.take(&[ask(&store, &family, 1, old, 1)], now), Outcome::Admitted);
    }
    let left = |pace: Pace| pace.left(store.full(digest(&store, &family, 1), pace, now), now);
    assert_eq!(left(old), 3);
    assert_eq!(store.take(&[ask(&store, &family, 1, new, 1)], now), Outcome::Admitted);
    assert_eq!((left(new), left(old)), (2, 10), "seven and this one; and nothing stands twice");
    assert_eq!(store.take(&[ask(&store, &family, 1, old, 1)], now), Outcome::Admitted);
    assert_eq!(left(old), 1, "and back again");
    // Another burst only says how many there may be.
    assert_eq!(
        store.take(&[ask(&store, &family, 1, pace("10/m", 9), 1)], now),
        Outcome::Refused { by: 0, wait: 6 * SECOND }
    );
}

#[test]
fn what_was_taken_can_be_given_back_and_more_can_be_charged() {
    let store = Store::new(1000);
    let family = store.family("a");
    let pace = pace("1/s", 10);
    let one = ask(&store, &family, 1, pace, 4);
    let left = |now| pace.left(store.full(one.digest, pace, now), now);
    assert_eq!((store.take(&[one], SECOND), left(SECOND)), (Outcome::Admitted, 6));
    store.give_back((one.digest, pace), pace.cost(3));
    assert_eq!(left(SECOND), 9);
    store.charge(&one, pace.cost(10), SECOND);
    assert_eq!(left(SECOND), 0);
    assert_eq!(
        store.take(&[ask(&store, &family, 1, pace, 1)], SECOND),
        Outcome::Refused { by: 0, wait: 2 * SECOND }
    );
    assert_eq!(pace.until_more(store.full(one.digest, pace, SECOND), SECOND), Some(2 * SECOND));
    store.give_back((digest(&store, &family, 2), pace), pace.cost(5));
    assert_eq!(store.len(), 1, "whoever is unknown gets nothing");
}

#[test]
fn what_is_left_and_until_when() {
    let pace = pace("2/s", 3);
    let half = SECOND / 2;
    for (full, left, more) in [
        (0, 3, None),
        (1, 2, Some(1)),
        (half, 2, Some(half)),
        (half + 1, 1, Some(1)),
        (3 * half, 0, Some(half)),
        (3 * half - 1, 0, Some(half - 1)),
        (5 * half, 0, Some(3 * half)),
    ] {
        assert_eq!((pace.left(full, 0), pace.until_more(full, 0)), (left, more), "{full}");
    }
    assert_eq!(pace.take(3 * half, 0, pace.cost(1)), Err(half));
    assert_eq!(pace.take(3 * half, half, pace.cost(1)), Ok(4 * half));
    assert_eq!(pace.cost(7), pace.cost(3), "more than the burst costs the burst");
}

#[test]
fn spans_that_do_not_fit_are_no_pace() {
    assert!(Pace::new("1/366d".parse().unwrap(), 1).is_some());
    assert!(Pace::new("1/366d".parse().unwrap(), 2).is_none());
    assert!(Pace::new("1/s".parse().unwrap(), u32::MAX).is_none());
    assert_eq!(at_interval(100 + 7 * 60, 100, (60, 3600)), 100 + 7 * 3600);
}

#[test]
fn the_next_process_goes_on_counting() {
    use crate::retained::Carried;
    let (old, new) = (Store::new(1000), Store::new(5000));
    let pace = pace("1/h", 10);
    let family = old.family("a");
    for key in 1..=9 {
        old.take(&[ask(&old, &family, key, pace, key as u32)], old.now());
    }
    let written = old.export(Store::ROOM).unwrap();
    assert_eq!(new.import(7, written.clone()), Err("version 7 is not known".to_owned()));
    assert!(new.import(Store::VERSION, serde_json::json!({ "keys": 7 })).is_err());
    new.import(Store::VERSION, written.clone()).unwrap();
    let left = |store: &Store, key: u64| {
        pace.left(store.full(digest(store, &family, key), pace, store.now()), store.now())
    };
    for key in 1..=9 {
        assert_eq!(u64::from(left(&new, key)), 10 - key, "{key}");
    }
    assert_eq!((left(&new, 99), new.family("a").id()), (10, family.id()));
    assert!(new.import(Store::VERSION, written).is_err(), "it has hashed keys by now");
    // Where not all fits, those that have longest to wait go.
    let short = old.export(256 + 4 * 16).unwrap();
    let other = Store::new(1000);
    other.import(Store::VERSION, short).unwrap();
    assert_eq!((other.len(), left(&other, 9), left(&other, 1)), (3, 1, 10));
    assert_eq!(Store::new(1000).export(Store::ROOM), None, "nothing to say");
}
