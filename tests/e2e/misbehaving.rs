//! Endpoints that misbehave in every way there is, behind all that looks after upstreams: no request waits longer than its
//! deadline, and when all is over nothing is left in flight. `--no-capture` prints the table of `loadtest/RESULTS.md`.

use crate::harness::{Client, Gateway, Origin, Received, answer, wait_until};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Makes an origin, with what says that the test is over.
type MakeOrigin = fn(&Arc<AtomicBool>) -> Origin;

/// What a request may take in all.
const DEADLINE: Duration = Duration::from_secs(1);
/// How much later a machine that is busy with other things may notice it.
const BUSY: Duration = Duration::from_secs(15);
const CLIENTS: usize = 8;
/// A body longer than what is kept for another attempt.
const LONG: usize = 200_000;

/// Waits for the other side to leave.
fn hold(stream: &mut TcpStream) -> bool {
    let _ = stream.read(&mut [0]);
    false
}

fn hangs(_: &Received, stream: &mut TcpStream) -> bool {
    hold(stream)
}

fn resets(_: &Received, stream: &mut TcpStream) -> bool {
    crate::harness::abort(stream);
    false
}

fn answers_503(_: &Received, stream: &mut TcpStream) -> bool {
    stream.write_all(&answer("503 Service Unavailable", "", "no")).is_ok()
}

/// A head, and then a byte now and then, without end.
fn drips(_: &Received, stream: &mut TcpStream) -> bool {
    let mut alive = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").is_ok();
    while alive {
        std::thread::park_timeout(Duration::from_millis(50));
        alive = stream.write_all(b"a").is_ok();
    }
    false
}

fn is_slow(_: &Received, stream: &mut TcpStream) -> bool {
    std::thread::park_timeout(Duration::from_millis(200));
    stream.write_all(&answer("200 OK", "", "late")).is_ok()
}

/// Accepts, and never reads what comes.
fn never_reads(ended: &Arc<AtomicBool>) -> Origin {
    let ended = Arc::clone(ended);
    Origin::raw(move |stream, _| {
        while !ended.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        drop(stream);
    })
}

fn gateway(bad: &Origin, good: Option<&Origin>) -> Gateway {
    let mut endpoints = vec![format!("'{}'", bad.address())];
    endpoints.extend(good.map(|good| format!("'{}'", good.address())));
    let guards = "breaker: { of_at_least: 20, within: 1m, open_for: 300ms }, \
                  endpoint_breaker: { of_at_least: 6, within: 1m, open_for: 300ms, slow: { after: 150ms } }, \
                  health: { passive: { consecutive_failures: 4, eject: 200ms } }, \
                  limits: { requests: 4, waiting: 4, wait: 300ms }, \
                  retry: { attempts: 3, on: [connect, reset, timeout, 503] }";
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: [{}], {guards}, timeouts: {{ connect: 300ms, read: 300ms, write: 300ms, total: {}s }} }} }}\n\
         routes: {{ all: {{ to: origin }}, softly: {{ match: {{ path: /softly }}, to: origin, fallback: {{ to: [{{ respond: {{}} }}] }} }} }}\n",
        endpoints.join(", "),
        DEADLINE.as_secs()
    ))
}

/// What came of the requests of one client, and the longest that one took.
fn ask(gateway: &Gateway) -> (Vec<u16>, Duration) {
    let (mut statuses, mut longest) = (Vec::new(), Duration::ZERO);
    for (method, target, body) in
        [("GET", "/", 0), ("PUT", "/softly", 10), ("GET", "/softly", 0), ("POST", "/", LONG)]
    {
        let began = Instant::now();
        let mut client = Client::new(gateway.web());
        client.write(format!("{method} {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {body}\r\n\r\n"));
        client.write("b".repeat(body));
        statuses.push(client.read(false).status);
        longest = longest.max(began.elapsed());
    }
    (statuses, longest)
}

fn nothing_is_left(gateway: &Gateway, what: &str) {
    let name = |metric: &str| format!("tollgate_{metric}");
    for series in [
        "http_in_flight{listener=\"web\"}",
        "upstream_in_flight{upstream=\"origin\"}",
        "upstream_waiting{upstream=\"origin\"}",
    ] {
        wait_until(&format!("{what}: {series} is zero"), || gateway.metric(&name(series)) == 0.0);
    }
    wait_until(&format!("{what}: endpoints have none"), || {
        let view = gateway.admin("GET", "/upstreams", "").json();
        view[0]["endpoints"].as_array().unwrap().iter().all(|endpoint| endpoint["in_flight"] == 0)
    });
}

#[test]
fn no_request_waits_longer_than_its_deadline_and_nothing_is_left_in_flight() {
    println!(
        "| endpoint | requests | 2xx | 503 | 502, 504 | cut | longest |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    let ended = Arc::<AtomicBool>::default();
    let bad: [(&str, MakeOrigin); 6] = [
        ("hangs", |_| Origin::start(hangs)),
        ("resets", |_| Origin::start(resets)),
        ("answers slowly", |_| Origin::start(is_slow)),
        ("answers without end", |_| Origin::start(drips)),
        ("answers 503", |_| Origin::start(answers_503)),
        ("accepts and never reads", never_reads),
    ];
    for (what, origin) in bad {
        for has_other in [false, true] {
            let origin = origin(&ended);
            let good = has_other.then(|| Origin::saying("good"));
            let gateway = gateway(&origin, good.as_ref());
            let told: Vec<_> = std::thread::scope(|scope| {
                let asking: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| ask(&gateway))).collect();
                asking.into_iter().map(|asking| asking.join().unwrap()).collect()
            });
            let longest = told.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
            let what = if has_other { format!("{what}, and another one") } else { what.to_owned() };
            assert!(longest < DEADLINE + BUSY, "{what}: {longest:?}");
            let statuses: Vec<u16> = told.into_iter().flat_map(|(statuses, _)| statuses).collect();
            let count = |of: fn(u16) -> bool| statuses.iter().filter(|status| of(**status)).count();
            let sums = [
                count(|status| (200..300).contains(&status)),
                count(|status| status == 503),
                count(|status| matches!(status, 502 | 504)),
                count(|status| status == 0),
            ];
            assert_eq!(sums.iter().sum::<usize>(), 4 * CLIENTS, "{what}: {statuses:?}");
            let [ok, refused, failed, cut] = sums;
            let all = statuses.len();
            println!(
                "| {what} | {all} | {ok} | {refused} | {failed} | {cut} | {:.2} s |",
                longest.as_secs_f64()
            );
            nothing_is_left(&gateway, &what);
        }
    }
    ended.store(true, Ordering::SeqCst);
}
