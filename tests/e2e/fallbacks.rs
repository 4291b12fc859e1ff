//! What requests get when the upstream of their route fails: another upstream, or an answer of the gateway's own.

use crate::harness::{Answer, Client, Gate, Gateway, Origin, answer, quiet_port, send, wait_until};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

const RESPOND: &str = "{ respond: { status: 203, headers: { content-type: application/json, x-from: us }, \
                       body: '{{\"sorry\":\"{header.x-a}\"}}', template: true } }";

/// A route to `first`, with these steps for what fails; `{second}` in them is the other upstream.
fn gateway(first: &str, second: &Origin, on: &str, to: &str) -> Gateway {
    let yaml = "admin: { address: '127.0.0.1:PORT_admin', token: secret }\n\
         listeners: { web: { address: '127.0.0.1:PORT_web' } }\n\
         telemetry: { access_log: { to: { file: access.log } } }\n\
         upstreams: { first: { FIRST }, second: { endpoints: ['SECOND'] } }\n\
         routes: { all: { to: first, fallback: { ON to: [TO] } } }\n";
    let yaml = yaml.replace("FIRST", first).replace("SECOND", &second.address().to_string());
    let on = if on.is_empty() { String::new() } else { format!("on: {on}, ") };
    Gateway::start(&yaml.replace("ON ", &on).replace("TO", to))
}

fn at(origin: &Origin, rest: &str) -> String {
    format!("endpoints: ['{}'], retry: {{ attempts: 1 }}{rest}", origin.address())
}

fn nobody() -> String {
    format!("endpoints: ['127.0.0.1:{}'], retry: {{ attempts: 1 }}", quiet_port())
}

fn failing(status: &'static str) -> Origin {
    Origin::start(move |_, stream| stream.write_all(&answer(status, "x-from: first\r\n", "first")).is_ok())
}

/// An origin that answers once it is let go.
fn held() -> (Arc<Gate>, Origin) {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let origin = Origin::start(move |_, stream| {
        held.pass();
        stream.write_all(&answer("200 OK", "", "first")).is_ok()
    });
    (gate, origin)
}

fn silent() -> Origin {
    Origin::start(|_, stream| {
        let _ = std::io::Read::read(stream, &mut [0]);
        false
    })
}

fn ask(gateway: &Gateway, method: &str, body: usize) -> Answer {
    let body = "b".repeat(body);
    let head = format!("{method} /x HTTP/1.1\r\nhost: a\r\nx-a: \"<b\r\ncontent-length: {}\r\n", body.len());
    send(gateway.web(), &format!("{head}connection: close\r\n\r\n{body}"))
}

fn line(gateway: &Gateway) -> serde_json::Value {
    let lines = || {
        let text = std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<serde_json::Value>>()
    };
    wait_until("it is logged", || !lines().is_empty());
    lines().remove(0)
}

fn told(answer: &Answer) -> (u16, Option<&str>, String) {
    (answer.status, answer.field("tollgate-fallback"), answer.text())
}

#[test]
fn another_upstream_has_what_the_first_one_fails_if_that_is_safe() {
    let upstream = (200, Some("upstream"), "second");
    for (first, on, method, body, expected, cause) in [
        (None, "", "GET", 0, upstream, "upstream_failed"),
        // Nothing was sent, so that any request may go elsewhere.
        (None, "", "POST", 10_000, upstream, "upstream_failed"),
        (Some(failing("503 Service Unavailable")), "", "GET", 0, upstream, "upstream_status"),
        (Some(failing("503 Service Unavailable")), "", "PUT", 10_000, upstream, "upstream_status"),
        // More than is kept in hand, and what may have been done already.
        (Some(failing("503 Service Unavailable")), "", "PUT", 100_000, (503, None, "first"), ""),
        (Some(failing("503 Service Unavailable")), "", "POST", 10, (503, None, "first"), ""),
        (Some(failing("404 Not Found")), "", "GET", 0, (404, None, "first"), ""),
        (Some(failing("404 Not Found")), "[404]", "GET", 0, upstream, "upstream_status"),
        (Some(failing("503 Service Unavailable")), "[connect, 502]", "GET", 0, (503, None, "first"), ""),
        (Some(Origin::start(|_, _| false)), "", "GET", 0, upstream, "upstream_failed"),
    ] {
        let second = Origin::saying("second");
        let settings = first.as_ref().map_or_else(nobody, |first| at(first, ""));
        let gateway = gateway(&settings, &second, on, "{ upstream: second }");
        let answer = ask(&gateway, method, body);
        let case = format!("{settings} {on} {method} {body}");
        assert_eq!(told(&answer), (expected.0, expected.1, expected.2.to_owned()), "{case}");
        let line = line(&gateway);
        assert_eq!(line["fallback"].as_str(), expected.1, "{case}");
        assert_eq!(line["cause"].as_str().unwrap_or_default(), cause, "{case}");
        assert_eq!(line["upstream"], if expected.1.is_some() { "second" } else { "first" }, "{case}");
        if expected.1.is_some() {
            assert_eq!(second.last().body.len(), body, "{case}: the body came whole");
            let name = "tollgate_fallbacks_total{route=\"all\",by=\"upstream\"}";
            assert_eq!(gateway.metric(name), 1.0, "{case}");
        } else {
            assert!(second.received().is_empty(), "{case}");
        }
    }
}

#[test]
fn an_answer_of_our_own_stands_in_for_whatever_failed() {
    for (first, rest, method, cause) in [
        (None, "", "GET", "upstream_failed"),
        (Some(failing("503 Service Unavailable")), "", "GET", "upstream_status"),
        // Nothing is done twice by it.
        (Some(failing("503 Service Unavailable")), "", "POST", "upstream_status"),
        (Some(Origin::start(|_, _| false)), "", "POST", "upstream_failed"),
        (Some(silent()), ", timeouts: { read: 100ms }", "GET", "upstream_timeout"),
        (Some(silent()), ", timeouts: { total: 100ms }", "POST", "upstream_timeout"),
    ] {
        let second = Origin::saying("second");
        let settings = first.as_ref().map_or_else(nobody, |first| at(first, rest));
        let gateway = gateway(&settings, &second, "", RESPOND);
        let answer = ask(&gateway, method, 0);
        let case = format!("{settings} {method}");
        let body = r#"{"sorry":"\"<b"}"#;
        assert_eq!(told(&answer), (203, Some("respond"), body.to_owned()), "{case}");
        assert_eq!(answer.field("x-from"), Some("us"), "{case}");
        let line = line(&gateway);
        assert_eq!(
            (&line["fallback"], &line["cause"], &line["status"]),
            (&"respond".into(), &cause.into(), &203.into())
        );
        assert_eq!(gateway.metric("tollgate_fallbacks_total{route=\"all\",by=\"respond\"}"), 1.0, "{case}");
    }
}

#[test]
fn steps_are_tried_in_order_until_one_has_an_answer() {
    // Nobody is at the first one, the second one fails, and then there is an answer.
    let second = failing("502 Bad Gateway");
    let to = format!("{{ upstream: second }}, {RESPOND}");
    let running = gateway(&nobody(), &second, "", &to);
    let answer = ask(&running, "GET", 0);
    assert_eq!((answer.status, answer.field("tollgate-fallback")), (203, Some("respond")));
    assert_eq!(second.received().len(), 1);
    let line = line(&running);
    assert_eq!((&line["upstream"], &line["attempts"]), (&"second".into(), &2.into()));
    // A failure that it is not for is the client's, whoever made it.
    let running = gateway(&nobody(), &second, "[connect]", &to);
    let answer = ask(&running, "GET", 0);
    assert_eq!(told(&answer), (502, Some("upstream"), "first".to_owned()));
}

#[test]
fn where_nobody_can_be_asked_the_answer_is_there_at_once_and_the_connection_stays() {
    let origin = failing("500 Internal Server Error");
    let second = Origin::saying("second");
    let breaker = ", breaker: { of_at_least: 2, within: 10m, open_for: 1h }";
    for (to, status, text) in [(RESPOND, 203, "{\"sorry\":\"\"}"), ("{ upstream: second }", 200, "second")] {
        let gateway = gateway(&at(&origin, breaker), &second, "[connect]", to);
        let before = origin.received().len();
        assert_eq!([(); 2].map(|()| ask(&gateway, "GET", 0).status), [500; 2]);
        let mut client = Client::new(gateway.web());
        for _ in 0..3 {
            let answer = client.get("a", "/", "");
            assert_eq!((answer.status, answer.text().as_str(), answer.closes()), (status, text, false));
            assert!(answer.field("tollgate-fallback").is_some());
        }
        assert_eq!(origin.received().len() - before, 2, "nobody is asked");
    }
}

#[test]
fn what_finds_no_room_goes_elsewhere_and_gives_back_all_that_it_held() {
    let (open, origin) = held();
    let second = Origin::saying("second");
    let limits = ", limits: { requests: 1, waiting: 0 }";
    let gateway = gateway(&at(&origin, limits), &second, "", "{ upstream: second }");
    let in_flight = || gateway.metric("tollgate_upstream_in_flight{upstream=\"first\"}");
    let mut inside = Client::new(gateway.web());
    inside.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("one is in flight", || in_flight() == 1.0);
    for method in ["GET", "POST"] {
        assert_eq!(told(&ask(&gateway, method, 10)), (200, Some("upstream"), "second".to_owned()));
    }
    open.open();
    assert_eq!(inside.read(false).text(), "first");
    wait_until("nothing is in flight", || in_flight() == 0.0);
}

#[test]
fn a_wait_for_room_is_part_of_the_time_that_all_may_take() {
    let (open, origin) = held();
    let second = Origin::saying("second");
    let patient = ", limits: { requests: 1, waiting: 9, wait: 1m }, timeouts: { total: 1h }";
    let gateway = gateway(&at(&origin, patient), &second, "[502]", "{ upstream: second }");
    let count = |name: &str| gateway.metric(&format!("tollgate_upstream_{name}{{upstream=\"first\"}}"));
    let begin = || {
        let mut client = Client::new(gateway.web());
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client
    };
    let mut inside = begin();
    wait_until("one is in flight", || count("in_flight") == 1.0);
    let mut patient = begin();
    wait_until("one waits", || count("waiting") == 1.0);
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace("all: { to: first,", "all: { to: first, timeouts: { total: 1s },"));
    assert_eq!(gateway.reload().status, 200);
    // Nobody makes room for it in a minute, and it has a second.
    let began = Instant::now();
    let refused = begin().read(false);
    assert_eq!((refused.status, refused.code().as_str()), (503, "upstream_overloaded"));
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    open.open();
    assert_eq!((inside.read(false).status, patient.read(false).status), (200, 200));
}

#[test]
fn what_a_policy_refuses_or_a_client_has_begun_to_read_is_as_it_is() {
    let half = Origin::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        false
    });
    let second = Origin::saying("second");
    let running = gateway(&at(&half, ""), &second, "", &format!("{{ upstream: second }}, {RESPOND}"));
    let answer = ask(&running, "GET", 0);
    assert_eq!((told(&answer), answer.cut), ((200, None, "half".to_owned()), true));
    let text = std::fs::read_to_string(running.config()).unwrap();
    let refusing = text.replace("all: {", "all: { policies: { ip_access: { deny: ['127.0.0.0/8'] } },");
    running.rewrite(&refusing);
    assert_eq!(running.reload().status, 200);
    let answer = ask(&running, "GET", 0);
    assert_eq!((answer.status, answer.field("tollgate-fallback")), (403, None));
    assert!(second.received().is_empty());
}
