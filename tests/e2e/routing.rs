//! Which request goes where.

use crate::harness::{Answer, Client, Gateway, Origin, send};

fn ask(gateway: &Gateway, listener: &str, line: &str, host: &str, fields: &str) -> Answer {
    send(
        gateway.at(listener),
        &format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{fields}\r\n"),
    )
}

/// Routes that each say their name: `name: match`.
fn saying(routes: &[(&str, &str)]) -> String {
    let route = |(name, matches): &(&str, &str)| {
        format!("  {name}: {{ {matches}, to: {{ respond: {{ body: {name} }} }} }}\n")
    };
    format!("routes:\n{}", routes.iter().map(route).collect::<String>())
}

const LISTENERS: &str = "listeners:\n  web: { address: '127.0.0.1:PORT_web', trusted_proxies: [127.0.0.0/8] }\n  side: { address: '127.0.0.1:PORT_side' }\n";

#[test]
fn the_most_special_route_wins() {
    let gateway = Gateway::start(&format!(
        "{LISTENERS}{}",
        saying(&[
            ("any", "match: { path: '/*' }"),
            ("exact-host", "match: { hosts: [api.example.com], path: '/*' }"),
            ("wild-host", "match: { hosts: ['*.example.com'], path: '/*' }"),
            ("literal", "match: { path: /a/b/c }"),
            ("parameter", "match: { path: '/a/{x}/c' }"),
            ("prefix", "match: { path: '/a/*' }"),
            ("regex", "match: { path_regex: '/r/[0-9]+' }"),
            ("post", "match: { path: /m, methods: [POST] }"),
            ("put", "match: { path: /m, methods: [PUT] }"),
            ("head", "match: { path: /h, headers: { x-a: '1' } }"),
            ("query", "match: { path: /q, query: { a: { prefix: b } } }"),
            ("cookie", "match: { path: /k, cookies: { c: { regex: '[0-9]+' } } }"),
            ("absent", "match: { path: /absent, headers: { x-a: { present: false } } }"),
            ("client", "match: { path: /c, client: [192.0.2.0/24] }"),
            ("first", "match: { path: '/a/b/*', headers: { x-first: '1' } }, priority: 5"),
            ("side", "on: [side], match: { path: /side }"),
            ("list", "match: [{ path: /l1 }, { path: '/l2/{x}' }]"),
        ])
    ));
    for (listener, line, host, fields, expected) in [
        ("web", "GET /x", "other.test", "", "any"),
        ("web", "GET /x", "api.example.com", "", "exact-host"),
        ("web", "GET /x", "API.example.com:80", "", "exact-host"),
        ("web", "GET /x", "api.example.com.", "", "exact-host"),
        ("web", "GET /x", "www.example.com", "", "wild-host"),
        ("web", "GET /x", "a.b.example.com", "", "any"),
        ("web", "GET /a/b/c", "t", "", "literal"),
        ("web", "GET /a/x/c", "t", "", "parameter"),
        ("web", "GET /a/x/d", "t", "", "prefix"),
        ("web", "GET /a", "t", "", "prefix"),
        ("web", "GET /ab", "t", "", "any"),
        ("web", "GET /A/b/c", "t", "", "any"),
        ("web", "GET /%61/b/%63", "t", "", "literal"),
        ("web", "GET /a/./x/../b/c", "t", "", "literal"),
        ("web", "POST /m", "t", "content-length: 0\r\n", "post"),
        ("web", "PUT /m", "t", "content-length: 0\r\n", "put"),
        ("web", "GET /m", "t", "", "any"),
        ("web", "GET /h", "t", "x-a: 1\r\n", "head"),
        ("web", "GET /q?a=bc", "t", "", "query"),
        ("web", "GET /q?a=c", "t", "", "any"),
        ("web", "GET /k", "t", "cookie: b=x; c=12\r\n", "cookie"),
        ("web", "GET /k", "t", "cookie: c=12x\r\n", "any"),
        ("web", "GET /absent", "t", "", "absent"),
        ("web", "GET /absent", "t", "x-a: 1\r\n", "any"),
        ("web", "GET /c", "t", "x-forwarded-for: 192.0.2.3\r\n", "client"),
        ("web", "GET /c", "t", "", "any"),
        ("web", "GET /a/b/c", "t", "x-first: 1\r\n", "first"),
        ("web", "GET /side", "t", "", "any"),
        ("side", "GET /side", "t", "", "side"),
        ("web", "GET /l1", "t", "", "list"),
        ("web", "GET /l2/9", "t", "", "list"),
    ] {
        let answer = ask(&gateway, listener, line, host, fields);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, expected),
            "{listener} {line} {host} {fields}"
        );
    }
    let regex = ask(&gateway, "web", "GET /r/12", "other.test", "");
    assert_eq!(regex.text(), "any", "a regex comes after every other path");
}

#[test]
fn a_method_that_no_route_takes_is_told_which_do() {
    let gateway = Gateway::start(&format!(
        "{LISTENERS}{}",
        saying(&[
            ("read", "match: { path: /x, methods: [GET] }"),
            ("write", "match: { path: /x, methods: [POST, PUT] }"),
            ("tagged", "match: { path: /tagged, headers: { x-a: '1' }, methods: [GET] }"),
        ])
    ));
    let mut client = Client::new(gateway.web());
    let answer = client.send("DELETE /x HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    let mut allow: Vec<&str> = answer.field("allow").unwrap().split(", ").collect();
    allow.sort_unstable();
    let with_head = ["GET", "HEAD", "POST", "PUT"];
    assert!(allow == with_head || allow == ["GET", "POST", "PUT"], "{allow:?}");
    assert_eq!(client.send("DELETE /y HTTP/1.1\r\nhost: a\r\n\r\n").status, 404);
    assert_eq!(client.get("a", "/tagged", "").status, 404, "the method is not what was wrong");
    assert_eq!(client.get("a", "/x", "").text(), "read", "the connection is kept through all of it");
}

#[test]
fn a_preflight_finds_the_route_of_the_method_that_it_asks_about() {
    let gateway = Gateway::start(&format!(
        "{LISTENERS}routes:\n  get: {{ match: {{ path: /x, methods: [GET] }}, to: {{ respond: {{}} }} }}\n  \
         put: {{ match: {{ path: /x, methods: [PUT] }}, policies: {{ cors: {{ origins: ['https://a.example'], methods: [PUT] }} }}, to: {{ respond: {{}} }} }}\n"
    ));
    let preflight = |method: &str| {
        let fields = format!("origin: https://a.example\r\naccess-control-request-method: {method}\r\n");
        ask(&gateway, "web", "OPTIONS /x", "a", &fields)
    };
    let put = preflight("PUT");
    assert_eq!((put.status, put.field("access-control-allow-methods")), (204, Some("PUT")));
    assert_eq!(preflight("GET").field("access-control-allow-origin"), None, "the route of GET has no cors");
    assert_eq!(preflight("DELETE").status, 405);
    assert_eq!(ask(&gateway, "web", "OPTIONS /x", "a", "").status, 405, "a plain OPTIONS asks for itself");
}

#[test]
fn a_split_keeps_its_weights_and_its_callers() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let gateway = Gateway::start(&format!(
        "{LISTENERS}upstreams: {{ a: {{ endpoints: ['{}'] }}, b: {{ endpoints: ['{}'] }} }}\nroutes:\n  \
         drawn: {{ match: {{ path: /drawn }}, to: {{ split: {{ weights: {{ a: 3, b: 1 }} }} }} }}\n  \
         none: {{ match: {{ path: /none }}, to: {{ split: {{ weights: {{ a: 1, b: 0 }} }} }} }}\n  \
         by-header: {{ match: {{ path: /header }}, to: {{ split: {{ weights: {{ a: 1, b: 1 }}, sticky: {{ header: x-user }} }} }} }}\n  \
         by-cookie: {{ match: {{ path: /cookie }}, to: {{ split: {{ weights: {{ a: 1, b: 1 }}, sticky: {{ cookie: user }} }} }} }}\n",
        a.address(),
        b.address()
    ));
    let mut client = Client::new(gateway.web());
    let drawn = (0..400).filter(|_| client.get("t", "/drawn", "").text() == "b").count();
    assert!((50..150).contains(&drawn), "{drawn} of 400, where 100 are b's share");
    assert!((0..50).all(|_| client.get("t", "/none", "").text() == "a"), "a weight of zero gets nothing");
    for (path, field) in [("/header", "x-user: "), ("/cookie", "cookie: a=b; user=")] {
        let mut sides = std::collections::BTreeSet::new();
        for user in 0..40 {
            let field = format!("{field}{user}\r\n");
            let side = client.get("t", path, &field).text();
            assert!((0..3).all(|_| client.get("t", path, &field).text() == side), "{path} {user}");
            sides.insert(side);
        }
        assert_eq!(sides.len(), 2, "{path}: callers are spread over both sides");
    }
}

#[test]
fn local_targets_answer() {
    let gateway = Gateway::start(&format!(
        "{LISTENERS}routes:\n  moved: {{ match: {{ path: '/old/{{*rest}}' }}, to: {{ redirect: {{ status: 301, host: 'new.example.com', path: '/{{rest}}' }} }} }}\n  \
         bare: {{ match: {{ path: /bare }}, to: {{ redirect: {{ path: /x, query: false }} }} }}\n  \
         words: {{ match: {{ path: /words }}, to: {{ respond: {{ status: 418, headers: {{ x-a: b }}, body: short }} }} }}\n  \
         empty: {{ match: {{ path: /empty }}, to: {{ respond: {{ status: 204 }} }} }}\n  \
         echo: {{ match: {{ path: '/echo/*' }}, to: {{ echo: {{}} }} }}\n"
    ));
    let mut client = Client::new(gateway.web());
    let moved = client.get("a.example:8080", "/old/a/b?c=d", "");
    assert_eq!((moved.status, moved.field("location")), (301, Some("http://new.example.com/a/b?c=d")));
    let evil = client.get("a.example", "/old//evil.example/", "");
    assert_eq!(evil.field("location"), Some("http://new.example.com/evil.example/"));
    let bare = client.get("a.example:8080", "/bare?c=d", "");
    assert_eq!((bare.status, bare.field("location")), (308, Some("http://a.example:8080/x")));
    let words = client.get("a", "/words", "");
    assert_eq!((words.status, words.field("x-a"), words.text().as_str()), (418, Some("b"), "short"));
    let head = client.send("HEAD /words HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((head.status, head.field("content-length")), (418, Some("5")));
    let empty = client.get("a", "/empty", "");
    assert_eq!((empty.status, empty.field("content-length")), (204, None));
    let echo = client.get("a", "/echo/x?y", "x-two: 1\r\nx-two: 2\r\nauthorization: Basic eA==\r\n").json();
    assert_eq!(
        (&echo["path"], &echo["query"], &echo["client"]),
        (&"/echo/x".into(), &"y".into(), &"127.0.0.1".into())
    );
    assert_eq!(echo["headers"]["x-two"], serde_json::json!(["1", "2"]));
    assert_eq!(echo["headers"]["authorization"], serde_json::json!(["***"]));
}
