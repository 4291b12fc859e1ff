//! Bodies on HTTP/2: a stream that stalls, drips or is never read ends alone, and in time.

use crate::harness::{Answer, Gateway, Http2, Modern, Origin, answer, wait_until};
use h2::Reason;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;

const IN_FLIGHT: &str = "tollgate_http_in_flight{listener=\"web\"}";

/// How long a body may go on after the answer.
const TIMES: &str = "body_time: 300ms, write_time: 300ms";

fn gateway(origin: SocketAddr, limits: &str, upstream: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, limits: {{ {limits} }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{origin}'] {upstream} }} }}\n\
         routes:\n\
         \x20 all: {{ to: origin }}\n\
         \x20 own: {{ match: {{ path: /own }}, to: {{ respond: {{ status: 200, body: own }} }} }}\n\
         \x20 shut: {{ match: {{ path: /shut }}, policies: {{ ip_access: {{ deny: [127.0.0.0/8] }} }}, to: origin }}\n"
    ))
}

fn post(path: &str) -> http::request::Builder {
    http::Request::post(format!("http://a{path}"))
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, if answer.status == 200 { String::new() } else { answer.code() })
}

/// RFC 9113 section 8.1: an answer that is whole before its request is; the rest is not wanted.
#[test]
fn a_body_that_never_ends_ends_with_an_early_answer() {
    // Answers when it has the head.
    let early = Origin::raw(|mut stream, _| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            line.clear();
        }
        let _ = stream.write_all(&answer("200 OK", "", "early"));
        // Open until the gateway has had enough.
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    let gateway = gateway(early.address(), TIMES, "");
    let client = Http2::clear(gateway.web());
    for (path, status, text) in [("/own", 200, "own"), ("/shut", 403, ""), ("/", 200, "early")] {
        let pending = client.begin(post(path), &[b"some"], false);
        let (answer, reason) = client.finish_and_reset(pending);
        assert_eq!((answer.status, reason), (status, Reason::NO_ERROR), "{path}");
        assert!(answer.text().contains(text) && !answer.cut, "{path}: {}", answer.text());
    }
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
    assert_eq!(client.get("http://a/own").status, 200, "the connection goes on");
}

#[test]
fn so_it_does_where_the_upstream_speaks_http_2() {
    let origin = Modern::clear();
    let gateway = gateway(origin.address(), TIMES, ", protocol: http2");
    let client = Http2::clear(gateway.web());
    let pending = client.begin(post("/"), &[b"some"], false);
    let (answer, reason) = client.finish_and_reset(pending);
    assert_eq!((answer.status, reason, answer.cut), (200, Reason::NO_ERROR, false));
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
    assert_eq!(client.get("http://a/own").status, 200, "the connection goes on");
}

#[test]
fn a_body_that_stalls_ends_in_its_time() {
    let origin = Origin::saying("in");
    // The upstream has more patience than the client may ask for.
    let gateway =
        gateway(origin.address(), "body_time: 300ms", ", timeouts: { read: 1h, write: 1h, total: 1h }");
    let client = Http2::clear(gateway.web());
    for frames in [&[][..], &[&b"half"[..]]] {
        let stalled = client.begin(post("/"), frames, false);
        let (answer, reason) = client.finish_and_reset(stalled);
        assert_eq!((answer.cut, reason), (true, Reason::CANCEL), "{frames:?}");
    }
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
    assert_eq!(client.get("http://a/").status, 200, "the connection goes on");
    assert_eq!(origin.received().len(), 1, "half a request is none");
    let counted =
        "tollgate_http_requests_total{listener=\"web\",route=\"all\",upstream=\"origin\",class=\"4xx\"}";
    wait_until("both are counted", || gateway.metric(counted) == 2.0);
    wait_until("both are in the log", || {
        let log = std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let cut = |line: &serde_json::Value| {
            line["cause"] == "request_timeout" && line["status"] == 408 && line["path"] == "/"
        };
        lines.filter(cut).count() == 2
    });
}

#[test]
fn a_body_that_drips_ends_alone() {
    let origin = Origin::saying("in");
    let gateway = gateway(origin.address(), "body_time: 300ms, body_rate: 1KiB", "");
    let client = Http2::clear(gateway.web());
    let dripping = client.begin(post("/"), &[b"x"], false);
    let answer = client.finish_dripping(dripping);
    assert_eq!(told(&answer), (408, "request_timeout".to_owned()));
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
    assert_eq!(client.get("http://a/").status, 200, "the connection goes on");
}

/// It takes the head, and never makes room for the body.
#[test]
fn an_answer_that_nobody_reads_ends_alone() {
    let origin = Origin::start(|_, stream| {
        let chunk = vec![b'x'; 1 << 20];
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n");
        (0..64).all(|_| stream.write_all(&chunk).is_ok())
    });
    let gateway = gateway(origin.address(), "write_time: 300ms", "");
    let client = Http2::clear(gateway.web());
    let mut unread = client.talk(client.begin(http::Request::get("http://a/"), &[], true));
    wait_until("it is given up", || gateway.metric(IN_FLIGHT) == 0.0);
    assert!(unread.breaks_off(), "half an answer must not look whole");
    assert_eq!(client.get("http://a/own").status, 200, "the connection goes on");
}
