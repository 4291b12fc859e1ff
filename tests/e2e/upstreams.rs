//! Every kind of upstream: addresses, protocols, TLS, who gets a request, and which connections are
//! shared.

use crate::harness::{Answer, Authority, Client, Gateway, Modern, Origin, answer, get, wait_until};
use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use tempfile::TempDir;

const LISTENERS: &str = "admin: { address: '127.0.0.1:PORT_admin', token: secret }\n\
                         listeners: { web: { address: '127.0.0.1:PORT_web', h2c: true } }\n";

/// A folder with certificates: `server` for localhost and orders.internal, `me` for a client, and
/// those of a stranger's authority.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let authority = Authority::within(folder.path());
    authority.issue(folder.path(), "server", &["localhost", "orders.internal", "127.0.0.1"]);
    authority.issue(folder.path(), "other", &["other.internal"]);
    authority.issue(folder.path(), "me", &["me.internal"]);
    Authority::within(&folder.path().join("strangers"));
    folder
}

/// One upstream for each `(name, settings)`, with a route `/name` to it.
fn configuration(upstreams: &[(&str, String)]) -> String {
    let mut text = format!("{LISTENERS}upstreams:\n");
    for (name, settings) in upstreams {
        text.push_str(&format!("  {name}: {{ {settings} }}\n"));
    }
    text.push_str("routes:\n");
    for (name, _) in upstreams {
        text.push_str(&format!("  {name}: {{ match: {{ path: /{name} }}, to: {name} }}\n"));
    }
    text
}

fn saw(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn each_protocol_in_the_clear_and_over_tls() {
    let folder = folder();
    let clear = Modern::clear();
    let both = Modern::tls(folder.path(), "server", &["h2", "http/1.1"], None);
    let old = Modern::tls(folder.path(), "server", &["http/1.1"], None);
    let silent = Modern::tls(folder.path(), "server", &[], None);
    let at = |origin: &Modern, settings: &str| format!("endpoints: ['{}'], {settings}", origin.address());
    let tls = "tls: { ca: ca.pem }";
    let upstreams = [
        ("clear1", at(&clear, "protocol: http1")),
        ("clear2", at(&clear, "protocol: http2")),
        ("clearauto", at(&clear, "protocol: auto")),
        ("tls1", at(&both, tls)),
        ("tls2", at(&both, &format!("{tls}, protocol: http2"))),
        ("tlsauto", at(&both, &format!("{tls}, protocol: auto"))),
        ("oldauto", at(&old, &format!("{tls}, protocol: auto"))),
        ("old2", at(&old, &format!("{tls}, protocol: http2"))),
        ("silentauto", at(&silent, &format!("{tls}, protocol: auto"))),
    ];
    let gateway = Gateway::start_in(folder, &configuration(&upstreams));
    for (name, version) in [
        ("clear1", "HTTP/1.1"),
        ("clear2", "HTTP/2.0"),
        ("clearauto", "HTTP/1.1"),
        ("tls1", "HTTP/1.1"),
        ("tls2", "HTTP/2.0"),
        ("tlsauto", "HTTP/2.0"),
        ("oldauto", "HTTP/1.1"),
        ("silentauto", "HTTP/1.1"),
    ] {
        for _ in 0..3 {
            let saw = saw(&get(gateway.web(), &format!("/{name}")));
            assert_eq!(
                (saw["version"].as_str(), saw["host"].as_str()),
                (Some(version), Some("example.com")),
                "{name}"
            );
        }
    }
    assert_eq!(get(gateway.web(), "/old2").status, 502, "no protocol in common");
}

#[test]
fn certificates_are_verified_and_shown() {
    let folder = folder();
    let server = Modern::tls(folder.path(), "server", &["http/1.1"], None);
    let strict = Modern::tls(folder.path(), "server", &["h2", "http/1.1"], Some("ca.pem"));
    let at = |origin: &Modern, tls: &str| {
        format!("endpoints: ['{}'], tls: {{ {tls} }}, protocol: auto", origin.address())
    };
    let me = "client: { certificate: me.pem, key: me.key }";
    let upstreams = [
        ("address", at(&server, "ca: ca.pem")),
        ("named", at(&server, "ca: ca.pem, server_name: orders.internal")),
        ("misnamed", at(&server, "ca: ca.pem, server_name: other.internal")),
        ("hosted", format!("{}, host: 'orders.internal:8443'", at(&server, "ca: ca.pem"))),
        ("strangers", at(&server, "ca: strangers/ca.pem, server_name: orders.internal")),
        ("system", at(&server, "server_name: orders.internal")),
        ("unverified", at(&server, "verify: off, server_name: other.internal")),
        ("anonymous", at(&strict, "ca: ca.pem")),
        ("known", at(&strict, &format!("ca: ca.pem, {me}"))),
    ];
    let gateway = Gateway::start_in(folder, &configuration(&upstreams));
    let expected = [
        ("address", Some((None, None))),
        ("named", Some((Some("orders.internal"), None))),
        ("misnamed", None),
        ("hosted", Some((Some("orders.internal"), None))),
        ("strangers", None),
        ("system", None),
        ("unverified", Some((Some("other.internal"), None))),
        ("anonymous", None),
        ("known", Some((None, Some("me")))),
    ];
    // Twice, and in both orders: what one of them is granted is no other's.
    for (name, expected) in expected.iter().chain(expected.iter().rev()) {
        let answer = get(gateway.web(), &format!("/{name}"));
        match expected {
            None => assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"), "{name}"),
            Some((sni, client)) => {
                let saw = saw(&answer);
                assert_eq!((saw["sni"].as_str(), saw["client"].as_str()), (*sni, *client), "{name}");
                if *name == "hosted" {
                    assert_eq!(saw["host"], "orders.internal:8443");
                }
            }
        }
    }
}

/// Connections are kept by what secures them, not by the address alone.
#[test]
fn a_pool_is_never_shared_by_those_who_secure_it_differently() {
    let folder = folder();
    let server = Modern::tls(folder.path(), "server", &["h2", "http/1.1"], None);
    let clear = Modern::clear();
    let at = |origin: &Modern, settings: &str| format!("endpoints: ['{}'], {settings}", origin.address());
    let groups: [(&Modern, &[(&str, &str)]); 2] = [
        (
            &server,
            &[
                ("a", "tls: { ca: ca.pem }"),
                ("b", "tls: { ca: ca.pem }, protocol: http2"),
                ("c", "tls: { ca: ca.pem, server_name: localhost }"),
                ("d", "tls: { ca: ca.pem, client: { certificate: me.pem, key: me.key } }"),
                ("e", "tls: { verify: off }"),
                ("f", "tls: { ca: both.pem }"),
            ],
        ),
        (&clear, &[("g", ""), ("h", "protocol: http2")]),
    ];
    let both = std::fs::read(folder.path().join("ca.pem")).unwrap();
    let more = std::fs::read(folder.path().join("strangers/ca.pem")).unwrap();
    std::fs::write(folder.path().join("both.pem"), [both, more].concat()).unwrap();
    let mut upstreams = Vec::new();
    for (origin, members) in &groups {
        upstreams.extend(members.iter().map(|(name, settings)| (*name, at(origin, settings))));
    }
    // Alike in what secures it, unlike in the rest.
    upstreams.push(("same", format!("{}, timeouts: {{ read: 3s }}", at(&server, "tls: { ca: ca.pem }"))));
    let gateway = Gateway::start_in(folder, &configuration(&upstreams));
    let connection = |name: &str| saw(&get(gateway.web(), &format!("/{name}")))["connection"].clone();
    for (_, members) in &groups {
        let mut seen = HashSet::new();
        for _ in 0..3 {
            seen.extend(members.iter().map(|(name, _)| format!("{name} {}", connection(name))));
        }
        let connections: HashSet<&str> = seen.iter().filter_map(|it| it.split(' ').nth(1)).collect();
        assert_eq!((seen.len(), connections.len()), (members.len(), members.len()), "{seen:?}");
    }
    // A connection is back in the pool a moment after its answer; who asks before that gets another one.
    wait_until("times are not part of it", || connection("same") == connection("a"));
}

#[test]
fn a_reload_keeps_connections_and_rereads_certificates() {
    let folder = folder();
    let server = Modern::tls(folder.path(), "server", &["http/1.1"], None);
    let settings = |rest: &str| {
        configuration(&[(
            "a",
            format!("endpoints: ['{}'], tls: {{ ca: trusted.pem }}{rest}", server.address()),
        )])
    };
    std::fs::copy(folder.path().join("ca.pem"), folder.path().join("trusted.pem")).unwrap();
    let gateway = Gateway::start_in(folder, &settings(""));
    assert_eq!(saw(&get(gateway.web(), "/a"))["connection"], 1);
    gateway.rewrite(&settings(", timeouts: { read: 7s }, idle_timeout: 20s, retry: { attempts: 3 }"));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(saw(&get(gateway.web(), "/a"))["connection"], 1, "nothing that matters to it has changed");
    let at = |file: &str| gateway.folder().join(file);
    std::fs::copy(at("strangers/ca.pem"), at("trusted.pem")).unwrap();
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(get(gateway.web(), "/a").status, 502, "the authority that is trusted now has not issued it");
    std::fs::write(at("trusted.pem"), "nonsense").unwrap();
    assert_eq!(gateway.reload().status, 422);
    std::fs::copy(at("ca.pem"), at("trusted.pem")).unwrap();
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(get(gateway.web(), "/a").status, 200);
}

#[test]
fn one_http2_connection_carries_many_requests() {
    let origin = Modern::clear();
    let gateway = Gateway::start(&configuration(&[(
        "a",
        format!("endpoints: ['{}'], protocol: http2", origin.address()),
    )]));
    for _ in 0..20 {
        assert_eq!(saw(&get(gateway.web(), "/a"))["connection"], 1);
    }
    assert_eq!(origin.connections(), 1);
}

fn serve_unix(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                loop {
                    let head: Vec<String> =
                        lines.by_ref().map_while(Result::ok).take_while(|it| !it.is_empty()).collect();
                    if head.is_empty()
                        || stream.write_all(&answer("200 OK", "", &head.join("|").to_lowercase())).is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn a_unix_socket_is_an_endpoint_like_any_other() {
    let folder = TempDir::new().unwrap();
    serve_unix(&folder.path().join("app.sock"));
    let gateway = Gateway::start_in(
        folder,
        &configuration(&[
            ("a", "endpoints: ['unix:app.sock']".to_owned()),
            ("b", "endpoints: ['unix:app.sock'], host: endpoint".to_owned()),
            ("gone", "endpoints: ['unix:gone.sock', { address: 'unix:app.sock', weight: 2 }]".to_owned()),
        ]),
    );
    let mut client = Client::new(gateway.web());
    for _ in 0..3 {
        let answer = client.get("a.example", "/a", "");
        assert!(answer.status == 200 && answer.text().contains("host: a.example"), "{}", answer.text());
        assert!(client.get("a.example", "/b", "").text().contains("host: localhost"));
        assert_eq!(client.get("a.example", "/gone", "").status, 200, "another one is tried");
    }
    let shown = gateway.admin("GET", "/upstreams", "").text();
    assert!(shown.contains(&format!("unix:{}/app.sock", gateway.folder().display())), "{shown}");
}

/// Four origins that say their number.
fn numbered() -> (Vec<Origin>, String) {
    let origins: Vec<Origin> = ["0", "1", "2", "3"].into_iter().map(Origin::saying).collect();
    let list: Vec<String> = origins.iter().map(|origin| format!("'{}'", origin.address())).collect();
    let list = list.join(", ");
    (origins, list)
}

#[test]
fn the_same_value_goes_to_the_same_endpoint() {
    let (_origins, list) = numbered();
    let upstream = |hash: &str| format!("endpoints: [{list}], balance: {{ hash: {hash} }}");
    let gateway = Gateway::start(&configuration(&[
        ("header", upstream("{ header: x-user }")),
        ("cookie", upstream("{ cookie: user }")),
        ("ip", upstream("client_ip")),
    ]));
    let mut client = Client::new(gateway.web());
    let mut spread = HashSet::new();
    for user in 0..40 {
        let mut by = |path: &str, field: String| client.get("a", path, &field).text();
        let places: HashSet<String> = (0..3).map(|_| by("/header", format!("x-user: u{user}\r\n"))).collect();
        assert_eq!(places.len(), 1);
        assert!(places.contains(&by("/cookie", format!("cookie: a=b; user=u{user}\r\n"))), "by value alone");
        spread.extend(places);
    }
    assert_eq!(spread.len(), 4);
    let same: HashSet<String> = (0..5).map(|_| client.get("a", "/ip", "").text()).collect();
    assert_eq!(same.len(), 1);
    let drawn: HashSet<String> = (0..60).map(|_| client.get("a", "/header", "").text()).collect();
    assert_eq!(drawn.len(), 4, "without the value it is drawn");
}

#[test]
fn a_cookie_keeps_a_client_at_its_endpoint() {
    let (origins, list) = numbered();
    let gateway = Gateway::start(&configuration(&[(
        "a",
        format!("endpoints: [{list}], balance: {{ sticky: {{ cookie: at, max_age: 1h }} }}"),
    )]));
    let mut client = Client::new(gateway.web());
    let mut cookies = HashSet::new();
    for _ in 0..40 {
        let first = client.get("a", "/a", "");
        let set = first.field("set-cookie").unwrap();
        let (cookie, attributes) = set.split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
        assert!(!set.contains("127.0.0.1"), "{set}");
        for _ in 0..3 {
            let again = client.get("a", "/a", &format!("cookie: x=y; {cookie}\r\n"));
            assert_eq!((again.text(), again.field("set-cookie")), (first.text(), None));
        }
        cookies.insert((first.text(), cookie.to_owned()));
    }
    assert_eq!(cookies.len(), 4, "one id for each endpoint, and each was given");
    // Taken out, its clients go elsewhere and stay there.
    let drain = format!("/upstreams/a/{}/drain", origins[0].address());
    let authorized = "authorization: Bearer secret\r\ncontent-length: 0\r\n";
    assert_eq!(gateway.admin("POST", &drain, authorized).status, 200);
    let (_, old) = cookies.iter().find(|(text, _)| text == "0").unwrap();
    let moved = client.get("a", "/a", &format!("cookie: {old}\r\n"));
    assert_ne!(moved.text(), "0");
    let fresh = moved.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(client.get("a", "/a", &format!("cookie: {fresh}\r\n")).text(), moved.text());
    for forged in ["at=0000000000000000", "at=", "at=../../etc", "at=ffffffffffffffffffffffff"] {
        assert_eq!(client.get("a", "/a", &format!("cookie: {forged}\r\n")).status, 200, "{forged}");
    }
}
