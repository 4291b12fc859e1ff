//! What happens when an endpoint fails: who gets the request next, when, and when nobody does.

use crate::harness::{Answer, Client, Gateway, Origin, answer, get, send, wait_until};
use std::collections::HashSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Two endpoints in turn, the failing one first.
fn gateway(first: &Origin, second: &Origin, settings: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}', '{}'], {settings} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        first.address(),
        second.address()
    ))
}

fn failing(status: &'static str, fields: &'static str) -> Origin {
    Origin::start(move |_, stream| stream.write_all(&answer(status, fields, "first")).is_ok())
}

fn request(method: &str, body: usize) -> String {
    let body = "b".repeat(body);
    format!(
        "{method} /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn ask(gateway: &Gateway, method: &str, body: usize) -> (u16, String) {
    let Answer { status, body, .. } = send(gateway.web(), &request(method, body));
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn a_listed_status_is_tried_elsewhere_where_that_is_safe() {
    for (settings, method, body, expected) in [
        ("retry: { on: [503] }", "GET", 0, (200, "second")),
        ("retry: { on: [503] }", "DELETE", 0, (200, "second")),
        ("retry: { on: [503] }", "PUT", 10_000, (200, "second")),
        // More than is kept in hand.
        ("retry: { on: [503] }", "PUT", 100_000, (503, "first")),
        // Twice might be once too often.
        ("retry: { on: [503] }", "POST", 10, (503, "first")),
        ("retry: { on: [502, timeout] }", "GET", 0, (503, "first")),
        ("retry: { on: [503], attempts: 1 }", "GET", 0, (503, "first")),
        ("", "GET", 0, (503, "first")),
    ] {
        let first = failing("503 Service Unavailable", "x-from: first\r\n");
        let second = Origin::saying("second");
        let gateway = gateway(&first, &second, settings);
        let (status, text) = ask(&gateway, method, body);
        assert_eq!((status, text.as_str()), expected, "{settings} {method} {body}");
        assert_eq!(first.received().len(), 1, "{settings} {method} {body}");
        if status == 200 {
            assert_eq!(second.last().body.len(), body, "the body came whole");
            assert_eq!(second.last().line, format!("{method} /x HTTP/1.1"));
        }
    }
}

#[test]
fn an_endpoint_that_refuses_connections_costs_no_request_and_no_budget() {
    let gone = crate::harness::quiet_port();
    let there = Origin::saying("second");
    let gateway = Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['127.0.0.1:{gone}', '{}'], retry: {{ budget: 0%, at_once: 0 }} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        there.address()
    ));
    // Far more than any budget has, of any method, as nothing was sent.
    for _ in 0..60 {
        for method in ["GET", "POST"] {
            assert_eq!(ask(&gateway, method, 10), (200, "second".into()), "{method}");
        }
    }
    let count = |what: &str| gateway.metric(&format!("tollgate_retries_{what}{{upstream=\"origin\"}}"));
    assert!(count("total") >= 60.0, "at least every second request met it first");
    assert_eq!(count("barred_total"), 0.0);
}

/// An endpoint that has twenty requests in hand ends, as one does that is killed, and then refuses connections.
#[test]
fn what_an_endpoint_that_ends_had_in_hand_is_anothers() {
    for (settings, well) in [("", 40), ("budget: 0%, at_once: 0", 20)] {
        let end = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&end);
        let first = Origin::start(move |_, _| {
            wait_until("it ends", || ends.load(Ordering::SeqCst));
            false
        });
        let second = Origin::saying("second");
        let gateway = Gateway::start(&format!(
            "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
             listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}', '{}'], balance: round_robin, retry: {{ {settings} }} }} }}\n\
             routes: {{ all: {{ to: origin }} }}\n",
            first.address(),
            second.address()
        ));
        let mut clients: Vec<Client> = (0..40)
            .map(|_| {
                let mut client = Client::new(gateway.web());
                client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
                client
            })
            .collect();
        wait_until("all are under way", || (first.received().len(), second.received().len()) == (20, 20));
        end.store(true, Ordering::SeqCst);
        let statuses: Vec<u16> = clients.iter_mut().map(|client| client.read(false).status).collect();
        assert_eq!(
            statuses.iter().filter(|status| **status == 200).count(),
            well,
            "{settings}: {statuses:?}"
        );
        assert_eq!(
            statuses.iter().filter(|status| **status == 502).count(),
            40 - well,
            "{settings}: {statuses:?}"
        );
    }
}

#[test]
fn the_last_answer_is_the_clients() {
    let first = failing("503 Service Unavailable", "");
    let second = Origin::start(|_, stream| {
        stream.write_all(&answer("502 Bad Gateway", "x-from: second\r\n", "second")).is_ok()
    });
    let gateway = gateway(&first, &second, "retry: { on: [502, 503], attempts: 2 }");
    let mut client = Client::new(gateway.web());
    let answer = client.get("a", "/", "");
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.field("x-from")),
        (502, "second", Some("second"))
    );
    assert_eq!(client.get("a", "/", "").status, 502, "the connection survives");
    wait_until("both are logged", || lines(&gateway).len() == 2);
    assert_eq!(lines(&gateway)[0]["attempts"], 2);
    assert_eq!(lines(&gateway)[0]["endpoint"], second.address().to_string());
}

fn lines(gateway: &Gateway) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_connection_that_breaks_and_one_that_is_silent() {
    let breaking = || Origin::start(|_, _| false);
    let silent = || {
        Origin::start(|_, stream| {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            let _ = std::io::Read::read(stream, &mut [0]);
            false
        })
    };
    for (first, settings, method, expected) in [
        (breaking(), "", "GET", 200),
        (breaking(), "", "POST", 502),
        (breaking(), "retry: { on: [connect] }", "GET", 502),
        (silent(), "timeouts: { read: 100ms }, retry: { on: [timeout] }", "GET", 200),
        (silent(), "timeouts: { read: 100ms }, retry: { on: [timeout] }", "POST", 504),
        (silent(), "timeouts: { read: 100ms }", "GET", 504),
    ] {
        let second = Origin::saying("second");
        let gateway = gateway(&first, &second, settings);
        assert_eq!(ask(&gateway, method, 0).0, expected, "{settings} {method}");
        assert_eq!(first.received().len(), 1, "{settings} {method}");
    }
}

#[test]
fn what_a_client_has_begun_to_read_is_not_begun_anew() {
    let first = Origin::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        false
    });
    let second = Origin::saying("second");
    let gateway = gateway(&first, &second, "retry: { on: [reset, timeout] }");
    let answer = get(gateway.web(), "/");
    assert_eq!((answer.status, answer.text().as_str(), answer.cut), (200, "half", true));
    assert!(second.received().is_empty());
}

#[test]
fn retry_after_is_waited_for_unless_it_is_too_long() {
    for (asked, settings, expected, least) in [
        ("0", "", 200, 0),
        ("1", "", 200, 1000),
        ("2", "", 503, 0),
        ("2", ", retry_after: 2s", 200, 2000),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "", 200, 0),
        ("Sat, 06 Nov 2094 08:49:37 GMT", "", 503, 0),
    ] {
        let first = Origin::start(move |_, stream| {
            let fields = format!("retry-after: {asked}\r\n");
            stream.write_all(&answer("503 Service Unavailable", &fields, "first")).is_ok()
        });
        let second = Origin::saying("second");
        let gateway = gateway(&first, &second, &format!("retry: {{ on: [503]{settings} }}"));
        let began = Instant::now();
        let answer = get(gateway.web(), "/");
        assert_eq!(answer.status, expected, "{asked}{settings}");
        assert!(began.elapsed() >= Duration::from_millis(least), "{asked}{settings}");
        if expected == 503 {
            assert_eq!(answer.field("retry-after"), Some(asked));
        }
    }
}

#[test]
fn a_route_has_its_own_say() {
    let first = failing("503 Service Unavailable", "");
    let second = Origin::saying("second");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}', '{}'] }} }}\n\
         routes:\n  all: {{ to: origin }}\n  again: {{ match: {{ path: /again }}, retry: {{ on: [503] }}, to: origin }}\n",
        first.address(),
        second.address()
    ));
    for _ in 0..4 {
        assert_eq!(get(gateway.web(), "/again").text(), "second");
    }
    let statuses: Vec<u16> = (0..2).map(|_| get(gateway.web(), "/").status).collect();
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
}

#[test]
fn what_is_overloaded_is_not_asked_twice_as_often() {
    let first = failing("503 Service Unavailable", "");
    let second = failing("503 Service Unavailable", "");
    let gateway = gateway(&first, &second, "retry: { on: [503], backoff: 0ms..0ms, budget: 10% }");
    let began = Instant::now();
    let mut client = Client::new(gateway.web());
    for _ in 0..300 {
        assert_eq!(client.get("a", "/", "").status, 503);
    }
    let retries = (first.received().len() + second.received().len()) as u64 - 300;
    // What is saved up, a tenth of the requests, one a second.
    let most = 100 + 30 + began.elapsed().as_secs() + 1;
    assert!((100..=most).contains(&retries), "{retries} of {most}");
    let barred = gateway.metric("tollgate_retries_barred_total{upstream=\"origin\"}");
    assert_eq!(barred as u64 + retries, 300);
    assert_eq!(gateway.metric("tollgate_retries_total{upstream=\"origin\"}") as u64, retries);
}

/// An upstream that has fifty requests at once fails them all, and holds what comes again.
#[test]
fn of_what_is_under_way_only_a_share_comes_again() {
    for (settings, most, least) in
        [("budget: 20%", 10, 1), ("budget: 1%, at_once: 4", 4, 4), ("budget: 0%, at_once: 0", 0, 0)]
    {
        let (first, again) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let known = Mutex::new(HashSet::new());
        let (fails, ends) = (Arc::clone(&first), Arc::clone(&again));
        let origin = Origin::start(move |request, stream| {
            let is_first = known.lock().unwrap().insert(request.target().to_owned());
            wait_until("it is let go", || if is_first { &fails } else { &ends }.load(Ordering::SeqCst));
            let status = if is_first { "503 Service Unavailable" } else { "200 OK" };
            stream.write_all(&answer(status, "", "")).is_ok()
        });
        let gateway = Gateway::start(&format!(
            "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
             listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'], retry: {{ on: [503], backoff: 0ms..0ms, {settings} }} }} }}\n\
             routes: {{ all: {{ to: origin }} }}\n",
            origin.address()
        ));
        let count =
            |name: &str| gateway.metric(&format!("tollgate_retries_{name}{{upstream=\"origin\"}}")) as usize;
        let mut clients: Vec<Client> = (0..50)
            .map(|at| {
                let mut client = Client::new(gateway.web());
                client.write(format!("GET /{at} HTTP/1.1\r\nhost: a\r\n\r\n"));
                client
            })
            .collect();
        wait_until("all are under way", || origin.received().len() == 50);
        first.store(true, Ordering::SeqCst);
        wait_until("all have failed", || count("total") + count("barred_total") == 50);
        let retries = count("total");
        assert!((least..=most).contains(&retries), "{settings}: {retries} came again");
        again.store(true, Ordering::SeqCst);
        let statuses: Vec<u16> = clients.iter_mut().map(|client| client.read(false).status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), retries, "{settings}");
        // All is given back: the next one that fails is tried again.
        if least > 0 {
            first.store(true, Ordering::SeqCst);
            assert_eq!(get(gateway.web(), "/later").status, 200, "{settings}");
        }
    }
}
