//! Who may have a connection, how many, and for how long.

use crate::harness::{Authority, Client, Gateway, Http2, Origin, turned_away, wait_until};
use std::net::TcpStream;
use tempfile::TempDir;

const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4660 80\r\n";

fn refused(gateway: &Gateway, cause: &str) -> f64 {
    gateway.metric(&format!("tollgate_connections_refused_total{{listener=\"web\",cause=\"{cause}\"}}"))
}

/// The address that a balancer names is the client's, to policies, to the log and to the upstream.
#[test]
fn everybody_sees_the_client_that_a_balancer_names() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
         listeners:\n  web:\n    address: '127.0.0.1:PORT_web'\n    h2c: true\n\
         \x20   proxy_protocol: {{ from: [127.0.0.1], time: 300ms }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes:\n  all: {{ policies: {{ ip_access: {{ deny: [192.0.2.66] }} }}, to: origin }}\n",
        origin.address()
    ));
    let mut client = Client::new(gateway.web());
    client.write(V1);
    let spoofed = client.get("a", "/named", "x-forwarded-for: 203.0.113.9\r\n");
    assert_eq!(spoofed.status, 200);
    let seen = origin.last().fields("x-forwarded-for").join(", ");
    assert_eq!(seen, "192.0.2.7", "the client's own word is not taken");

    let mut denied = Client::new(gateway.web());
    denied.write(V1.replace("192.0.2.7", "192.0.2.66"));
    assert_eq!(denied.get("a", "/denied", "").status, 403);

    let mut broken = Client::new(gateway.web());
    broken.write(format!("{V1}GET /\x01 HTTP/9.9\r\n\r\n"));
    assert_eq!(broken.read(false).status, 400);

    let mut garbage = Client::new(gateway.web());
    garbage.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(garbage.is_closed());
    let mut silent = Client::new(gateway.web());
    assert!(silent.is_closed(), "in its time");
    wait_until("both are counted", || refused(&gateway, "proxy_protocol") == 2.0);

    let log = gateway.folder().join("access.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("all is logged", || read().lines().count() == 3);
    let log = read();
    let said = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["status"].as_u64().unwrap(), line["client"].as_str().unwrap().to_owned())
    };
    // Each worker has lines of its own, and nothing orders them among each other.
    let mut seen: Vec<(u64, String)> = log.lines().map(said).collect();
    seen.sort();
    let expected = [(200, "192.0.2.7"), (400, "192.0.2.7"), (403, "192.0.2.66")];
    assert_eq!(seen, expected.map(|(status, client)| (status, client.to_owned())), "{log}");
}

#[test]
fn a_client_over_its_cap_is_refused_and_the_others_are_served() {
    let origin = Origin::saying("in");
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.issue(folder.path(), "server", &["a.example"]);
    let gateway = Gateway::start_in(
        folder,
        &format!(
            "admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
             listeners:\n  web:\n    address: '127.0.0.1:PORT_web'\n    limits: {{ client_connections: 2 }}\n\
             \x20   tls: {{ certificates: [{{ certificate: server.pem, key: server.key }}] }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
             routes: {{ all: {{ to: origin }} }}\n",
            origin.address()
        ),
    );
    let first = Http2::tls(gateway.web(), "a.example", &authority);
    assert_eq!(first.get("https://a.example/").status, 200);
    let _stalled = TcpStream::connect(gateway.web()).unwrap();
    wait_until("it is counted", || gateway.metric("tollgate_connections{listener=\"web\"}") == 2.0);
    assert!(turned_away(gateway.web()), "before a handshake");
    assert_eq!(refused(&gateway, "client"), 1.0);
    assert_eq!(first.get("https://a.example/").status, 200);
    let failed = "tollgate_tls_handshakes_failed_total{listener=\"web\",cause=\"closed\"}";
    assert_eq!(gateway.metric(failed), 0.0, "no handshake was begun for it");
}

#[test]
fn a_body_that_drips_is_told_so() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "listeners:\n  web:\n    address: '127.0.0.1:PORT_web'\n    h2c: true\n\
         \x20   limits: {{ body_time: 200ms, body_rate: 1KiB }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        origin.address()
    ));
    let mut drip = Client::new(gateway.web());
    drip.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    let answer = drip.read_while_dripping();
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    assert_eq!(origin.received().len(), 0, "half a request is none");
    let mut whole = Client::new(gateway.web());
    let body = "x".repeat(100_000);
    let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{body}");
    assert_eq!(whole.send(request).status, 200, "what comes at once is in time");
}

#[test]
fn an_old_connection_is_told_to_end() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, limits: {{ max_age: 1ms }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        origin.address()
    ));
    let mut client = Client::new(gateway.web());
    wait_until("an answer says so", || {
        let answer = client.get("a", "/", "");
        assert_eq!(answer.status, 200);
        answer.closes()
    });
    assert!(client.is_closed());
    let http2 = Http2::clear(gateway.web());
    http2.closed();
}
