use super::lease::{Leased, Leases, Need};
use super::{CallerLimits, ClientLimits, RATE_LIMITED, RateLimitConfig};
use crate::policy::context::PolicyContext;
use crate::policy::shared::gcra::{Pace, Ticks};
use crate::policy::{CompileEnv, Policy, Step};
use crate::rejection::Rejection;
use pingora_http::{RequestHeader, ResponseHeader};
use proptest::prelude::*;

fn config(yaml: &str) -> RateLimitConfig {
    serde_saphyr::from_str(yaml).unwrap()
}

fn compile(yaml: &str) -> ClientLimits {
    ClientLimits::compile(&config(yaml), &CompileEnv::default()).unwrap()
}

fn head(fields: &[(&'static str, &str)]) -> RequestHeader {
    let mut head = RequestHeader::build("GET", b"/", None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    head
}

/// Asks, and gives what the answer would say.
fn ask(
    policy: &ClientLimits,
    head: &RequestHeader,
    answer: &[(&'static str, &str)],
) -> (Option<Rejection>, ResponseHeader) {
    let mut cx = PolicyContext::new();
    let refused = match policy.on_request(head, &mut cx) {
        Step::Continue => None,
        Step::Reject(rejection) => Some(*rejection),
        Step::Answer(_) | Step::Wait(_) => panic!("a local limit decides at once"),
    };
    let mut response = ResponseHeader::build(200, None).unwrap();
    for (name, value) in answer {
        response.append_header(*name, *value).unwrap();
    }
    policy.on_response(head, &mut response, &mut cx);
    (refused, response)
}

fn field(answer: &ResponseHeader, name: &str) -> String {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
}

#[test]
fn a_refusal_says_when_to_come_again() {
    let policy = compile("{ rate: 1/h, burst: 2 }");
    for _ in 0..2 {
        let (refused, answer) = ask(&policy, &head(&[]), &[]);
        assert_eq!((refused, field(&answer, "ratelimit")), (None, String::new()));
    }
    let (refused, answer) = ask(&policy, &head(&[]), &[]);
    let refused = refused.unwrap();
    assert_eq!((refused.code, refused.status.as_u16()), (RATE_LIMITED, 429));
    let after: u64 = refused.headers[0].1.to_str().unwrap().parse().unwrap();
    assert!((3599..=3600).contains(&after), "{after}");
    assert_eq!(field(&answer, "ratelimit-policy"), "\"client_ip\";q=2;w=7200");
    assert!(
        ["\"client_ip\";r=0;t=3600", "\"client_ip\";r=0;t=3599"].contains(&&*field(&answer, "ratelimit"))
    );
}

#[test]
fn what_is_left_is_told_where_asked() {
    let policy = compile(
        "[{ rate: 10/h, fields: always }, { name: b, key: { header: x }, rate: 2/d, fields: never }]",
    );
    let (_, answer) = ask(&policy, &head(&[]), &[]);
    assert_eq!(field(&answer, "ratelimit-policy"), "\"client_ip\";q=10;w=3600");
    assert!(
        field(&answer, "ratelimit").starts_with("\"client_ip\";r=9;t=3"),
        "{}",
        field(&answer, "ratelimit")
    );
}

#[test]
fn a_refused_request_costs_nothing_anywhere() {
    let policy = compile("[{ rate: 10/h, fields: always }, { name: b, key: { header: x }, rate: 1/h }]");
    assert_eq!(ask(&policy, &head(&[("x", "1")]), &[]).0, None);
    for _ in 0..20 {
        let (refused, _) = ask(&policy, &head(&[("x", "1")]), &[]);
        assert!(refused.unwrap().detail.contains("limit=b"));
    }
    let (refused, answer) = ask(&policy, &head(&[("x", "2")]), &[]);
    assert_eq!(refused, None);
    assert!(field(&answer, "ratelimit").contains("r=8"), "{}", field(&answer, "ratelimit"));
}

#[test]
fn costs() {
    let policy = compile("{ rate: 10/h, fields: always, cost: 4 }");
    assert!(field(&ask(&policy, &head(&[]), &[]).1, "ratelimit").contains("r=6"));
    let policy = compile("{ rate: 10/h, fields: always, cost: { cel: 'int(request.headers[\"n\"])' } }");
    for (said, left) in [("3", "r=7"), ("0", "r=7"), ("7", "r=0")] {
        let (refused, answer) = ask(&policy, &head(&[("n", said)]), &[]);
        assert!(refused.is_none() && field(&answer, "ratelimit").contains(left), "{said}");
    }
    assert!(ask(&policy, &head(&[("n", "0")]), &[]).0.is_none(), "what is free passes");
    let policy = compile("{ rate: 10/h, fields: always, cost: { cel: 'int(request.headers[\"n\"])' } }");
    let (refused, answer) = ask(&policy, &head(&[("n", "x")]), &[]);
    assert!(refused.is_none() && field(&answer, "ratelimit").contains("r=0"), "no value costs all of it");
}

#[test]
fn the_answer_says_what_it_cost() {
    let policy = compile("{ rate: 10/h, fields: always, cost: { answer: x-cost } }");
    let left = |cost: &[(&'static str, &str)]| field(&ask(&policy, &head(&[]), cost).1, "ratelimit");
    assert!(left(&[]).contains("r=9"), "one until it is known");
    assert!(left(&[("x-cost", "0")]).contains("r=9"));
    assert!(left(&[("x-cost", "5")]).contains("r=4"));
    assert!(left(&[("x-cost", "nonsense")]).contains("r=3"));
    // What is not there any more has to be waited for.
    assert!(left(&[("x-cost", "10")]).contains("r=0"));
    let (refused, _) = ask(&policy, &head(&[]), &[]);
    let after: u64 = refused.unwrap().headers[0].1.to_str().unwrap().parse().unwrap();
    assert!(after > 7 * 360, "{after}");
}

#[test]
fn a_shadow_only_counts() {
    let policy = compile("[{ rate: 1/h, shadow: true, fields: always }, { name: b, rate: 5/h }]");
    for _ in 0..5 {
        let (refused, answer) = ask(&policy, &head(&[]), &[]);
        assert_eq!((refused, field(&answer, "ratelimit")), (None, String::new()));
    }
    let (refused, answer) = ask(&policy, &head(&[]), &[]);
    assert!(refused.is_some() && field(&answer, "ratelimit-policy").starts_with("\"b\""));
}

#[test]
fn the_stage_follows_from_the_key() {
    for (yaml, client, caller) in [
        ("{ rate: 1/s }", 1, 0),
        ("{ rate: 1/s, key: [route, { header: x }] }", 1, 0),
        ("{ rate: 1/s, key: [client_ip, consumer] }", 0, 1),
        ("{ rate: 1/s, key: { claim: sub } }", 0, 1),
        ("{ rate: 1/s, plan: true }", 0, 1),
        ("{ rate: 1/s, cost: { cel: 'principal.plan == \"gold\" ? 1 : 2' } }", 0, 1),
        ("[{ rate: 1/s }, { rate: 1/s, key: consumer }]", 1, 1),
    ] {
        let (config, env) = (config(yaml), CompileEnv::default());
        let counts = (
            ClientLimits::compile(&config, &env).unwrap().limits().len(),
            CallerLimits::compile(&config, &env).unwrap().limits().len(),
        );
        assert_eq!(counts, (client, caller), "{yaml}");
    }
}

#[test]
fn mistakes() {
    for (yaml, at, what) in [
        ("[]", "", "0 limits"),
        ("{ key: client_ip }", "rate", "nothing says how many"),
        ("{ plan: true }", "plan", "no plan has a rate"),
        ("{ plan: true, burst: 7 }", "burst", "a burst without a rate"),
        ("{ rate: 1/d, burst: 400 }", "burst", "longer than 366 days"),
        ("{ rate: 2/s, cost: 3 }", "cost", "a request costs 3, and there are 2 at most"),
        (
            "{ rate: 2/s, cost: { cel: 'request.path' } }",
            "cost.cel",
            "the value of the expression is a string",
        ),
        ("{ rate: 2/s, key: [route, route] }", "key[1]", "it is there twice"),
        ("{ rate: 2/s, key: [] }", "key", "a key has one to four parts"),
        ("[{ rate: 2/s }, { rate: 100/h }]", "[1]", "there are two limits `client_ip`"),
    ] {
        let found = ClientLimits::compile(&config(yaml), &CompileEnv::default()).unwrap_err();
        let told: Vec<_> = found.iter().map(|one| (one.path.to_string(), one.problem.what.clone())).collect();
        assert!(told.iter().any(|(path, said)| path == at && said.contains(what)), "{yaml}: {told:?}");
    }
}

const KEY: [u8; 16] = [7; 16];
const LEASE: u32 = 8;

/// Gateways with leases before a store that decides as Redis does, in virtual time.
struct Fleet {
    pace: Pace,
    /// The store's only key.
    full: Ticks,
    /// What the store gave, and how often it was asked.
    given: Ticks,
    calls: u64,
    gateways: [Leases; 3],
}

impl Fleet {
    fn new(rate: &str, burst: u32) -> Self {
        let pace = Pace::new(rate.parse().unwrap(), burst).unwrap();
        let gateways = std::array::from_fn(|_| Leases::new());
        Self { pace, full: 0, given: 0, calls: 0, gateways }
    }

    fn need(&self) -> Need {
        Need { pace: self.pace, cost: self.pace.cost(1), most: self.pace.cost(LEASE) }
    }

    /// One request for one unit; `None` if it goes away before it hears what the store gave.
    fn ask(&mut self, gateway: usize, now: Ticks, stays: bool) -> Option<bool> {
        let (need, would) = (self.need(), self.pace.take(self.full, now, self.pace.cost(1)));
        let (most, turn) = match self.gateways[gateway].take(KEY, need, now) {
            Leased::Taken(_) => return Some(true),
            Leased::Refused { wait, .. } => {
                assert!(would.is_err_and(|longer| longer >= wait), "a gateway refuses what the store would");
                return Some(false);
            }
            Leased::Ask(most, turn) => (most, turn.unwrap()),
        };
        self.calls += 1;
        if would.is_err() {
            turn.refused((self.full, now));
            return Some(false);
        }
        let held = self.full.saturating_sub(now);
        let granted = need.cost.max(most.min(self.pace.whole() - held));
        self.full = now + held + granted;
        self.given += granted;
        stays.then(|| turn.granted(granted, (self.full, now)))?;
        Some(true)
    }
}

proptest! {
    /// In no stretch are more admitted than one gateway would, and what each of three had leased before.
    #[test]
    fn gateways_with_leases_admit_what_is_stated(
        steps in proptest::collection::vec((0_u64..400, 0_usize..3, 0_u8..20), 1..250),
        burst in 1_u32..30,
    ) {
        let mut fleet = Fleet::new("10/s", burst);
        let (pace, mut now) = (fleet.pace, 1);
        let mut admitted: Vec<Ticks> = Vec::new();
        for (millis, gateway, fate) in steps {
            // Many at the same moment, and pauses of up to four units.
            now += millis.saturating_sub(200) * 32_000_000;
            if fleet.ask(gateway, now, fate > 0) != Some(true) {
                continue;
            }
            if fate == 1 {
                // Another policy refuses it.
                fleet.gateways[gateway].give_back(&KEY, pace.cost(1), (pace.interval(), now));
                continue;
            }
            admitted.push(now);
            let leased = 3 * pace.cost(LEASE);
            for (at, from) in admitted.iter().enumerate() {
                let count = (admitted.len() - at) as u64;
                prop_assert!(count * pace.interval() <= pace.whole() + (now - from) + leased, "{count}");
            }
        }
    }

    /// At most as many units as were spent are given and not spent.
    #[test]
    fn leases_waste_no_more_than_they_spend(
        steps in proptest::collection::vec((0_u64..400, 0_usize..3), 1..250),
        burst in 1_u32..30,
    ) {
        let mut fleet = Fleet::new("10/s", burst);
        let (mut now, mut admitted) = (1, 0);
        for (millis, gateway) in steps {
            now += millis.saturating_sub(100) * 16_000_000;
            admitted += u64::from(fleet.ask(gateway, now, true) == Some(true)) * fleet.pace.interval();
            prop_assert!((admitted..=2 * admitted).contains(&fleet.given), "{} of {admitted}", fleet.given);
        }
    }
}

#[test]
fn leases_grow_with_what_is_spent_and_a_trickle_takes_none() {
    let mut busy = Fleet::new("10/s", 1000);
    assert!((0..800).all(|_| busy.ask(0, 1, true) == Some(true)));
    assert!(busy.calls <= 800 / u64::from(LEASE) + 4, "{} calls", busy.calls);
    let mut slow = Fleet::new("10/s", 1000);
    let pause = 16_000_000_001; // a lease is good for a second
    assert!((1..200).all(|at| slow.ask(0, at * pause, true) == Some(true)));
    assert_eq!(
        (slow.given, slow.calls),
        (199 * slow.pace.interval(), 199),
        "no unit is taken that is not spent"
    );
}

/// Eight units of a million a second were over after 8 us, before the next request came, so that every one of them asked.
#[test]
fn leases_of_fast_limits_are_spent() {
    let mut fleet = Fleet::new("1000000/s", 1000);
    let pause = 16_000 * 25;
    assert!((0..4000).all(|at| fleet.ask(0, 1 + at * pause, true) == Some(true)));
    assert!(fleet.calls <= 4000 / u64::from(LEASE) + 8, "{} calls", fleet.calls);
}

#[test]
fn who_is_refused_asks_the_store_once_a_second() {
    let mut fleet = Fleet::new("1/h", 2);
    let second = 16_000_000_000;
    assert_eq!((0..2).filter(|_| fleet.ask(0, 1, true) == Some(true)).count(), 2);
    fleet.calls = 0;
    for millis in 0..5_000 {
        assert_eq!(fleet.ask(0, 2 + millis * second / 1000, true), Some(false));
    }
    assert!((4..=5).contains(&fleet.calls), "{}", fleet.calls);
}

#[test]
fn a_turn_that_is_dropped_is_anothers_and_another_rate_leases_anew() {
    let fleet = Fleet::new("10/s", 100);
    let (leases, need) = (&fleet.gateways[0], fleet.need());
    let Leased::Ask(_, Some(turn)) = leases.take(KEY, need, 1) else { panic!("nothing is leased yet") };
    let Leased::Ask(cost, None) = leases.take(KEY, need, 1) else { panic!("one at a time") };
    assert_eq!(cost, need.cost);
    drop(turn);
    let Leased::Ask(_, Some(turn)) = leases.take(KEY, need, 1) else { panic!("it is free again") };
    turn.granted(need.most, (need.most, 1));
    assert!(matches!(leases.take(KEY, need, 1), Leased::Taken(_)));
    let faster = Pace::new("20/s".parse().unwrap(), 100).unwrap();
    let faster = Need { pace: faster, cost: faster.cost(1), most: faster.cost(LEASE) };
    assert!(matches!(leases.take(KEY, faster, 1), Leased::Ask(_, Some(_))));
}
