//! What a refusal says, and what it costs the client.

use crate::harness::{Answer, Authority, Client, Gateway, Http2, Origin, answer, get};
use std::io::Write;
use tempfile::TempDir;

fn start() -> (Origin, Gateway) {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes:\n\
         \x20 get: {{ match: {{ path: /get, methods: [GET, HEAD] }}, to: origin }}\n\
         \x20 denied: {{ match: {{ path: /denied }}, policies: {{ ip_access: {{ deny: [127.0.0.0/8] }} }}, to: origin }}\n\
         \x20 post: {{ match: {{ path: /post }}, to: origin }}\n",
        origin.address()
    ));
    (origin, gateway)
}

const REFUSED: [(&str, u16, &str); 3] =
    [("/none", 404, "route_not_found"), ("/get", 405, "method_not_allowed"), ("/denied", 403, "ip_denied")];

#[test]
fn a_refusal_keeps_the_connection_where_it_can() {
    let (origin, gateway) = start();
    let mut client = Client::new(gateway.web());
    for (target, status, code) in REFUSED {
        let body = "b".repeat(60_000);
        let chunks = format!("7530\r\n{}\r\n", &body[..30_000]).repeat(2);
        for (what, request) in [
            ("no body", format!("POST {target} HTTP/1.1\r\nhost: a\r\n\r\n")),
            ("a length of zero", format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")),
            ("a body", format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n{body}")),
            (
                "chunks",
                format!(
                    "POST {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
                ),
            ),
        ] {
            let refusal = client.send(&request);
            assert_eq!((refusal.status, refusal.code().as_str()), (status, code), "{target}, {what}");
            assert!(!refusal.closes(), "{target}, {what}");
        }
        let mut slow = Client::new(gateway.web());
        slow.write(format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf"));
        std::thread::yield_now();
        slow.write("half");
        let refusal = slow.read(false);
        assert_eq!((refusal.status, refusal.closes()), (status, false), "{target}, in two pieces");
    }
    assert_eq!(client.get("a", "/get", "").status, 200, "one connection for all of it");
    assert_eq!(origin.received().len(), 1);
}

/// RFC 9112 section 9.3, RFC 9110 section 10.1.1.
#[test]
fn a_refusal_closes_where_it_must() {
    let (origin, gateway) = start();
    for (target, status, _) in REFUSED {
        let chunk = format!("10000\r\n{}\r\n", "b".repeat(0x10000));
        for (what, request) in [
            (
                "a long body",
                format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\nbegun"),
            ),
            (
                "many chunks",
                format!(
                    "POST {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{}",
                    chunk.repeat(3)
                ),
            ),
            (
                "a body that stops",
                format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf"),
            ),
            (
                "a client that asks first",
                format!(
                    "POST {target} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
                ),
            ),
        ] {
            let mut client = Client::new(gateway.web());
            client.write(&request);
            let refusal = client.read_one(false);
            assert_eq!((refusal.status, refusal.closes()), (status, true), "{target}, {what}");
            assert!(client.is_closed(), "{target}, {what}");
        }
    }
    assert_eq!(origin.received().len(), 0);
}

/// RFC 9457, RFC 9110 section 9.3.2.
#[test]
fn a_refusal_says_what_the_client_may_know() {
    let (_origin, gateway) = start();
    let mut client = Client::new(gateway.web());
    let refusal = client.get("a", "/none", "");
    let json = refusal.json();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["title", "status", "code", "request_id"]);
    assert_eq!((json["status"].as_u64(), json["code"].as_str()), (Some(404), Some("route_not_found")));
    assert!(!json["request_id"].as_str().unwrap().is_empty());
    assert_eq!(refusal.field("content-type"), Some("application/problem+json"));
    assert_eq!(refusal.field("cache-control"), Some("no-store"));
    assert_eq!(refusal.field("server"), None);
    let length = refusal.field("content-length").unwrap().to_owned();

    let head = client.send("HEAD /none HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert_eq!(head.field("content-length"), Some(length.as_str()), "as for GET");
    let method = client.send("POST /get HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(method.field("allow"), Some("GET, HEAD"));
    assert_eq!(client.get("a", "/get", "").status, 200, "in step after all of them");
}

#[test]
fn an_upstreams_failure_says_nothing_of_it() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Origin::start(|_, _| {
        std::thread::park_timeout(std::time::Duration::from_secs(5));
        false
    });
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         upstreams: {{ dead: {{ endpoints: ['{dead}'] }},\n\
         \x20 silent: {{ endpoints: ['{}'], timeouts: {{ read: 100ms }} }} }}\n\
         routes: {{ dead: {{ match: {{ path: /dead }}, to: dead }}, silent: {{ match: {{ path: /silent }}, to: silent }} }}\n",
        silent.address()
    ));
    for (target, status, code) in [("/dead", 502, "upstream_failed"), ("/silent", 504, "upstream_timeout")] {
        let refusal = get(gateway.web(), target);
        assert_eq!((refusal.status, refusal.code().as_str(), refusal.closes()), (status, code, true));
        let all = format!("{:?} {}", refusal.fields, refusal.text());
        for inside in ["127.0.0.1", &dead.port().to_string(), &silent.address().port().to_string()] {
            assert!(!all.contains(inside), "{all}");
        }
        let over_http_2 = Http2::clear(gateway.web()).get(&format!("http://a{target}"));
        assert_eq!((over_http_2.status, over_http_2.code().as_str()), (status, code));
    }
}

#[test]
fn what_is_out_of_service_says_when_to_come_again() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        origin.address()
    ));
    let change = |path: &str| {
        let answer = gateway.admin("POST", path, "authorization: Bearer secret\r\ncontent-length: 0\r\n");
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let mut client = Client::new(gateway.web());
    let endpoint = format!("/upstreams/origin/{}", origin.address());
    change(&format!("{endpoint}/drain"));
    let refusal = client.get("a", "/", "");
    assert_eq!((refusal.status, refusal.code().as_str(), refusal.closes()), (503, "no_endpoint", false));
    assert!(refusal.field("retry-after").is_some());
    change(&format!("{endpoint}/resume"));
    assert_eq!(client.get("a", "/", "").status, 200, "on the same connection");
    change("/routes/all/off");
    let refusal = client.get("a", "/", "");
    assert_eq!((refusal.status, refusal.code().as_str(), refusal.closes()), (503, "route_off", false));
    assert!(refusal.field("retry-after").is_some());
    assert_eq!(origin.received().len(), 1);
}

/// "Responses" in the gRPC over HTTP/2 specification: Trailers-Only.
#[test]
fn a_grpc_caller_is_told_in_its_own_words() {
    let (origin, gateway) = start();
    let client = Http2::clear(gateway.web());
    for (target, content_type, status) in [
        ("/none", "application/grpc", Some("12")),
        ("/denied", "application/grpc+proto", Some("7")),
        ("/denied", "application/grpc;charset=utf-8", Some("7")),
        ("/denied", "application/grpc-web", Some("7")),
        ("/denied", "application/grpc-web-text+proto", Some("7")),
        ("/denied", "application/json", None),
    ] {
        let request = http::Request::post(format!("http://a{target}"))
            .header("content-type", content_type)
            .header("te", "trailers");
        let refusal = client.send(request, &[b"\0\0\0\0\x02hi"]);
        assert_eq!(refusal.field("grpc-status"), status, "{content_type}");
        if status.is_some() {
            let dialect = content_type.split(['+', ';']).next();
            assert_eq!((refusal.status, refusal.field("content-type")), (200, dialect));
            assert!(refusal.field("grpc-message").is_some_and(|message| !message.is_empty()));
            assert!(refusal.headers_only && refusal.body.is_empty(), "{refusal:?}");
        }
    }
    assert_eq!(origin.received().len(), 0);
}

#[test]
fn the_nearest_error_page_is_shown() {
    let origin = Origin::saying("in");
    let folder = TempDir::new().unwrap();
    for name in ["route.html", "host.json", "listener.txt"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let gateway = Gateway::start_in(
        folder,
        &format!(
            "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', error_pages: {{ 403: listener.txt, 404: listener.txt }} }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
             hosts: {{ b.example: {{ error_pages: {{ 403: host.json }} }} }}\n\
             routes:\n\
             \x20 own: {{ match: {{ path: /own }}, policies: {{ ip_access: {{ deny: [127.0.0.0/8] }} }}, \
             error_pages: {{ 403: route.html }}, to: origin }}\n\
             \x20 other: {{ match: {{ path: /other }}, policies: {{ ip_access: {{ deny: [127.0.0.0/8] }} }}, to: origin }}\n",
            origin.address()
        ),
    );
    let mut client = Client::new(gateway.web());
    for (host, target, page, content_type) in [
        ("b.example", "/own", "route.html", "text/html; charset=utf-8"),
        ("B.Example:80", "/other", "host.json", "application/json"),
        ("a.example", "/other", "listener.txt", "text/plain; charset=utf-8"),
        ("b.example", "/none", "listener.txt", "text/plain; charset=utf-8"),
    ] {
        let refusal = client.get(host, target, "");
        assert_eq!(
            (refusal.text().as_str(), refusal.field("content-type")),
            (page, Some(content_type)),
            "{host}{target}"
        );
    }
}

#[test]
fn a_page_can_read_a_refusal() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', \
         policies: {{ headers: {{ response: {{ set: {{ x-layer: listener }} }} }} }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes:\n\
         \x20 denied: {{ match: {{ path: /denied }}, to: origin, policies: {{ ip_access: {{ deny: [127.0.0.0/8] }}, \
         cors: {{ origins: ['https://app.example.com'] }}, headers: {{ response: {{ set: {{ x-layer: route }} }} }} }} }}\n",
        origin.address()
    ));
    let mut client = Client::new(gateway.web());
    let refusal = client.get("a", "/denied", "origin: https://app.example.com\r\n");
    assert_eq!(refusal.status, 403);
    assert_eq!(refusal.field("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(refusal.field("x-layer"), Some("route"));
    assert_eq!(client.get("a", "/none", "").field("x-layer"), Some("listener"), "without a route");
    assert_eq!(client.get("a", "/%00", "").field("x-layer"), Some("listener"), "what is malformed, too");
}

/// RFC 9110 section 7.6.3.
#[test]
fn a_request_that_comes_back_goes_no_further() {
    let (origin, gateway) = start();
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/get", "via: 1.1 other, 1.0 tollgate-0\r\n").status, 200);
    let ours = origin.last().fields("via").last().unwrap().to_string();
    let ours = ours.rsplit(", ").next().unwrap();
    for via in [ours.to_owned(), format!("1.1 other ,\t{ours} , 1.0 x"), format!("1.1 other\r\nvia: {ours}")]
    {
        let refusal = client.get("a", "/get", &format!("via: {via}\r\n"));
        assert_eq!((refusal.status, refusal.code().as_str()), (508, "loop_detected"), "{via}");
    }
    assert_eq!(origin.received().len(), 1);
}

/// RFC 9110 section 15.5.20.
#[test]
fn a_host_of_another_certificate_is_misdirected() {
    let origin = Origin::saying("in");
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let both = authority.issue(folder.path(), "both", &["a.example", "b.example"]);
    let other = authority.issue(folder.path(), "other", &["c.example"]);
    let gateway = Gateway::start_in(
        folder,
        &format!(
            "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', tls: {{ certificates: [{both}, {other}] }} }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
             routes: {{ all: {{ to: origin }} }}\n",
            origin.address()
        ),
    );
    let client = Http2::tls(gateway.web(), "a.example", &authority);
    for (host, status) in [
        ("a.example", 200),
        ("A.Example:443", 200),
        ("b.example", 200),
        ("c.example", 421),
        ("d.example", 421),
    ] {
        let answer = client.get(&format!("https://{host}/"));
        assert_eq!(answer.status, status, "{host}");
        if status == 421 {
            assert_eq!(answer.code(), "misdirected");
        }
    }
    assert_eq!(origin.last().field("x-forwarded-proto"), Some("https"));
}

#[test]
fn a_client_cannot_speak_for_the_gateway() {
    let (origin, gateway) = start();
    let lies = "x-forwarded-for: 203.0.113.9\r\nx-forwarded-for: 203.0.113.10\r\nx-forwarded-proto: https\r\n\
                x-forwarded-host: evil.example\r\nx-forwarded-port: 1\r\nx-forwarded-prefix: /evil\r\n\
                x-real-ip: 203.0.113.9\r\nforwarded: for=203.0.113.9\r\nX_Forwarded_For: 203.0.113.9\r\n\
                connection: x-forwarded-for, x-forwarded-proto, x-request-id, via\r\n";
    let passed = Client::new(gateway.web()).get("a.example", "/get", lies);
    if passed.status == 200 {
        let got = origin.last();
        assert_eq!(got.fields("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(got.fields("x-forwarded-proto"), ["http"]);
        assert_eq!(got.fields("x-forwarded-host"), ["a.example"]);
        assert_eq!((got.fields("x-request-id").len(), got.fields("via").len()), (1, 1));
        let all = got.fields.join("\n");
        assert!(!all.contains("203.0.113") && !all.contains("evil"), "{all}");
    } else {
        assert_eq!(passed.status, 400, "the gateway's own fields cannot be taken away by `Connection`");
    }
    let again = Client::new(gateway.web()).get("a.example", "/get", &lies.replace("connection: ", "x-a: "));
    assert_eq!(again.status, 200);
    assert!(!origin.last().fields.join("\n").contains("203.0.113"));
}

/// What an upstream says passes as it is, whatever the status.
#[test]
fn an_upstreams_own_error_is_its_own() {
    let origin = Origin::start(|_, stream| {
        stream.write_all(&answer("503 Service Unavailable", "retry-after: 7\r\n", "theirs")).is_ok()
    });
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        origin.address()
    ));
    let mut client = Client::new(gateway.web());
    for _ in 0..2 {
        let Answer { status, body, .. } = client.get("a", "/", "");
        assert_eq!((status, body.as_slice()), (503, &b"theirs"[..]), "and the connection is kept");
    }
}
