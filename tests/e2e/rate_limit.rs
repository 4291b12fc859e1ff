//! How often requests may come, over real sockets: who passes, who does not, what they are told, and what a
//! reload changes.

use crate::harness::{Answer, Client, Gateway, Http2, Origin, wait_until};
use std::sync::atomic::{AtomicUsize, Ordering};

const CALLERS: &str = "
consumers:
  acme: { plan: gold, credentials: [{ api_key: { key: key-of-acme-0123456789 } }] }
  solo: { plan: free, credentials: [{ api_key: { key: key-of-solo-0123456789 } }] }
  none: { credentials: [{ api_key: { key: key-of-none-0123456789 } }] }
";
const ACME: &str = "x-api-key: key-of-acme-0123456789\r\n";
const SOLO: &str = "x-api-key: key-of-solo-0123456789\r\n";
const NONE: &str = "x-api-key: key-of-none-0123456789\r\n";

fn config(origin: &Origin, sections: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, trusted_proxies: [127.0.0.0/8] }} }}\n\
         admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n{sections}",
        origin.address()
    )
}

fn all(limits: &str) -> String {
    format!("routes: {{ all: {{ policies: {{ rate_limit: {limits} }}, to: origin }} }}\n")
}

fn statuses(client: &mut Client, target: &str, fields: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| client.get("a", target, fields).status).collect()
}

/// The seconds of a field, which have to be within one of what they should be.
fn seconds(text: &str, expected: u64) {
    let said: u64 = text.parse().unwrap_or_else(|_| panic!("{text} is no number"));
    assert!((expected.saturating_sub(1)..=expected + 1).contains(&said), "{said}, and {expected} is right");
}

fn refused(answer: &Answer) -> &str {
    assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limited"));
    assert!(!answer.closes(), "a refusal keeps the connection");
    answer.field("retry-after").unwrap()
}

#[test]
fn so_many_pass_and_the_rest_is_told_when_to_come_again() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&config(&origin, &all("{ rate: 1/h, burst: 3 }")));
    let mut client = Client::new(gateway.web());
    assert_eq!(statuses(&mut client, "/", "", 3), [200; 3]);
    let answer = client.get("a", "/", "");
    seconds(refused(&answer), 3600);
    assert_eq!(answer.fields("ratelimit-policy"), ["\"client_ip\";q=3;w=10800"]);
    let limit = answer.field("ratelimit").unwrap().strip_prefix("\"client_ip\";r=0;t=").unwrap();
    seconds(limit, 3600);
    assert!(!answer.text().contains("client_ip"), "which limit is for the log: {}", answer.text());
    assert_eq!(statuses(&mut client, "/", "x-forwarded-for: 192.0.2.1\r\n", 4), [200, 200, 200, 429]);
    assert_eq!(statuses(&mut client, "/", "x-forwarded-for: 2001:db8::1\r\n", 3), [200; 3]);
    assert_eq!(client.get("a", "/", "x-forwarded-for: 2001:db8::ffff:2\r\n").status, 429, "the same /64");
    assert_eq!(origin.received().len(), 9, "what is refused goes nowhere");
    let series = |outcome: &str| {
        format!(
            "tollgate_limit_decisions_total{{place=\"routes.all.policies.rate_limit\",limit=\"client_ip\",outcome=\"{outcome}\"}}"
        )
    };
    assert_eq!((gateway.metric(&series("admitted")), gateway.metric(&series("refused"))), (9.0, 3.0));
    assert_eq!(gateway.metric("tollgate_limit_keys"), 3.0);
    assert!(gateway.metric("tollgate_limit_memory_bytes") > 0.0);
}

#[test]
fn an_answer_that_is_admitted_says_what_is_left_where_asked() {
    let origin = Origin::saying("in");
    let limits = "[{ rate: 10/h, fields: always }, { name: day, key: [client_ip, route], rate: 100/d, fields: always }]";
    let gateway = Gateway::start(&config(&origin, &all(limits)));
    let answer = Client::new(gateway.web()).get("a", "/", "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.fields("ratelimit-policy"), ["\"client_ip\";q=10;w=3600, \"day\";q=100;w=86400"]);
    let limit = answer.field("ratelimit").unwrap();
    let (hour, day) = limit.split_once(", ").unwrap();
    seconds(hour.strip_prefix("\"client_ip\";r=9;t=").unwrap(), 360);
    seconds(day.strip_prefix("\"day\";r=99;t=").unwrap(), 864);
}

#[test]
fn plans_say_who_may_have_how_much() {
    let origin = Origin::saying("in");
    let policies = "
plans: { gold: { rate: 10/h, burst: 5 }, free: { rate: 2/h } }
routes:
  known:
    policies:
      authenticate: { any_of: [{ api_key: { header: x-api-key } }] }
      rate_limit: { name: plan, key: consumer, plan: true, rate: 1/h }
    to: origin
";
    let gateway = Gateway::start(&config(&origin, &format!("{CALLERS}{policies}")));
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/", "").status, 401, "before anybody is counted");
    assert_eq!(statuses(&mut client, "/", ACME, 6), [200, 200, 200, 200, 200, 429]);
    assert_eq!(statuses(&mut client, "/", SOLO, 3), [200, 200, 429]);
    assert_eq!(statuses(&mut client, "/", NONE, 2), [200, 429]);
    assert_eq!(client.get("a", "/", SOLO).field("ratelimit-policy"), Some("\"plan\";q=2;w=3600"));
    // The free plan grows, and gold changes its rate: what has been used is used.
    let policies = policies.replace("free: { rate: 2/h }", "free: { rate: 6/d, burst: 3 }");
    let policies = policies.replace("gold: { rate: 10/h, burst: 5 }", "gold: { rate: 20/d, burst: 7 }");
    gateway.rewrite(&config(&origin, &format!("{CALLERS}{policies}")));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(statuses(&mut client, "/", ACME, 3), [200, 200, 429]);
    assert_eq!(statuses(&mut client, "/", SOLO, 2), [200, 429]);
    // Somebody who is given another plan takes along what is used.
    let callers = CALLERS.replace("solo: { plan: free", "solo: { plan: gold");
    gateway.rewrite(&config(&origin, &format!("{callers}{policies}")));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(statuses(&mut client, "/", SOLO, 5), [200, 200, 200, 200, 429]);
}

#[test]
fn a_request_that_one_limit_refuses_costs_nothing_at_the_others() {
    let origin = Origin::saying("in");
    let policies = "
plans: { gold: {}, free: {} }
policies:
  enforced: { rate_limit: { name: all, rate: 5/h } }
routes:
  known:
    policies:
      authenticate: { any_of: [{ api_key: { header: x-api-key } }] }
      rate_limit: [{ key: consumer, rate: 2/h }, { name: address, rate: 4/h }]
    to: origin
";
    let gateway = Gateway::start(&config(&origin, &format!("{CALLERS}{policies}")));
    let mut client = Client::new(gateway.web());
    // By consumer comes last; what the two by address took before is given back.
    let mut told = statuses(&mut client, "/", ACME, 12);
    told.extend(statuses(&mut client, "/", SOLO, 12));
    let mut expected = vec![200, 200];
    expected.extend([429; 10]);
    expected.extend_from_within(..);
    assert_eq!(told, expected);
    // Four are gone by address: that limit is used up, and the enforced one has one left.
    assert_eq!(client.get("a", "/", NONE).status, 429);
    assert_eq!(origin.received().len(), 4);
}

#[test]
fn credentials_cannot_be_guessed_faster_than_the_limit_lets() {
    let origin = Origin::saying("in");
    let policies = "
plans: { gold: {}, free: {} }
routes:
  known:
    policies:
      authenticate: { any_of: [{ api_key: { header: x-api-key } }] }
      rate_limit: { rate: 3/h }
    to: origin
";
    let gateway = Gateway::start(&config(&origin, &format!("{CALLERS}{policies}")));
    let mut client = Client::new(gateway.web());
    assert_eq!(statuses(&mut client, "/", "x-api-key: guess-0123456789abcdef\r\n", 4), [401, 401, 401, 429]);
    assert_eq!(client.get("a", "/", ACME).status, 429);
}

#[test]
fn a_reload_keeps_the_counts_and_a_changed_rate_too() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&config(&origin, &all("{ rate: 10/h }")));
    let mut client = Client::new(gateway.web());
    assert_eq!(statuses(&mut client, "/", "", 7), [200; 7]);
    let reload = |limits: &str| {
        gateway.rewrite(&config(&origin, &all(limits)));
        assert_eq!(gateway.reload().status, 200);
    };
    reload("{ rate: 10/h, fields: always }");
    assert!(client.get("a", "/", "").field("ratelimit").unwrap().contains("r=2"), "eight of ten are gone");
    reload("{ rate: 10/d, fields: always }");
    assert!(client.get("a", "/", "").field("ratelimit").unwrap().contains("r=1"), "nine, at another rate");
    // A configuration that is refused changes nothing.
    gateway.rewrite(&config(&origin, &all("{ rate: 10/w }")));
    assert_eq!(gateway.reload().status, 422);
    assert_eq!(statuses(&mut client, "/", "", 2), [200, 429]);
    reload("{ rate: 10/d, burst: 12 }");
    assert_eq!(statuses(&mut client, "/", "", 3), [200, 200, 429], "two more at once, and no more");
    reload("{ key: { header: x }, rate: 10/d }");
    assert_eq!(client.get("a", "/", "").status, 200, "another key is another limit");
}

#[test]
fn the_upstream_says_what_a_request_cost() {
    let origin = Origin::start(|request, stream| {
        use std::io::Write as _;
        let cost = request.line.split(['/', ' ']).nth(2).unwrap_or("1");
        let fields = format!("x-cost: {cost}\r\n");
        stream.write_all(&crate::harness::answer("200 OK", &fields, "")).is_ok()
    });
    let policies = "rate_limit: { rate: 10/h, cost: { answer: x-cost }, fields: always }, headers: { response: { remove: [x-cost] } }";
    let routes = format!("routes: {{ all: {{ policies: {{ {policies} }}, to: origin }} }}\n");
    let gateway = Gateway::start(&config(&origin, &routes));
    let mut client = Client::new(gateway.web());
    for (target, left) in [("/4", "r=6"), ("/0", "r=6"), ("/5", "r=1"), ("/9", "r=0")] {
        let answer = client.get("a", target, "");
        assert_eq!((answer.status, answer.field("x-cost")), (200, None), "{target}");
        assert!(
            answer.field("ratelimit").unwrap().contains(left),
            "{target}: {:?}",
            answer.field("ratelimit")
        );
    }
    // Eight were owed when there was none: nine hours' worth of tenths until there is one.
    seconds(refused(&client.get("a", "/1", "")), 9 * 360);
}

#[test]
fn a_shadow_refuses_nobody_and_counts_whom_it_would() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&config(&origin, &all("{ rate: 1/h, shadow: true, fields: always }")));
    let mut client = Client::new(gateway.web());
    assert_eq!(statuses(&mut client, "/", "", 5), [200; 5]);
    assert_eq!(client.get("a", "/", "").field("ratelimit"), None);
    let series = |outcome: &str| {
        format!(
            "tollgate_limit_decisions_total{{place=\"routes.all.policies.rate_limit\",limit=\"client_ip\",outcome=\"{outcome}\"}}"
        )
    };
    assert_eq!((gateway.metric(&series("admitted")), gateway.metric(&series("would_refuse"))), (1.0, 5.0));
}

#[test]
fn many_clients_at_once_get_exactly_what_there_is() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&config(&origin, &all("{ rate: 1/h, burst: 100 }")));
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (web, passed) = (gateway.web(), &passed);
            scope.spawn(move || {
                if thread % 2 == 0 {
                    let mut client = Client::new(web);
                    let told = statuses(&mut client, "/", "", 40);
                    passed.fetch_add(told.iter().filter(|status| **status == 200).count(), Ordering::Relaxed);
                    return;
                }
                let client = Http2::clear(web);
                for _ in 0..40 {
                    let request = http::Request::get("http://a/");
                    passed.fetch_add(usize::from(client.send(request, &[]).status == 200), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 100);
}

#[test]
fn what_was_used_comes_back() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&config(&origin, &all("{ rate: 2/s, burst: 1 }")));
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/", "").status, 200);
    wait_until("another one passes", || client.get("a", "/", "").status == 200);
}
