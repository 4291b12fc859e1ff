use super::{CallerLimits, ClientLimits, RATE_LIMITED, RateLimitConfig};
use crate::policy::context::PolicyContext;
use crate::policy::{CompileEnv, Policy, Step};
use crate::rejection::Rejection;
use pingora_http::{RequestHeader, ResponseHeader};

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
