//! Quotas that several gateways decide together, in a real Redis server that comes and goes.

use crate::harness::{Client, Gateway, Origin, Redis, answer, statuses, wait_until};
use std::sync::atomic::{AtomicUsize, Ordering};

fn route(name: &str, quotas: &str) -> String {
    format!("  {name}: {{ match: {{ path: /{name} }}, policies: {{ quota: {quotas} }}, to: origin }}\n")
}

/// What an operator reads of the only key of the quota at a place.
fn used_at(gateway: &Gateway, place: &str) -> u64 {
    let answer = gateway.admin("GET", "/quotas", "authorization: Bearer secret\r\n").json();
    let mut all = answer["quotas"].as_array().unwrap().iter();
    let of = all.find(|quota| quota["place"] == place).unwrap_or_else(|| panic!("{place}: {answer}"));
    assert!(of["last_asked_at"].is_string(), "{of}");
    of["used"].as_u64().unwrap()
}

#[test]
fn gateways_together_admit_exactly_the_quota() {
    for window in ["calendar", "rolling"] {
        let (origin, redis) = (Origin::saying("in"), Redis::start());
        let quota =
            format!("{{ key: client_ip, max: 100/month, window: {window}, shared: main, fields: always }}");
        let gateways = [(); 2].map(|()| redis.gateway(&origin, "10s", &route("all", &quota)));
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
        assert_eq!(passed.into_inner(), 100, "{window}");
        for gateway in &gateways {
            let answer = Client::new(gateway.web()).get("a", "/all", "");
            assert_eq!((answer.status, answer.code().as_str()), (429, "quota_exceeded"));
            assert!(answer.field("ratelimit").unwrap().starts_with("\"client_ip\";r=0;t="));
            let after: u64 = answer.field("retry-after").unwrap().parse().unwrap();
            assert!((1..=32 * 86_400).contains(&after), "{after}");
            assert_eq!(used_at(gateway, "routes.all.policies.quota"), 100, "{window}");
        }
        let lives: i64 = redis.ask(&["PTTL", &redis.ask(&["KEYS", "*"])]).parse().unwrap();
        assert!((1..=32 * 86_400_000).contains(&lives), "{window}: it goes by itself: {lives}");
    }
}

#[test]
fn several_quotas_take_from_all_or_from_none() {
    let (origin, redis) = (Origin::saying("in"), Redis::start());
    let quotas = "[{ key: client_ip, max: 10/month, shared: main }, { name: few, key: route, max: 4/month, window: rolling, shared: main }, { name: own, key: route, max: 8/month }]";
    let gateway = redis.gateway(&origin, "10s", &route("all", quotas));
    assert_eq!(statuses(&gateway, "/all", 9), [200, 200, 200, 200, 429, 429, 429, 429, 429]);
    let wider = quotas.replace("max: 4/month", "max: 40/month");
    gateway.rewrite(&redis.config(&origin, "10s", &route("all", &wider)));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(
        statuses(&gateway, "/all", 5),
        [200, 200, 200, 200, 429],
        "what was refused cost nothing: eight of eight of its own"
    );
}

#[test]
fn what_an_answer_cost_is_charged_to_all() {
    for window in ["calendar", "rolling"] {
        let redis = Redis::start();
        let origin = Origin::start(|_, stream| {
            use std::io::Write as _;
            stream.write_all(&answer("200 OK", "x-cost: 9\r\n", "")).is_ok()
        });
        let quota = format!(
            "{{ key: client_ip, max: 10/month, window: {window}, shared: main, cost: {{ answer: x-cost }} }}"
        );
        let gateways = [(); 2].map(|()| redis.gateway(&origin, "10s", &route("all", &quota)));
        assert_eq!(statuses(&gateways[0], "/all", 1), [200]);
        // Nobody waited for the store to note it.
        let key = redis.ask(&["KEYS", "*"]);
        wait_until("nine are gone", || redis.ask(&["HVALS", &key]).split(' ').any(|used| used == "9"));
        assert_eq!(statuses(&gateways[1], "/all", 2), [200, 429], "{window}");
    }
}

#[test]
fn while_the_store_is_gone_each_quota_does_what_it_says_and_tells_it_afterwards() {
    for window in ["calendar", "rolling"] {
        let origin = Origin::saying("in");
        let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let quota = |failure: &str| {
            format!(
                "{{ key: client_ip, max: 8/month, window: {window}, shared: main, on_failure: {failure} }}"
            )
        };
        let routes: String =
            ["local", "allow", "deny"].iter().map(|failure| route(failure, &quota(failure))).collect();
        let gateways = [(); 2].map(|()| redis.gateway(&origin, "10s", &routes));
        assert_eq!(statuses(&gateways[0], "/local", 3), [200; 3]);
        assert_eq!(statuses(&gateways[1], "/local", 2), [200; 2]);
        redis.stop();
        for gateway in &gateways {
            wait_until("the loss is noticed", || statuses(gateway, "/deny", 1) == [503]);
        }
        let denied = Client::new(gateways[0].web()).get("a", "/deny", "");
        assert_eq!((denied.status, denied.code().as_str()), (503, "limit_unavailable"));
        assert_eq!(statuses(&gateways[0], "/local", 6), [200, 200, 200, 200, 200, 429], "it knew of three");
        assert_eq!(statuses(&gateways[1], "/local", 1), [200], "it knew of all five");
        assert_eq!(statuses(&gateways[0], "/allow", 20), [200; 20]);
        assert_eq!(used_at(&gateways[0], "routes.local.policies.quota"), 8);
        assert_eq!(used_at(&gateways[1], "routes.local.policies.quota"), 6);
        redis.restart();
        for gateway in &gateways {
            wait_until("it is found again", || statuses(gateway, "/deny", 1) != [503]);
        }
        // It knows of five; the first request that it hears of brings the one that the second gateway let in
        // meanwhile, and that of the first gateway five.
        assert_eq!(statuses(&gateways[1], "/local", 1), [200], "{window}");
        let other = || statuses(&gateways[0], "/local", 1);
        assert_eq!(other(), [200], "{window}: with this one eight");
        let last = |key: &str| redis.ask(&["HVALS", key]).split(' ').next_back().map(str::to_owned);
        wait_until("what was used meanwhile is told", || {
            redis.ask(&["KEYS", "*"]).split(' ').any(|key| last(key).is_some_and(|used| used == "13"))
        });
        assert_eq!(statuses(&gateways[1], "/local", 1), [429], "{window}");
        assert_eq!(used_at(&gateways[1], "routes.local.policies.quota"), 13);
        assert_eq!(other(), [429]);
        assert_eq!(used_at(&gateways[0], "routes.local.policies.quota"), 13, "it tells no unit twice");
    }
}

#[test]
fn a_store_that_there_is_not_is_a_mistake() {
    let (origin, redis) = (Origin::saying("in"), Redis::start());
    let gateway = redis.gateway(&origin, "10s", &route("all", "{ max: 6/day, shared: main }"));
    gateway.rewrite(&redis.config(&origin, "10s", &route("all", "{ max: 6/day, shared: mian }")));
    let answer = gateway.reload();
    assert!(answer.status >= 400 && answer.text().contains("mian"), "{}", answer.text());
}
