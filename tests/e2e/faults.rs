//! What upstreams do wrong, one row each, over HTTP/1.1 and HTTP/2: the client gets 502, 504 or a cut
//! answer, and whoever comes next gets their own.

use crate::harness::{Answer, Exchange, Fate, Gateway, Http2, Origin, Streams, abort, get, wait_until};
use bytes::Bytes;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

const IN_FLIGHT: &str = "tollgate_http_in_flight{listener=\"web\"}";

fn gateway(origin: SocketAddr, protocol: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, limits: {{ body_time: 300ms }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{origin}'], protocol: {protocol}, timeouts: {{ read: 500ms, total: 2s }} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
    ))
}

/// What a client must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing of the upstream's: a refusal of ours.
    Refused(u16),
    /// The same, for what ends by the clock on a slow machine.
    RefusedOrLate,
    /// The upstream's head, and an answer that is visibly not whole.
    Cut,
    /// An answer with this body.
    Whole(u16, &'static str),
}

impl Seen {
    fn is(self, answer: &Answer) -> bool {
        match self {
            Self::Refused(502) => (answer.status, answer.code().as_str()) == (502, "upstream_failed"),
            Self::Refused(504) => (answer.status, answer.code().as_str()) == (504, "upstream_timeout"),
            Self::Refused(status) => answer.status == status,
            Self::RefusedOrLate => Self::Refused(502).is(answer) || Self::Refused(504).is(answer),
            Self::Cut => answer.status == 200 && answer.cut,
            Self::Whole(status, body) => answer.status == status && !answer.cut && answer.text() == body,
        }
    }
}

/// Asks for each fault over both protocols, and after each one for three answers that are right.
fn judge(gateway: &Gateway, rows: &[(&str, Seen)]) {
    let mut wrong = Vec::new();
    for (at, (fault, seen)) in rows.iter().enumerate() {
        let over_1 = get(gateway.web(), &format!("/fault/{at}"));
        let over_2 = Http2::clear(gateway.web()).get(&format!("http://a/fault/{at}"));
        for (version, answer) in [(1, over_1), (2, over_2)] {
            if !seen.is(&answer) {
                wrong.push(format!("{fault}, client of HTTP/{version}: not {seen:?} but {answer:?}"));
            }
        }
        for next in 0..3 {
            let path = format!("/right/{at}-{next}");
            let answer = get(gateway.web(), &path);
            if (answer.status, answer.text().as_str()) != (200, path.as_str()) {
                wrong.push(format!("after {fault}: {answer:?}"));
            }
        }
    }
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    String::from_utf8(head).ok()
}

/// The number of a fault in a request target.
fn fault(path: &str) -> Option<usize> {
    path.strip_prefix("/fault/")?.parse().ok()
}

/// What an upstream of HTTP/1.1 does with a request.
enum Does {
    /// Says this and keeps the connection open.
    Says(&'static str),
    /// Says this and closes.
    Leaves(&'static str),
    /// Says this and resets.
    Resets(&'static str),
    /// Says this for ever.
    Repeats(&'static str, &'static str),
}

#[test]
fn over_http_1() {
    use Does::{Leaves, Repeats, Resets, Says};
    const SMUGGLED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let smuggle =
        |answer: &'static str| -> &'static str { Box::leak(format!("{answer}{SMUGGLED}").into_boxed_str()) };
    let bomb: &'static str = Box::leak(
        format!("HTTP/1.1 200 OK\r\n{}\r\n", (0..300).map(|n| format!("x-{n}: 1\r\n")).collect::<String>())
            .into_boxed_str(),
    );
    let rows: Vec<(&str, Does, Seen)> = vec![
        ("closes before it answers", Leaves(""), Seen::Refused(502)),
        ("resets before it answers", Resets(""), Seen::Refused(502)),
        ("says nothing", Says(""), Seen::Refused(504)),
        ("closes in the status line", Leaves("HTTP/1.1 20"), Seen::Refused(502)),
        ("resets in the head", Resets("HTTP/1.1 200 OK\r\nx-a: 1\r\n"), Seen::Refused(502)),
        ("stops in the head", Says("HTTP/1.1 200 OK\r\nx-a: 1\r\n"), Seen::Refused(504)),
        ("closes in the body", Leaves("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), Seen::Cut),
        ("resets in the body", Resets("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"), Seen::Cut),
        ("stops in the body", Says("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), Seen::Cut),
        (
            "closes in a chunk",
            Leaves("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf"),
            Seen::Cut,
        ),
        (
            "stops before the last chunk",
            Says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            Seen::Cut,
        ),
        (
            "has a chunk size that is none",
            Says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"),
            Seen::Cut,
        ),
        (
            "has a chunk size without end",
            Says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
            Seen::Cut,
        ),
        (
            "has a chunk that is longer than it says",
            Says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhalf\r\n0\r\n\r\n"),
            Seen::Cut,
        ),
        ("talks nonsense", Says("nonsense\r\n\r\n"), Seen::Refused(502)),
        ("talks TLS", Says("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03"), Seen::Refused(502)),
        (
            "has two lengths",
            Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nin"),
            Seen::Refused(502),
        ),
        (
            "has lengths in a list",
            Says("HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nin"),
            Seen::Refused(502),
        ),
        (
            "has a length that is none",
            Says("HTTP/1.1 200 OK\r\ncontent-length: 0x2\r\n\r\nin"),
            Seen::Refused(502),
        ),
        (
            "has a length beyond all",
            Says("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nin"),
            Seen::Refused(502),
        ),
        (
            "has a negative length",
            Says("HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nin"),
            Seen::Refused(502),
        ),
        (
            "has a length and chunks",
            Says(
                "HTTP/1.1 200 OK\r\ncontent-length: 44\r\ntransfer-encoding: chunked\r\n\r\n2\r\nin\r\n0\r\n\r\n",
            ),
            Seen::Whole(200, "in"),
        ),
        (
            "says more after its length",
            Says(smuggle("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nin")),
            Seen::Whole(200, "in"),
        ),
        (
            "says more after its last chunk",
            Says(smuggle("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nin\r\n0\r\n\r\n")),
            Seen::Whole(200, "in"),
        ),
        ("says more after 204", Says(smuggle("HTTP/1.1 204 No Content\r\n\r\n")), Seen::Whole(204, "")),
        (
            "says more after 304",
            Says(smuggle("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n")),
            Seen::Whole(304, ""),
        ),
        ("says two answers", Says(smuggle(SMUGGLED)), Seen::Whole(200, "evil")),
        ("has too many fields", Says(bomb), Seen::Refused(502)),
        (
            "has a head without end",
            Repeats("HTTP/1.1 200 OK\r\n", "x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n"),
            Seen::Refused(502),
        ),
        (
            "has a field without end",
            Repeats("HTTP/1.1 200 OK\r\nx-a: ", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
            Seen::Refused(502),
        ),
        ("is for ever about to answer", Repeats("", "HTTP/1.1 100 Continue\r\n\r\n"), Seen::Refused(504)),
        ("hints for ever", Repeats("", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), Seen::Refused(504)),
        (
            "switches protocols",
            Says("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
            Seen::Refused(502),
        ),
        (
            "has a status of four digits",
            Says("HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n"),
            Seen::Refused(502),
        ),
        ("has the status zero", Says("HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n"), Seen::Refused(502)),
        (
            "has NUL in a value",
            Says("HTTP/1.1 200 OK\r\nx-a: \0\r\ncontent-length: 0\r\n\r\n"),
            Seen::Refused(502),
        ),
        (
            "has a name that is none",
            Says("HTTP/1.1 200 OK\r\nx a: 1\r\ncontent-length: 0\r\n\r\n"),
            Seen::Refused(502),
        ),
        ("has no name", Says("HTTP/1.1 200 OK\r\n: 1\r\ncontent-length: 0\r\n\r\n"), Seen::Refused(502)),
        ("speaks HTTP/2 in words", Says("HTTP/2 200\r\ncontent-length: 0\r\n\r\n"), Seen::Refused(502)),
    ];
    let (does, seen): (Vec<Does>, Vec<(&str, Seen)>) =
        rows.into_iter().map(|(what, does, seen)| (does, (what, seen))).unzip();
    let origin = Origin::raw(move |mut stream, _| {
        while let Some(head) = read_head(&mut stream) {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let Some(at) = fault(path) else {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
                continue;
            };
            match does[at] {
                Says(what) => drop(stream.write_all(what.as_bytes())),
                Leaves(what) => {
                    let _ = stream.write_all(what.as_bytes());
                    return;
                }
                Resets(what) => {
                    let _ = stream.write_all(what.as_bytes());
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                    abort(&stream);
                    return;
                }
                Repeats(first, again) => {
                    let _ = stream.write_all(first.as_bytes());
                    let again = again.repeat(100);
                    while stream.write_all(again.as_bytes()).is_ok() {}
                    return;
                }
            }
        }
    });
    judge(&gateway(origin.address(), "http1"), &seen);
}

type Fault = fn(Exchange);

#[test]
fn over_http_2() {
    let rows: Vec<(&str, Fault, Seen)> = vec![
        ("resets before it answers", |mut it| it.reset(h2::Reason::INTERNAL_ERROR), Seen::Refused(502)),
        ("resets for a protocol error", |mut it| it.reset(h2::Reason::PROTOCOL_ERROR), Seen::Refused(502)),
        ("cancels", |mut it| it.reset(h2::Reason::CANCEL), Seen::Refused(502)),
        (
            "says nothing",
            |it| {
                tokio::spawn(async move {
                    let _it = it;
                    std::future::pending::<()>().await;
                });
            },
            Seen::Refused(504),
        ),
        ("drops the stream", drop, Seen::Refused(502)),
        ("cuts the connection before it answers", |it| it.connection(Fate::Cut), Seen::Refused(502)),
        ("aborts before it answers", |it| it.connection(Fate::Abort), Seen::Refused(502)),
        (
            "resets in the body",
            |mut it| {
                let mut body = it.begin(200, &[]);
                body.send_data(Bytes::from_static(b"half"), false).unwrap();
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    body.send_reset(h2::Reason::INTERNAL_ERROR);
                });
            },
            Seen::Cut,
        ),
        (
            "cuts the connection in the body",
            |mut it| {
                let mut body = it.begin(200, &[]);
                body.send_data(Bytes::from_static(b"half"), false).unwrap();
                tokio::spawn(async move {
                    let _body = body;
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    it.connection(Fate::Cut);
                });
            },
            Seen::Cut,
        ),
        (
            "stops in the body",
            |mut it| {
                let mut body = it.begin(200, &[]);
                body.send_data(Bytes::from_static(b"half"), false).unwrap();
                tokio::spawn(async move {
                    let _it = (it, body);
                    std::future::pending::<()>().await;
                });
            },
            Seen::Cut,
        ),
        (
            "says less than its length",
            |mut it| {
                let mut body = it.begin(200, &[("content-length", "10")]);
                body.send_data(Bytes::from_static(b"half"), true).unwrap();
            },
            Seen::Cut,
        ),
        (
            "says nothing of its length",
            |mut it| it.head_only(200, &[("content-length", "10")]),
            Seen::Refused(502),
        ),
        (
            "says more than its length",
            |mut it| {
                let mut body = it.begin(200, &[("content-length", "2")]);
                let _ = body.send_data(Bytes::from_static(b"too long"), true);
            },
            Seen::Cut,
        ),
        (
            "goes away and answers",
            |mut it| {
                it.connection(Fate::GoAway);
                let mut body = it.begin(200, &[]);
                body.send_data(Bytes::from_static(b"in"), true).unwrap();
            },
            Seen::Whole(200, "in"),
        ),
        (
            "has a head without end",
            |mut it| {
                let long = "b".repeat(10_000);
                let fields: Vec<(String, &str)> =
                    (0..2_000).map(|n| (format!("x-{n}"), long.as_str())).collect();
                let fields: Vec<(&str, &str)> =
                    fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                it.head_only(200, &fields);
            },
            Seen::RefusedOrLate,
        ),
    ];
    let (does, seen): (Vec<Fault>, Vec<(&str, Seen)>) =
        rows.into_iter().map(|(what, does, seen)| (does, (what, seen))).unzip();
    let origin = Streams::start(move |mut exchange| {
        let does = does.clone();
        async move {
            let path = exchange.path().to_owned();
            match fault(&path) {
                Some(at) => does[at](exchange),
                None => exchange.answer(&path),
            }
        }
    });
    judge(&gateway(origin.address(), "http2"), &seen);
}

/// RFC 9113 section 8.7: a stream that was refused was not begun, and may be begun again.
#[test]
fn a_refused_stream_is_begun_again() {
    let refused = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
    let count = refused.clone();
    let origin = Streams::start(move |mut exchange| {
        let first = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        async move {
            if first {
                exchange.reset(h2::Reason::REFUSED_STREAM);
            } else {
                exchange.answer("in");
            }
        }
    });
    let gateway = gateway(origin.address(), "http2");
    let answer = get(gateway.web(), "/");
    assert!(matches!(answer.status, 200 | 502), "{answer:?}");
    assert_eq!(get(gateway.web(), "/").text(), "in");
}

/// Frames that are none, from something that speaks HTTP/2 only at first.
#[test]
fn bytes_that_are_no_frames() {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let floods: [&'static [u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        // A frame longer than any may be; DATA on no stream; a HEADERS frame of no compression at all.
        b"\xff\xff\xff\0\0\0\0\0\x01",
        b"\0\0\x01\0\0\0\0\0\0x",
        b"\0\0\x04\x01\x04\0\0\0\x01\xff\xff\xff\xff",
    ];
    for (at, garbage) in floods.into_iter().enumerate() {
        let origin = Origin::raw(move |mut stream, _| {
            let _ = stream.write_all(&settings);
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(garbage);
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.read(&mut [0; 1024]);
        });
        let gateway = gateway(origin.address(), "http2");
        for _ in 0..2 {
            let answer = get(gateway.web(), "/");
            assert!(matches!(answer.status, 502 | 504), "{at}: {answer:?}");
        }
        wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
    }
}
