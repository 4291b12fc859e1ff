//! Answers that were made for one client, or that are none of the upstream's, come out of the cache for nobody else.

use crate::harness::{Answer, Client, Gate, Gateway, Http2, Origin, answer, wait_until};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn gateway(origin: &Origin, upstream: &str, cache: &str, route: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         caches: {{ default: {{ memory: 8MiB }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'], retry: {{ attempts: 1 }}{upstream} }} }}\n\
         routes: {{ all: {{ policies: {{ cache: {{ purge_from: [127.0.0.1], {cache} }} }}, to: origin{route} }} }}\n",
        origin.address(),
    ))
}

fn ask(gateway: &Gateway, fields: &str) -> Answer {
    Client::new(gateway.web()).get("a", "/", fields)
}

fn wait_for_kept(gateway: &Gateway, count: f64) {
    let kept = || gateway.metric("tollgate_cache_stored_total{cache=\"default\"}");
    wait_until("the answer is kept", || kept() >= count);
}

/// Answers with what a field of the request says.
fn saying(name: &'static str, fields: &'static str) -> Origin {
    Origin::start(move |request, stream| {
        let body = request.field(name).unwrap_or("nothing").to_owned();
        stream.write_all(&answer("200 OK", fields, &body)).is_ok()
    })
}

#[test]
fn credentials_that_only_the_upstream_reads_are_told_apart_as_well() {
    // `max-age` alone lets a cache keep for the same caller, and for no other (RFC 9111 section 3.5).
    let origin = saying("authorization", "cache-control: max-age=600\r\n");
    let gateway = gateway(&origin, "", "key: { caller: true }", "");
    for (at, who) in ["Bearer ann", "Bearer bob"].into_iter().enumerate() {
        let fields = format!("authorization: {who}\r\n");
        assert_eq!(ask(&gateway, &fields).text(), who);
        wait_for_kept(&gateway, at as f64 + 1.0);
        assert_eq!(ask(&gateway, &fields).text(), who, "and from the cache");
    }
    assert_eq!(origin.received().len(), 2);
    assert_eq!(ask(&gateway, "").text(), "nothing");
}

#[test]
fn what_a_client_takes_away_on_the_way_is_not_in_its_key() {
    let origin = saying("accept-language", "cache-control: max-age=600\r\nvary: accept-language\r\n");
    for cache in ["", "vary_on: [accept-language]"] {
        let gateway = gateway(&origin, "", cache, "");
        for connection in ["accept-language", "close, Accept-Language"] {
            let attack = format!("accept-language: de\r\nconnection: {connection}\r\n");
            assert_eq!(ask(&gateway, &attack).text(), "nothing", "it does not reach the origin");
            assert_eq!(ask(&gateway, "accept-language: de\r\n").text(), "de", "{cache} {connection}");
        }
    }
}

#[test]
fn of_several_cookies_with_one_name_each_counts() {
    let origin = saying("cookie", "cache-control: max-age=600\r\n");
    let gateway = gateway(&origin, "", "key: { cookies: [lang] }", "");
    // Some upstreams take the first of them, and some the last.
    for attack in ["lang=en; lang=evil", "lang=evil; lang=en", "lang=en; lang =bad"] {
        assert_eq!(ask(&gateway, &format!("cookie: {attack}\r\n")).text(), attack);
    }
    assert_eq!(ask(&gateway, "cookie: lang=en\r\n").text(), "lang=en");
}

#[test]
fn an_answer_to_head_tells_of_what_is_kept_only_if_it_was_asked_for_the_same() {
    let origin = Origin::start(|request, stream| {
        let fields =
            format!("cache-control: max-age=600\r\netag: \"v\"\r\nx-target: {}\r\n", request.target());
        let mut bytes = answer("200 OK", &fields, "body");
        bytes.truncate(bytes.len() - if request.line.starts_with("HEAD ") { 4 } else { 0 });
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&origin, "", "key: { drop_query: [utm] }", "");
    assert_eq!(ask(&gateway, "").field("x-target"), Some("/"));
    wait_for_kept(&gateway, 1.0);
    let head = |target: &str| {
        let request = format!("HEAD {target} HTTP/1.1\r\nhost: a\r\ncache-control: no-cache\r\n\r\n");
        let mut client = Client::new(gateway.web());
        client.write(request);
        client.read(true)
    };
    assert_eq!(head("/?utm=evil").field("x-target"), Some("/?utm=evil"), "it goes to the origin as it is");
    let kept = ask(&gateway, "");
    assert_eq!((kept.field("x-target"), origin.received().len()), (Some("/"), 2));
}

#[test]
fn an_answer_that_varies_on_what_the_gateway_writes_is_for_one_client() {
    for name in ["x-forwarded-for", "x-request-id", "traceparent"] {
        let fields: &'static str = format!("cache-control: max-age=600\r\nvary: accept, {name}\r\n").leak();
        let origin = saying(name, fields);
        let gateway = gateway(&origin, "", "", "");
        for _ in 0..2 {
            assert_ne!(ask(&gateway, "").text(), "nothing");
        }
        assert_eq!(origin.received().len(), 2, "{name}");
    }
}

#[test]
fn what_stands_in_for_the_upstream_arrives_whole_and_is_not_kept() {
    let fails = Arc::new(AtomicUsize::new(usize::MAX));
    let failing = Arc::clone(&fails);
    let origin = Origin::start(move |_, stream| {
        let is_ill = failing.load(Ordering::SeqCst) > 0;
        let status = if is_ill { "503 Service Unavailable" } else { "200 OK" };
        stream.write_all(&answer(status, "", if is_ill { "ill" } else { "well" })).is_ok()
    });
    let second = Origin::saying("second");
    let text = |answer: &Answer| (answer.status, answer.text(), answer.cut);
    let respond = "{ respond: { status: 200, body: sorry } }";
    let (empty, upstream) = ("{ respond: { status: 200 } }", "{ upstream: second }");
    for (step, by, said) in
        [(respond, "respond", "sorry"), (empty, "respond", ""), (upstream, "upstream", "second")]
    {
        fails.store(1, Ordering::SeqCst);
        let yaml = format!(
            "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
             caches: {{ default: {{ memory: 8MiB }} }}\n\
             telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
             listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'], retry: {{ attempts: 1 }} }}, second: {{ endpoints: ['{}'] }} }}\n\
             routes: {{ all: {{ policies: {{ cache: {{ default_ttl: 600s }} }}, to: origin, \
             fallback: {{ to: [{step}] }} }} }}\n",
            origin.address(),
            second.address()
        );
        let gateway = Gateway::start(&yaml);
        let mut client = Client::new(gateway.web());
        for _ in 0..2 {
            let answer = client.get("a", "/", "");
            assert_eq!(text(&answer), (200, said.to_owned(), false));
            assert_eq!((answer.field("tollgate-fallback"), answer.closes()), (Some(by), false));
            let modern = Http2::clear(gateway.web()).get("http://a/");
            assert_eq!((modern.status, modern.text().as_str()), (200, said));
        }
        let log = gateway.folder().join("access.log");
        let logged = || std::fs::read_to_string(&log).unwrap_or_default();
        let word = format!("\"fallback\":\"{by}\"");
        wait_until("it is logged", || logged().matches(&word).count() == 4);
        fails.store(0, Ordering::SeqCst);
        assert_eq!(ask(&gateway, "").text(), "well");
        wait_for_kept(&gateway, 1.0);
        fails.store(1, Ordering::SeqCst);
        assert_eq!(ask(&gateway, "").text(), "well", "that is kept");
    }
}

#[test]
fn what_the_gateway_refuses_is_not_kept_however_it_is_said() {
    let origin = Origin::start(|_, stream| stream.write_all(&answer("500 Oh", "", "ill")).is_ok());
    // In gRPC's words a refusal is a 200.
    let breaker = ", breaker: { of_at_least: 2, within: 10m, open_for: 1h }";
    let gateway = gateway(&origin, breaker, "default_ttl: 600s", "");
    assert_eq!([(); 2].map(|()| ask(&gateway, "").status), [500; 2]);
    let attack = ask(&gateway, "content-type: application/grpc\r\n");
    assert_eq!((attack.status, attack.field("grpc-status")), (200, Some("14")));
    let victim = ask(&gateway, "");
    assert_eq!((victim.status, victim.code().as_str()), (503, "breaker_open"));
}

#[test]
fn a_request_after_a_purge_gets_nothing_that_was_asked_for_before() {
    let gate = Arc::new(Gate::default());
    let (waits, count) = (Arc::clone(&gate), AtomicUsize::new(0));
    let origin = Origin::start(move |_, stream| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n";
        let begun = stream.write_all(format!("{head}8\r\nanswer {number}\r\n").as_bytes()).is_ok();
        if number == 1 {
            waits.pass();
        }
        begun && stream.write_all(b"0\r\n\r\n").is_ok()
    });
    let gateway = gateway(&origin, "", "", "");
    let mut before = Client::new(gateway.web());
    before.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    before.wait_for_bytes();
    assert_eq!(Client::new(gateway.web()).send("PURGE / HTTP/1.1\r\nhost: a\r\n\r\n").status, 200);
    assert_eq!(ask(&gateway, "").text(), "answer 2", "what comes still is what was purged");
    wait_for_kept(&gateway, 1.0);
    gate.open();
    assert_eq!(before.read(false).text(), "answer 1");
    assert_eq!((ask(&gateway, "").text().as_str(), origin.received().len()), ("answer 2", 2));
}

#[test]
fn a_body_that_no_field_announces_goes_past_the_cache() {
    let origin = saying("content-length", "cache-control: max-age=600\r\n");
    let gateway = gateway(&origin, "", "", "");
    let request = || http::Request::get("http://a/");
    let fat = Http2::clear(gateway.web()).send(request(), &[b"evil"]);
    assert_eq!(fat.status, 200);
    assert!(fat.field("cache-status").unwrap().contains("fwd=bypass"), "{:?}", fat.field("cache-status"));
    assert_eq!(origin.last().body, b"evil");
    assert!(ask(&gateway, "").field("cache-status").unwrap().contains("stored"));
}

#[test]
fn a_url_that_is_too_long_to_be_remembered_goes_past_the_cache() {
    let origin = saying("host", "cache-control: max-age=600\r\n");
    let gateway = gateway(&origin, "", "", "");
    for (length, word) in [(4000, "stored"), (4100, "fwd=bypass")] {
        let answer = Client::new(gateway.web()).get("a", &format!("/{}", "x".repeat(length)), "");
        assert!(answer.field("cache-status").unwrap().contains(word), "{length}");
    }
}

#[test]
fn an_answer_without_content_has_no_length() {
    let origin = Origin::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 204 No Content\r\ncache-control: max-age=600\r\n\r\n").is_ok()
    });
    let gateway = gateway(&origin, "", "", "");
    assert_eq!(ask(&gateway, "").status, 204);
    wait_for_kept(&gateway, 1.0);
    let kept = ask(&gateway, "");
    assert_eq!((kept.status, kept.field("content-length"), origin.received().len()), (204, None, 1));
}
