//! Who calls: what lets a caller in, what does not, what the client, the upstream and the log learn.

use crate::harness::{Answer, Client, Gateway, Origin, get, send, wait_until};
use std::fs;
use tempfile::TempDir;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn ask(client: &mut Client, line: &str, fields: &[&str]) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client.send(format!("{line} HTTP/1.1\r\nhost: example.com\r\n{fields}\r\n"))
}

fn yaml(origin: &Origin, rest: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         plans: {{ gold: {{ description: all of it }} }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }}, fields: [status, consumer, principal, auth, cause] }} }}\n{rest}",
        origin.address()
    )
}

#[test]
fn an_api_key_lets_its_consumer_in() {
    let origin = Origin::saying("in");
    let rest = format!(
        "consumers: {{ acme: {{ plan: gold, credentials: [{{ api_key: {{ key: {KEY} }} }}] }} }}\n\
         routes:\n  \
           all: {{ policies: {{ authenticate: {{ any_of: [{{ api_key: {{ header: x-api-key, query: key, cookie: k, forward: false }} }}] }} }}, to: origin }}\n  \
           open: {{ match: {{ path: /open }}, policies: {{ authenticate: {{ any_of: [{{ api_key: {{ header: x-api-key }} }}], optional: true }} }}, to: origin }}\n"
    );
    let gateway = Gateway::start(&yaml(&origin, &rest));
    let mut client = Client::new(gateway.web());
    let refused = ask(&mut client, "GET /", &[]);
    assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"));
    assert_eq!(refused.field("www-authenticate"), Some("ApiKey realm=\"tollgate\""));
    let wrong = ask(&mut client, "GET /", &["x-api-key: 0123456789abcdef0123456789abcdeX"]);
    assert_eq!(
        (wrong.status, wrong.json()["title"].clone()),
        (401, refused.json()["title"].clone()),
        "a client does not learn why"
    );
    assert!(origin.received().is_empty(), "nothing refused goes upstream");

    assert_eq!(ask(&mut client, "GET /a?x=1", &[&format!("x-api-key: {KEY}"), "cookie: a=b"]).status, 200);
    assert_eq!((origin.last().field("x-api-key"), origin.last().field("cookie")), (None, Some("a=b")));
    assert_eq!(ask(&mut client, &format!("GET /a?x=%20&key={KEY}"), &[]).status, 200);
    assert_eq!(origin.last().target(), "/a?x=%20");
    assert_eq!(ask(&mut client, &format!("GET /a?key={KEY}"), &[]).status, 200);
    assert_eq!(origin.last().target(), "/a");
    let cookie = format!("cookie: a=b; k={KEY}; c=d");
    assert_eq!(ask(&mut client, "GET /", &[&cookie]).status, 200);
    assert_eq!(origin.last().field("cookie"), Some("a=b; c=d"));

    assert_eq!(ask(&mut client, "GET /open", &[]).status, 200);
    assert_eq!(ask(&mut client, "GET /open", &["x-api-key: junk"]).status, 401);
    assert_eq!(ask(&mut client, "GET /open", &[&format!("x-api-key: {KEY}")]).status, 200);
    assert_eq!(origin.last().field("x-api-key"), Some(KEY), "it is passed on unless told otherwise");

    let log = || fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    wait_until("all is logged", || log().lines().count() == 9);
    for line in [
        r#"{"status":401,"consumer":null,"principal":null,"auth":"missing","cause":"unauthenticated"}"#,
        r#"{"status":401,"consumer":null,"principal":null,"auth":"unknown_key","cause":"unauthenticated"}"#,
        r#"{"status":200,"consumer":"acme","principal":"acme","auth":"api_key","cause":null}"#,
        r#"{"status":200,"consumer":null,"principal":null,"auth":null,"cause":null}"#,
    ] {
        assert!(log().contains(line), "{line} is not in\n{}", log());
    }
    let metrics = get(gateway.at("admin"), "/metrics").text();
    for sample in [
        "tollgate_auth_total{method=\"api_key\",provider=\"_none\",outcome=\"admitted\"} 5",
        "tollgate_auth_total{method=\"api_key\",provider=\"_none\",outcome=\"unknown_key\"} 2",
        "tollgate_auth_total{method=\"_none\",provider=\"_none\",outcome=\"missing\"} 1",
        "tollgate_auth_total{method=\"_none\",provider=\"_none\",outcome=\"anonymous\"} 1",
        "tollgate_rejections_total{code=\"unauthenticated\"} 3",
    ] {
        assert!(metrics.contains(sample), "{sample} is not in\n{metrics}");
    }
}

#[test]
fn no_route_switches_an_enforced_one_off() {
    let origin = Origin::saying("in");
    let rest = format!(
        "consumers:\n  \
           acme: {{ credentials: [{{ api_key: {{ key: {KEY} }} }}] }}\n  \
           other: {{ credentials: [{{ api_key: {{ key: of the other consumer }} }}] }}\n\
         policies: {{ enforced: {{ authenticate: {{ any_of: [{{ api_key: {{ header: x-outer }} }}] }} }} }}\n\
         routes:\n  \
           plain: {{ match: {{ path: /plain }}, policies: {{ authenticate: off }}, to: origin }}\n  \
           own: {{ match: {{ path: /own }}, policies: {{ authenticate: {{ any_of: [{{ api_key: {{ header: x-inner }} }}] }} }}, to: origin }}\n"
    );
    let gateway = Gateway::start(&yaml(&origin, &rest));
    let mut client = Client::new(gateway.web());
    let (outer, inner) = (format!("x-outer: {KEY}"), format!("x-inner: {KEY}"));
    let table: &[(&str, &[&str], u16)] = &[
        ("GET /plain", &[], 401),
        ("GET /plain", &[&outer], 200),
        ("GET /own", &[&outer], 401),
        ("GET /own", &[&inner], 401),
        ("GET /own", &[&outer, &inner], 200),
        ("GET /own", &[&outer, "x-inner: of the other consumer"], 401),
    ];
    for (line, fields, status) in table {
        assert_eq!(ask(&mut client, line, fields).status, *status, "{line} {fields:?}");
    }
}

#[test]
fn consumers_come_from_a_file_and_follow_it() {
    let origin = Origin::saying("in");
    let folder = TempDir::new().unwrap();
    let consumer = |name: &str, key: &str| {
        format!("{{\"name\":\"{name}\",\"credentials\":[{{\"api_key\":{{\"key\":\"{key}\"}}}}]}}\n")
    };
    let file = folder.path().join("consumers.jsonl");
    fs::write(&file, consumer("acme", KEY)).unwrap();
    let rest = "consumers: { file: consumers.jsonl }\n\
                routes: { all: { policies: { authenticate: { any_of: [{ api_key: { header: x-api-key } }] } }, to: origin } }\n";
    let gateway = Gateway::start_in(folder, &yaml(&origin, rest));
    let status = |key: &str| {
        let fields = format!("x-api-key: {key}\r\nconnection: close\r\n");
        send(gateway.web(), &format!("GET / HTTP/1.1\r\nhost: example.com\r\n{fields}\r\n")).status
    };
    const NEXT: &str = "the key that comes after it";
    assert_eq!((status(KEY), status(NEXT)), (200, 401));
    fs::write(&file, consumer("acme", NEXT)).unwrap();
    wait_until("the file is read again", || status(NEXT) == 200);
    assert_eq!(status(KEY), 401);
    fs::write(&file, "{\"name\":").unwrap();
    let reload = || get(gateway.at("admin"), "/reload").text();
    wait_until("the mistake is told", || reload().contains("line 1: EOF"));
    assert_eq!(status(NEXT), 200, "what was in force stays");
}

#[test]
fn keys_in_files_of_their_own_are_read() {
    let origin = Origin::saying("in");
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("key"), format!("{KEY}\n")).unwrap();
    let rest = "consumers: { acme: { credentials: [{ api_key: { key: { file: key } } }] } }\n\
                routes: { all: { policies: { authenticate: { any_of: [{ api_key: { header: x-api-key } }] } }, to: origin } }\n";
    let gateway = Gateway::start_in(folder, &yaml(&origin, rest));
    assert_eq!(ask(&mut Client::new(gateway.web()), "GET /", &[&format!("x-api-key: {KEY}")]).status, 200);
}
