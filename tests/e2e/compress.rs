//! Answers in a coding that the client accepts, on their way through the whole gateway.

use crate::harness::{Answer, Client, Gateway, Http2, Origin, answer, wait_until};
use bytes::Bytes;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tollgate::policy::shared::coding::{Bounds, decode};

const TEXT: &str = "a line that comes again and again\n";

fn text() -> String {
    TEXT.repeat(10_000)
}

/// Answers by path: `/length`, `/chunks`, `/empty`, `/none`, `/part`, `/fixed`, `/broken`.
fn origin() -> Origin {
    Origin::start(|request, stream| {
        let kind = "content-type: text/plain\r\netag: \"v1\"\r\naccept-ranges: bytes\r\n";
        let head_only = request.line.starts_with("HEAD ");
        let whole = |fields: &str, body: &str| {
            let mut bytes = answer("200 OK", fields, body);
            bytes.truncate(bytes.len() - if head_only { body.len() } else { 0 });
            bytes
        };
        let bytes = match request.target() {
            "/length" => whole(kind, &text()),
            "/chunks" => {
                let head = format!("HTTP/1.1 200 OK\r\n{kind}transfer-encoding: chunked\r\n\r\n");
                let chunks = text().as_bytes().chunks(7001).fold(head.into_bytes(), |mut all, chunk| {
                    all.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()));
                    all.extend(b"\r\n");
                    all
                });
                [chunks, b"0\r\n\r\n".to_vec()].concat()
            }
            "/empty" => {
                format!("HTTP/1.1 200 OK\r\n{kind}transfer-encoding: chunked\r\n\r\n0\r\n\r\n").into_bytes()
            }
            "/none" => b"HTTP/1.1 204 No Content\r\ncontent-type: text/plain\r\n\r\n".to_vec(),
            "/part" => answer(
                "206 Partial Content",
                "content-type: text/plain\r\ncontent-range: bytes 0-1999/9999\r\n",
                &"p".repeat(2000),
            ),
            "/fixed" => whole(&format!("{kind}cache-control: no-transform\r\n"), &text()),
            "/broken" => {
                let head = format!("HTTP/1.1 200 OK\r\n{kind}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
                let _ = stream.write_all(head.as_bytes());
                return false;
            }
            _ => answer("404 Not Found", "", ""),
        };
        stream.write_all(&bytes).is_ok()
    })
}

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         policies: {{ defaults: {{ compress: {{ min_size: 100B }} }} }}\n\
         routes:\n\
         \x20 all: {{ to: origin }}\n\
         \x20 plain: {{ match: {{ path: /plain }}, policies: {{ compress: off }}, to: {{ respond: {{ body: '{}' }} }} }}\n\
         \x20 own: {{ match: {{ path: /own }}, to: {{ respond: {{ body: '{}' }} }} }}\n\
         \x20 events: {{ match: {{ path: '/events/*' }}, policies: {{ compress: {{ types: [text/event-stream] }} }}, to: origin }}\n",
        origin.address(),
        "x".repeat(200),
        "y".repeat(200),
    ))
}

fn decoded(answer: &Answer) -> Bytes {
    let coding = answer.field("content-encoding").unwrap_or("");
    let body = Bytes::from(answer.body.clone());
    decode([coding.as_bytes()], &body, Bounds { size: 1 << 30, ratio: 1 << 20 }).unwrap()
}

#[test]
fn bodies_arrive_in_the_coding_that_was_asked_for() {
    let origin = origin();
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    let http2 = Http2::clear(gateway.web());
    for coding in ["gzip", "br", "zstd"] {
        for target in ["/length", "/chunks"] {
            let fields = format!("accept-encoding: {coding}\r\n");
            let first = client.get("a", target, &fields);
            let request = http::Request::get(format!("http://a{target}")).header("accept-encoding", coding);
            for answer in [first, http2.send(request, &[])] {
                assert_eq!((answer.status, answer.cut), (200, false), "{coding} {target}");
                assert_eq!(answer.field("content-encoding"), Some(coding), "{target}");
                assert_eq!(answer.field("etag"), Some("W/\"v1\""), "{coding} {target}");
                assert_eq!(answer.fields("vary"), ["accept-encoding"], "{coding} {target}");
                assert_eq!((answer.field("content-length"), answer.field("accept-ranges")), (None, None));
                assert!(answer.body.len() < 20_000, "{coding} {target}: {}", answer.body.len());
                assert_eq!(decoded(&answer), text(), "{coding} {target}");
            }
        }
    }
    let plain = client.get("a", "/length", "");
    assert_eq!((plain.field("content-encoding"), plain.field("vary")), (None, Some("accept-encoding")));
    assert_eq!((plain.field("etag"), plain.field("accept-ranges")), (Some("\"v1\""), Some("bytes")));
    assert_eq!(plain.text(), text());
}

#[test]
fn what_has_no_body_or_must_not_change_stays() {
    let origin = origin();
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    let gzip = "accept-encoding: gzip\r\n";
    for (target, status, size) in [("/none", 204, 0), ("/part", 206, 2000), ("/fixed", 200, text().len())] {
        let answer = client.get("a", target, gzip);
        assert_eq!((answer.status, answer.body.len()), (status, size), "{target}");
        assert_eq!(answer.field("content-encoding"), None, "{target}");
    }
    let empty = client.get("a", "/empty", gzip);
    assert_eq!((empty.field("content-encoding"), decoded(&empty)), (Some("gzip"), Bytes::new()));
    let head = client.send("HEAD /length HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n");
    assert_eq!((head.status, head.field("content-encoding")), (200, Some("gzip")), "as a GET would say");
    assert_eq!((head.field("content-length"), head.field("etag")), (None, Some("W/\"v1\"")));
    assert_eq!(client.get("a", "/length", "").text(), text(), "the connection was kept");
    let old = crate::harness::send(gateway.web(), "GET /chunks HTTP/1.0\r\naccept-encoding: gzip\r\n\r\n");
    assert_eq!((old.field("content-encoding"), old.text()), (None, text()), "HTTP/1.0");
}

#[test]
fn an_answer_that_breaks_off_is_cut() {
    let origin = origin();
    let gateway = gateway(&origin);
    let answer = Client::new(gateway.web()).get("a", "/broken", "accept-encoding: gzip\r\n");
    assert_eq!((answer.status, answer.cut), (200, true));
    let http2 = Http2::clear(gateway.web());
    let answer = http2.send(http::Request::get("http://a/broken").header("accept-encoding", "br"), &[]);
    assert!(answer.cut, "{answer:?}");
}

#[test]
fn our_own_answers_are_coded_too() {
    let origin = origin();
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    let own = client.get("a", "/own", "accept-encoding: br\r\n");
    assert_eq!((own.field("content-encoding"), decoded(&own)), (Some("br"), "y".repeat(200).into()));
    assert_eq!(own.field("content-length"), Some(own.body.len().to_string().as_str()));
    let head = client.send("HEAD /own HTTP/1.1\r\nhost: a\r\naccept-encoding: br\r\n\r\n");
    assert_eq!(head.field("content-length"), own.field("content-length"), "HEAD says what GET says");
    let plain = client.get("a", "/plain", "accept-encoding: br\r\n");
    assert_eq!((plain.field("content-encoding"), plain.field("vary")), (None, None), "switched off");
    let refused = client.get("a", "/%00", "accept-encoding: gzip\r\n");
    assert_eq!((refused.status, decoded(&refused).starts_with(b"{\"title\"")), (400, true), "{refused:?}");
}

/// Events are there when they happen, not when a buffer is full.
#[test]
fn a_stream_stays_live() {
    let seen = Arc::<AtomicUsize>::default();
    let gate = seen.clone();
    let origin = Origin::start(move |request, stream| {
        let kind = if request.target() == "/lines" { "application/x-ndjson" } else { "text/event-stream" };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut alive = stream.write_all(head.as_bytes()).is_ok();
        let before = gate.load(Ordering::SeqCst);
        for event in 1..=3 {
            alive &= stream.write_all(format!("8\r\nevent {event}\n\r\n").as_bytes()).is_ok();
            wait_until("the client has it", || gate.load(Ordering::SeqCst) == before + event);
        }
        alive && stream.write_all(b"0\r\n\r\n").is_ok()
    });
    let gateway = gateway(&origin);
    for (target, coding) in [("/lines", "gzip"), ("/lines", "br"), ("/lines", "zstd"), ("/events/1", "br")] {
        let mut client = Client::new(gateway.web());
        client.write(format!("GET {target} HTTP/1.1\r\nhost: a\r\naccept-encoding: {coding}\r\n\r\n"));
        let head = until(&mut client, |bytes| bytes.ends_with(b"\r\n\r\n"));
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.contains(&format!("content-encoding: {coding}")), "{target}: {head}");
        let mut body = Vec::new();
        for event in 1..=3 {
            while !begin_of(coding, &body).ends_with(&format!("event {event}\n")) {
                let size = until(&mut client, |bytes| bytes.ends_with(b"\r\n"));
                let size = usize::from_str_radix(String::from_utf8_lossy(&size).trim(), 16).unwrap();
                assert!(size > 0, "{target} {coding}: it ended before event {event}");
                body.extend(client.try_read_bytes(size).unwrap());
                client.try_read_bytes(2).unwrap();
            }
            seen.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn until(client: &mut Client, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !enough(&bytes) {
        bytes.extend(client.try_read_bytes(1).expect("it broke off"));
    }
    bytes
}

/// What can be read of a stream that goes on.
fn begin_of(coding: &str, body: &[u8]) -> String {
    use std::io::Read;
    let mut reader: Box<dyn Read + '_> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(body)),
        "br" => Box::new(brotli::Decompressor::new(body, 4096)),
        _ => Box::new(zstd::stream::read::Decoder::new(body).unwrap()),
    };
    let (mut decoded, mut byte) = (Vec::new(), [0]);
    while matches!(reader.read(&mut byte), Ok(1)) {
        decoded.push(byte[0]);
    }
    String::from_utf8(decoded).unwrap()
}
