//! The policies, whole: what passes, what is refused and how, what the upstream saw.

use crate::harness::{Answer, Client, Gateway, Origin, send};

/// One origin, one listener, and these sections.
fn gateway(origin: &Origin, sections: &str) -> Gateway {
    let listeners = "listeners: { web: { address: '127.0.0.1:PORT_web', trusted_proxies: [127.0.0.0/8] } }\n";
    let listeners = if sections.contains("listeners:") { "" } else { listeners };
    let upstreams = format!("upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n", origin.address());
    Gateway::start(&format!("{listeners}{upstreams}{sections}"))
}

fn ask(client: &mut Client, line: &str, fields: &[&str]) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client.send(format!("{line} HTTP/1.1\r\nhost: example.com\r\n{fields}\r\n"))
}

#[test]
fn ip_access_refuses_and_keeps_the_connection() {
    let origin = Origin::saying("in");
    let gateway = gateway(
        &origin,
        "routes: { all: { policies: { ip_access: { allow: [192.0.2.0/24, '2001:db8::/32'], deny: [192.0.2.128/25] } }, to: origin } }\n",
    );
    let mut client = Client::new(gateway.web());
    for (forwarded, status) in [
        ("192.0.2.1", 200),
        ("192.0.2.200", 403),
        ("198.51.100.1", 403),
        ("2001:db8::1", 200),
        ("::ffff:192.0.2.1", 200),
        ("2001:db9::1", 403),
    ] {
        let answer = ask(&mut client, "GET /", &[&format!("x-forwarded-for: {forwarded}")]);
        assert_eq!(answer.status, status, "{forwarded}");
        if status == 403 {
            assert_eq!(answer.code(), "ip_denied");
            assert_eq!(answer.field("content-type"), Some("application/problem+json"));
            assert!(!answer.text().contains("network"), "the reason is for the log: {}", answer.text());
        }
    }
    assert_eq!(origin.received().len(), 3, "nothing refused goes upstream");
    assert_eq!(ask(&mut client, "GET /", &[]).status, 403, "the peer itself, on the same connection");
}

#[test]
fn faults_delay_and_refuse_whoever_asks_for_them() {
    let origin = Origin::saying("in");
    let fault = "fault: { header: x-fault, delay: { by: 150ms }, abort: { status: 504, share: 100% } }";
    let slow = "fault: { delay: { by: 150ms } }";
    let gateway = gateway(
        &origin,
        &format!(
            "routes: {{ all: {{ policies: {{ {fault} }}, to: origin }}, slow: {{ match: {{ path: /slow }}, policies: {{ {slow} }}, to: origin }} }}\n"
        ),
    );
    let mut client = Client::new(gateway.web());
    assert_eq!(ask(&mut client, "GET /", &[]).status, 200);
    for (line, fields, status) in [("GET /", &["x-fault: 1"][..], 504), ("GET /slow", &[], 200)] {
        let began = std::time::Instant::now();
        let answer = ask(&mut client, line, fields);
        assert_eq!(answer.status, status, "{line}");
        assert!(began.elapsed() >= std::time::Duration::from_millis(150), "{line}: {:?}", began.elapsed());
    }
    assert_eq!(origin.received().len(), 2, "what is refused goes nowhere, and the connection was kept");
}

#[test]
fn a_grpc_caller_is_refused_in_its_own_words() {
    let origin = Origin::saying("in");
    let gateway = gateway(
        &origin,
        "routes: { all: { policies: { ip_access: { deny: [127.0.0.0/8] } }, to: origin } }\n",
    );
    let answer = ask(
        &mut Client::new(gateway.web()),
        "POST /a.B/C",
        &["content-type: application/grpc+proto", "content-length: 0"],
    );
    assert_eq!((answer.status, answer.field("grpc-status")), (200, Some("7")));
    assert_eq!(answer.field("content-type"), Some("application/grpc"));
}

#[test]
fn cors_answers_preflights_and_marks_every_answer() {
    let origin = Origin::start(|request, stream| {
        use std::io::Write as _;
        let fields = "access-control-allow-origin: https://theirs.example\r\n";
        stream.write_all(&crate::harness::answer("200 OK", fields, &request.line)).is_ok()
    });
    let gateway = gateway(
        &origin,
        "routes:\n  api:\n    match: { methods: [PUT, DELETE] }\n    policies:\n      cors: { origins: ['https://a.example'], methods: [PUT], headers: [x-tag] }\n      body_limit: { max: 2B }\n    to: origin\n",
    );
    let mut client = Client::new(gateway.web());
    let preflight = |origin, method| {
        ask(
            &mut Client::new(gateway.web()),
            "OPTIONS /x",
            &[
                &format!("origin: {origin}"),
                &format!("access-control-request-method: {method}"),
                "access-control-request-headers: x-tag",
            ],
        )
    };
    let yes = preflight("https://a.example", "PUT");
    assert_eq!((yes.status, yes.field("access-control-allow-origin")), (204, Some("https://a.example")));
    assert_eq!(yes.field("access-control-allow-methods"), Some("PUT"));
    assert_eq!(yes.field("access-control-allow-headers"), Some("x-tag"));
    for (who, method) in [("https://b.example", "PUT"), ("https://a.example", "DELETE")] {
        let no = preflight(who, method);
        assert_eq!((no.status, no.field("access-control-allow-methods")), (204, None), "{who} {method}");
    }
    assert_eq!(preflight("https://a.example", "PATCH").status, 405, "no route takes PATCH");
    assert!(origin.received().is_empty(), "preflights stay here");

    let answer = ask(&mut client, "PUT /x", &["origin: https://a.example", "content-length: 0"]);
    assert_eq!(
        answer.fields("access-control-allow-origin"),
        ["https://a.example"],
        "ours, not the upstream's"
    );
    let answer = ask(
        &mut client,
        "PUT /x",
        &["origin: https://a.example", "content-length: 3", "expect: 100-continue"],
    );
    assert_eq!(
        (answer.status, answer.field("access-control-allow-origin")),
        (413, Some("https://a.example")),
        "a page may read a refusal"
    );
}

#[test]
fn headers_are_edited_on_both_sides() {
    let origin = Origin::start(|_, stream| {
        use std::io::Write as _;
        let fields = "server: secret/1.0\r\nx-a: theirs\r\nvary: accept\r\n";
        stream.write_all(&crate::harness::answer("200 OK", fields, "ok")).is_ok()
    });
    let gateway = gateway(
        &origin,
        "routes:\n  orders:\n    match: { path: '/orders/{id}' }\n    policies:\n      headers:\n        request: { remove: [x-gone], set: { x-id: '{id}', x-who: '{client.ip} {request.method}' }, add: { x-more: b } }\n        response: { remove: [server], set: { x-a: ours, x-q: '{query.q}' }, add: { vary: origin } }\n    to: origin\n",
    );
    let mut client = Client::new(gateway.web());
    let answer =
        ask(&mut client, "GET /orders/7?q=1", &["x-gone: 1", "x-id: mine", "x-id: twice", "x-more: a"]);
    let got = origin.last();
    assert_eq!((got.fields("x-gone"), got.fields("x-id")), (vec![], vec!["7"]));
    assert_eq!((got.field("x-who"), got.fields("x-more")), (Some("127.0.0.1 GET"), vec!["a", "b"]));
    assert_eq!((answer.field("server"), answer.fields("x-a")), (None, vec!["ours"]));
    assert_eq!((answer.field("x-q"), answer.fields("vary")), (Some("1"), vec!["accept", "origin"]));
    ask(&mut client, "GET /orders/a%0d%0ax-evil:1", &[]);
    assert!(
        origin.received().iter().all(|got| got.field("x-evil").is_none()),
        "a parameter cannot begin a field"
    );
}

#[test]
fn rewrite_changes_what_the_upstream_sees_and_nothing_else() {
    let origin = Origin::saying("ok");
    let gateway = gateway(
        &origin,
        "routes:\n  a:\n    match: { path: '/old/{*rest}' }\n    policies:\n      rewrite: { path: '/new/{rest}', host: 'inner.example' }\n      headers: { request: { set: { x-asked: '{request.path}' } } }\n    to: origin\n\
         \u{20} b:\n    match: { path: '/t/{tenant}' }\n    policies: { rewrite: { path: '/of/{header.x-part}/{tenant}' } }\n    to: origin\n",
    );
    let mut client = Client::new(gateway.web());
    ask(&mut client, "GET /old/a%20b//c?x=%2f", &[]);
    let got = origin.last();
    assert_eq!(got.target(), "/new/a%20b/c?x=%2f");
    assert_eq!((got.fields("host"), got.field("x-asked")), (vec!["inner.example"], Some("/old/a%20b/c")));
    assert_eq!(got.field("x-forwarded-host"), Some("example.com"));
    ask(&mut client, "GET /old", &[]);
    assert_eq!(origin.last().target(), "/new");
    ask(&mut client, "GET /t/x", &["x-part: ../../etc?a#b"]);
    assert_eq!(origin.last().target(), "/of/..%2F..%2Fetc%3Fa%23b/x", "what is no path is escaped");
    let seen = origin.received().len();
    let refused = ask(&mut client, "GET /t/x", &["x-part: .."]);
    assert_eq!((refused.status, refused.code().as_str()), (400, "rewrite_failed"));
    assert_eq!(origin.received().len(), seen);
}

#[test]
fn body_limit_holds_with_and_without_a_length() {
    let origin = Origin::saying("ok");
    let gateway = gateway(
        &origin,
        "listeners: { web: { address: '127.0.0.1:PORT_web', limits: { body: 4B } } }\n\
         routes:\n  small: { to: origin }\n  large: { match: { path: /large }, policies: { body_limit: { max: 8B } }, to: origin }\n",
    );
    for (path, size, status) in [("/", 4, 200), ("/", 5, 413), ("/large", 8, 200), ("/large", 9, 413)] {
        let body = "x".repeat(size);
        let with = send(
            gateway.web(),
            &format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{body}"
            ),
        );
        assert_eq!(with.status, status, "{path} with a length of {size}");
        let chunked = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
        );
        let answer = send(gateway.web(), &chunked);
        assert_eq!(answer.status, status, "{path} in chunks, {size}");
        if status == 413 {
            assert_eq!((with.code().as_str(), answer.code().as_str()), ("body_too_large", "body_too_large"));
        }
    }
}

#[test]
fn a_later_layer_replaces_an_earlier_one_and_off_takes_it_out() {
    let origin = Origin::saying("ok");
    let layer = |name: &str| {
        format!("{{ headers: {{ response: {{ set: {{ x-{name}: yes, x-layer: {name} }} }} }} }}")
    };
    let gateway = gateway(
        &origin,
        &format!(
            "policies: {{ defaults: {} }}\n\
             listeners:\n  web: {{ address: '127.0.0.1:PORT_web' }}\n  other: {{ address: '127.0.0.1:PORT_other', policies: {} }}\n  \
             bare: {{ address: '127.0.0.1:PORT_bare', policies: {{ headers: off }} }}\n\
             routes:\n  plain: {{ match: {{ path: /plain }}, to: origin }}\n  own: {{ match: {{ path: /own }}, policies: {}, to: origin }}\n  \
             off: {{ match: {{ path: /off }}, policies: {{ headers: off }}, to: origin }}\n",
            layer("defaults"),
            layer("listener"),
            layer("route"),
        ),
    );
    for (listener, path, layer) in [
        ("web", "/plain", Some("defaults")),
        ("web", "/own", Some("route")),
        ("web", "/off", None),
        ("web", "/nowhere", Some("defaults")),
        ("other", "/plain", Some("listener")),
        ("other", "/own", Some("route")),
        ("other", "/off", None),
        ("other", "/nowhere", Some("listener")),
        ("bare", "/plain", None),
        ("bare", "/own", Some("route")),
        ("bare", "/nowhere", None),
    ] {
        let answer = Client::new(gateway.at(listener)).get("a", path, "");
        assert_eq!(answer.field("x-layer"), layer, "{listener} {path}");
        let marks = answer.fields.iter().filter(|field| field.ends_with(": yes")).count();
        assert_eq!(marks, usize::from(layer.is_some()), "a layer replaces as a whole: {listener} {path}");
    }
}

#[test]
fn what_is_enforced_no_route_switches_off() {
    let origin = Origin::saying("ok");
    let gateway = gateway(
        &origin,
        "policies:\n  enforced:\n    ip_access: { deny: [203.0.113.0/24] }\n    headers: { request: { set: { x-e: enforced } }, response: { set: { x-e: enforced } } }\n\
         routes:\n  off: { match: { path: /off }, policies: { ip_access: off, headers: off }, to: origin }\n  \
         own: { match: { path: /own }, policies: { ip_access: { allow: [203.0.113.0/24, 192.0.2.0/24] }, headers: { response: { set: { x-e: mine } } } }, to: origin }\n",
    );
    let mut client = Client::new(gateway.web());
    for (path, forwarded, status) in [
        ("/off", "192.0.2.1", 200),
        ("/off", "203.0.113.1", 403),
        ("/own", "192.0.2.1", 200),
        ("/own", "203.0.113.1", 403),
        ("/own", "198.51.100.1", 403),
    ] {
        let answer = ask(&mut client, &format!("GET {path}"), &[&format!("x-forwarded-for: {forwarded}")]);
        assert_eq!(answer.status, status, "{path} from {forwarded}");
        assert_eq!(answer.fields("x-e"), ["enforced"], "the last word: {path} from {forwarded}");
    }
    assert_eq!(origin.last().field("x-e"), Some("enforced"));
}

#[test]
fn policies_run_in_the_lists_order_whatever_the_file_says() {
    let origin = Origin::saying("ok");
    let gateway = gateway(
        &origin,
        "routes:\n  all:\n    policies:\n      rewrite: { path: /rewritten }\n      headers: { request: { set: { x-path: '{request.path}' } }, response: { set: { access-control-allow-origin: 'https://last.example' } } }\n      \
         cors: { origins: ['*'] }\n      ip_access: { deny: [203.0.113.0/24] }\n    to: origin\n",
    );
    let mut client = Client::new(gateway.web());
    let preflight =
        ["origin: https://a.example", "access-control-request-method: GET", "x-forwarded-for: 203.0.113.1"];
    assert_eq!(ask(&mut client, "OPTIONS /", &preflight).status, 403, "ip_access before cors");
    let answer = ask(&mut client, "GET /asked", &["origin: https://a.example"]);
    assert_eq!(origin.last().field("x-path"), Some("/asked"), "headers before rewrite");
    assert_eq!(origin.last().target(), "/rewritten");
    assert_eq!(
        answer.fields("access-control-allow-origin"),
        ["https://last.example"],
        "headers after cors on an answer"
    );
}
