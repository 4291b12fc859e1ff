//! Random histories of requests, answers, purges and steps of the clock: the cache never gives an answer
//! that RFC 9111 forbids, by a model of it that knows nothing of the cache.

mod cache;
mod model;

use cache::{Cache, Fault, Outcome};
use model::{Answer, Contract, How, Method, Model, Request, Vary};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use std::cell::Cell;
use std::time::Duration;
use tollgate::policy::cache::Settings;

/// When histories begin.
const BEGINNING: u64 = 784_111_777;

#[derive(Clone, Debug)]
enum Step {
    /// A request, and what the origin says if it is asked.
    Ask(Box<(Request, Answer)>),
    Purge(Option<u8>, bool),
    Wait(u64),
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.08)
}

fn seconds() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..8_u64, 8..60_u64]
}

fn requests() -> impl Strategy<Value = Request> {
    let method = prop_oneof![12 => Just(Method::Get), 2 => Just(Method::Head), 1 => Just(Method::Post)];
    let language = prop_oneof![2 => Just(None), 1 => Just(Some("de")), 1 => Just(Some("en"))];
    let flags = [rarely(), rarely(), rarely(), rarely(), rarely()];
    let max_stale = weighted(0.1, weighted(0.7, seconds()));
    let times = [weighted(0.08, seconds()), weighted(0.08, seconds()), weighted(0.08, seconds())];
    (0..3_u8, method, language, flags, max_stale, times).prop_map(
        |(url, method, language, flags, max_stale, [max_age, min_fresh, if_error])| {
            let [authorization, no_cache, no_store, pragma, only_if_cached] = flags;
            Request {
                url,
                method,
                language,
                authorization,
                no_cache,
                no_store,
                pragma,
                only_if_cached,
                max_age,
                min_fresh,
                max_stale,
                if_error,
            }
        },
    )
}

fn answers() -> impl Strategy<Value = Answer> {
    let status = prop_oneof![
        10 => Just(200_u16), 1 => Just(301), 1 => Just(302), 1 => Just(404), 1 => Just(206), 2 => Just(500), 1 => Just(503)
    ];
    let vary = prop_oneof![6 => Just(Vary::Nothing), 3 => Just(Vary::Language), 1 => Just(Vary::Everything)];
    let expires = weighted(0.2, weighted(0.8, -20..60_i64));
    let made = (0..3_u64, weighted(0.8, 0..9_u64), prop_oneof![4 => Just(0), 1 => 1..20_u64]);
    let times = (
        weighted(0.6, seconds()),
        weighted(0.2, seconds()),
        weighted(0.2, seconds()),
        weighted(0.2, seconds()),
        weighted(0.3, 10..2000_u64),
    );
    let flags = [rarely(), rarely(), rarely(), rarely(), rarely(), rarely()];
    (status, vary, expires, made, times, flags, weighted(0.5, 0..3_u8)).prop_map(
        |(status, vary, expires, (delay, date_back, age), times, flags, etag)| {
            let (max_age, s_maxage, while_revalidate, if_error, modified) = times;
            let [no_store, no_cache, private, public, must_revalidate, proxy_revalidate] = flags;
            Answer {
                status,
                delay,
                date_back,
                age,
                max_age,
                s_maxage,
                expires,
                modified,
                no_store,
                no_cache,
                private,
                public,
                must_revalidate,
                proxy_revalidate,
                while_revalidate,
                if_error,
                vary,
                etag,
            }
        },
    )
}

fn histories() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (requests(), answers()).prop_map(|(request, answer)| Step::Ask(Box::new((request, answer)))),
        3 => seconds().prop_map(Step::Wait),
        1 => (weighted(0.7, 0..3_u8), any::<bool>()).prop_map(|(url, soft)| Step::Purge(url, soft)),
    ];
    vec(step, 1..40)
}

/// How often a cache did without the origin in some way.
#[derive(Default)]
struct Tally {
    reused: Cell<u64>,
    meanwhile: Cell<u64>,
    instead: Cell<u64>,
    confirmed: Cell<u64>,
    asked: Cell<u64>,
}

/// Runs a history; what the model says against it.
fn run(history: &[Step], contract: Contract, fault: Fault, tally: &Tally) -> Result<(), String> {
    let settings = Settings {
        grace: Duration::from_secs(contract.grace),
        stale_if_error: Duration::from_secs(contract.if_error),
        ..Settings::default()
    };
    let (cache, mut model, mut now) = (Cache::new(settings, fault), Model::new(contract), BEGINNING);
    for (id, step) in history.iter().enumerate() {
        let id = id as u64;
        let (request, answer) = match step {
            Step::Wait(seconds) => {
                now += seconds;
                continue;
            }
            Step::Purge(url, soft) => {
                cache.purge(*url, *soft);
                model.purged(*url, *soft);
                continue;
            }
            Step::Ask(exchange) => (&exchange.0, &exchange.1),
        };
        let count = |counter: &Cell<u64>| counter.set(counter.get() + 1);
        count(&tally.asked);
        match cache.handle(request, (id, answer), now) {
            Outcome::Reused(given, age) => {
                count(&tally.reused);
                model.judge(given, request, now, (How::Unasked, age))?;
                continue;
            }
            Outcome::Meanwhile((given, age), is_confirmed) => {
                count(&tally.meanwhile);
                model.judge(given, request, now, (How::Unasked, age))?;
                let fetch = Request { method: Method::Get, ..request.clone() };
                if is_confirmed {
                    model.confirmed(given, &fetch, answer, now)?;
                } else {
                    model.answered(id, &fetch, answer, now);
                }
            }
            Outcome::InsteadOfError(given, age) => {
                count(&tally.instead);
                // As of when the request came: what the origin takes to fail is not counted.
                model.judge(given, request, now, (How::InsteadOfError, age))?;
            }
            Outcome::Confirmed(given) => {
                count(&tally.confirmed);
                model.confirmed(given, request, answer, now)?;
            }
            Outcome::Forwarded => model.answered(id, request, answer, now),
            Outcome::NotCached if request.only_if_cached => continue,
            Outcome::NotCached => return Err(format!("a 504 for {request:?}")),
        }
        now += answer.delay;
    }
    Ok(())
}

fn try_all(contract: Contract, fault: Fault, cases: u32, tally: &Tally) -> Result<(), TestError<Vec<Step>>> {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    TestRunner::new(config)
        .run(&histories(), |history| run(&history, contract, fault, tally).map_err(TestCaseError::fail))
}

const CONTRACTS: [Contract; 2] = [Contract { grace: 0, if_error: 0 }, Contract { grace: 10, if_error: 20 }];

#[test]
fn no_answer_is_given_that_the_standard_forbids() {
    for contract in CONTRACTS {
        let tally = Tally::default();
        if let Err(found) = try_all(contract, Fault::None, 3000, &tally) {
            panic!("{contract:?}: {found}");
        }
        let [reused, meanwhile, instead, confirmed, asked] =
            [&tally.reused, &tally.meanwhile, &tally.instead, &tally.confirmed, &tally.asked].map(Cell::get);
        println!(
            "{contract:?}: of {asked} requests {reused} reused, {meanwhile} meanwhile, {instead} instead of \
             an error, {confirmed} confirmed"
        );
        // A cache that keeps nothing would pass as well.
        assert!(reused * 20 > asked && meanwhile > 50 && instead > 20 && confirmed * 100 > asked);
    }
}

/// A cache that forgets one of its duties is found out: the model can object.
#[test]
fn a_cache_that_forgets_a_duty_is_found_out() {
    let faults = [
        Fault::Variants,
        Fault::RequestDirectives,
        Fault::Purges,
        Fault::Invalidation,
        Fault::AgeOnArrival,
        Fault::NoCache,
        Fault::Authorization,
        Fault::MustRevalidate,
        Fault::Confirmation,
    ];
    for fault in faults {
        let found = try_all(CONTRACTS[0], fault, 20_000, &Tally::default());
        assert!(matches!(found, Err(TestError::Fail(..))), "{fault:?}: {found:?}");
    }
}
