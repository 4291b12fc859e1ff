//! Request bodies that a policy has to see whole: what passes goes on to the byte, and of what does not
//! nothing does.

use crate::harness::{Answer, Client, Gateway, Http2, Origin, answer, quiet_port, wait_until};
use base64::Engine as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn gateway(origins: &[SocketAddr], process: &str, digest: &str) -> Gateway {
    let endpoints: Vec<String> = origins.iter().map(|address| format!("'{address}'")).collect();
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         process: {{ workers: 2, {process} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, limits: {{ body: 32MiB }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: [{}], retry: {{ attempts: 2 }} }} }}\n\
         routes:\n\
         \x20 all: {{ policies: {{ content_digest: {{ {digest} }} }}, to: origin }}\n\
         \x20 echo: {{ match: {{ path: /echo }}, policies: {{ content_digest: {{ {digest} }} }}, to: {{ echo: {{}} }} }}\n",
        endpoints.join(", ")
    ))
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], quiet_port()).into()
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// The value of `content-digest`.
pub fn digest(body: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    format!("sha-256=:{}:", base64::engine::general_purpose::STANDARD.encode(digest))
}

fn with_length(target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("PUT {target} HTTP/1.1\r\nhost: a\r\n{fields}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn in_chunks(target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("PUT {target} HTTP/1.1\r\nhost: a\r\n{fields}transfer-encoding: chunked\r\n\r\n");
    let chunks = body.chunks(10_000).flat_map(|chunk| {
        [format!("{:x}\r\n", chunk.len()).into_bytes(), chunk.to_vec(), b"\r\n".to_vec()].concat()
    });
    head.into_bytes().into_iter().chain(chunks).chain(*b"0\r\n\r\n").collect()
}

/// One PUT in each of the ways in which a body can come, each looked at before the next one goes out.
fn put_each_way(
    gateway: &Gateway,
    target: &str,
    digest: &str,
    body: &[u8],
    mut look: impl FnMut(&str, &Answer),
) {
    let fields = format!("content-digest: {digest}\r\n");
    let http2 = Http2::clear(gateway.web());
    let put = || http::Request::put(format!("http://a{target}")).header("content-digest", digest);
    let frames: Vec<&[u8]> = if body.is_empty() { vec![b""] } else { body.chunks(16_000).collect() };
    let open = [&frames[..], &[b""]].concat();
    let length = body.len();
    look("length", &Client::new(gateway.web()).send(with_length(target, &fields, body)));
    look("chunks", &Client::new(gateway.web()).send(in_chunks(target, &fields, body)));
    look("HTTP/2, length", &http2.send(put().header("content-length", length), &frames));
    look("HTTP/2, length, last frame empty", &http2.send(put().header("content-length", length), &open));
    look("HTTP/2, open", &http2.send(put(), &frames));
    look("HTTP/2, open, last frame empty", &http2.send(put(), &open));
}

const TAIL: usize = 64 << 10;

#[test]
fn bodies_of_any_size_go_on_to_the_byte() {
    let origin = Origin::saying("in");
    let gateway = gateway(&[origin.address()], "", "require: true, body: { max: 16MiB }");
    for size in [0, 1, 5_000, TAIL - 1, TAIL, TAIL + 1, 2 * TAIL, 2 * TAIL + 1, 1 << 20, (4 << 20) + 17] {
        let body = body(size);
        put_each_way(&gateway, "/", &digest(&body), &body, |way, answer| {
            assert_eq!((answer.status, answer.text().as_str()), (200, "in"), "{size} {way}");
            let got = origin.last();
            assert!(got.body == body, "{size} {way}: {} bytes arrived, or others", got.body.len());
            if way.contains("length") {
                assert_eq!(got.field("content-length"), Some(size.to_string().as_str()), "{way}");
            }
        });
    }
    wait_until("nothing is held", || gateway.metric("tollgate_body_memory_bytes") == 0.0);
}

#[test]
fn nothing_of_a_refused_body_arrives() {
    let origin = Origin::saying("in");
    let gateway = gateway(&[origin.address()], "", "body: { max: 16MiB }");
    for size in [1, TAIL, TAIL + 1, 1 << 20] {
        let body = body(size);
        for target in ["/", "/echo"] {
            put_each_way(&gateway, target, &digest(b"another"), &body, |way, answer| {
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (400, "digest_mismatch"),
                    "{size} {way} {target}"
                );
                assert_eq!(answer.closes(), way == "chunks" && target == "/", "{size} {way} {target}");
            });
        }
    }
    assert_eq!(origin.received().len(), 0);
    let mut client = Client::new(gateway.web());
    for _ in 0..3 {
        let wrong = client.send(with_length("/", &format!("content-digest: {}\r\n", digest(b"x")), b"y"));
        assert_eq!(wrong.status, 400, "the connection was kept");
    }
    assert_eq!(client.send(with_length("/", "", b"no digest")).status, 200, "none was required");
    wait_until("nothing is held", || gateway.metric("tollgate_body_memory_bytes") == 0.0);
}

/// Another endpoint gets all of it, although Pingora remembers no more than 64 KiB of a body.
#[test]
fn a_held_body_can_be_sent_again() {
    let origin = Origin::saying("in");
    let gateway = gateway(&[nobody(), origin.address()], "", "body: { max: 16MiB }");
    let body = body(3 << 20);
    for round in 0..4 {
        put_each_way(&gateway, "/", &digest(&body), &body, |way, answer| {
            assert_eq!(answer.status, 200, "{round} {way}");
            assert!(origin.last().body == body, "{round} {way}");
        });
    }
    assert!(
        gateway.metric("tollgate_retries_total{upstream=\"origin\"}") > 0.0,
        "some began at the wrong endpoint"
    );
}

#[test]
fn an_answer_that_is_thrown_away_costs_no_held_body() {
    let origin = Origin::start(|request, stream| {
        stream.write_all(&answer("503 Service Unavailable", "", &request.line)).is_ok()
    });
    let second = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}', '{}'], retry: {{ attempts: 2, on: [503], budget: 100% }} }} }}\n\
         routes: {{ all: {{ policies: {{ content_digest: {{ body: {{ max: 16MiB }} }} }}, to: origin }} }}\n",
        origin.address(),
        second.address()
    ));
    let body = body(1 << 20);
    let fields = format!("expect: 100-continue\r\ncontent-digest: {}\r\n", digest(&body));
    for round in 0..4 {
        let mut client = Client::new(gateway.web());
        assert_eq!(client.send(with_length("/", &fields, &body)).status, 200, "{round}");
        assert!(second.last().body == body, "{round}");
        let http2 = Http2::clear(gateway.web());
        let put = http::Request::put("http://a/").header("content-digest", digest(&body));
        let frames: Vec<&[u8]> = body.chunks(16_000).collect();
        assert_eq!(http2.send(put.header("content-length", body.len()), &frames).status, 200, "{round}");
    }
    assert!(!origin.received().is_empty(), "some began at the wrong endpoint");
    assert!(origin.received().iter().all(|got| got.body == body), "and it got all of it, too");
}

#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let origin = Origin::saying("in");
    let gateway = gateway(&[origin.address()], "", "");
    let mut client = Client::new(gateway.web());
    let fields =
        format!("expect: 100-continue\r\ncontent-digest: {}\r\ncontent-length: 4\r\n", digest(b"body"));
    for round in 0..2 {
        client.write(format!("PUT / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
        assert_eq!(client.read_one(false).status, 100, "{round}");
        client.write("body");
        assert_eq!(client.read_one(false).status, 200, "{round}");
        assert_eq!((origin.last().body, origin.last().field("expect").is_some()), (b"body".to_vec(), false));
    }
    for round in 0..2 {
        client.write("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
        assert_eq!(client.read_one(false).status, 100, "{round}: where nothing is held the upstream says so");
        client.write("body");
        assert_eq!(client.read_one(false).status, 200, "{round}");
    }
    let gone = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ policies: {{ content_digest: {{}} }}, to: origin }} }}\n",
        nobody()
    ));
    let mut client = Client::new(gone.web());
    client.write(format!("PUT / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    assert_eq!(client.read_one(false).status, 100);
    client.write("body");
    let answer = client.read_one(false);
    assert_eq!(answer.status, 502, "100 was no answer yet: {answer:?}");
}

#[test]
fn bounds_of_a_held_body() {
    let origin = Origin::saying("in");
    let gateway = gateway(&[origin.address()], "", "body: { max: 100KiB }");
    let large = body(101 << 10);
    for target in ["/", "/echo"] {
        put_each_way(&gateway, target, &digest(&large), &large, |way, answer| {
            assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"), "{way} {target}");
        });
    }
    let refusing = self::gateway(&[origin.address()], "", "body: { undeclared: refuse }");
    put_each_way(&refusing, "/", &digest(b"body"), b"body", |way, answer| {
        let expected = if way.contains("open") || way == "chunks" { 411 } else { 200 };
        assert_eq!(answer.status, expected, "{way}");
    });
    let hasty = self::gateway(&[origin.address()], "", "body: { time: 300ms }");
    let head = format!(
        "PUT / HTTP/1.1\r\nhost: a\r\ncontent-digest: {}\r\ncontent-length: 4\r\n\r\nbo",
        digest(b"body")
    );
    let answer = Client::new(hasty.web()).send(head);
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    let http2 = Http2::clear(hasty.web());
    let put = || {
        http::Request::put("http://a/").header("content-digest", digest(b"body")).header("content-length", 4)
    };
    let half = http2.begin(put(), &[b"bo"], false);
    assert_eq!(http2.finish(half).status, 408);
    assert_eq!(http2.send(put(), &[b"body"]).status, 200, "one stream costs no other");
}

#[test]
fn all_held_bodies_have_one_budget() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = gate.clone();
    let origin = Origin::start(move |_, stream| {
        wait_until("the gate opens", || opened.load(Ordering::SeqCst));
        stream.write_all(&answer("200 OK", "", "in")).is_ok()
    });
    let gateway = gateway(&[origin.address()], "body_memory: 1MiB", "body: { max: 16MiB }");
    let held = |expected: f64| {
        wait_until("so much is held", || gateway.metric("tollgate_body_memory_bytes") == expected);
    };
    let body = body(1 << 19);
    let fields = format!("content-digest: {}\r\n", digest(&body));
    let mut first = Client::new(gateway.web());
    first.write(with_length("/", &fields, &body));
    held(524_288.0);
    let mut half = Client::new(gateway.web());
    half.write(&with_length("/", &fields, &body)[..200_000]);
    wait_until("half of another one is held", || gateway.metric("tollgate_body_memory_bytes") > 524_288.0);
    put_each_way(&gateway, "/", &digest(&body), &body, |way, answer| {
        assert_eq!((answer.status, answer.code().as_str()), (503, "body_memory_full"), "{way}");
        assert!(answer.field("retry-after").is_some(), "{way}");
    });
    half.close();
    held(524_288.0);
    gate.store(true, Ordering::SeqCst);
    assert_eq!(first.read(false).status, 200);
    held(0.0);
    assert_eq!(first.send(with_length("/", &fields, &body)).status, 200, "there is room again");
}

/// A head of many bytes, with a body that comes in the same breath.
#[test]
fn what_comes_with_a_large_head_is_held_too() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', limits: {{ headers: 1MiB }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ policies: {{ content_digest: {{}} }}, to: origin }} }}\n",
        origin.address()
    ));
    for (head, size) in [(100_000, TAIL + 1), (200_000, TAIL + 1), (300_000, 2 * TAIL + 3), (70_000, 70_000)]
    {
        let body = body(size);
        let fields = format!("x-large: {}\r\ncontent-digest: {}\r\n", "h".repeat(head), digest(&body));
        let answer = Client::new(gateway.web()).send(with_length("/", &fields, &body));
        assert_eq!(answer.status, 200, "{head} {size}");
        assert!(origin.last().body == body, "{head} {size}");
    }
}
