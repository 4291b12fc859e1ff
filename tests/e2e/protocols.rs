//! HTTP/1.0, 1.1 and 2 at the door, HTTP/1.1 behind it, and what goes wrong between them.

use crate::harness::{Answer, Authority, Client, Gateway, Http2, Origin, answer, get, send, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const IN_FLIGHT: &str = "tollgate_http_in_flight{listener=\"web\"}";

fn gateway(origin: &Origin) -> Gateway {
    gateway_with(origin, "")
}

/// A gateway before an origin; `upstream` is more of its section.
fn gateway_with(origin: &Origin, upstream: &str) -> Gateway {
    gateway_of(origin, upstream, "")
}

/// As [`gateway_with`]; `limits` are the listener's.
fn gateway_of(origin: &Origin, upstream: &str, limits: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, limits: {{ {limits} }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] {upstream} }} }}\n\
         routes: {{ all: {{ policies: {{ body_limit: {{ max: 1GiB }} }}, to: origin }} }}\n",
        origin.address()
    ))
}

/// Answers with the body that it got.
fn echo() -> Origin {
    Origin::start(|request, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&request.body)).is_ok()
    })
}

/// Reads a head off a raw connection.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// An empty last frame must not become a second last chunk, which the next request would trip over.
#[test]
fn an_empty_last_frame_ends_a_body_once() {
    let origin = echo();
    let gateway = gateway(&origin);
    let client = Http2::clear(gateway.web());
    for _ in 0..5 {
        for frames in [&[&b"hel"[..], b"lo", b""][..], &[b"hello"], &[b"hello", b""], &[b"", b"hello"]] {
            let answer = client.send(http::Request::post("http://a/"), frames);
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        }
        let answer = client.send(http::Request::post("http://a/"), &[b""]);
        assert_eq!((answer.status, answer.text().as_str()), (200, ""));
        assert_eq!(client.get("http://a/").status, 200);
    }
    assert_eq!(origin.received().len(), 30, "no chunk was taken for a request");
    // One may still be on its way back to the pool when the next request comes.
    assert!(origin.connections() < 10, "{}: the upstream's connections stayed good", origin.connections());
}

#[test]
fn http_2_arrives_as_http_1_1() {
    let origin = echo();
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let certificate = authority.issue(folder.path(), "web", &["a.example"]);
    let gateway = Gateway::start_in(
        folder,
        &format!(
            "listeners:\n\
             \x20 web: {{ address: '127.0.0.1:PORT_web', tls: {{ certificates: [{certificate}] }} }}\n\
             \x20 clear: {{ address: '127.0.0.1:PORT_clear', h2c: true }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
             routes: {{ all: {{ to: origin }} }}\n",
            origin.address()
        ),
    );
    for (client, proto) in [
        (Http2::tls(gateway.web(), "a.example", &authority), "https"),
        (Http2::clear(gateway.at("clear")), "http"),
    ] {
        let body: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let frames: Vec<&[u8]> = body.chunks(16_000).collect();
        let post = http::Request::post(format!("{proto}://a.example/x/../b?c"))
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let answer = client.send(post, &frames);
        assert!(answer.status == 200 && answer.body == body, "{}", answer.status);
        let got = origin.last();
        assert_eq!(got.line, "POST /b?c HTTP/1.1");
        assert_eq!(got.fields("host"), ["a.example"]);
        assert_eq!(got.field("x-forwarded-proto"), Some(proto));
        assert!(got.body == body);
        assert_eq!(got.fields("cookie"), ["a=1; b=2"], "RFC 9113 section 8.2.3");
        assert!(got.fields.iter().all(|field| !field.starts_with(':')), "{:?}", got.fields);

        let pending: Vec<_> = (0..80)
            .map(|at: u32| {
                client.begin(http::Request::post("http://a.example/"), &[at.to_string().as_bytes()], true)
            })
            .collect();
        for (at, pending) in pending.into_iter().enumerate() {
            assert_eq!(client.finish(pending).text(), at.to_string(), "each stream its own answer");
        }
    }
}

#[test]
fn a_pooled_connection_that_was_closed_is_no_failure() {
    let again = AtomicUsize::new(0);
    let origin = Origin::start(move |request, stream| match request.target() {
        // Closes instead of answering, once: as a server does whose keep-alive has just run out.
        "/once" if again.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => false,
        "/never" => false,
        _ => stream.write_all(&answer("200 OK", "", "in")).is_ok(),
    });
    let gateway = gateway(&origin);
    let count = |origin: &Origin, line: &str| {
        origin.received().iter().filter(|got| got.line.starts_with(line)).count()
    };
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/", "").status, 200);
    let answer = client.get("a", "/once", "");
    assert_eq!((answer.status, count(&origin, "GET /once")), (200, 2), "sent again on a fresh connection");

    assert_eq!(get(gateway.web(), "/").status, 200);
    let post = "POST /never HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
    let refusal = send(gateway.web(), post);
    assert_eq!((refusal.status, refusal.code().as_str()), (502, "upstream_failed"));
    assert_eq!(count(&origin, "POST /never"), 1, "what may not be repeated is not");

    let refusal = get(gateway.web(), "/never");
    assert_eq!((refusal.status, refusal.code().as_str()), (502, "upstream_failed"));
}

#[test]
fn an_upstream_that_closes_while_idle_is_noticed() {
    let origin = Origin::raw(|mut stream, _| {
        read_head(&mut stream);
        let _ = stream.write_all(&answer("200 OK", "", "in"));
        // Without `connection: close`: the gateway learns of it from the socket.
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    for _ in 0..10 {
        let answer = client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        assert!(matches!(answer.status, 200 | 502), "{answer:?}");
        if answer.status == 502 {
            client = Client::new(gateway.web());
        }
        std::thread::park_timeout(Duration::from_millis(50));
        assert_eq!(get(gateway.web(), "/").status, 200, "what may be repeated succeeds");
    }
}

#[test]
fn a_body_of_any_size_survives_a_dead_endpoint() {
    let origin = echo();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{dead}', '{}'] }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        origin.address()
    ));
    for size in [65 << 10, 65 << 10, 1 << 20, 1 << 20] {
        let body = "b".repeat(size);
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{body}"
        );
        let answer = send(gateway.web(), &request);
        assert!(answer.status == 200 && answer.body == body.as_bytes(), "{size}: {}", answer.status);
    }
}

/// RFC 9112 section 9.3, RFC 9110 section 2.5: no chunks for those who do not know them.
#[test]
fn http_1_0_is_served() {
    let origin = Origin::start(|request, stream| {
        stream
            .write_all(match request.target() {
                "/chunked" => {
                    &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"[..]
                }
                _ => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            })
            .is_ok()
    });
    let gateway = gateway(&origin);
    let mut once = Client::new(gateway.web());
    let answer = once.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    assert_eq!((answer.status, answer.text().as_str(), answer.closes()), (200, "hello", true));
    assert!(once.is_closed());
    assert_eq!(origin.last().line, "GET / HTTP/1.1");

    let mut kept = Client::new(gateway.web());
    for _ in 0..3 {
        let answer = kept.send("GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!((answer.status, answer.field("connection")), (200, Some("keep-alive")));
    }
    let mut chunked = Client::new(gateway.web());
    let answer = chunked.send("GET /chunked HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
    assert_eq!((answer.text().as_str(), answer.field("transfer-encoding")), ("hello", None));
    assert!(answer.closes() && chunked.is_closed(), "the end of the connection is the end of the body");
    let without = Client::new(gateway.web()).send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(without.status, 200, "without a Host");
}

#[test]
fn an_answer_may_come_before_the_request_is_whole() {
    let origin = Origin::raw(|mut stream, _| {
        let head = read_head(&mut stream);
        if head.starts_with("POST") {
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
            // Reads nothing of the body, and closes when the gateway does.
            std::thread::park_timeout(Duration::from_millis(200));
        } else {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nin");
        }
    });
    // What is left of the body is read for so long, lest a reset takes the answer from the client.
    let gateway = gateway_of(&origin, "", "body_time: 500ms");
    let mut client = Client::new(gateway.web());
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbegun");
    let answer = client.read(false);
    assert_eq!((answer.status, answer.text().as_str(), answer.closes()), (403, "no", true));
    assert!(client.is_closed(), "what still comes cannot be told from a new request");
    let streams = Http2::clear(gateway.web());
    let pending = streams.begin(http::Request::post("http://a/"), &[b"begun"], false);
    let answer = streams.finish(pending);
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    assert_eq!(streams.get("http://a/").status, 200, "one stream costs no other");
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
}

#[test]
fn a_client_that_leaves_leaves_nothing_behind() {
    let origin = Origin::start(|request, stream| {
        if request.target() == "/wait" {
            // Until the gateway gives up.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            let _ = stream.read(&mut [0]);
            return false;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while stream.write_all(b"1\r\n.\r\n").is_ok() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        false
    });
    let folder = TempDir::new().unwrap();
    let gateway = Gateway::start_in(
        folder,
        &format!(
            "telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
             admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
             listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
             routes: {{ all: {{ to: origin }} }}\n",
            origin.address()
        ),
    );
    let post = "POST /half HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf";
    for (request, reads) in [
        ("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n", false),
        ("GET /drip HTTP/1.1\r\nhost: a\r\n\r\n", true),
        (post, false),
    ] {
        let mut client = Client::new(gateway.web());
        client.write(request);
        wait_until("it is in flight", || gateway.metric(IN_FLIGHT) == 1.0);
        if reads {
            assert!(client.try_read_bytes(20).is_some());
        }
        drop(client);
        wait_until("it is gone", || gateway.metric(IN_FLIGHT) == 0.0);
    }
    let streams = Http2::clear(gateway.web());
    for target in ["wait", "drip"] {
        let pending = streams.begin(http::Request::get(format!("http://a/{target}")), &[], true);
        wait_until("it is in flight", || gateway.metric(IN_FLIGHT) == 1.0);
        pending.reset();
        wait_until("it is gone", || gateway.metric(IN_FLIGHT) == 0.0);
    }
    let log = || std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    wait_until("all five are logged", || log().lines().count() == 5);
    for line in log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["cause"], "client_gone", "{line}");
    }
}

/// What an upstream says wrong is a 502 or a cut answer, and never another request's.
#[test]
fn an_upstream_that_talks_nonsense_is_not_believed() {
    let cut = [
        ("closes in the body", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
        ("closes in a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf"),
        (
            "closes before the last chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        ),
        ("sends a bad chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"),
    ];
    let refused = [
        ("says nothing", ""),
        ("talks nonsense", "nonsense\r\n\r\n"),
        ("closes in the head", "HTTP/1.1 200 OK\r\nx-a: 1\r\n"),
        ("has no status", "HTTP/1.1 OK\r\n\r\n"),
        ("has a status of four digits", "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n"),
        ("has a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nin"),
        ("has a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nin"),
        ("has two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nin"),
        ("has NUL in a value", "HTTP/1.1 200 OK\r\nx-a: \0\r\ncontent-length: 0\r\n\r\n"),
        ("has a name that is none", "HTTP/1.1 200 OK\r\nx a: 1\r\ncontent-length: 0\r\n\r\n"),
        ("speaks HTTP/2", "HTTP/2 200\r\ncontent-length: 0\r\n\r\n"),
    ];
    let all: Vec<(&str, &str)> = cut.iter().chain(&refused).copied().collect();
    let says = all.clone();
    let origin = Origin::raw(move |mut stream, _| {
        let head = read_head(&mut stream);
        let at = head.split(' ').nth(1).and_then(|target| target[1..].parse::<usize>().ok());
        let _ = stream.write_all(
            at.map_or("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nin", |at| says[at].1).as_bytes(),
        );
    });
    let gateway = gateway(&origin);
    let mut wrong = Vec::new();
    for (at, (what, _)) in all.iter().enumerate() {
        let over_1 = get(gateway.web(), &format!("/{at}"));
        let over_2 = Http2::clear(gateway.web()).get(&format!("http://a/{at}"));
        for answer in [over_1, over_2] {
            let right = if at < cut.len() {
                answer.status == 200 && answer.cut
            } else {
                answer.status == 502 && answer.code() == "upstream_failed"
            };
            if !right {
                wrong.push(format!(
                    "{what}: {} {:?} cut={} {:?}",
                    answer.status,
                    answer.fields,
                    answer.cut,
                    answer.text()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(get(gateway.web(), "/").text(), "in");
}

#[test]
fn what_an_upstream_says_too_much_is_nobodys() {
    let origin = Origin::start(|request, stream| {
        let n = request.target()[1..].to_owned();
        let more = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
        let said = match n.as_str() {
            "204" => format!("HTTP/1.1 204 No Content\r\n\r\n{more}"),
            "304" => format!("HTTP/1.1 304 Not Modified\r\n\r\n{more}"),
            "head" => format!("HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{more}"),
            _ => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{n}{more}", n.len()),
        };
        stream.write_all(said.as_bytes()).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    for round in 0..5 {
        for n in ["1", "204", "22", "304", "333"] {
            let answer = client.get("a", &format!("/{n}"), "");
            let expected = if matches!(n, "204" | "304") {
                (n.parse().unwrap(), String::new())
            } else {
                (200, n.to_owned())
            };
            assert_eq!((answer.status, answer.text()), expected, "round {round}");
        }
        let head = client.send("HEAD /head HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!((head.status, head.body.len()), (200, 0), "round {round}");
    }
}

/// RFC 9110 section 15.2.
#[test]
fn interim_answers_pass_and_end() {
    let origin = Origin::start(|request, stream| {
        let count = if request.target() == "/many" { 1000 } else { 2 };
        (0..count).all(|_| stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").is_ok())
            && stream.write_all(&answer("200 OK", "", "in")).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((client.read_one(false).status, client.read_one(false).status), (103, 103));
    assert_eq!(client.read_one(false).text(), "in");
    assert!(matches!(client.get("a", "/many", "").status, 200 | 502));
    assert_eq!(Http2::clear(gateway.web()).get("http://a/").text(), "in");
}

/// Twenty megabytes both ways, and a side that does not read stops the other one.
#[test]
fn large_bodies_flow_and_never_pile_up() {
    const SIZE: usize = 20 << 20;
    let origin = echo();
    let gateway = gateway(&origin);
    let body: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8).collect();
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n");
    let answer: Answer = Client::new(gateway.web()).send([head.as_bytes(), &body].concat());
    assert!(answer.status == 200 && answer.body == body, "{}", answer.status);
    drop(gateway);

    // The sockets' own buffers take some megabytes each; the gateway may not add to them for ever.
    const FLOOD: usize = 256 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let progress = written.clone();
    let origin = Origin::raw(move |mut stream, _| {
        read_head(&mut stream);
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {FLOOD}\r\n\r\n").as_bytes());
        let chunk = vec![b'x'; 64 << 10];
        while progress.load(Ordering::SeqCst) < FLOOD && stream.write_all(&chunk).is_ok() {
            progress.fetch_add(chunk.len(), Ordering::SeqCst);
        }
    });
    let gateway = self::gateway(&origin);
    let mut client = Client::new(gateway.web());
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut last = (0, Instant::now());
    wait_until("the origin is held up", || {
        let now = written.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_secs(1)
    });
    assert!(last.0 < FLOOD / 2, "{} bytes were taken from the origin for a client that reads none", last.0);
    for at in 0..FLOOD >> 20 {
        assert!(client.try_read_bytes(1 << 20).is_some(), "{at} MiB came");
    }
}

/// RFC 9112 section 9.3.2: a client may send the next request before it has the answer to the first.
#[test]
fn a_request_that_comes_early_does_no_harm() {
    let origin = Origin::start(|request, stream| {
        if request.target() == "/slow" {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        stream.write_all(&answer("200 OK", "", &request.target()[1..])).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    client.write("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("the first is at the origin", || origin.received().len() == 1);
    client.write("GET /second HTTP/1.1\r\nhost: a\r\n\r\n");
    let first = client.read(false);
    assert_eq!((first.status, first.text().as_str()), (200, "slow"));
    // The second is answered, or the connection ends and the client sends it again; never half of it.
    assert!(client.is_closed());
    assert!(origin.received().iter().all(|got| got.target() == "/slow"));
}
