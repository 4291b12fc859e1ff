//! What does not count any more: at once, over reloads and restarts, and at other gateways.

use crate::harness::{Answer, Client, Gateway, Issuer, Redis, now, send, wait_until};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn yaml(issuer: &Issuer, revocations: &str, rest: &str) -> String {
    format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}
listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}
identity:
  providers:
    main: {{ jwt: {{ issuer: '{}', audiences: [api], algorithms: [ES256] }} }}
  revocations: {{ {revocations} }}
consumers: {{ acme: {{ credentials: [{{ api_key: {{ key: {KEY} }} }}] }} }}
{rest}
routes:
  all:
    policies: {{ authenticate: {{ any_of: [{{ jwt: main }}, {{ api_key: {{ header: x-api-key }} }}] }} }}
    to: {{ echo: {{}} }}
",
        issuer.url()
    )
}

fn by_token(gateway: &Gateway, token: &str) -> u16 {
    Client::new(gateway.web()).get("example.com", "/", &format!("authorization: Bearer {token}\r\n")).status
}

fn by_key(gateway: &Gateway) -> u16 {
    Client::new(gateway.web()).get("example.com", "/", &format!("x-api-key: {KEY}\r\n")).status
}

/// Revokes by the admin listener, whose token is `secret`.
pub(super) fn post(gateway: &Gateway, what: &Value) -> Answer {
    let body = what.to_string();
    let fields = "host: admin\r\nconnection: close\r\nauthorization: Bearer secret\r\n";
    let length = body.len();
    let request = format!("POST /revocations HTTP/1.1\r\n{fields}content-length: {length}\r\n\r\n{body}");
    send(gateway.at("admin"), &request)
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn delete(gateway: &Gateway, id: &str) -> Answer {
    gateway.admin("DELETE", &format!("/revocations/{id}"), "authorization: Bearer secret\r\n")
}

#[test]
fn what_is_revoked_is_refused_at_the_next_request() {
    let issuer = Issuer::start();
    let gateway = Gateway::start(&yaml(&issuer, "", ""));
    let token = |claims: Value| issuer.token(&claims);
    let (one, other) =
        (token(json!({ "jti": "t1", "iat": now() })), token(json!({ "jti": "t2", "iat": now() })));
    // Both are verified and remembered.
    assert_eq!((by_token(&gateway, &one), by_token(&gateway, &other), by_key(&gateway)), (200, 200, 200));

    let answer = post(&gateway, &json!({ "token_id": "t1", "provider": "main", "reason": "stolen" }));
    assert_eq!((answer.status, &answer.json()["saved"]), (201, &json!(false)), "{}", answer.text());
    assert_eq!((by_token(&gateway, &one), by_token(&gateway, &other)), (401, 200));
    assert_eq!(delete(&gateway, &id(&answer)).status, 200);
    assert_eq!(by_token(&gateway, &one), 200, "it was taken back");
    assert_eq!(delete(&gateway, &id(&answer)).status, 404);

    let all = post(&gateway, &json!({ "subject": "alice", "provider": "main" }));
    assert_eq!((by_token(&gateway, &one), by_token(&gateway, &other), by_key(&gateway)), (401, 401, 200));
    assert_eq!(by_token(&gateway, &token(json!({ "iat": now() + 5 }))), 200, "what was issued later counts");
    assert_eq!(by_token(&gateway, &token(json!({}))), 401, "what does not say when is from before");
    assert_eq!(by_token(&gateway, &token(json!({ "sub": "bob" }))), 200);
    assert_eq!(delete(&gateway, &id(&all)).status, 200);

    let digest = tollgate::values::Sha256::of(KEY.as_bytes()).to_string();
    assert_eq!(post(&gateway, &json!({ "key": digest })).status, 201);
    assert_eq!((by_key(&gateway), by_token(&gateway, &one)), (401, 200));
    let revoked = |method, provider| {
        let labels = format!("method=\"{method}\",provider=\"{provider}\",outcome=\"revoked\"");
        gateway.metric(&format!("tollgate_auth_total{{{labels}}}")) as u64
    };
    assert_eq!((revoked("jwt", "main"), revoked("api_key", "_none")), (4, 1));

    let list = gateway.admin("GET", "/revocations", "authorization: Bearer secret\r\n").json();
    assert_eq!((&list["count"], &list["revocations"][0]["key"]), (&json!(1), &json!(digest)), "{list}");
    assert_eq!(gateway.metric("tollgate_revocations"), 1.0);
}

#[test]
fn nobody_without_the_token_revokes_or_looks() {
    let issuer = Issuer::start();
    let gateway = Gateway::start(&yaml(&issuer, "most: 1", ""));
    let body = "{\"token_id\":\"a\"}";
    for (method, path, body) in [
        ("GET", "/revocations", ""),
        ("POST", "/revocations", body),
        ("DELETE", "/revocations/00000000000000000000000000000000", ""),
    ] {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        assert_eq!(send(gateway.at("admin"), &request).status, 401, "{method}");
    }
    assert_eq!(delete(&gateway, "00000000000000000000000000000000").status, 404);
    assert_eq!(delete(&gateway, "nonsense").status, 404);
    let wrong = post(&gateway, &json!({ "tokenid": "a" }));
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("unknown field"), "{}", wrong.text());
    let large = post(&gateway, &json!({ "token_id": "a".repeat(100_000) }));
    assert_eq!(large.status, 413, "{}", large.text());
    assert_eq!(post(&gateway, &json!({ "token_id": "a" })).status, 201);
    assert_eq!(post(&gateway, &json!({ "token_id": "b" })).status, 507, "there may be one");
}

#[test]
fn they_outlive_reloads_and_where_a_path_is_given_restarts() {
    let issuer = Issuer::start();
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("revoked.jsonl");
    let settings = format!("state: '{}'", state.display());
    let token = issuer.token(&json!({ "jti": "t1" }));
    {
        let gateway = Gateway::start(&yaml(&issuer, &settings, ""));
        let answer = post(&gateway, &json!({ "token_id": "t1" }));
        assert_eq!((answer.status, &answer.json()["saved"]), (201, &json!(true)), "{}", answer.text());
        assert!(fs::read_to_string(&state).unwrap().contains("\"t1\""), "saved means on disk");
        gateway.rewrite(&yaml(&issuer, &settings, "plans: { gold: {} }"));
        assert_eq!(gateway.reload().status, 200);
        assert_eq!(by_token(&gateway, &token), 401);
    }
    let gateway = Gateway::start(&yaml(&issuer, &settings, ""));
    assert_eq!(by_token(&gateway, &token), 401, "another process knows it from its first request on");
    drop(gateway);
    fs::write(&state, "nonsense\n").unwrap();
    let config = yaml(&issuer, &settings, "");
    let refused = std::panic::catch_unwind(|| Gateway::start(&config));
    assert!(refused.is_err(), "it does not start without what was revoked");
}

#[test]
fn a_file_is_followed_without_a_reload() {
    let issuer = Issuer::start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("revoked.jsonl");
    let write = |text: &str| {
        let fresh = folder.path().join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, &file).unwrap();
    };
    write("{\"token_id\":\"t1\"}\n");
    let gateway = Gateway::start(&yaml(&issuer, &format!("file: '{}', refresh: 100ms", file.display()), ""));
    let tokens: Vec<String> = ["t1", "t2"].map(|id| issuer.token(&json!({ "jti": id }))).to_vec();
    assert_eq!(by_token(&gateway, &tokens[0]), 401, "from the first request on");
    assert_eq!(by_token(&gateway, &tokens[1]), 200);
    write("{\"token_id\":\"t2\"}\n");
    wait_until("the file is read", || by_token(&gateway, &tokens[1]) == 401);
    assert_eq!(by_token(&gateway, &tokens[0]), 200, "a line that is gone does not count");
    // A mistake leaves what was known.
    write("{\"token_id\":\"t1\"}\nnonsense\n");
    write("{\"token_id\":\"t1\"}\n{\"token_id\":\"t2\"}\n");
    wait_until("it is read again", || by_token(&gateway, &tokens[0]) == 401);
    assert_eq!(by_token(&gateway, &tokens[1]), 401);
    assert_eq!(gateway.metric("tollgate_reloads_total{outcome=\"applied\"}"), 0.0);
}

#[test]
fn gateways_tell_each_other_by_a_store() {
    let mut redis = Redis::start();
    let issuer = Issuer::start();
    let stores = format!(
        "stores: {{ main: {{ redis: {{ address: '{}', timeout: 10s, connect_timeout: 10s }} }} }}",
        redis.address()
    );
    let start = || Gateway::start(&yaml(&issuer, "store: main, refresh: 100ms", &stores));
    let (here, there) = (start(), start());
    let token = |id: &str| issuer.token(&json!({ "jti": id }));
    let answer = post(&here, &json!({ "token_id": "t1" }));
    assert_eq!(answer.status, 201);
    wait_until("the other one knows", || by_token(&there, &token("t1")) == 401);
    assert_eq!(delete(&there, &id(&answer)).status, 200, "any of them takes it back");
    wait_until("the first one knows", || by_token(&here, &token("t1")) == 200);

    for n in 0..450 {
        assert_eq!(post(&here, &json!({ "token_id": format!("many-{n}") })).status, 201);
    }
    wait_until("all are told", || there.metric("tollgate_revocations") == 450.0);

    // Without the store each goes on alone, and tells the others once it is back.
    redis.stop();
    assert_eq!(post(&there, &json!({ "token_id": "t2" })).status, 201);
    assert_eq!((by_token(&there, &token("t2")), by_token(&here, &token("t2"))), (401, 200));
    redis.restart();
    wait_until("what was made meanwhile is told", || by_token(&here, &token("t2")) == 401);
    // The store came back empty: a gateway that starts now learns everything all the same.
    wait_until("it is told everything again", || redis.ask(&["HLEN", "tollgate:revocations:texts"]) == "452");
    let fresh = start();
    assert_eq!(by_token(&fresh, &token("t2")), 401, "from its first request on");
    assert_eq!(by_token(&fresh, &token("many-449")), 401);
    assert_eq!(by_token(&fresh, &token("t1")), 200);
}
