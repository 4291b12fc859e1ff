use super::queue::Queue;
use super::simulation::{Outcome, run};
use super::{Gate, Rules};
use crate::config::model::upstream::{Between, Limits, MostRequests};
use crate::values::{Duration, Importance};
use futures_util::FutureExt as _;
use std::sync::Arc;

/// Longer than anybody waits here.
const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn rules(requests: u32, waiting: u32, wait: Duration) -> Rules {
    Rules::new(&Limits {
        requests: MostRequests::Fixed(requests),
        between: Between { least: 4, most: 1000 },
        waiting,
        wait,
    })
}

#[test]
fn who_waits_has_turns_by_importance_and_the_last_comes_first_once_it_is_too_much() {
    let mut queue = Queue::default();
    for (at, importance, name) in [
        (0, Importance::Normal, 'a'),
        (1, Importance::Low, 'b'),
        (2, Importance::High, 'c'),
        (3, Importance::Normal, 'd'),
    ] {
        queue.push(at, importance, name, 4).unwrap();
    }
    assert_eq!(queue.push(4, Importance::Low, 'e', 4), Err('e'), "it is full");
    assert_eq!(queue.push(4, Importance::High, 'f', 4), Err('b'), "who matters less goes");
    assert_eq!([queue.pop(5, 1000), queue.pop(5, 1000)], [Some('c'), Some('f')]);
    assert_eq!(queue.pop(1000, 1000), Some('d'), "not empty for as long as one may wait: the last first");
    assert_eq!(queue.expired(1500, 1000), Some('a'));
    assert_eq!((queue.len(), queue.pop(1500, 1000), queue.expired(1500, 1000)), (0, None, None));
}

#[tokio::test]
async fn what_finds_no_room_is_shed_without_a_wait() {
    for waiting in [0, 3] {
        let (gate, rules) = (Arc::new(Gate::default()), rules(1, waiting, Duration::from_secs(60)));
        let inside = gate.try_enter(&rules);
        assert!(inside.is_some());
        let mut queue: Vec<_> =
            (0..waiting).map(|_| Box::pin(gate.enter(&rules, Importance::Normal, HOUR))).collect();
        for place in &mut queue {
            assert!(place.now_or_never().is_none(), "it waits");
        }
        // Fewer than what Tokio lets a task do before it has to give way.
        for shed in 1..=20 {
            let told = gate.enter(&rules, Importance::Normal, HOUR).now_or_never();
            assert!(matches!(told, Some(None)), "the first look says so");
            assert_eq!(gate.count().shed, shed);
        }
        assert_eq!(gate.count().waiting, waiting as usize);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_are_in_flight_than_may_be_and_all_come_back() {
    let (gate, rules) = (Arc::new(Gate::default()), rules(3, 1000, Duration::from_secs(30)));
    let tasks = (0..200).map(|turn| {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            let work = async {
                let turn = gate.enter(&rules, Importance::Normal, HOUR).await;
                assert!(turn.is_some() && gate.count().in_flight <= 3);
                tokio::task::yield_now().await;
            };
            // Some give up.
            if turn % 5 == 0 {
                tokio::select! { biased; () = tokio::task::yield_now() => {}, () = work => {} }
            } else {
                work.await;
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        task.await.unwrap();
    }
    let last = gate.enter(&rules, Importance::Normal, HOUR).await;
    assert!(last.is_some());
    drop(last);
    assert_eq!((gate.count().in_flight, gate.count().waiting), (0, 0));
}

#[tokio::test]
async fn what_finds_no_place_is_shed_at_once() {
    let (gate, rules) = (Arc::new(Gate::default()), rules(1, 0, Duration::from_secs(30)));
    let held = gate.try_enter(&rules).unwrap();
    assert!(gate.try_enter(&rules).is_none());
    assert!(gate.enter(&rules, Importance::High, HOUR).await.is_none());
    assert_eq!(gate.count().shed, 1);
    drop(held);
    assert!(gate.try_enter(&rules).is_some());
}

/// Half to four times of what the upstream can do: with the limit, what is answered in time stays above nine tenths of
/// its best, and who is let in is answered soon. Without, nobody is answered in time. The table is for
/// `loadtest/RESULTS.md`.
#[test]
fn twice_as_much_as_can_be_done_costs_little() {
    let loads = [0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0];
    for seed in [1, 7, 2026] {
        let with: Vec<Outcome> = loads.iter().map(|load| run(*load, true, seed)).collect();
        let without: Vec<Outcome> = loads.iter().map(|load| run(*load, false, seed)).collect();
        println!("load  goodput/s  p50 ms  p99 ms   shed  limit | without: goodput/s  p50 ms");
        for ((load, with), without) in loads.iter().zip(&with).zip(&without) {
            println!(
                "{:>3.0}%  {:>9.1}  {:>6.0}  {:>6.0}  {:>4.0}%  {:>5} | {:>18.1}  {:>6.0}",
                load * 100.0,
                with.goodput,
                with.p50,
                with.p99,
                with.shed * 100.0,
                with.limit,
                without.goodput,
                without.p50
            );
        }
        let best = with.iter().map(|outcome| outcome.goodput).fold(0.0, f64::max);
        for (load, outcome) in loads.iter().zip(&with).filter(|(load, _)| **load >= 1.5) {
            assert!(outcome.goodput >= 0.9 * best, "{load}: {outcome:?}, and the best is {best}");
            assert!(outcome.p99 < 600.0, "{load}: {outcome:?}");
        }
        assert!(with[0].shed < 0.001 && with[1].shed < 0.02, "where there is room nobody is shed: {with:?}");
        assert!(without[4].goodput < 0.2 * best, "the test would show nothing otherwise: {:?}", without[4]);
    }
}
