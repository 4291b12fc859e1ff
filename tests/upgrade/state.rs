//! What outlives a process: nothing that counts is forgotten by an upgrade.

use super::partner::Partner;
use super::{Fleet, is_gone};
use crate::harness::{Answer, Client, Issuer, Mood, Signer, get, quiet_port, send, wait_until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Asks for tokens of `issuer` on `/tokens`; has two endpoints, and a route to switch off.
fn with_tokens(fleet: &Fleet, issuer: &Issuer) {
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let provider = format!(
        "identity: {{ providers: {{ main: {{ jwt: {{ issuer: \"{}\", audiences: [api], algorithms: [ES256], \
         fetch: {{ wait: 10ms }} }} }} }} }}\n",
        issuer.url()
    );
    let routes = "routes:\n  off: { match: { path: /off }, to: { respond: { status: 204 } } }\n  \
         tokens: { match: { path: /tokens }, policies: { authenticate: { any_of: [{ jwt: main }] } }, to: { echo: {} } }\n  \
         all: { match: { path: /* }, to: origin }\n";
    let (head, _) = text.split_once("routes:").unwrap();
    std::fs::write(fleet.config(), format!("{head}{routes}{provider}")).unwrap();
}

fn ask(address: SocketAddr, token: &str) -> Answer {
    Client::new(address).get("localhost", "/tokens", &format!("authorization: Bearer {token}\r\n"))
}

fn upgraded(fleet: &Fleet) {
    let before = fleet.serving();
    let output = fleet.upgrade(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_until("the process before has drained", || is_gone(before));
}

#[test]
fn a_new_process_has_keys_before_it_serves() {
    let fleet = Fleet::start("drain: 5s");
    let issuer = Issuer::start();
    with_tokens(&fleet, &issuer);
    // The old process has none of this configuration. A token would wait for 10 ms; keys take longer.
    issuer.set_mood(Mood::Slow(Duration::from_millis(300)));
    upgraded(&fleet);
    let answer = ask(fleet.web, &issuer.token(&json!({})));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn what_was_decided_outlives_an_upgrade() {
    let fleet = Fleet::start("drain: 5s");
    let issuer = Issuer::start();
    with_tokens(&fleet, &issuer);
    assert_eq!(fleet.first.admin("POST", "/reload").json()["outcome"], "applied");
    let token = issuer.token(&json!({}));
    wait_until("the keys are there", || ask(fleet.web, &token).status == 200);
    issuer.set_mood(Mood::Down);
    let origin = fleet.origin.address();
    for path in ["/routes/off/off", &format!("/upstreams/origin/{origin}/drain")] {
        let answer = fleet.first.admin("POST", path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    // Twice: what was taken over is given on.
    for round in 0..2 {
        upgraded(&fleet);
        let answer = ask(fleet.web, &token);
        assert_eq!(answer.status, 200, "{round}: its issuer is away, its key is known: {}", answer.text());
        assert_eq!(get(fleet.web, "/off").code(), "route_off", "{round}");
        let endpoints = fleet.first.admin("GET", "/upstreams").json();
        assert_eq!(endpoints[0]["endpoints"][0]["draining"], true, "{round}: {endpoints}");
    }
    issuer.set_mood(Mood::Good);
    let unknown = issuer.token_by(&issuer.new_key(), &json!({}));
    assert_eq!(ask(fleet.web, &unknown).status, 401);
}

#[test]
fn a_signed_request_counts_once_for_both_processes() {
    let fleet = Fleet::start("drain: 5s");
    let signer = Signer { secret: "0123456789abcdef0123456789abcdef", key: "partner", host: "api.example" };
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let signed = "signed: { match: { path: /signed }, policies: { authenticate: { any_of: [{ signature: {} }] } }, to: { echo: {} } }";
    let text = text.replace("routes: {", &format!("routes: {{ {signed},"));
    let consumers = format!(
        "consumers: {{ acme: {{ credentials: [{{ signature: {{ id: partner, key: {{ hmac-sha256: {} }} }} }}] }} }}\n",
        signer.secret
    );
    std::fs::write(fleet.config(), text + &consumers).unwrap();
    assert_eq!(fleet.first.admin("POST", "/reload").json()["outcome"], "applied");
    let ask = |fields: &str| Client::new(fleet.web).get("api.example", "/signed", fields).status;
    let once = signer.fields("GET", "/signed", "n-1", None);
    assert_eq!(ask(&once), 200);
    for round in 0..2 {
        upgraded(&fleet);
        assert_eq!(ask(&once), 401, "{round}");
        assert_eq!(ask(&signer.fields("GET", "/signed", &format!("m-{round}"), None)), 200);
    }
}

#[test]
fn a_breaker_that_is_open_stays_open() {
    let fleet = Fleet::start("drain: 5s");
    let gone = quiet_port();
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let breaker = "{ failures: 50%, of_at_least: 1, open_for: 10m }";
    let upstreams = format!(
        "upstreams: {{ by_upstream: {{ endpoints: ['127.0.0.1:{gone}'], breaker: {breaker} }}, \
         by_endpoint: {{ endpoints: ['127.0.0.1:{gone}'], endpoint_breaker: {breaker} }},"
    );
    let routes =
        "routes: { a: { match: { path: /a }, to: by_upstream }, b: { match: { path: /b }, to: by_endpoint },";
    let text = text.replace("upstreams: {", &upstreams).replace("routes: {", routes);
    std::fs::write(fleet.config(), &text).unwrap();
    assert_eq!(fleet.first.admin("POST", "/reload").json()["outcome"], "applied", "{text}");
    for path in ["/a", "/b"] {
        // By itself 502, or 503 where the second try already finds the breaker open.
        assert!((502..=503).contains(&get(fleet.web, path).status), "{path}");
        assert_eq!(get(fleet.web, path).code(), "breaker_open", "{path}");
    }
    // Twice: what was taken over is given on.
    for round in 0..2 {
        upgraded(&fleet);
        for path in ["/a", "/b"] {
            let answer = get(fleet.web, path);
            assert_eq!((answer.status, answer.code().as_str()), (503, "breaker_open"), "{round} {path}");
        }
    }
}

/// As many as there may be, whatever they weigh: the new process knows them from the hand-over alone.
#[test]
fn what_is_revoked_stays_so_over_upgrades() {
    const LISTED: usize = 50_000;
    let fleet = Fleet::start("drain: 5s");
    let issuer = Issuer::start();
    with_tokens(&fleet, &issuer);
    let revoked: String =
        (0..LISTED).map(|n| format!("{{\"token_id\":\"t-{n}\",\"reason\":\"{n:0200}\"}}\n")).collect();
    assert!(revoked.len() > 8 << 20, "more than goes in one piece");
    std::fs::write(fleet.folder.path().join("revoked"), revoked).unwrap();
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let keys = "  keys: { match: { path: /keys }, policies: { authenticate: { any_of: [{ api_key: { header: x-key } }] } }, to: { echo: {} } }\n";
    let consumers = "consumers: { acme: { credentials: [{ api_key: { key: 0123456789abcdef } }] }, other: { credentials: [{ api_key: { key: fedcba9876543210 } }] } }\n";
    let with = |revocations: &str| {
        let text = text.replace("routes:\n", &format!("routes:\n{keys}"));
        let text = text
            .replace("identity: {", &format!("identity: {{ revocations: {{ most: 60000, {revocations} }},"));
        std::fs::write(fleet.config(), text + consumers).unwrap();
    };
    with("state: revoked");
    assert_eq!(fleet.first.admin("POST", "/reload").json()["outcome"], "applied");
    let count = || fleet.first.admin("GET", "/revocations").json()["count"].as_u64();
    wait_until("the state is read", || count() == Some(LISTED as u64));
    let revoke = |what: Value| {
        let (body, fields) =
            (what.to_string(), "host: admin\r\nconnection: close\r\nauthorization: Bearer secret\r\n");
        let length = body.len();
        let request = format!("POST /revocations HTTP/1.1\r\n{fields}content-length: {length}\r\n\r\n{body}");
        assert_eq!(send(fleet.admin, &request).status, 201, "{what}");
    };
    let key =
        |key: &str| Client::new(fleet.web).get("localhost", "/keys", &format!("x-key: {key}\r\n")).status;
    let (first, last) = (issuer.token(&json!({ "jti": "t-0" })), issuer.token(&json!({ "jti": "t-49999" })));
    let (theirs, good) = (issuer.token(&json!({ "sub": "mallory" })), issuer.token(&json!({ "jti": "t-x" })));
    wait_until("the keys are there", || ask(fleet.web, &good).status == 200);
    assert_eq!(
        (ask(fleet.web, &theirs).status, key("0123456789abcdef"), key("fedcba9876543210")),
        (200, 200, 200)
    );
    let digest = tollgate::values::Sha256::of(b"0123456789abcdef").to_string();
    revoke(json!({ "subject": "mallory" }));
    revoke(json!({ "key": digest }));
    // From here on nothing on disk tells of them.
    with("");
    std::fs::remove_file(fleet.folder.path().join("revoked")).unwrap();
    for round in 0..3 {
        assert_eq!(count(), Some(LISTED as u64 + 2), "{round}");
        for token in [&first, &last, &theirs] {
            assert_eq!(ask(fleet.web, token).status, 401, "{round}");
        }
        let (revoked, other) = (key("0123456789abcdef"), key("fedcba9876543210"));
        assert_eq!((revoked, other, ask(fleet.web, &good).status), (401, 200, 200), "{round}");
        upgraded(&fleet);
    }
    let errors = std::fs::read_to_string(fleet.folder.path().join("errors.log")).unwrap();
    assert!(!errors.contains("not all fit") && !errors.contains("stays behind"), "{errors}");
}

#[test]
fn quotas_go_on_counting() {
    let fleet = Fleet::start("drain: 5s");
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let quota = "policies: { defaults: { quota: { key: client_ip, max: 12/month } } }\n";
    std::fs::write(fleet.config(), format!("{text}{quota}")).unwrap();
    assert_eq!(fleet.first.admin("POST", "/reload").json()["outcome"], "applied");
    let ask = || get(fleet.web, "/").status;
    for round in 0..3 {
        for turn in 0..4 {
            assert_eq!(ask(), 200, "{round} {turn}");
        }
        upgraded(&fleet);
    }
    assert_eq!(ask(), 429, "twelve were used, over three upgrades");
    // The one that serves now is the one that writes.
    let kept = || std::fs::read_to_string(fleet.folder.path().join("state/quotas")).unwrap_or_default();
    wait_until("all of it is on disk", || kept().contains(",12]]"));
}

/// What goes over the socket, to a build that is written apart from this one.
#[test]
fn state_has_a_name_and_a_version() {
    let fleet = Fleet::start("drain: 5s");
    let mut partner = Partner::joined(&fleet.control());
    partner.say(&json!("ready"));
    assert_eq!(go(&mut partner), json!([]));
    drop(partner);
    wait_until("it serves again", || get(fleet.web, "/").status == 200);
    assert_eq!(fleet.first.admin("POST", "/routes/all/off").status, 200);
    let mut partner = Partner::joined(&fleet.control());
    partner.say(&json!("ready"));
    let kept = json!([{ "tenant": "default", "kind": "route", "name": "all", "version": 1, "data": "off" }]);
    assert_eq!(go(&mut partner), kept);
}

fn go(partner: &mut Partner) -> Value {
    loop {
        let heard = partner.hear();
        assert_ne!(heard, Value::Null, "the conversation ended");
        if let Some(go) = heard.get("go") {
            return go["state"].clone();
        }
    }
}

#[test]
fn limits_go_on_counting() {
    let fleet = Fleet::start("drain: 5s");
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let few =
        "few: { match: { path: /few }, policies: { rate_limit: { rate: 1/h, burst: 3 } }, to: { echo: {} } }";
    std::fs::write(fleet.config(), text.replace("routes: {", &format!("routes: {{ {few},"))).unwrap();
    assert_eq!(fleet.first.admin("POST", "/reload").json()["outcome"], "applied");
    let ask = || get(fleet.web, "/few").status;
    assert_eq!([ask(), ask()], [200, 200]);
    upgraded(&fleet);
    assert_eq!([ask(), ask()], [200, 429], "three of three, by two processes");
    upgraded(&fleet);
    assert_eq!(ask(), 429);
}
