//! Answers that are kept and served again, through the whole gateway.

use crate::harness::{Answer, Client, Gate, Gateway, Http2, Origin, Received, answer, wait_until};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

fn gateway_with(origin: &Origin, cache: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         caches: {{ default: {{ memory: 8MiB }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ policies: {{ cache: {{ {cache} }} }}, to: origin }} }}\n",
        origin.address(),
    ))
}

fn gateway(origin: &Origin) -> Gateway {
    gateway_with(origin, "")
}

/// Answers each request with its number and these fields.
fn counting(fields: impl Fn(&Received) -> String + Send + Sync + 'static) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request, stream| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let mut bytes = answer("200 OK", &fields(request), &format!("answer {number}"));
        if request.line.starts_with("HEAD ") {
            bytes.truncate(bytes.len() - format!("answer {number}").len());
        }
        stream.write_all(&bytes).is_ok()
    })
}

fn status(answer: &Answer) -> &str {
    answer.field("cache-status").unwrap_or("none")
}

/// Whether `cache-status` has all of these.
#[track_caller]
fn says(answer: &Answer, parts: &[&str]) {
    let said: Vec<&str> = status(answer).split("; ").collect();
    assert!(parts.iter().all(|part| said.contains(part)), "{said:?} lacks some of {parts:?}");
}

fn kept(gateway: &Gateway) -> f64 {
    gateway.metric("tollgate_cache_stored_total{cache=\"default\"}")
}

fn wait_for_kept(gateway: &Gateway, count: f64) {
    wait_until("the answer is kept", || kept(gateway) >= count);
}

#[test]
fn a_fresh_answer_is_served_again() {
    let origin = counting(|_| "cache-control: max-age=60\r\netag: \"v1\"\r\nage: 7\r\n".into());
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    let first = client.get("a", "/x?b=1", "");
    assert_eq!((first.status, first.text().as_str(), first.cut), (200, "answer 1", false));
    says(&first, &["tollgate", "fwd=uri-miss", "stored"]);
    wait_for_kept(&gateway, 1.0);
    let second = client.get("A.:80", "/x?b=1", "");
    assert_eq!((second.text().as_str(), second.field("content-length")), ("answer 1", Some("8")));
    says(&second, &["tollgate", "hit"]);
    let age: u64 = second.field("age").unwrap().parse().unwrap();
    assert!((7..60).contains(&age), "{age}");
    for (host, target) in [("a", "/x?b=2"), ("b", "/x?b=1"), ("a", "/X?b=1"), ("a", "/x")] {
        assert_ne!(client.get(host, target, "").text(), "answer 1", "{host} {target} is another one");
    }
    // What is kept answers HEAD, conditions and ranges as well (RFC 9110 sections 9.3.2, 13, 14).
    let before = origin.received().len();
    let head = client.send("HEAD /x?b=1 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((head.status, head.field("content-length"), head.body.len()), (200, Some("8"), 0));
    let same = client.get("a", "/x?b=1", "if-none-match: \"v0\", W/\"v1\"\r\n");
    assert_eq!((same.status, same.field("etag"), same.field("content-length")), (304, Some("\"v1\""), None));
    let failed = client.get("a", "/x?b=1", "if-match: \"v0\"\r\n");
    assert_eq!((failed.status, failed.body.len()), (412, 0));
    let part = client.get("a", "/x?b=1", "range: bytes=-1\r\n");
    assert_eq!(
        (part.status, part.field("content-range"), part.text().as_str()),
        (206, Some("bytes 7-7/8"), "1")
    );
    let parts = client.get("a", "/x?b=1", "range: bytes=0-1,4-5\r\n");
    assert_eq!(parts.status, 206);
    assert!(parts.field("content-type").unwrap().starts_with("multipart/byteranges; boundary="));
    assert!(parts.text().contains("content-range: bytes 4-5/8") && parts.text().contains("\r\n\r\nan\r\n"));
    let none = client.get("a", "/x?b=1", "range: bytes=99-\r\n");
    assert_eq!((none.status, none.field("content-range")), (416, Some("bytes */8")));
    let other = client.get("a", "/x?b=1", "range: bytes=0-1\r\nif-range: \"v0\"\r\n");
    assert_eq!((other.status, other.text().as_str()), (200, "answer 1"));
    let old = crate::harness::send(gateway.web(), "GET /x?b=1 HTTP/1.0\r\nhost: a\r\n\r\n");
    assert_eq!((old.status, old.text().as_str()), (200, "answer 1"));
    let modern = Http2::clear(gateway.web()).get("http://a/x?b=1");
    assert_eq!((modern.status, modern.text().as_str()), (200, "answer 1"));
    assert_eq!(origin.received().len(), before, "all of it came from what is kept");
    let count = |outcome: &str| {
        gateway.metric(&format!("tollgate_cache_requests_total{{route=\"all\",outcome=\"{outcome}\"}}"))
    };
    wait_until("all are counted", || count("hit") == 10.0 && count("miss") == 5.0);
    assert!(gateway.metric("tollgate_cache_bytes{cache=\"default\"}") > 0.0);
    assert_eq!(gateway.metric("tollgate_cache_keys{cache=\"default\"}"), 5.0);
}

#[test]
fn clients_of_http2_fetch_and_follow() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let number = AtomicUsize::new(0);
    let origin = Origin::start(move |request, stream| {
        let number = number.fetch_add(1, Ordering::SeqCst) + 1;
        if request.line.contains("/held") {
            held.pass();
        }
        let fields = match request.line.contains("/stale") {
            true => "cache-control: max-age=0\r\netag: \"e\"\r\n",
            false => "cache-control: max-age=60\r\n",
        };
        let bytes = match request.field("if-none-match") {
            Some(_) => format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").into_bytes(),
            None => answer(
                "200 OK",
                fields,
                &format!("answer {number} to {}", request.field("x-who").unwrap_or("?")),
            ),
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&origin);
    let client = Http2::clear(gateway.web());
    let get = |path: &str| client.get(&format!("http://a{path}"));
    // A miss, and a hit.
    assert_eq!((get("/a").status, get("/a").text().as_str()), (200, "answer 1 to ?"));
    // Asked about, and renewed.
    for outcome in ["fwd=uri-miss", "fwd=stale"] {
        let answer = get("/stale");
        assert_eq!((answer.status, answer.text().as_str()), (200, "answer 2 to ?"), "{outcome}");
        says(&answer, &[outcome]);
        wait_for_kept(&gateway, 2.0);
    }
    // One flight for those of both protocols.
    let before = origin.received().len();
    let ask = |who: &str| http::Request::get("http://a/held").header("x-who", who);
    let first = client.begin(ask("first"), &[], true);
    wait_until("the origin is asked", || origin.received().len() > before);
    let second = client.begin(ask("second"), &[], true);
    gate.open();
    for pending in [first, second] {
        assert_eq!(client.finish(pending).text(), "answer 4 to first");
    }
    assert_eq!(Client::new(gateway.web()).get("a", "/held", "").text(), "answer 4 to first");
    assert_eq!(origin.received().len(), before + 1);
}

#[test]
fn what_is_kept_is_validated() {
    let changed = Arc::new(AtomicBool::new(false));
    let has_changed = Arc::clone(&changed);
    let origin = Origin::start(move |request, stream| {
        let fresh = "cache-control: max-age=60\r\netag: \"v2\"\r\n";
        let bytes = match (has_changed.load(Ordering::SeqCst), request.field("if-none-match")) {
            (false, Some("\"v1\"")) => {
                b"HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\nx-new: yes\r\ncache-control: max-age=0\r\n\r\n"
                    .to_vec()
            }
            (false, _) => answer("200 OK", "cache-control: max-age=0\r\netag: \"v1\"\r\n", "first"),
            (true, _) => answer("200 OK", fresh, "second"),
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/", "").text(), "first");
    wait_for_kept(&gateway, 1.0);
    let again = client.get("a", "/", "if-none-match: \"of-the-client\"\r\nrange: bytes=0-1\r\n");
    assert_eq!(origin.last().fields("if-none-match"), ["\"v1\""], "asked about what is kept");
    assert_eq!(origin.last().field("range"), None, "and for the whole");
    assert_eq!((again.status, again.text().as_str(), again.field("x-new")), (206, "fi", Some("yes")));
    says(&again, &["fwd=stale", "fwd-status=304"]);
    assert_eq!(client.get("a", "/", "if-none-match: \"v1\"\r\n").status, 304, "the client has it already");
    changed.store(true, Ordering::SeqCst);
    let new = client.get("a", "/", "");
    assert_eq!((new.status, new.text().as_str()), (200, "second"));
    wait_for_kept(&gateway, 2.0);
    let before = origin.received().len();
    says(&client.get("a", "/", ""), &["hit"]);
    assert_eq!(origin.received().len(), before);
    // A client may ask for more (RFC 9111 section 5.2.1).
    let asked = client.get("a", "/", "cache-control: no-cache\r\n");
    says(&asked, &["fwd=request"]);
    assert_eq!(origin.last().field("if-none-match"), Some("\"v2\""));
    let only = client.get("a", "/nowhere", "cache-control: only-if-cached\r\n");
    assert_eq!((only.status, only.code().as_str()), (504, "not_cached"));
    let counted = "tollgate_cache_requests_total{route=\"all\",outcome=\"revalidated\"}";
    wait_until("they are counted", || gateway.metric(counted) == 2.0);
}

#[test]
fn variants_are_kept_apart() {
    let origin = counting(|request| {
        let language = request.field("accept-language").unwrap_or("none");
        format!("cache-control: max-age=60\r\nvary: Accept-Language\r\ncontent-language: {language}\r\n")
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    let mut ask = |language: &str| client.get("a", "/", &format!("accept-language: {language}\r\n")).text();
    assert_eq!(ask("de"), "answer 1");
    wait_for_kept(&gateway, 1.0);
    assert_eq!(ask("en"), "answer 2");
    wait_for_kept(&gateway, 2.0);
    assert_eq!((ask("de"), ask("en"), ask("DE")), ("answer 1".into(), "answer 2".into(), "answer 1".into()));
    assert_eq!(origin.received().len(), 2);
}

#[test]
fn what_must_not_be_kept_is_not() {
    let gates = [
        ("/no-store", "cache-control: no-store, max-age=60\r\n"),
        ("/private", "cache-control: private, max-age=60\r\n"),
        ("/cookie", "cache-control: max-age=60\r\nset-cookie: a=b\r\n"),
        ("/vary", "cache-control: max-age=60\r\nvary: *\r\n"),
        ("/silent", ""),
        ("/cdn", "cache-control: max-age=60\r\ncdn-cache-control: no-store\r\n"),
    ];
    let origin = counting(move |request| {
        gates.iter().find(|(path, _)| *path == request.target()).map_or("", |(_, fields)| *fields).into()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    for (path, fields) in gates {
        let first = client.get("a", path, "");
        let second = client.get("a", path, "");
        assert_ne!(first.text(), second.text(), "{path}");
        assert!(!status(&second).contains("hit"), "{path}: {}", status(&second));
        let cookie = fields.contains("set-cookie").then_some("a=b");
        assert_eq!((first.field("set-cookie"), second.field("set-cookie")), (cookie, cookie));
    }
    assert_eq!(kept(&gateway), 0.0);
    // What a caller gets by its credentials is nobody else's (RFC 9111 section 3.5).
    let origin = counting(|request| match request.target() {
        "/public" => "cache-control: public, max-age=60\r\n".into(),
        _ => "cache-control: max-age=60\r\n".into(),
    });
    let gateway = self::gateway(&origin);
    let mut client = Client::new(gateway.web());
    let mut ask = |path: &str| client.get("a", path, "authorization: Bearer x\r\n").text();
    assert_ne!(ask("/mine"), ask("/mine"));
    let public = ask("/public");
    wait_for_kept(&gateway, 1.0);
    assert_eq!(ask("/public"), public);
}

#[test]
fn a_route_says_what_goes_past_and_what_is_kept_that_does_not_say() {
    let origin = Origin::start(|request, stream| {
        let status = if request.target() == "/missing" { "404 Not Found" } else { "200 OK" };
        let cookie = if request.target() == "/cookie" { "set-cookie: a=b\r\n" } else { "" };
        stream.write_all(&answer(status, cookie, "same")).is_ok()
    });
    let settings = "bypass: '\"x-preview\" in request.headers', ttl: { '404': 60s }, default_ttl: 60s, \
                    set_cookie: strip, key: { drop_query: [utm] }";
    let gateway = gateway_with(&origin, settings);
    let mut client = Client::new(gateway.web());
    let mut ask = |target: &str, fields: &str| {
        let before = origin.received().len();
        let answer = client.get("a", target, fields);
        (answer, origin.received().len() - before)
    };
    for (at, target) in ["/", "/missing", "/cookie"].into_iter().enumerate() {
        let (first, asked) = ask(target, "");
        assert_eq!((asked, first.field("set-cookie")), (1, None), "{target}");
        wait_for_kept(&gateway, at as f64 + 1.0);
        let (second, asked) = ask(target, "");
        assert_eq!((asked, second.status, second.text().as_str()), (0, first.status, "same"), "{target}");
    }
    let (past, asked) = ask("/", "x-preview: yes\r\n");
    assert_eq!(asked, 1);
    says(&past, &["fwd=bypass"]);
    assert_eq!(ask("/?utm=a&utm=b", "").1, 0, "what is dropped from the key does not count");
    assert_eq!(ask("/?a=b&utm=c", "").1, 1);
    assert_eq!(origin.last().target(), "/?a=b", "nor does it go upstream");
}

#[test]
fn what_is_kept_outlives_a_reload() {
    let origin = counting(|_| "cache-control: max-age=60\r\n".into());
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    client.get("a", "/", "");
    wait_for_kept(&gateway, 1.0);
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace("8MiB", "16MiB"));
    let reloaded = gateway.reload();
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    says(&client.get("a", "/", ""), &["hit"]);
    assert_eq!(origin.received().len(), 1);
}

#[test]
fn unsafe_methods_make_what_is_kept_invalid() {
    let origin = counting(|request| match request.line.split(' ').next() {
        Some("POST") => "location: /b\r\n".into(),
        _ => "cache-control: max-age=60\r\n".into(),
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    for (at, path) in ["/a", "/b", "/c"].into_iter().enumerate() {
        client.get("a", path, "");
        wait_for_kept(&gateway, at as f64 + 1.0);
    }
    let posted = client.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
    says(&posted, &["fwd=method"]);
    let before = origin.received().len();
    for (path, fetched) in [("/c", 0), ("/a", 1), ("/b", 2)] {
        client.get("a", path, "");
        assert_eq!(origin.received().len() - before, fetched, "{path}");
    }
}

#[test]
fn one_fetch_is_for_all_that_wait() {
    let gate = Arc::new(Gate::default());
    let waits = Arc::clone(&gate);
    let origin = Origin::start(move |_, stream| {
        waits.pass();
        let head =
            "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(b"3\r\ndef\r\n0\r\n\r\n").is_ok()
    });
    let gateway = gateway(&origin);
    let clients: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = Client::new(gateway.web());
            client.write("GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
            client
        })
        .collect();
    wait_until("all are in flight", || gateway.metric("tollgate_http_in_flight{listener=\"web\"}") >= 200.0);
    gate.open();
    for (at, mut client) in clients.into_iter().enumerate() {
        let answer = client.read(false);
        assert_eq!((answer.status, answer.text().as_str(), answer.cut), (200, "abcdef", false), "{at}");
    }
    assert_eq!(origin.received().len(), 1);
    let count = |outcome: &str| {
        gateway.metric(&format!("tollgate_cache_requests_total{{route=\"all\",outcome=\"{outcome}\"}}"))
    };
    // Who looked when the answer was there already did not wait for it.
    wait_until("they are counted", || count("coalesced") + count("hit") == 199.0);
    assert_eq!(count("miss"), 1.0);
}

#[test]
fn an_answer_that_is_for_one_lets_all_go_on_at_once() {
    let gate = Arc::new(Gate::default());
    let (waits, count) = (Arc::clone(&gate), AtomicUsize::new(0));
    // Each waits for all the others, and for ever if they come one by one.
    let others = Barrier::new(49);
    let origin = Origin::start(move |_, stream| {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => waits.pass(),
            1..50 => drop(others.wait()),
            _ => {}
        }
        stream.write_all(&answer("200 OK", "cache-control: private\r\n", "mine")).is_ok()
    });
    let gateway = gateway(&origin);
    let begin = || {
        let mut client = Client::new(gateway.web());
        client.write("GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
        client
    };
    let clients: Vec<Client> = (0..50).map(|_| begin()).collect();
    wait_until("all are in flight", || gateway.metric("tollgate_http_in_flight{listener=\"web\"}") >= 50.0);
    wait_until("one is asked for", || origin.received().len() == 1);
    gate.open();
    for mut client in clients {
        let answer = client.read(false);
        assert_eq!((answer.status, answer.text().as_str()), (200, "mine"));
    }
    assert_eq!(origin.received().len(), 50);
    // It is remembered: the next ones wait for nobody.
    says(&Client::new(gateway.web()).get("a", "/x", ""), &["fwd=uri-miss"]);
}

#[test]
fn a_client_that_leaves_does_not_stop_the_fetch() {
    let gate = Arc::new(Gate::default());
    let waits = Arc::clone(&gate);
    let origin = Origin::start(move |_, stream| {
        let head =
            "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
        let begun = stream.write_all(head.as_bytes());
        waits.pass();
        let rest = format!("493e0\r\n{}\r\n0\r\n\r\n", "x".repeat(300_000));
        begun.is_ok() && stream.write_all(rest.as_bytes()).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    client.write("GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    client.wait_for_bytes();
    client.abort();
    gate.open();
    wait_for_kept(&gateway, 1.0);
    let answer = Client::new(gateway.web()).get("a", "/x", "");
    assert_eq!((answer.status, answer.body.len(), origin.received().len()), (200, 300_003, 1));
}

/// An endless answer would be fetched for ever for a client that has gone.
#[test]
#[expect(clippy::disallowed_methods, reason = "the origin is slow and has no end")]
fn a_fetch_that_nobody_waits_for_has_its_time_too() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let origin = Origin::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut goes_on = stream.write_all(head.as_bytes()).is_ok();
        while goes_on {
            std::thread::sleep(std::time::Duration::from_millis(20));
            goes_on = stream.write_all(b"1\r\nx\r\n").is_ok();
        }
        count.fetch_add(1, Ordering::SeqCst);
        false
    });
    let gateway = Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         caches: {{ default: {{ memory: 8MiB }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'], timeouts: {{ total: 2s }} }} }}\n\
         routes: {{ all: {{ policies: {{ cache: {{ }} }}, to: origin }} }}\n",
        origin.address(),
    ));
    let mut client = Client::new(gateway.web());
    client.write("GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    client.wait_for_bytes();
    client.abort();
    wait_until("the fetch is over", || ended.load(Ordering::SeqCst) == 1);
    assert_eq!((kept(&gateway), origin.received().len()), (0.0, 1));
}

/// RFC 9110 section 14: a part of what comes is served when it is there, and not before the rest has come.
#[test]
fn parts_of_what_is_on_its_way() {
    let gate = Arc::new(Gate::default());
    let waits = Arc::clone(&gate);
    let origin = Origin::start(move |_, stream| {
        let head =
            "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\netag: \"1\"\r\ncontent-length: 300000\r\n\r\n";
        let begun = stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&[b'a'; 100_000]).is_ok();
        waits.pass();
        begun && stream.write_all(&[b'b'; 200_000]).is_ok()
    });
    let gateway = gateway(&origin);
    let mut first = Client::new(gateway.web());
    first.write("GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    first.wait_for_bytes();
    let ask = |range: &str| {
        let mut client = Client::new(gateway.web());
        client.write(format!("GET /x HTTP/1.1\r\nhost: a\r\nrange: bytes={range}\r\n\r\n"));
        client
    };
    let early = ask("10-19").read(false);
    assert_eq!((early.status, early.field("content-range")), (206, Some("bytes 10-19/300000")));
    assert_eq!(early.text(), "aaaaaaaaaa");
    let (mut late, mut beyond) = (ask("99998-100001"), ask("300000-"));
    let beyond = beyond.read(false);
    assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */300000")));
    // Several parts would have to be held as a whole: they get all of it.
    let mut several = ask("0-1,5-6");
    several.wait_for_bytes();
    gate.open();
    let late = late.read(false);
    assert_eq!((late.status, late.text().as_str(), late.cut), (206, "aabb", false));
    let several = several.read(false);
    assert_eq!((several.status, several.body.len()), (200, 300_000));
    assert_eq!(first.read(false).body.len(), 300_000);
    assert_eq!(origin.received().len(), 1);
    assert_eq!(origin.last().field("range"), None);
}

/// A request whose fetch failed has the line in the log that it would have had by itself.
#[test]
fn the_log_says_why_a_fetch_failed() {
    let half = Origin::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 9\r\n\r\nhalf";
        let _ = stream.write_all(head.as_bytes());
        false
    });
    let gateway = Gateway::start(&format!(
        "telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
         caches: {{ default: {{ memory: 8MiB }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ half: {{ endpoints: ['{}'] }}, gone: {{ endpoints: ['127.0.0.1:1'] }} }}\n\
         routes:\n  kept-half: {{ match: {{ path: /kept/half }}, policies: {{ cache: {{ }} }}, to: half }}\n  \
         half: {{ match: {{ path: /half }}, to: half }}\n  \
         kept-gone: {{ match: {{ path: /kept/gone }}, policies: {{ cache: {{ }} }}, to: gone }}\n  \
         gone: {{ match: {{ path: /gone }}, to: gone }}\n",
        half.address()
    ));
    let targets = ["/kept/half", "/half", "/kept/gone", "/gone"];
    let statuses = targets.map(|target| {
        let answer = Client::new(gateway.web()).get("a", target, "");
        (answer.status, answer.cut)
    });
    assert_eq!(statuses, [(200, true), (200, true), (502, false), (502, false)]);
    let text = || std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    wait_until("the lines are written", || text().lines().count() == 4);
    let lines: Vec<serde_json::Value> =
        text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |target: &str| {
        let line = lines.iter().find(|line| line["path"] == target).unwrap();
        ["status", "cause", "upstream", "endpoint", "attempts"].map(|field| line[field].clone())
    };
    for (kept, plain) in [("/kept/half", "/half"), ("/kept/gone", "/gone")] {
        assert_eq!(said(kept), said(plain), "{lines:?}");
        assert!(said(kept)[1].is_string() && said(kept)[3].is_string(), "{lines:?}");
    }
}

#[test]
fn what_breaks_off_is_not_kept() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request, stream: &mut TcpStream| {
        let fields = "cache-control: max-age=60\r\n";
        let bytes = match (count.fetch_add(1, Ordering::SeqCst) % 2, request.target()) {
            (0, "/length") => {
                format!("HTTP/1.1 200 OK\r\n{fields}content-length: 9\r\n\r\nhalf").into_bytes()
            }
            (0, "/chunks") => {
                format!("HTTP/1.1 200 OK\r\n{fields}transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
                    .into_bytes()
            }
            _ => answer("200 OK", fields, "the whole"),
        };
        let _ = stream.write_all(&bytes);
        false
    });
    let gateway = gateway(&origin);
    for path in ["/length", "/chunks"] {
        let half = Client::new(gateway.web()).get("a", path, "");
        assert!(half.cut, "{path}: {half:?}");
        let whole = Client::new(gateway.web()).get("a", path, "");
        assert_eq!((whole.status, whole.text().as_str(), whole.cut), (200, "the whole", false), "{path}");
    }
}

#[test]
fn stale_answers_serve_meanwhile_and_instead_of_errors() {
    let (fails, gate) = (Arc::new(AtomicBool::new(false)), Arc::new(Gate::default()));
    let (failing, waits) = (Arc::clone(&fails), Arc::clone(&gate));
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request, stream| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        if request.target() == "/meanwhile" && number > 1 {
            waits.pass();
        }
        let span = if request.target() == "/meanwhile" { "stale-while-revalidate" } else { "stale-if-error" };
        // Stale from the beginning: an upstream's cache had it for long.
        let fields = format!("cache-control: max-age=10, {span}=600\r\nage: 11\r\n");
        let bytes = match failing.load(Ordering::SeqCst) {
            true => answer("503 Service Unavailable", "", "broken"),
            false => answer("200 OK", &fields, &format!("answer {number}")),
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway_with(&origin, "");
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/meanwhile", "").text(), "answer 1");
    wait_for_kept(&gateway, 1.0);
    for _ in 0..50 {
        let stale = client.get("a", "/meanwhile", "");
        assert_eq!(stale.text(), "answer 1", "nobody waits");
        assert!(status(&stale).contains("hit; ttl=-"), "{}", status(&stale));
    }
    wait_until("one asks", || origin.received().len() == 2);
    gate.open();
    wait_for_kept(&gateway, 2.0);
    wait_until("the new one serves", || client.get("a", "/meanwhile", "").text() != "answer 1");
    let before = kept(&gateway);
    let first = client.get("a", "/error", "").text();
    wait_until("the answer is kept", || kept(&gateway) > before);
    fails.store(true, Ordering::SeqCst);
    let instead = client.get("a", "/error", "");
    assert_eq!((instead.status, instead.text()), (200, first));
    assert_eq!(client.get("a", "/new", "").status, 503);
}

#[test]
fn head_speaks_of_what_is_kept() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let origin = Origin::start(move |request, stream| {
        let version = now.load(Ordering::SeqCst);
        // Stale at once, unless HEAD says otherwise.
        let is_head = request.line.starts_with("HEAD ");
        let age = if is_head { 60 } else { 0 };
        let fields = format!("cache-control: max-age={age}\r\netag: \"{version}\"\r\nx-by: {age}\r\n");
        let mut bytes = answer("200 OK", &fields, "body");
        bytes.truncate(bytes.len() - if is_head { 4 } else { 0 });
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    client.get("a", "/", "");
    wait_for_kept(&gateway, 1.0);
    let head = "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n";
    says(&client.send(head), &["fwd=stale"]);
    let renewed = client.get("a", "/", "");
    assert_eq!((renewed.text().as_str(), renewed.field("x-by")), ("body", Some("60")));
    says(&renewed, &["hit"]);
    assert_eq!(origin.received().len(), 2);
    // One that speaks of another body makes it useless.
    version.store(2, Ordering::SeqCst);
    says(&client.send("HEAD / HTTP/1.1\r\nhost: a\r\ncache-control: no-cache\r\n\r\n"), &["fwd=request"]);
    says(&client.get("a", "/", ""), &["fwd=uri-miss"]);
    assert_eq!(origin.last().field("if-none-match"), None, "there is nothing to ask about");
}
