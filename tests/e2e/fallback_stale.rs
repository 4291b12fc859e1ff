//! What the cache has, too old as it is, in the place of an upstream that failed.

use crate::harness::{Answer, Client, Gateway, Http2, Origin, answer, send, wait_until};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const RESPOND: &str = "{ respond: { status: 203, body: sorry } }";

/// What answers say of themselves, and whether they may stand in for an upstream that fails.
const ANSWERS: &[(&str, &str, bool)] = &[
    ("/plain", "cache-control: max-age=10\r\nage: 11\r\n", true),
    ("/tag", "cache-control: max-age=10\r\nage: 11\r\netag: \"v\"\r\n", true),
    ("/fresh", "cache-control: max-age=600\r\netag: \"v\"\r\n", true),
    ("/too-old", "cache-control: max-age=10\r\nage: 3700\r\netag: \"v\"\r\n", false),
    ("/must", "cache-control: max-age=10, must-revalidate\r\nage: 11\r\netag: \"v\"\r\n", false),
    ("/proxy", "cache-control: max-age=10, proxy-revalidate\r\nage: 11\r\netag: \"v\"\r\n", false),
    ("/shared", "cache-control: s-maxage=10\r\nage: 11\r\netag: \"v\"\r\n", false),
    ("/no-cache", "cache-control: max-age=600, no-cache\r\netag: \"v\"\r\n", false),
    ("/no-store", "cache-control: max-age=10, no-store\r\nage: 11\r\n", false),
    ("/private", "cache-control: private, max-age=10\r\nage: 11\r\n", false),
];

/// An origin that is well until it is told to fail, and how.
fn origin(fails: &Arc<AtomicBool>, failure: &'static [u8]) -> Origin {
    let fails = Arc::clone(fails);
    Origin::start(move |request, stream| {
        if fails.load(Ordering::SeqCst) {
            let _ = stream.write_all(failure);
            return false;
        }
        let path = request.target();
        let fields = ANSWERS.iter().find(|(known, ..)| *known == path).map_or("", |(_, fields, _)| *fields);
        let body = format!("kept of {}", request.field("authorization").unwrap_or(path));
        let mut bytes = answer("200 OK", fields, &body);
        if request.line.starts_with("HEAD ") {
            bytes.truncate(bytes.len() - body.len());
        }
        stream.write_all(&bytes).is_ok()
    })
}

fn gateway(origin: &Origin, upstream: &str, cache: &str, steps: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         caches: {{ default: {{ memory: 8MiB }} }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'], retry: {{ attempts: 1 }}{upstream} }} }}\n\
         routes: {{ all: {{ policies: {{ cache: {{ purge_from: [127.0.0.1], {cache} }} }}, to: origin, \
         fallback: {{ to: [{steps}] }} }} }}\n",
        origin.address(),
    ))
}

fn fill(gateway: &Gateway) {
    let kept = || gateway.metric("tollgate_cache_stored_total{cache=\"default\"}");
    for (path, ..) in ANSWERS {
        assert_eq!(send(gateway.web(), &request("GET", path, "")).status, 200, "{path}");
    }
    let count = ANSWERS.iter().filter(|(path, ..)| !["/no-store", "/private"].contains(path)).count();
    wait_until("they are kept", || kept() >= count as f64);
}

fn request(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n")
}

fn told(answer: &Answer) -> (u16, Option<&str>, String) {
    (answer.status, answer.field("tollgate-fallback"), answer.text())
}

const FAILURES: [&[u8]; 3] =
    [b"", b"HTTP/1.1 503 Oh\r\ncontent-length: 3\r\n\r\nill", b"HTTP/1.1 200 OK\r\ncontent-le"];

#[test]
fn what_is_kept_stands_in_where_its_origin_does_not_forbid_it() {
    for failure in FAILURES {
        let fails = Arc::<AtomicBool>::default();
        let origin = origin(&fails, failure);
        let gateway = gateway(&origin, "", "", &format!("{{ stale: {{ max_age: 1h }} }}, {RESPOND}"));
        fill(&gateway);
        fails.store(true, Ordering::SeqCst);
        let stands_in =
            |by: &str| gateway.metric(&format!("tollgate_fallbacks_total{{route=\"all\",by=\"{by}\"}}"));
        for (path, fields, may) in ANSWERS {
            let case = format!("{path} {}", String::from_utf8_lossy(failure));
            let before = stands_in("stale");
            // One is fresh, and is asked about since its client wants to know.
            let asked = if fields.contains("=600\r\netag") { "cache-control: no-cache\r\n" } else { "" };
            let got = send(gateway.web(), &request("GET", path, asked));
            let (expected, by) = match may {
                true => ((200, Some("stale"), format!("kept of {path}")), 1.0),
                false => ((203, Some("respond"), "sorry".to_owned()), 0.0),
            };
            assert_eq!((told(&got), got.cut), (expected, false), "{case}");
            wait_until("it is counted", || stands_in("stale") - before == by);
            if *may {
                assert!(got.field("age").is_some(), "{case}");
                assert!(got.field("cache-status").unwrap().starts_with("tollgate; hit; ttl="), "{case}");
                // Without a fetch of its own as well.
                let head = request("HEAD", path, asked);
                let mut client = Client::new(gateway.web());
                client.write(head);
                let head = client.read(true);
                assert_eq!((head.status, head.field("tollgate-fallback")), (200, Some("stale")), "{case}");
                let modern = Http2::clear(gateway.web());
                let request =
                    http::Request::get(format!("http://a{path}")).header("cache-control", "max-age=0");
                assert_eq!(told(&modern.send(request, &[])).1, Some("stale"), "{case}");
                wait_until("all three are counted", || stands_in("stale") - before == 3.0);
            }
        }
        // No other method, and nothing that is not kept.
        assert_eq!(told(&send(gateway.web(), &request("POST", "/plain", "content-length: 0\r\n"))).0, 203);
        assert_eq!(told(&send(gateway.web(), &request("GET", "/never-seen", ""))).0, 203);
        let log = gateway.folder().join("access.log");
        let lines = || std::fs::read_to_string(&log).unwrap_or_default();
        let cause = if failure.starts_with(b"HTTP/1.1 503") { "upstream_status" } else { "upstream_failed" };
        let words = [format!("\"cause\":\"{cause}\""), "\"fallback\":\"stale\"".to_owned()];
        let count = || lines().lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
        wait_until("they are logged", || count() == 9);
        fails.store(false, Ordering::SeqCst);
        assert_eq!(told(&send(gateway.web(), &request("GET", "/tag", ""))).1, None, "it is well again");
    }
}

#[test]
fn it_is_nobody_elses_and_nothing_that_was_purged() {
    let fails = Arc::<AtomicBool>::default();
    let origin = origin(&fails, b"");
    let gateway = gateway(&origin, "", "key: { caller: true }", "{ stale: {} }");
    let ask = |who: &str| {
        send(gateway.web(), &request("GET", "/plain", &format!("authorization: Bearer {who}\r\n")))
    };
    assert_eq!(ask("ann").text(), "kept of Bearer ann");
    wait_until("it is kept", || gateway.metric("tollgate_cache_stored_total{cache=\"default\"}") >= 1.0);
    fails.store(true, Ordering::SeqCst);
    assert_eq!(told(&ask("ann")), (200, Some("stale"), "kept of Bearer ann".to_owned()));
    for (answer, who) in [(ask("bob"), "bob"), (send(gateway.web(), &request("GET", "/plain", "")), "nobody")]
    {
        assert_eq!((answer.status, answer.field("tollgate-fallback")), (502, None), "{who}");
    }
    for (how, status) in [("x-purge: soft\r\n", 200), ("", 502)] {
        assert_eq!(send(gateway.web(), &request("PURGE", "/plain", how)).status, 200);
        assert_eq!(ask("ann").status, status, "{how}");
    }
}

#[test]
fn all_that_wait_for_a_fetch_that_fails_have_what_is_kept() {
    let fails = Arc::<AtomicBool>::default();
    let (failing, open) = (Arc::clone(&fails), Arc::<AtomicBool>::default());
    let is_open = Arc::clone(&open);
    let origin = Origin::start(move |_, stream| {
        if failing.load(Ordering::SeqCst) {
            wait_until("it is let go", || is_open.load(Ordering::SeqCst));
            return false;
        }
        let fields = "cache-control: max-age=10\r\nage: 11\r\n";
        stream.write_all(&answer("200 OK", fields, "kept")).is_ok()
    });
    let gateway = gateway(&origin, "", "", "{ stale: {} }");
    assert_eq!(send(gateway.web(), &request("GET", "/", "")).text(), "kept");
    wait_until("it is kept", || gateway.metric("tollgate_cache_stored_total{cache=\"default\"}") >= 1.0);
    fails.store(true, Ordering::SeqCst);
    let clients: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = Client::new(gateway.web());
            client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            client
        })
        .collect();
    wait_until("all are in flight", || gateway.metric("tollgate_http_in_flight{listener=\"web\"}") >= 50.0);
    wait_until("one is asked for", || origin.received().len() == 2);
    open.store(true, Ordering::SeqCst);
    for mut client in clients {
        let answer = client.read(false);
        assert_eq!((told(&answer), answer.closes()), ((200, Some("stale"), "kept".to_owned()), false));
    }
    let by_stale = || gateway.metric("tollgate_fallbacks_total{route=\"all\",by=\"stale\"}");
    wait_until("all are counted", || by_stale() == 50.0);
}

#[test]
fn where_nobody_is_asked_it_is_there_at_once_and_the_connection_stays() {
    let fails = Arc::<AtomicBool>::default();
    let origin = origin(&fails, b"HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nill");
    let breaker = ", breaker: { of_at_least: 2, within: 10m, open_for: 1h }";
    let gateway = gateway(&origin, breaker, "", "{ stale: {} }");
    fill(&gateway);
    fails.store(true, Ordering::SeqCst);
    for path in ["/opens", "/the-breaker", "/opens", "/the-breaker"].repeat(8) {
        send(gateway.web(), &request("GET", path, ""));
    }
    assert_eq!(gateway.metric("tollgate_upstream_breaker_open{upstream=\"origin\"}"), 1.0);
    let before = origin.received().len();
    let mut client = Client::new(gateway.web());
    for _ in 0..3 {
        let answer = client.get("a", "/plain", "");
        assert_eq!(
            (told(&answer), answer.closes()),
            ((200, Some("stale"), "kept of /plain".to_owned()), false)
        );
    }
    assert_eq!(origin.received().len(), before, "nobody is asked");
}
