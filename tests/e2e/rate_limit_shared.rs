//! Limits that several gateways decide together, in a real Redis server that comes and goes under load.

use crate::harness::{Client, Gateway, Origin, PATIENCE, Redis, statuses, wait_until};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn route(name: &str, limits: &str) -> String {
    format!("  {name}: {{ match: {{ path: /{name} }}, policies: {{ rate_limit: {limits} }}, to: origin }}\n")
}

#[test]
fn gateways_together_admit_what_one_would() {
    let (origin, redis) = (Origin::saying("in"), Redis::start());
    let routes = route("all", "{ rate: 1/h, burst: 100, shared: main, fields: always }");
    let gateways = [(); 2].map(|()| redis.gateway(&origin, "10s", &routes));
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (gateway, passed) = (&gateways[thread % 2], &passed);
            scope.spawn(move || {
                let told = statuses(gateway, "/all", 40);
                assert!(told.iter().all(|status| [200, 429].contains(status)), "{told:?}");
                passed.fetch_add(told.iter().filter(|status| **status == 200).count(), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(passed.into_inner(), 100);
    for gateway in &gateways {
        let answer = Client::new(gateway.web()).get("a", "/all", "");
        assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limited"));
        assert_eq!(answer.field("ratelimit-policy"), Some("\"client_ip\";q=100;w=360000"));
        let after: u64 = answer.field("retry-after").unwrap().parse().unwrap();
        // The server's clock has gone on since the hundredth, by as long as this test took at most.
        assert!((3600 - PATIENCE.as_secs()..=3600).contains(&after), "{after}");
        assert!(answer.field("ratelimit").unwrap().starts_with("\"client_ip\";r=0;t=3"));
    }
    assert_eq!(redis.ask(&["DBSIZE"]), "1", "a key for a client");
    let lives: u64 = redis.ask(&["PTTL", &redis.ask(&["KEYS", "*"])]).parse().unwrap();
    assert!(lives <= 360_000_000, "it goes by itself: {lives}");
}

#[test]
fn leases_keep_the_sum_and_the_store_is_seldom_asked() {
    let (origin, redis) = (Origin::saying("in"), Redis::start());
    let routes = route("all", "{ rate: 1/h, burst: 600, shared: main, lease: 50, fields: always }");
    let gateways = [(); 2].map(|()| redis.gateway(&origin, "10s", &routes));
    // One has a lease of which some is left; the other finds all but what that has.
    let first = statuses(&gateways[0], "/all", 100);
    assert!(first.iter().all(|status| *status == 200), "{first:?}");
    let passed = |told: &[u16]| told.iter().filter(|status| **status == 200).count();
    let other = passed(&statuses(&gateways[1], "/all", 650));
    assert!((450..=500).contains(&other), "of 500 up to 50 are leased elsewhere: {other}");
    let rest = passed(&statuses(&gateways[0], "/all", 100));
    assert_eq!(100 + other + rest, 600, "together they admit all that there is, and no more");
    let answer = Client::new(gateways[1].web()).get("a", "/all", "");
    assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limited"));
    assert!(answer.field("ratelimit").unwrap().starts_with("\"client_ip\";r=0;t=3"));
    let asked: f64 = gateways
        .iter()
        .map(|gateway| gateway.metric("tollgate_store_calls_total{store=\"main\",outcome=\"answered\"}"))
        .sum();
    // Of 851 requests, the refused ones included: with a call a second for those.
    assert!(asked < 120.0, "{asked} calls");
}

#[test]
fn a_lease_is_spent_while_the_store_is_gone() {
    let (origin, mut redis) = (Origin::saying("in"), Redis::start());
    let routes = route("all", "{ rate: 1/h, burst: 600, shared: main, lease: 64, on_failure: deny }");
    let gateway = redis.gateway(&origin, "10s", &routes);
    // 1, 2, 4, 8, 16, 32 units at a time: the last lease begins with the 64th.
    assert_eq!(statuses(&gateway, "/all", 64), [200; 64]);
    redis.stop();
    wait_until("the loss is noticed", || gateway.metric("tollgate_store_connected{store=\"main\"}") == 0.0);
    assert_eq!(statuses(&gateway, "/all", 64)[..], [[200; 63].as_slice(), &[503]].concat());
}

#[test]
fn several_limits_take_from_all_or_from_none_and_a_changed_rate_keeps_the_count() {
    let (origin, redis) = (Origin::saying("in"), Redis::start());
    let limits = "[{ rate: 10/h, shared: main, fields: always }, { name: few, key: route, rate: 4/h, shared: main }, { name: own, key: route, rate: 8/h }]";
    let gateway = redis.gateway(&origin, "10s", &route("all", limits));
    assert_eq!(statuses(&gateway, "/all", 9), [200, 200, 200, 200, 429, 429, 429, 429, 429]);
    let wider = limits.replace("rate: 4/h", "rate: 96/d, burst: 6");
    gateway.rewrite(&redis.config(&origin, "10s", &route("all", &wider)));
    assert_eq!(gateway.reload().status, 200);
    let answer = Client::new(gateway.web()).get("a", "/all", "");
    assert_eq!(answer.status, 200);
    assert!(answer.field("ratelimit").unwrap().contains("r=5"), "{:?}", answer.field("ratelimit"));
    assert_eq!(statuses(&gateway, "/all", 2), [200, 429], "six of six, whatever the rate is");
    // What is decided here was given back each time that the store said no.
    let slower = limits.replace("rate: 4/h", "rate: 1/h, burst: 100");
    gateway.rewrite(&redis.config(&origin, "10s", &route("all", &slower)));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(statuses(&gateway, "/all", 3), [200, 200, 429], "eight of eight of its own");
}

#[test]
fn what_an_answer_cost_is_charged_to_all() {
    let redis = Redis::start();
    let origin = Origin::start(|_, stream| {
        use std::io::Write as _;
        stream.write_all(&crate::harness::answer("200 OK", "x-cost: 9\r\n", "")).is_ok()
    });
    let routes = route("all", "{ rate: 10/h, shared: main, cost: { answer: x-cost }, fields: always }");
    let gateways = [(); 2].map(|()| redis.gateway(&origin, "10s", &routes));
    let first = crate::harness::get(gateways[0].web(), "/all");
    assert_eq!(first.status, 200);
    let told = first.field("ratelimit").unwrap_or_default();
    assert!(told.contains(";r=1"), "what it cost is told with the answer that says it: {told}");
    // Nobody waited for the store to note it.
    let key = || redis.ask(&["PTTL", &redis.ask(&["KEYS", "*"])]).parse::<i64>().unwrap_or(0);
    wait_until("nine are gone", || key() > 8 * 360_000);
    assert_eq!(statuses(&gateways[1], "/all", 2), [200, 429]);
}

#[test]
fn a_store_that_is_gone_costs_no_time_and_each_limit_does_what_it_says() {
    let (origin, mut redis) = (Origin::saying("in"), Redis::start());
    let limit = |failure: &str| {
        format!("{{ rate: 1/h, burst: 6, shared: main, on_failure: {failure}, local_share: 50% }}")
    };
    let routes: String =
        ["local", "allow", "deny"].iter().map(|failure| route(failure, &limit(failure))).collect();
    let gateway = redis.gateway(&origin, "10s", &routes);
    assert_eq!(statuses(&gateway, "/deny", 1), [200]);
    redis.stop();
    wait_until("the loss is noticed", || statuses(&gateway, "/deny", 1) == [503]);
    let began = Instant::now();
    let answer = Client::new(gateway.web()).get("a", "/deny", "");
    assert_eq!((answer.status, answer.code().as_str()), (503, "limit_unavailable"));
    assert!(answer.field("retry-after").is_some() && !answer.closes());
    assert_eq!(statuses(&gateway, "/local", 4), [200, 200, 200, 429], "half of six");
    assert_eq!(statuses(&gateway, "/allow", 40), [200; 40]);
    assert!(began.elapsed() < PATIENCE / 2, "nothing waits for a deadline of 10 s: {:?}", began.elapsed());
    let failed = "tollgate_limit_decisions_total{place=\"routes.allow.policies.rate_limit\",limit=\"client_ip\",outcome=\"store_failed\"}";
    assert_eq!(gateway.metric(failed), 40.0);
    redis.restart();
    wait_until("it is found again", || statuses(&gateway, "/deny", 1) == [200]);
    assert_eq!(statuses(&gateway, "/local", 7), [200, 200, 200, 200, 200, 200, 429], "the store is empty");
}

/// What became of requests while something happened to the store.
#[derive(Debug, Default)]
struct Told {
    passed: AtomicUsize,
    refused: AtomicUsize,
    other: AtomicUsize,
    longest: AtomicUsize,
}

#[test]
fn stopped_paused_and_started_again_under_load() {
    let (origin, mut redis) = (Origin::saying("in"), Redis::start());
    let routes = route("all", "{ rate: 1000000/s, burst: 1000000, shared: main, on_failure: local }");
    let gateways = [(); 2].map(|()| redis.gateway(&origin, "50ms", &routes));
    let (told, done) = (Told::default(), AtomicBool::new(false));
    let outcome = |gateway: &Gateway, outcome: &str| {
        gateway.metric(&format!(
            "tollgate_limit_decisions_total{{place=\"routes.all.policies.rate_limit\",limit=\"client_ip\",outcome=\"{outcome}\"}}"
        ))
    };
    let both = |word: &str| gateways.iter().map(|gateway| outcome(gateway, word)).sum::<f64>();
    std::thread::scope(|scope| {
        for gateway in &gateways {
            let (told, done) = (&told, &done);
            scope.spawn(move || {
                let mut client = Client::new(gateway.web());
                while !done.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    match client.get("a", "/all", "").status {
                        200 => &told.passed,
                        429 => &told.refused,
                        _ => &told.other,
                    }
                    .fetch_add(1, Ordering::Relaxed);
                    told.longest.fetch_max(began.elapsed().as_millis() as usize, Ordering::Relaxed);
                }
            });
        }
        let goes_on = |what: &str| {
            let before = told.passed.load(Ordering::Relaxed);
            wait_until(what, || told.passed.load(Ordering::Relaxed) > before + 200);
        };
        goes_on("with the store");
        let answered = both("store_failed");
        redis.pause();
        wait_until("the silence is noticed", || both("store_failed") > answered);
        goes_on("while it says nothing");
        redis.resume();
        let connected = |gateway: &Gateway| gateway.metric("tollgate_store_connected{store=\"main\"}") == 1.0;
        wait_until("it answers again", || gateways.iter().all(connected));
        goes_on("with the store again");
        redis.stop();
        goes_on("without it");
        redis.restart();
        wait_until("it is found again", || gateways.iter().all(connected));
        let failed = both("store_failed");
        goes_on("with a new one");
        println!("{told:?}, decided alone {failed}");
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        (told.refused.into_inner(), told.other.into_inner()),
        (0, 0),
        "no request was lost to the store"
    );
    assert!(Duration::from_millis(told.longest.into_inner() as u64) < PATIENCE);
    let clients = redis
        .ask(&["CLIENT", "LIST"])
        .lines()
        .filter(|line| line.contains("name=") && !line.contains("cmd=client"))
        .count();
    assert!(clients <= 2, "one connection of each gateway: {clients}");
}
