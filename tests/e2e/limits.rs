//! Sizes, counts and times of a listener.

use crate::harness::{Answer, Client, Gateway, Http2, Origin, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn start(limits: &str) -> (Origin, Gateway) {
    let origin = Origin::saying("in");
    let gateway = gateway(&origin, limits);
    (origin, gateway)
}

fn gateway(origin: &Origin, limits: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, limits: {{ {limits} }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes:\n\
         \x20 all: {{ to: origin }}\n\
         \x20 small: {{ match: {{ path: /small }}, policies: {{ body_limit: {{ max: 2B }} }}, to: origin }}\n\
         \x20 large: {{ match: {{ path: /large }}, policies: {{ body_limit: {{ max: 1MiB }} }}, to: origin }}\n",
        origin.address()
    ))
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status, if answer.status == 200 { String::new() } else { answer.code() })
}

fn passed() -> (u16, String) {
    (200, String::new())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// RFC 6585 section 5, RFC 9110 section 15.5.15.
#[test]
fn heads_have_a_size() {
    let (origin, gateway) = start("headers: 1KiB, header_count: 5, uri: 1KiB");
    let too_large = refused(431, "headers_too_large");
    // `host: a` and `x-a: …` with their separators are 9 and 7 bytes.
    let field = |length: usize| format!("x-a: {}\r\n", "a".repeat(length));
    let count = |more: usize| (0..more).map(|at| format!("x-{at}: 1\r\n")).collect::<String>();
    let uri = |length: usize| format!("/{}", "u".repeat(length - 1));
    for (what, target, fields, expected) in [
        ("as many bytes as may be", "/".into(), field(1024 - 9 - 7), passed()),
        ("one more", "/".into(), field(1024 - 9 - 7 + 1), too_large.clone()),
        ("many more", "/".into(), field(300_000), too_large.clone()),
        ("as many fields as may be", "/".into(), count(4), passed()),
        ("one more field", "/".into(), count(5), too_large),
        ("the longest target", uri(1024), String::new(), passed()),
        ("one more character", uri(1025), String::new(), refused(414, "uri_too_long")),
        ("a long query", format!("/?{}", "q".repeat(1023)), String::new(), refused(414, "uri_too_long")),
    ] {
        let before = origin.received().len();
        let mut client = Client::new(gateway.web());
        assert_eq!(told(&client.get("a", &target, &fields)), expected, "{what}");
        assert_eq!(origin.received().len() - before, usize::from(expected.0 == 200), "{what}");
        assert_eq!(client.get("a", "/", "").status, 200, "{what}: the connection was kept");
    }
}

#[test]
fn a_head_beyond_all_measure_is_not_read() {
    let (origin, gateway) = start("");
    let mut client = Client::new(gateway.web());
    client.write("GET / HTTP/1.1\r\nhost: a\r\n");
    for _ in 0..40 {
        client.write(format!("x-a: {}\r\n", "a".repeat(64 << 10)));
    }
    let answer = client.read(false);
    assert!(matches!(answer.status, 0 | 400 | 431), "{answer:?}");
    wait_until("it is closed", || client.is_closed());
    let many: String = (0..1000).map(|at| format!("x-{at}: 1\r\n")).collect();
    let answer = Client::new(gateway.web()).get("a", "/", &many);
    assert!(matches!(answer.status, 400 | 431), "{answer:?}");
    assert_eq!(origin.received().len(), 0);
}

#[test]
fn http_2_heads_have_a_size() {
    let (origin, gateway) = start("headers: 8KiB, header_count: 5, uri: 1KiB");
    let client = Http2::clear(gateway.web());
    let long = client.get(&format!("http://a/{}", "u".repeat(1024)));
    assert_eq!(told(&long), refused(414, "uri_too_long"));
    let many =
        (0..6).fold(http::Request::get("http://a/"), |request, at| request.header(format!("x-{at}"), "1"));
    assert_eq!(told(&client.send(many, &[])), refused(431, "headers_too_large"));
    let large = http::Request::get("http://a/").header("x-a", "a".repeat(9000));
    let answer = client.send(large, &[]);
    assert!(matches!(answer.status, 0 | 431), "the h2 crate refuses it, or we do: {answer:?}");
    assert_eq!(origin.received().len(), 0);
    assert_eq!(client.get("http://a/").status, 200);
}

/// RFC 9110 section 15.5.14.
#[test]
fn bodies_have_a_size_that_a_route_may_change() {
    let (origin, gateway) = start("body: 10B");
    let too_large = refused(413, "body_too_large");
    for (target, length, expected) in [
        ("/", 10, passed()),
        ("/", 11, too_large.clone()),
        ("/small", 2, passed()),
        ("/small", 3, too_large.clone()),
        ("/large", 1 << 20, passed()),
        ("/large", (1 << 20) + 1, too_large.clone()),
    ] {
        let body = "b".repeat(length);
        let before = origin.received().len();
        let with_length =
            format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
        let chunked = format!(
            "POST {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        );
        for request in [with_length, chunked] {
            let mut client = Client::new(gateway.web());
            let answer = client.send(&request);
            assert_eq!(told(&answer), expected, "{target} {length} {}", &request[..60]);
            if expected.0 != 200 {
                assert!(answer.closes(), "{target} {length}");
                wait_until("it is closed", || client.is_closed());
            }
        }
        let client = Http2::clear(gateway.web());
        let post = || http::Request::post(format!("http://a{target}"));
        let answer = client.send(post().header("content-length", length), &[body.as_bytes()]);
        assert_eq!(told(&answer), expected, "{target} {length}, HTTP/2 with a length");
        let answer = client.send(post(), &[body.as_bytes(), b""]);
        assert_eq!(told(&answer), expected, "{target} {length}, HTTP/2");
        assert_eq!(client.get("http://a/").status, 200, "one stream costs no other");
        let whole = origin.received()[before..].iter().filter(|got| got.line.starts_with("POST")).count();
        assert_eq!(whole, if expected.0 == 200 { 4 } else { 0 }, "{target} {length}");
    }
}

/// A client that sends all before it reads must not lose the answer to a reset.
#[test]
fn a_client_that_sends_on_is_told_all_the_same() {
    let (origin, gateway) = start("body: 10B");
    let body = "b".repeat(8 << 20);
    for round in 0..10 {
        let length = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let chunks = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        for request in [length, chunks] {
            let answer = Client::new(gateway.web()).send(request);
            assert_eq!(told(&answer), refused(413, "body_too_large"), "round {round}");
        }
    }
    assert_eq!(origin.received().len(), 0);
}

#[test]
fn a_connection_serves_so_many_requests() {
    let (_origin, gateway) = start("requests: 3");
    let mut client = Client::new(gateway.web());
    assert!(!client.get("a", "/", "").closes());
    assert!(!client.get("a", "/", "").closes());
    let last = client.get("a", "/", "");
    assert_eq!((last.status, last.closes()), (200, true), "the client is told");
    assert!(client.is_closed());
}

#[test]
fn a_connection_carries_so_many_streams() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let origin = Origin::start(move |_, stream| {
        wait_until("the gate opens", || gate.load(Ordering::SeqCst));
        std::io::Write::write_all(stream, &crate::harness::answer("200 OK", "", "")).is_ok()
    });
    let gateway = gateway(&origin, "streams: 2");
    let client = Http2::clear(gateway.web());
    // The gateway's settings come with the first answer; the connection's task reads them when it is run.
    open.store(true, Ordering::SeqCst);
    assert_eq!(client.get("http://a/").status, 200);
    open.store(false, Ordering::SeqCst);
    wait_until("the client knows what the gateway allows", || client.streams() == 2);
    let pending: Vec<_> = (0..2).map(|_| client.begin(http::Request::get("http://a/"), &[], true)).collect();
    wait_until("both are at the origin", || origin.received().len() == 3);
    open.store(true, Ordering::SeqCst);
    for pending in pending {
        assert_eq!(client.finish(pending).status, 200);
    }
}

#[test]
fn a_head_has_its_time() {
    let (origin, gateway) = start("header_time: 300ms, idle: 1h");
    let mut first = Client::new(gateway.web());
    first.write("GET / HTTP/1.1\r\nhost: a\r\nx-slow: ");
    assert_eq!(first.read(false).status, 408);
    assert!(first.is_closed());

    let mut reused = Client::new(gateway.web());
    assert_eq!(reused.get("a", "/", "").status, 200);
    reused.write("GET / HT");
    assert_eq!(reused.read(false).status, 408);
    assert!(reused.is_closed());

    let mut drip = Client::new(gateway.web());
    drip.write("GET / HTTP/1.1\r\nhost: a\r\nx-slow: ");
    let answer = drip.read_while_dripping();
    assert_eq!(answer.status, 408, "each byte is no new beginning");
    assert_eq!(origin.received().len(), 1);
    let unseen = "tollgate_unseen_requests_total{listener=\"web\",cause=\"timed_out\"}";
    wait_until("they are counted", || gateway.metric(unseen) == 3.0);
}

#[test]
fn an_idle_connection_is_closed() {
    let (_origin, gateway) = start("idle: 300ms");
    let mut silent = Client::new(gateway.web());
    assert!(silent.is_closed(), "one that never asked");
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/", "").status, 200);
    assert!(client.is_closed(), "one that asks no more");
    let client = Http2::clear(gateway.web());
    assert_eq!(client.get("http://a/").status, 200);
    client.closed();
}

#[test]
fn a_body_has_its_time() {
    let (origin, gateway) = start("body_time: 300ms");
    for head in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut client = Client::new(gateway.web());
        let answer = client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}"));
        assert_eq!(told(&answer), refused(408, "request_timeout"), "{head:?}");
        assert!(answer.closes() && client.is_closed(), "{head:?}");
    }
    assert_eq!(origin.received().len(), 0, "half a request is none");
    let in_flight = "tollgate_http_in_flight{listener=\"web\"}";
    wait_until("nothing is in flight", || gateway.metric(in_flight) == 0.0);
}

#[test]
fn an_http_2_body_has_its_time() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'], timeouts: {{ read: 300ms }} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        origin.address()
    ));
    let client = Http2::clear(gateway.web());
    let half = client.begin(http::Request::post("http://a/"), &[b"half"], false);
    assert_eq!(told(&client.finish(half)), refused(408, "request_timeout"));
    assert_eq!(client.get("http://a/").status, 200, "the other streams go on");
    assert_eq!(origin.received().len(), 1);
}

#[test]
fn a_client_that_accepts_nothing_is_given_up() {
    let origin = Origin::start(|_, stream| {
        use std::io::Write;
        let chunk = vec![b'x'; 1 << 20];
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n");
        (0..64).all(|_| stream.write_all(&chunk).is_ok())
    });
    let gateway = gateway(&origin, "write_time: 300ms");
    let mut client = Client::new(gateway.web());
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let in_flight = "tollgate_http_in_flight{listener=\"web\"}";
    wait_until("it is in flight", || gateway.metric(in_flight) == 1.0);
    wait_until("it is given up", || gateway.metric(in_flight) == 0.0);
    let answer = client.read(false);
    // What had reached the client, without megabytes that the kernel would still send to it.
    assert!(answer.cut && answer.body.len() < 1 << 20, "{}", answer.body.len());
}

/// A client that always has one more byte holds nothing for ever.
#[test]
fn a_body_that_drips_comes_to_an_end() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'], timeouts: {{ total: 500ms }} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        origin.address()
    ));
    let mut drip = Client::new(gateway.web());
    drip.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    let answer = drip.read_while_dripping();
    assert_eq!((told(&answer), answer.closes()), (refused(408, "request_timeout"), true));
    assert_eq!(origin.received().len(), 0);
}
