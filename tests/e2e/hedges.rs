//! Requests that go to a second endpoint while the first one is silent: who answers, what becomes of the other one,
//! and when nobody else is asked.

use crate::harness::{
    Answer, Client, Gateway, Http2, Origin, Received, Streams, answer, send, trailers, wait_until,
};
use bytes::Bytes;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Two endpoints in turn, the first one first.
fn gateway(first: SocketAddr, second: SocketAddr, settings: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{first}', '{second}'], {settings} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n"
    ))
}

const SOON: &str = "hedge: { after: 5ms }";

/// A count that a test waits for.
#[derive(Clone, Default)]
struct Count(Arc<(Mutex<usize>, Condvar)>);

impl Count {
    fn add(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    fn get(&self) -> usize {
        *self.0.0.lock().unwrap()
    }

    fn wait_for(&self, least: usize) {
        let (lock, changed) = &*self.0;
        let patience = Duration::from_secs(20);
        let (count, waited) =
            changed.wait_timeout_while(lock.lock().unwrap(), patience, |count| *count < least).unwrap();
        assert!(!waited.timed_out(), "{} of {least}", *count);
    }
}

/// Waits until the other side has closed the connection.
fn wait_for_end(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("the connection goes on: {other:?}"),
    }
}

/// Never answers, and counts the connections that the gateway closes.
fn silent(closed: &Count) -> Origin {
    let closed = closed.clone();
    Origin::start(move |_, stream| {
        wait_for_end(stream);
        closed.add();
        false
    })
}

fn hedges(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(&format!("tollgate_hedges_total{{upstream=\"origin\",outcome=\"{outcome}\"}}"))
}

/// Waits until no endpoint has a request in flight.
fn all_is_given_back(gateway: &Gateway) {
    wait_until("nothing is in flight", || {
        let upstreams = gateway.admin("GET", "/upstreams", "").json();
        let endpoints = upstreams[0]["endpoints"].as_array().unwrap().clone();
        endpoints.len() == 2 && endpoints.iter().all(|endpoint| endpoint["in_flight"] == 0)
    });
}

fn logged(gateway: &Gateway, count: usize) -> Vec<serde_json::Value> {
    let read = || {
        let text = std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<serde_json::Value>>()
    };
    wait_until("it is logged", || read().len() >= count);
    read()
}

fn ask(gateway: &Gateway, method: &str, fields: &str, body: &str) -> Answer {
    let request = format!("{method} /x?y=1 HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n{body}");
    send(gateway.web(), &request)
}

#[test]
fn who_answers_first_has_the_client_and_the_other_one_is_ended() {
    let closed = Count::default();
    let (first, second) = (silent(&closed), Origin::saying("second"));
    let gateway = gateway(first.address(), second.address(), SOON);
    let answer = ask(&gateway, "GET", "x-a: 1\r\n", "");
    assert_eq!((answer.status, answer.text().as_str()), (200, "second"));
    closed.wait_for(1);
    all_is_given_back(&gateway);
    let ([one], [other]) = (&first.received()[..], &second.received()[..]) else {
        panic!("each is asked once")
    };
    assert_eq!((&one.line, &one.fields), (&other.line, &other.fields), "both got the same");
    assert_eq!(one.line, "GET /x?y=1 HTTP/1.1");
    assert_eq!((one.field("host"), one.field("x-a")), (Some("a"), Some("1")));
    let line = &logged(&gateway, 1)[0];
    assert_eq!((&line["endpoint"], &line["attempts"]), (&second.address().to_string().into(), &1.into()));
    assert_eq!(
        (hedges(&gateway, "won"), hedges(&gateway, "lost"), hedges(&gateway, "barred")),
        (1.0, 0.0, 0.0)
    );
}

#[test]
fn the_first_one_may_yet_win_and_the_second_one_is_ended_then() {
    let (asked, closed) = (Count::default(), Count::default());
    let (second_asked, second_closed) = (asked.clone(), closed.clone());
    let second = Origin::start(move |_, stream| {
        second_asked.add();
        wait_for_end(stream);
        second_closed.add();
        false
    });
    let first = Origin::start(move |_, stream| {
        asked.wait_for(1);
        stream.write_all(&answer("200 OK", "", "first")).is_ok()
    });
    let gateway = gateway(first.address(), second.address(), SOON);
    assert_eq!(ask(&gateway, "GET", "", "").text(), "first");
    closed.wait_for(1);
    all_is_given_back(&gateway);
    assert_eq!(logged(&gateway, 1)[0]["endpoint"], first.address().to_string());
    assert_eq!((hedges(&gateway, "won"), hedges(&gateway, "lost")), (0.0, 1.0));
}

#[test]
fn over_http2_the_loser_is_reset_and_the_winner_is_whole() {
    let resets = Count::default();
    let reset = resets.clone();
    let first = Streams::start(move |mut exchange| {
        let reset = reset.clone();
        async move {
            assert_eq!(exchange.is_reset().await, h2::Reason::CANCEL);
            reset.add();
        }
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let head = Arc::clone(&seen);
    let second = Streams::start(move |mut exchange| {
        let request = &exchange.request;
        let ends = request.body().is_end_stream();
        head.lock().unwrap().push((request.uri().to_string(), request.headers().clone(), ends));
        async move {
            let mut body = exchange.begin(200, &[("x-from", "second")]);
            for _ in 0..64 {
                body.send_data(Bytes::from(vec![b'x'; 16 * 1024]), false).unwrap();
            }
            body.send_trailers(trailers(&[("x-sum", "1M")])).unwrap();
            // The stream is kept until the gateway has all of it.
            std::future::poll_fn(|cx| body.poll_reset(cx)).await.ok();
        }
    });
    let settings = format!("protocol: http2, {SOON}");
    let gateway = gateway(first.address(), second.address(), &settings);
    let client = Http2::clear(gateway.web());
    for round in 1..=5 {
        let answer = client.get("http://name.example/x?y=1");
        assert_eq!((answer.status, answer.body.len(), answer.cut), (200, 1 << 20, false), "{round}");
        assert_eq!(answer.trailer("x-sum"), Some("1M"));
        // Round robin goes on: every other request begins at the second endpoint.
    }
    resets.wait_for(1);
    all_is_given_back(&gateway);
    assert_eq!((first.connections(), second.connections()), (1, 1), "one connection carries all");
    for (uri, headers, ends) in seen.lock().unwrap().iter() {
        assert_eq!((uri.as_str(), ends), ("http://name.example/x?y=1", &true));
        assert!(!headers.contains_key("host") && !headers.contains_key("connection"), "{headers:?}");
    }
}

#[test]
fn a_winner_over_http1_is_whole_and_its_connection_is_kept() {
    let closed = Count::default();
    let first = silent(&closed);
    let second = Origin::start(|_, stream| {
        let mut text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..64 {
            text.extend_from_slice(b"4000\r\n");
            text.extend_from_slice(&[b'x'; 16 * 1024]);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\nx-sum: 1M\r\n\r\n");
        stream.write_all(&text).is_ok()
    });
    let gateway = gateway(first.address(), second.address(), "hedge: { after: 5ms, at_once: 4 }");
    let mut client = Client::new(gateway.web());
    for round in 1..=6 {
        let answer = client.get("a", "/", "");
        assert_eq!((answer.status, answer.body.len(), answer.cut), (200, 1 << 20, false), "{round}");
    }
    assert_eq!(second.connections(), 1, "one connection serves all");
    let over_http2 = Http2::clear(gateway.web()).get("http://name.example/");
    assert_eq!((over_http2.status, over_http2.body.len()), (200, 1 << 20));
    assert_eq!(second.last().field("host"), Some("name.example"), "the authority is the Host");
    all_is_given_back(&gateway);
}

#[test]
fn heads_without_a_body_and_interim_ones() {
    for (method, text, status, body) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200, ""),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, ""),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, ""),
        ("OPTIONS", "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno", 404, "no"),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            200,
            "ok",
        ),
    ] {
        let first = silent(&Count::default());
        let second = Origin::start(move |_, stream| stream.write_all(text.as_bytes()).is_ok());
        let gateway = gateway(first.address(), second.address(), "hedge: { after: 5ms, at_once: 4 }");
        let mut client = Client::new(gateway.web());
        for _ in 0..3 {
            client.write(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n"));
            let answer = client.read(method == "HEAD");
            assert_eq!((answer.status, answer.text().as_str(), answer.cut), (status, body, false), "{text}");
        }
        assert_eq!(second.connections(), 1, "{text}");
    }
}

#[test]
fn an_answer_that_the_end_of_the_connection_ends() {
    let first = silent(&Count::default());
    let second = Origin::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall of it").unwrap();
        false
    });
    let gateway = gateway(first.address(), second.address(), SOON);
    let answer = ask(&gateway, "GET", "", "");
    assert_eq!((answer.status, answer.text().as_str(), answer.cut), (200, "all of it", false));
}

#[test]
fn a_winner_that_breaks_off_is_broken_off_and_mixed_with_nobody() {
    let first_answers = Count::default();
    let may_answer = first_answers.clone();
    let first = Origin::start(move |_, stream| {
        may_answer.wait_for(1);
        let _ = stream.write_all(&answer("200 OK", "", "first answer"));
        false
    });
    let second = Origin::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nsecond").unwrap();
        false
    });
    let gateway = gateway(first.address(), second.address(), SOON);
    let answer = ask(&gateway, "GET", "", "");
    assert_eq!((answer.status, answer.text().as_str(), answer.cut), (200, "second", true));
    first_answers.add();
    all_is_given_back(&gateway);
    assert_eq!((first.received().len(), second.received().len()), (1, 1), "nothing is tried again");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the endpoint is slow: nothing else tells that no other one is asked"
)]
fn no_second_endpoint_is_asked_where_that_is_not_safe_or_not_needed() {
    let slow = |_: &Received, stream: &mut TcpStream| {
        std::thread::sleep(Duration::from_millis(60));
        stream.write_all(&answer("200 OK", "", "first")).is_ok()
    };
    let quick =
        |_: &Received, stream: &mut TcpStream| stream.write_all(&answer("200 OK", "", "first")).is_ok();
    let soon = "hedge: { after: 1ms }";
    let cases: [(&str, bool, &str, &str, &str); 7] = [
        (soon, true, "POST", "content-length: 0\r\n", ""),
        (soon, true, "PUT", "content-length: 2\r\n", "ab"),
        (soon, true, "DELETE", "", ""),
        (soon, true, "GET", "content-length: 2\r\n", "ab"),
        (soon, true, "GET", "transfer-encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n"),
        ("", true, "GET", "", ""),
        ("hedge: { after: 14s }", false, "GET", "", ""),
    ];
    for (settings, is_slow, method, fields, body) in cases {
        let first = if is_slow { Origin::start(slow) } else { Origin::start(quick) };
        let second = Origin::saying("second");
        let gateway = gateway(first.address(), second.address(), settings);
        assert_eq!(ask(&gateway, method, fields, body).text(), "first", "{settings} {method} {fields}");
        assert_eq!(second.connections(), 0, "{settings} {method} {fields}");
        assert_eq!(first.last().body.len(), if body.is_empty() { 0 } else { 2 });
        for outcome in ["won", "lost", "barred"] {
            assert_eq!(hedges(&gateway, outcome), 0.0, "{outcome}");
        }
    }
}

#[test]
fn nobody_else_is_asked_beyond_the_budget_or_the_room() {
    for settings in [
        "hedge: { after: 5ms, share: 0%, at_once: 0 }",
        // The one place is the request's own.
        "hedge: { after: 5ms }, limits: { requests: 1 }",
    ] {
        let barred = Count::default();
        let may_answer = barred.clone();
        let first = Origin::start(move |_, stream| {
            may_answer.wait_for(1);
            stream.write_all(&answer("200 OK", "", "first")).is_ok()
        });
        let second = Origin::saying("second");
        let gateway = gateway(first.address(), second.address(), settings);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&gateway, "GET", "", ""));
            wait_until("it was barred", || hedges(&gateway, "barred") == 1.0);
            barred.add();
            assert_eq!(asking.join().unwrap().text(), "first", "{settings}");
        });
        assert_eq!(second.connections(), 0, "{settings}");
    }
}

#[test]
fn as_many_as_may_be_are_under_way_and_no_more() {
    let (asked, over) = (Count::default(), Count::default());
    let endpoint = || {
        let (asked, over) = (asked.clone(), over.clone());
        Origin::start(move |_, stream| {
            asked.add();
            over.wait_for(1);
            stream.write_all(&answer("200 OK", "", "at last")).is_ok()
        })
    };
    let (first, second) = (endpoint(), endpoint());
    let gateway = gateway(first.address(), second.address(), "hedge: { after: 5ms, share: 0%, at_once: 2 }");
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6).map(|_| scope.spawn(|| ask(&gateway, "GET", "", "").status)).collect();
        wait_until("four were barred", || hedges(&gateway, "barred") == 4.0);
        asked.wait_for(8);
        assert_eq!(asked.get(), 8, "six requests, and two of them twice");
        over.add();
        for one in asking {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
    all_is_given_back(&gateway);
    assert_eq!(hedges(&gateway, "won") + hedges(&gateway, "lost"), 2.0);
}

/// Answers so, or closes without an answer, once the second endpoint has been asked.
fn after(asked: &Count, text: &'static str) -> Origin {
    let asked = asked.clone();
    Origin::start(move |_, stream| {
        asked.wait_for(1);
        !text.is_empty() && stream.write_all(text.as_bytes()).is_ok()
    })
}

fn at_once(asked: &Count, text: &'static str) -> Origin {
    let asked = asked.clone();
    Origin::start(move |_, stream| {
        asked.add();
        !text.is_empty() && stream.write_all(text.as_bytes()).is_ok()
    })
}

#[test]
fn who_fails_does_not_win_while_the_other_one_may_answer() {
    const FIRST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst";
    const SECOND: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond";
    const ILL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nill";
    const GONE: &str = "HTTP/1.1 410 Gone\r\ncontent-length: 4\r\n\r\ngone";
    for (one, other, expected) in [
        (FIRST, ILL, (200, "first")),
        (FIRST, "", (200, "first")),
        (ILL, SECOND, (200, "second")),
        ("", SECOND, (200, "second")),
        (ILL, ILL, (503, "ill")),
        (ILL, "", (503, "ill")),
        ("", ILL, (503, "ill")),
        // A mistake of the client's is an answer.
        (ILL, GONE, (410, "gone")),
    ] {
        let asked = Count::default();
        let (first, second) = (after(&asked, one), at_once(&asked, other));
        let settings = format!("{SOON}, retry: {{ attempts: 1 }}");
        let gateway = gateway(first.address(), second.address(), &settings);
        let answer = ask(&gateway, "GET", "", "");
        assert_eq!((answer.status, answer.text().as_str()), expected, "{one:?} {other:?}");
        all_is_given_back(&gateway);
    }
}

#[test]
fn two_that_break_off_are_one_attempt_that_failed() {
    for (attempts, requests) in [(1, 2), (2, 3)] {
        let asked = Count::default();
        let (first, second) = (after(&asked, ""), at_once(&asked, ""));
        let settings = format!("{SOON}, retry: {{ attempts: {attempts} }}");
        let gateway = gateway(first.address(), second.address(), &settings);
        let answer = ask(&gateway, "GET", "", "");
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"));
        assert_eq!(
            first.received().len() + second.received().len(),
            requests,
            "a further attempt is not hedged"
        );
        assert_eq!(logged(&gateway, 1)[0]["attempts"], attempts);
        assert_eq!((hedges(&gateway, "won"), hedges(&gateway, "lost")), (0.0, 1.0));
        all_is_given_back(&gateway);
    }
}

#[test]
fn two_that_are_silent_take_no_longer_than_they_may() {
    let closed = Count::default();
    let (first, second) = (silent(&closed), silent(&closed));
    let settings = format!("{SOON}, timeouts: {{ read: 10s, total: 300ms }}");
    let gateway = gateway(first.address(), second.address(), &settings);
    let began = Instant::now();
    let answer = ask(&gateway, "GET", "", "");
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    closed.wait_for(2);
    all_is_given_back(&gateway);
}

#[test]
fn a_client_that_leaves_ends_both() {
    let (asked, closed) = (Count::default(), Count::default());
    let endpoint = || {
        let (asked, closed) = (asked.clone(), closed.clone());
        Origin::start(move |_, stream| {
            asked.add();
            wait_for_end(stream);
            closed.add();
            false
        })
    };
    let (first, second) = (endpoint(), endpoint());
    let gateway = gateway(first.address(), second.address(), "hedge: { after: 5ms, at_once: 2 }");
    let mut client = Client::new(gateway.web());
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    asked.wait_for(2);
    client.abort();
    closed.wait_for(2);
    all_is_given_back(&gateway);
    // A client of HTTP/2 takes back a stream.
    let client = Http2::clear(gateway.web());
    let pending = client.begin(http::Request::get("http://a.example/"), &[], true);
    asked.wait_for(4);
    drop(pending);
    closed.wait_for(4);
    all_is_given_back(&gateway);
    assert_eq!((hedges(&gateway, "won"), hedges(&gateway, "lost")), (0.0, 2.0));
}

#[test]
fn a_connection_that_had_ended_in_the_pool_is_nobodys_failure() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    // The second request of a connection finds it closed.
    let first = Origin::start(move |_, stream| {
        let at = count.fetch_add(1, Ordering::SeqCst);
        at.is_multiple_of(2) && stream.write_all(&answer("200 OK", "", "first")).is_ok()
    });
    let second = Origin::saying("second");
    // No request begins at an endpoint of weight 0.
    let gateway = Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}', {{ address: '{}', weight: 0 }}], hedge: {{ after: 10s }}, \
         health: {{ passive: {{ consecutive_failures: 1 }} }}, retry: {{ budget: 0%, at_once: 0 }} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        first.address(),
        second.address()
    ));
    let mut client = Client::new(gateway.web());
    for _ in 0..4 {
        assert_eq!(client.get("a", "/", "").text(), "first");
    }
    assert_eq!(served.load(Ordering::SeqCst), 7, "each but the first was sent once more");
    assert_eq!(gateway.metric("tollgate_upstream_ejected{upstream=\"origin\"}"), 0.0);
    assert_eq!(second.connections(), 0);
}

#[test]
fn each_endpoint_sees_its_own_host_where_that_is_asked_for() {
    let first = silent(&Count::default());
    let second = Origin::saying("second");
    let gateway = gateway(first.address(), second.address(), &format!("host: endpoint, {SOON}"));
    assert_eq!(ask(&gateway, "GET", "", "").text(), "second");
    assert_eq!(first.last().field("host"), Some(first.address().to_string().as_str()));
    assert_eq!(second.last().field("host"), Some(second.address().to_string().as_str()));
}

#[test]
fn what_a_cache_fetches_is_hedged_as_well() {
    let closed = Count::default();
    let first = silent(&closed);
    let second = Origin::start(|_, stream| {
        stream.write_all(&answer("200 OK", "cache-control: max-age=60\r\n", "second")).is_ok()
    });
    let gateway = Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         caches: {{ default: {{ memory: 1MiB }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}', '{}'], {SOON} }} }}\n\
         routes: {{ all: {{ to: origin, policies: {{ cache: {{}} }} }} }}\n",
        first.address(),
        second.address()
    ));
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "GET", "", "").text(), "second");
    }
    closed.wait_for(1);
    assert_eq!((first.received().len(), second.received().len()), (1, 1));
    all_is_given_back(&gateway);
}

#[test]
fn who_fails_is_noted_and_who_is_left_is_not() {
    let passive = "health: { passive: { consecutive_failures: 1, eject: 60s } }, retry: { attempts: 1 }";
    let ejected = |gateway: &Gateway| gateway.metric("tollgate_upstream_ejected{upstream=\"origin\"}");
    let (quiet, quick) = (silent(&Count::default()), Origin::saying("second"));
    let leaving = gateway(quiet.address(), quick.address(), &format!("{SOON}, {passive}"));
    assert_eq!(ask(&leaving, "GET", "", "").text(), "second");
    assert_eq!(ejected(&leaving), 0.0, "who is left has not failed");
    // The first one says that it is ill as soon as the second one is asked, which then fails without an answer: of
    // two endpoints, the one whose failure is told first is left out, and the second one's is.
    let asked = Count::default();
    let ill = after(&asked, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nill");
    let failing = at_once(&asked, "");
    let both = gateway(ill.address(), failing.address(), &format!("{SOON}, {passive}"));
    assert_eq!(ask(&both, "GET", "", "").status, 503);
    assert_eq!(ejected(&both), 1.0);
    // So the next request is the first one's again, and has nobody else to go to.
    assert_eq!(ask(&both, "GET", "", "").status, 503);
    assert_eq!((ill.received().len(), failing.received().len()), (2, 1));
}
