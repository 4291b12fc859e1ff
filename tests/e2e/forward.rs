//! Who calls, by what another service says of the request.

use crate::harness::{Answer, Client, Gateway, Origin, Received, answer, wait_until};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A service that knows people by `authorization: Key NAME`.
fn service() -> Origin {
    Origin::start(|received, stream| stream.write_all(&decide(received)).is_ok())
}

fn decide(received: &Received) -> Vec<u8> {
    match received.field("authorization") {
        Some("Key alice") => {
            answer("200 OK", "x-user: alice\r\nx-role: admin\r\nx-role: staff\r\nx-inner: secret\r\n", "")
        }
        Some("Key bob") => answer("204 No Content", "x-user: bob\r\n", ""),
        Some("Key nameless") => answer("200 OK", "x-role: admin\r\n", ""),
        Some("Key mallory") => answer("403 Forbidden", "", "not you"),
        Some("Key broken") => answer("500 Internal Server Error", "", "stack trace"),
        Some("Key lost") => answer("418 I'm a teapot", "", ""),
        _ => answer(
            "302 Found",
            "location: https://login.example/?back=1\r\nset-cookie: csrf=1\r\nx-inner: secret\r\n",
            "go there",
        ),
    }
}

fn gateway(service: &Origin, origin: &Origin, settings: &str) -> Gateway {
    Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         identity:\n  providers:\n    \
           check: {{ forward: {{ url: 'http://{}/check', take: [x-user, x-role], subject: x-user{settings} }} }}\n\
         consumers:\n  \
           alice-inc: {{ credentials: [{{ jwt: {{ provider: check, subject: alice }} }}, {{ api_key: {{ key: 0123456789abcdef }} }}] }}\n\
         routes:\n  \
           all: {{ policies: {{ authenticate: {{ any_of: [{{ api_key: {{ header: x-api-key }} }}, {{ forward: check }}] }}, headers: {{ request: {{ set: {{ x-consumer: '{{consumer.name}}' }} }} }} }}, to: origin }}\n  \
           admin: {{ match: {{ path: /admin }}, policies: {{ authenticate: {{ any_of: [{{ forward: check }}] }}, authorize: {{ when: 'principal.claims[\"x-role\"].contains(\"admin\")' }} }}, to: origin }}\n  \
           open: {{ match: {{ path: /open }}, policies: {{ authenticate: {{ any_of: [{{ api_key: {{ header: x-api-key }} }}], optional: true }} }}, to: origin }}\n",
        origin.address(),
        service.address(),
    ))
}

fn ask(client: &mut Client, target: &str, key: &str, more: &str) -> Answer {
    let key = if key.is_empty() { String::new() } else { format!("authorization: Key {key}\r\n") };
    client.get("api.example", target, &format!("{key}{more}"))
}

#[test]
fn another_service_lets_in_and_says_who_it_is() {
    let (service, origin) = (service(), Origin::saying("in"));
    let gateway = gateway(&service, &origin, "");
    let mut client = Client::new(gateway.web());
    let forged = "x-user: root\r\nX-Role: god\r\nx_user: root\r\nx-forwarded-uri: /public\r\nx-forwarded-for: 192.0.2.9\r\n";
    let let_in = ask(&mut client, "/a/../b?c=d", "alice", forged);
    assert_eq!(let_in.status, 200);
    let upstream = origin.last();
    assert_eq!(
        (upstream.fields("x-user"), upstream.fields("x-role"), upstream.fields("x_user")),
        (vec!["alice"], vec!["admin", "staff"], vec![])
    );
    assert_eq!((upstream.field("x-consumer"), upstream.field("x-inner")), (Some("alice-inc"), None));
    let asked = service.last();
    assert_eq!((asked.target(), asked.field("authorization")), ("/check", Some("Key alice")));
    for (name, value) in [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "api.example"),
        ("x-forwarded-uri", "/b?c=d"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(asked.fields(name), [value], "{name}");
    }
    assert!(asked.field("x-request-id").is_some() && asked.field("x-user").is_none());

    assert_eq!(ask(&mut client, "/", "bob", "x-role: admin\r\n").status, 200);
    assert_eq!((origin.last().field("x-user"), origin.last().field("x-role")), (Some("bob"), None));
    assert_eq!(ask(&mut client, "/admin", "alice", "").status, 200);
    assert_eq!(ask(&mut client, "/admin", "bob", "x-role: admin\r\n").status, 403);

    // Another way lets in, and nobody may say what the service alone says.
    let before = service.received().len();
    assert_eq!(ask(&mut client, "/", "", "x-api-key: 0123456789abcdef\r\nx-user: root\r\n").status, 200);
    assert_eq!((origin.last().field("x-user"), service.received().len()), (None, before));
}

#[test]
fn its_refusals_are_hidden_or_passed_on() {
    let (service, origin) = (service(), Origin::saying("in"));
    let hiding = gateway(&service, &origin, "");
    let mut client = Client::new(hiding.web());
    for (key, status) in [("", 401), ("mallory", 403), ("lost", 401), ("nameless", 401), ("broken", 503)] {
        let refused = ask(&mut client, "/", key, "");
        assert_eq!(refused.status, status, "{key}");
        for inner in ["location", "set-cookie", "x-inner"] {
            assert_eq!(refused.field(inner), None, "{key}");
        }
        assert!(!refused.text().contains("stack") && !refused.text().contains("not you"), "{key}");
    }
    let passing = gateway(
        &service,
        &origin,
        ", refusals: { statuses: [302, 403], headers: [location, set-cookie], body: true }",
    );
    let mut client = Client::new(passing.web());
    let login = ask(&mut client, "/", "", "");
    assert_eq!((login.status, login.field("location")), (302, Some("https://login.example/?back=1")));
    assert_eq!((login.field("set-cookie"), login.field("x-inner")), (Some("csrf=1"), None));
    assert_eq!((login.field("cache-control"), login.text().as_str()), (Some("no-store"), "go there"));
    let forbidden = ask(&mut client, "/", "mallory", "");
    assert_eq!((forbidden.status, forbidden.text().as_str()), (403, "not you"));
    assert_eq!(ask(&mut client, "/", "lost", "").status, 401, "of no status that is passed on");
    assert!(origin.received().is_empty());
}

#[test]
fn nobody_gets_in_while_it_is_down() {
    let origin = Origin::saying("in");
    let down = Arc::new(AtomicBool::new(true));
    let (is_down, calls) = (down.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    let service = Origin::start(move |received, stream: &mut TcpStream| {
        counted.fetch_add(1, Ordering::SeqCst);
        // A connection that ends is no answer.
        !is_down.load(Ordering::SeqCst) && stream.write_all(&decide(received)).is_ok()
    });
    let gateway = gateway(&service, &origin, ", breaker: { failures: 2, open_for: 100ms }");
    let mut client = Client::new(gateway.web());
    for _ in 0..6 {
        let refused = ask(&mut client, "/", "alice", "");
        assert_eq!((refused.status, refused.code().as_str()), (503, "authentication_unavailable"));
    }
    assert!(origin.received().is_empty());
    let series = "tollgate_auth_total{method=\"forward\",provider=\"check\",outcome=\"forward_down\"}";
    assert!(gateway.metric(series) >= 6.0);
    down.store(false, Ordering::SeqCst);
    wait_until("it is tried again", || ask(&mut client, "/", "alice", "").status == 200);
}

/// What any client can bring about does not make the service one that is down for all.
#[test]
fn nobody_can_have_it_left_alone_for_others() {
    let origin = Origin::saying("in");
    let service = Origin::start(|received, stream| match received.field("authorization") {
        Some("Key long") => stream.write_all(&answer("401 Unauthorized", "", &"x".repeat(100_000))).is_ok(),
        Some("Key slow") => {
            // Until whoever asked has gone.
            let _ = std::io::Read::read(stream, &mut [0]);
            false
        }
        Some("Key odd") => stream.write_all(&answer("400 Bad Request", "", "")).is_ok(),
        _ => stream.write_all(&decide(received)).is_ok(),
    });
    let gateway = gateway(
        &service,
        &origin,
        ", breaker: { failures: 2, open_for: 1h }, call: { timeout: 1m, max_answer: 4KiB }",
    );
    let mut other = Client::new(gateway.web());
    for _ in 0..4 {
        let mut client = Client::new(gateway.web());
        assert_eq!(ask(&mut client, "/", "long", "").status, 503);
        assert_eq!(ask(&mut client, "/", "odd", "").status, 401);
        let asked = service.received().len();
        client.write("GET / HTTP/1.1\r\nhost: api.example\r\nauthorization: Key slow\r\n\r\n");
        wait_until("it is asked about", || service.received().len() > asked);
        drop(client);
        assert_eq!(ask(&mut other, "/", "alice", "").status, 200);
    }
}

#[test]
fn it_is_asked_each_time_unless_told_otherwise() {
    let (service, origin) = (service(), Origin::saying("in"));
    let plain = gateway(&service, &origin, "");
    let mut client = Client::new(plain.web());
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "/", "alice", "").status, 200);
    }
    assert_eq!(service.received().len(), 3);

    let remembering = gateway(&service, &origin, ", cache: { time: 1h }");
    let mut client = Client::new(remembering.web());
    let asked = |before: usize| service.received().len() - before;
    let before = service.received().len();
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "/", "alice", "x-user: root\r\n").status, 200);
        assert_eq!(origin.last().fields("x-user"), ["alice"]);
    }
    assert_eq!(asked(before), 1);
    // Another question: another path, another caller. And a refusal is never remembered.
    assert_eq!(ask(&mut client, "/other", "alice", "").status, 200);
    assert_eq!(ask(&mut client, "/", "bob", "").status, 200);
    assert_eq!(asked(before), 3);
    for _ in 0..2 {
        assert_eq!(ask(&mut client, "/", "mallory", "").status, 403);
    }
    assert_eq!(asked(before), 5);
}

#[test]
fn it_may_be_asked_only_about_those_with_a_credential() {
    let (service, origin) = (service(), Origin::saying("in"));
    let gateway = gateway(&service, &origin, ", credentials: [authorization]");
    let mut client = Client::new(gateway.web());
    assert_eq!(ask(&mut client, "/", "", "").status, 401);
    assert!(service.received().is_empty());
    assert_eq!(ask(&mut client, "/", "alice", "").status, 200);
}

#[test]
fn a_slow_service_holds_nobody_for_long() {
    let origin = Origin::saying("in");
    let service = Origin::start(|_, stream| {
        // Never an answer: until the gateway has had enough.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
        let _ = std::io::Read::read(stream, &mut [0]);
        false
    });
    let gateway = gateway(&service, &origin, ", call: { timeout: 200ms }, in_flight: 1");
    let mut client = Client::new(gateway.web());
    assert_eq!(ask(&mut client, "/", "alice", "").status, 503);
    assert!(origin.received().is_empty());
}
