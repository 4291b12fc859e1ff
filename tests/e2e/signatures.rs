//! Who calls, by signed requests.

use crate::harness::{Answer, Client, Gateway, Http2, Origin, Signer, wait_until};
use std::fs;

const PARTNER: Signer =
    Signer { secret: "0123456789abcdef0123456789abcdef", key: "partner", host: "api.example" };
const OTHER: Signer = Signer { secret: "fedcba9876543210fedcba9876543210", key: "other", ..PARTNER };

fn gateway(origin: &Origin, identity: &str) -> Gateway {
    Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true }} }}\n\
         admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }}, fields: [status, consumer, principal, auth] }} }}\n\
         identity: {{ {identity} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         consumers:\n  \
           acme: {{ credentials: [{{ signature: {{ id: partner, key: {{ hmac-sha256: {} }} }} }}] }}\n  \
           other: {{ credentials: [{{ signature: {{ id: other, key: {{ hmac-sha256: {} }} }} }}] }}\n\
         routes:\n  \
           signed: {{ policies: {{ authenticate: {{ any_of: [{{ signature: {{ nonce: true }} }}] }} }}, to: origin }}\n  \
           simply: {{ match: {{ path: '/simply/*' }}, policies: {{ authenticate: {{ any_of: [{{ hmac: {{ forward: false }} }}] }} }}, to: origin }}\n",
        origin.address(),
        PARTNER.secret,
        OTHER.secret,
    ))
}

fn ask(client: &mut Client, line: &str, fields: &str, body: &str) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    client.send(format!("{line} HTTP/1.1\r\nhost: api.example\r\n{fields}{length}\r\n{body}"))
}

#[test]
fn a_signed_request_counts_once() {
    let origin = Origin::saying("in");
    let gateway = gateway(&origin, "");
    let mut client = Client::new(gateway.web());
    let unsigned = ask(&mut client, "GET /a?b=c", "", "");
    assert_eq!(
        (unsigned.status, unsigned.field("www-authenticate")),
        (401, Some("Signature realm=\"tollgate\""))
    );
    let fields = PARTNER.fields("GET", "/a?b=c", "n-1", None);
    assert_eq!(ask(&mut client, "GET /a?b=c", &fields, "").status, 200);
    assert_eq!(origin.last().target(), "/a?b=c");
    assert_eq!(ask(&mut client, "GET /a?b=c", &fields, "").status, 401, "once");
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(ask(&mut client, "GET /a?b=c", &fields, "").status, 401, "and not after a reload");
    for (line, nonce) in
        [("GET /a?b=d", "n-2"), ("GET /b?b=c", "n-3"), ("PUT /a?b=c", "n-4"), ("GET /a", "n-5")]
    {
        let fields = PARTNER.fields("GET", "/a?b=c", nonce, None);
        assert_eq!(ask(&mut client, line, &fields, "").status, 401, "{line}");
    }
    let stranger = Signer { secret: "another secret of 32 bytes or more", ..PARTNER };
    assert_eq!(ask(&mut client, "GET /", &stranger.fields("GET", "/", "n-6", None), "").status, 401);
    // As it was sent, whatever the gateway makes of it.
    let fields = PARTNER.fields("GET", "/x/../a%2e", "n-7", None);
    assert_eq!(ask(&mut client, "GET /x/../a%2e", &fields, "").status, 200);
    assert_eq!(origin.last().target(), "/a.");
    let log = || fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    for line in [
        r#"{"status":200,"consumer":"acme","principal":"partner","auth":"signature"}"#,
        r#"{"status":401,"consumer":null,"principal":null,"auth":"signature_replayed"}"#,
        r#"{"status":401,"consumer":null,"principal":null,"auth":"signature_wrong"}"#,
    ] {
        wait_until(line, || log().contains(line));
    }
}

#[test]
fn a_body_is_what_was_signed_or_goes_nowhere() {
    let origin = Origin::saying("in");
    let gateway = gateway(&origin, "");
    let mut client = Client::new(gateway.web());
    let with_body = |nonce: &str| PARTNER.fields("POST", "/", nonce, Some(b"the body"));
    assert_eq!(ask(&mut client, "POST /", &with_body("b-1"), "the body").status, 200);
    assert_eq!(origin.last().body, b"the body");
    let before = origin.received().len();
    let other = ask(&mut client, "POST /", &with_body("b-2"), "the b0dy");
    assert_eq!((other.status, other.code().as_str()), (401, "unauthenticated"));
    let mut client = Client::new(gateway.web());
    assert_eq!(ask(&mut client, "POST /", &with_body("b-3"), "").status, 401, "it is gone");
    let unsigned = PARTNER.fields("POST", "/", "b-4", None);
    let mut client = Client::new(gateway.web());
    assert_eq!(ask(&mut client, "POST /", &unsigned, "the body").status, 401, "nobody signed one");
    let mut client = Client::new(gateway.web());
    let chunked = format!("{}transfer-encoding: chunked\r\n", PARTNER.fields("POST", "/", "b-5", None));
    let answer =
        client.send(format!("POST / HTTP/1.1\r\nhost: api.example\r\n{chunked}\r\n1\r\nx\r\n0\r\n\r\n"));
    assert_eq!(answer.status, 401);
    // A digest besides the signed one does not stand for it.
    let mut client = Client::new(gateway.web());
    let doubled = format!("{}content-digest: {}\r\n", with_body("b-6"), Signer::digest(b"evil"));
    assert_eq!(ask(&mut client, "POST /", &doubled, "evil").status, 401);
    assert_eq!(origin.received().len(), before, "nothing of these went upstream");
}

#[test]
fn a_body_that_does_not_announce_itself_is_found() {
    let origin = Origin::saying("in");
    let gateway = gateway(&origin, "");
    let http2 = Http2::clear(gateway.web());
    let request = |nonce: &str, body: Option<&[u8]>| {
        let fields = PARTNER.fields("POST", "/", nonce, body);
        let request = http::Request::post("http://api.example/");
        fields
            .lines()
            .filter_map(|line| line.split_once(": "))
            .fold(request, |request, (name, value)| request.header(name, value))
    };
    assert_eq!(http2.send(request("h-1", Some(b"a body")), &[b"a ", b"body"]).status, 200);
    assert_eq!(http2.send(request("h-2", Some(b"a body")), &[b"a ", b"b0dy"]).status, 401);
    assert_eq!(http2.send(request("h-3", None), &[]).status, 200);
    assert_eq!(http2.send(request("h-4", None), &[b"smuggled"]).status, 401);
    assert!(origin.received().iter().all(|received| received.body != b"smuggled"));
}

#[test]
fn nothing_is_let_in_that_cannot_be_remembered() {
    let origin = Origin::saying("in");
    let gateway = gateway(&origin, "signatures: { remembered: 2 }");
    let mut client = Client::new(gateway.web());
    let mut get = |nonce: &str| ask(&mut client, "GET /", &PARTNER.fields("GET", "/", nonce, None), "");
    assert_eq!((get("1").status, get("2").status), (200, 200));
    let full = get("3");
    assert_eq!((full.status, full.code().as_str()), (503, "authentication_unavailable"));
    assert!(full.field("retry-after").is_some());
}

/// Whoever floods is refused alone: it cannot take the room of others.
#[test]
fn one_signer_takes_nobody_elses_room() {
    let origin = Origin::saying("in");
    let gateway = gateway(&origin, "signatures: { remembered: 8 }");
    let mut client = Client::new(gateway.web());
    let mut get = |signer: &Signer, nonce: u32| {
        ask(&mut client, "GET /", &signer.fields("GET", "/", &nonce.to_string(), None), "").status
    };
    let flood: Vec<u16> = (0..10).map(|nonce| get(&PARTNER, nonce)).collect();
    assert_eq!(flood, [200, 200, 200, 200, 200, 503, 503, 503, 503, 503], "half of the room");
    assert_eq!((get(&OTHER, 1), get(&OTHER, 2)), (200, 200));
    assert_eq!(get(&PARTNER, 10), 503);
    let log = || fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    wait_until("the log says whose it was", || log().contains(r#""auth":"signer_full""#));
}

#[test]
fn a_shell_script_can_sign() {
    let origin = Origin::saying("in");
    let gateway = gateway(&origin, "");
    let mut client = Client::new(gateway.web());
    let nobody = ask(&mut client, "GET /simply/a", "", "");
    assert_eq!(nobody.field("www-authenticate"), Some("HMAC-SHA256 realm=\"tollgate\""));
    let date = Signer::date(0);
    let fields = PARTNER.simply("POST", "/simply/a?b=c", &date, Some(b"the body"));
    assert_eq!(ask(&mut client, "POST /simply/a?b=c", &fields, "the body").status, 200);
    assert_eq!((origin.last().field("authorization"), origin.last().body), (None, b"the body".to_vec()));
    assert_eq!(ask(&mut client, "POST /simply/a?b=c", &fields, "the body").status, 401, "once");
    for (seconds, status) in [(-250, 200), (250, 200), (-400, 401), (400, 401)] {
        let mut client = Client::new(gateway.web());
        let fields = PARTNER.simply("GET", "/simply/b", &Signer::date(seconds), None);
        assert_eq!(ask(&mut client, "GET /simply/b", &fields, "").status, status, "{seconds}");
    }
    let mut client = Client::new(gateway.web());
    let fields = PARTNER.simply("POST", "/simply/a", &date, Some(b"the body"));
    assert_eq!(ask(&mut client, "POST /simply/a", &fields, "the b0dy").status, 401);
}

#[test]
fn an_enforced_policy_and_a_routes_own_look_at_the_same_signature() {
    let origin = Origin::saying("in");
    let both = "authenticate: { any_of: [{ signature: { nonce: true } }] }";
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         consumers: {{ acme: {{ credentials: [{{ signature: {{ id: partner, key: {{ hmac-sha256: {} }} }} }}] }} }}\n\
         policies: {{ enforced: {{ {both} }} }}\n\
         routes: {{ all: {{ policies: {{ {both} }}, to: origin }} }}\n",
        origin.address(),
        PARTNER.secret,
    ));
    let mut client = Client::new(gateway.web());
    let fields = PARTNER.fields("POST", "/", "n", Some(b"the body"));
    assert_eq!(ask(&mut client, "POST /", &fields, "the body").status, 200);
    assert_eq!(ask(&mut client, "POST /", &fields, "the body").status, 401);
}
