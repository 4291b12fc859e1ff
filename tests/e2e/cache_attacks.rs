//! What one client sends must not come out of the cache for another one, and what is purged not at all.

use crate::harness::{Answer, Client, Gateway, Origin, answer, wait_until};
use serde_json::{Value, json};
use std::io::Write as _;

/// An origin that tells the client all that it got, and lets it be kept: whatever reaches it and is in no
/// key comes out for others.
fn mirror() -> Origin {
    Origin::start(|request, stream| {
        let own = ["via", "x-request-id", "traceparent", "x-forwarded-for", "cookie", "authorization"];
        let seen: Vec<&String> = (request.fields.iter())
            .filter(|line| !own.iter().any(|name| line.to_ascii_lowercase().starts_with(name)))
            .collect();
        let body = format!("{}\n{seen:?}\n{}", request.line, String::from_utf8_lossy(&request.body));
        let is_large = request.fields.iter().map(String::len).sum::<usize>() > 6000;
        let status = match request.line.split(' ').next() {
            _ if is_large => "431 Request Header Fields Too Large",
            Some("GET") => "200 OK",
            _ => "405 Method Not Allowed",
        };
        let kept = if status == "200 OK" { "cache-control: max-age=600\r\nx-tags: all one\r\n" } else { "" };
        stream.write_all(&answer(status, kept, &body)).is_ok()
    })
}

fn gateway(origin: &Origin, listener: &str, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         caches: {{ default: {{ memory: 8MiB }}, other: {{ memory: 1MiB }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web'{listener} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n{rest}",
        origin.address(),
    ))
}

const ROUTES: &str = "routes: { all: { policies: { cache: { ttl: { 4xx: 600s }, tags_from: x-tags, purge_from: [127.0.0.1], \
                      key: { drop_query: [utm] } } }, to: origin } }\n";

/// What the attacker sends, to the byte, and the path that the victim asks for.
const ATTACKS: &[(&str, &str, &str)] = &[
    ("host with a port", "GET /1 HTTP/1.1\r\nhost: a:1337\r\n\r\n", "/1"),
    ("host of another site", "GET /2 HTTP/1.1\r\nhost: evil\r\n\r\n", "/2"),
    ("host in capitals", "GET /3 HTTP/1.1\r\nhost: A\r\n\r\n", "/3"),
    ("host with a dot and a port", "GET /4 HTTP/1.1\r\nhost: a.:80\r\n\r\n", "/4"),
    ("another host in the target", "GET http://evil/5 HTTP/1.1\r\nhost: a\r\n\r\n", "/5"),
    ("x-forwarded-host", "GET /6 HTTP/1.1\r\nhost: a\r\nx-forwarded-host: evil\r\n\r\n", "/6"),
    ("x-forwarded-proto", "GET /7 HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: evil\r\n\r\n", "/7"),
    ("forwarded", "GET /8 HTTP/1.1\r\nhost: a\r\nforwarded: host=evil;proto=https\r\n\r\n", "/8"),
    ("x-forwarded-port", "GET /9 HTTP/1.1\r\nhost: a\r\nx-forwarded-port: 666\r\n\r\n", "/9"),
    ("x-forwarded-prefix", "GET /10 HTTP/1.1\r\nhost: a\r\nx-forwarded-prefix: /evil\r\n\r\n", "/10"),
    ("x-host", "GET /11 HTTP/1.1\r\nhost: a\r\nx-host: evil\r\n\r\n", "/11"),
    ("x-original-url", "GET /12 HTTP/1.1\r\nhost: a\r\nx-original-url: /evil\r\n\r\n", "/12"),
    ("x-rewrite-url", "GET /13 HTTP/1.1\r\nhost: a\r\nx-rewrite-url: /evil\r\n\r\n", "/13"),
    ("method override", "GET /14 HTTP/1.1\r\nhost: a\r\nx-http-method-override: POST\r\n\r\n", "/14"),
    ("fat GET", "GET /15 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nevil", "/15"),
    (
        "fat GET in chunks",
        "GET /16 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        "/16",
    ),
    ("HEAD", "HEAD /17 HTTP/1.1\r\nhost: a\r\n\r\n", "/17"),
    ("another method", "POST /18 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", "/18"),
    ("a dropped parameter", "GET /19?utm=evil HTTP/1.1\r\nhost: a\r\n\r\n", "/19"),
    ("a cloaked parameter", "GET /20?utm=x;id=evil HTTP/1.1\r\nhost: a\r\n\r\n", "/20"),
    ("a parameter with an encoded name", "GET /21?%75tm=evil HTTP/1.1\r\nhost: a\r\n\r\n", "/21"),
    ("dot segments", "GET /x/../22?evil HTTP/1.1\r\nhost: a\r\n\r\n", "/22"),
    ("an encoded slash", "GET /23%2fevil HTTP/1.1\r\nhost: a\r\n\r\n", "/23"),
    ("a fragment", "GET /24#evil HTTP/1.1\r\nhost: a\r\n\r\n", "/24"),
    ("a range", "GET /25 HTTP/1.1\r\nhost: a\r\nrange: bytes=0-3\r\n\r\n", "/25"),
    ("a condition", "GET /26 HTTP/1.1\r\nhost: a\r\nif-none-match: \"evil\"\r\n\r\n", "/26"),
    (
        "a hop-by-hop field",
        "GET /27 HTTP/1.1\r\nhost: a\r\nconnection: x-evil\r\nx-evil: evil\r\n\r\n",
        "/27",
    ),
    ("a field with an underscore", "GET /28 HTTP/1.1\r\nhost: a\r\nx_forwarded_host: evil\r\n\r\n", "/28"),
];

#[test]
fn what_one_client_sends_comes_out_for_no_other() {
    let origin = mirror();
    // Once from a peer whose forwarding fields are believed, and once from one whose are not.
    for listener in ["", ", trusted_proxies: [127.0.0.1]"] {
        let gateway = gateway(&origin, listener, ROUTES);
        for (name, attack, path) in ATTACKS {
            // What is right is what another gateway gets, that nobody attacked.
            let bytes = |answer: &Answer| (answer.status, answer.text());
            for _ in 0..2 {
                let _ = Client::new(gateway.web()).send(attack);
            }
            let victim = Client::new(gateway.web()).get("a", path, "");
            assert_eq!(victim.status, 200, "{name} {listener}: {}", victim.text());
            assert!(
                victim.text().starts_with(&format!("GET {path} HTTP/1.1\n")),
                "{name}: {}",
                victim.text()
            );
            for evil in ["evil", "1337", "666", "A\"", "a.", "x-http-method", "range", "if-none"] {
                assert!(!victim.text().contains(evil), "{name} {listener}: {:?}", bytes(&victim));
            }
        }
        let large = format!("GET /big HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "x".repeat(7000));
        assert_eq!(Client::new(gateway.web()).send(&large).status, 431);
        assert_eq!(
            Client::new(gateway.web()).get("a", "/big", "").status,
            200,
            "an error of one request's own"
        );
    }
}

#[test]
fn callers_and_tenants_have_answers_of_their_own() {
    let origin = Origin::start(|request, stream| {
        let body = request.field("x-caller").unwrap_or("nobody").to_owned();
        stream.write_all(&answer("200 OK", "cache-control: public, max-age=600\r\n", &body)).is_ok()
    });
    let rest = "policies: { defaults: { authenticate: { any_of: [{ api_key: { header: x-key } }] } } }\n\
        consumers:\n\
        \x20 ann: { tenant: one, credentials: [{ api_key: { key: key-of-ann-0123456789ab } }] }\n\
        \x20 bob: { tenant: one, credentials: [{ api_key: { key: key-of-bob-0123456789ab } }] }\n\
        \x20 eve: { tenant: two, credentials: [{ api_key: { key: key-of-eve-0123456789ab } }] }\n\
        routes:\n\
        \x20 shared: { match: { path: /shared }, policies: { cache: {} }, to: origin }\n\
        \x20 own: { match: { path: /own }, policies: { cache: { key: { caller: true } } }, to: origin }\n";
    let gateway = gateway(&origin, "", rest);
    let ask = |who: &str, path: &str| {
        let before = origin.received().len();
        let fields = format!("x-key: key-of-{who}-0123456789ab\r\nx-caller: {who}\r\n");
        let answer = Client::new(gateway.web()).get("a", path, &fields);
        assert_eq!(answer.status, 200, "{}", answer.text());
        (answer.text(), origin.received().len() - before)
    };
    let stored = || gateway.metric("tollgate_cache_stored_total{cache=\"default\"}");
    for (who, path, expected, asked) in [
        ("ann", "/shared", "ann", 1),
        ("bob", "/shared", "ann", 0),
        ("eve", "/shared", "eve", 1),
        ("ann", "/own", "ann", 1),
        ("bob", "/own", "bob", 1),
        ("ann", "/own", "ann", 0),
        ("eve", "/own", "eve", 1),
        ("bob", "/own", "bob", 0),
    ] {
        let before = stored();
        assert_eq!(ask(who, path), (expected.to_owned(), asked), "{who} {path}");
        wait_until("the answer is kept", || stored() >= before + asked as f64);
    }
    assert_eq!(
        Client::new(gateway.web()).get("a", "/shared", "").status,
        401,
        "who may not ask gets nothing"
    );
}

#[test]
fn purges_are_in_force_for_the_next_request() {
    let origin = mirror();
    let gateway = gateway(&origin, "", ROUTES);
    let mut client = Client::new(gateway.web());
    let mut is_kept = |host: &str, target: &str| {
        let before = origin.received().len();
        assert_eq!(client.get(host, target, "").status, 200);
        origin.received().len() == before
    };
    let purge = |what: Value| {
        let body = what.to_string();
        let fields = format!("authorization: Bearer secret\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        // The harness ends the head itself, behind the body that is read by its length.
        gateway.admin("POST", "/caches/purge", &fields)
    };
    let cases = [
        (json!({ "url": "http://A:80/x/1" }), [true, false, false, false]),
        (json!({ "prefix": "http://a/x/" }), [true, true, false, false]),
        (json!({ "host": "a" }), [true, true, true, false]),
        (json!({ "tag": "one" }), [true, true, true, true]),
        (json!({ "tag": "on" }), [false, false, false, false]),
        (json!({ "all": true, "cache": "other" }), [false, false, false, false]),
        (json!({ "all": true }), [true, true, true, true]),
    ];
    let places = [("a", "/x/1"), ("a", "/x/2"), ("a", "/y"), ("b", "/x/1")];
    for (what, gone) in cases {
        for (host, target) in places {
            wait_until("all are kept", || is_kept(host, target));
        }
        let told = purge(what.clone());
        assert_eq!(told.status, 200, "{what}: {}", told.text());
        for ((host, target), gone) in places.into_iter().zip(gone) {
            assert_eq!(is_kept(host, target), !gone, "{what}: {host}{target}");
        }
    }
    for (wrong, status) in [
        (json!({}), 400),
        (json!({ "url": "/x" }), 400),
        (json!({ "url": "http://a/", "all": true }), 400),
        (json!({ "tags": "a" }), 400),
        (json!({ "host": "a/b" }), 400),
        (json!({ "all": true, "cache": "nowhere" }), 404),
    ] {
        assert_eq!(purge(wrong.clone()).status, status, "{wrong}");
    }
    assert_eq!(gateway.admin("POST", "/caches/purge", "content-length: 0\r\n").status, 401);
    // By method, from those who may.
    wait_until("it is kept", || is_kept("a", "/y"));
    let purged = Client::new(gateway.web()).send("PURGE /y HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((purged.status, purged.text().as_str()), (200, "purged\n"));
    assert!(!is_kept("a", "/y"));
    let rest = "routes: { all: { policies: { cache: { purge_from: [192.0.2.1] } }, to: origin } }\n";
    let gateway = self::gateway(&origin, "", rest);
    let refused = Client::new(gateway.web()).send("PURGE /y HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((refused.status, refused.code().as_str()), (403, "purge_refused"));
}
