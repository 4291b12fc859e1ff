//! Tokens that a server is asked about.

use crate::harness::{Answer, Client, Gateway, Issuer, Mood, Origin, answer, now, wait_until};
use serde_json::json;
use std::io::Write as _;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

fn gateway(issuer: &Issuer, settings: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin' }}
listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}
identity:
  providers:
    partner:
      introspection: {{ url: '{}/introspect', client_id: gateway, client_secret: s3cret{settings} }}
routes:
  all:
    policies: {{ authenticate: {{ any_of: [{{ introspection: partner }}] }} }}
    to: {{ echo: {{}} }}
",
        issuer.url()
    ))
}

fn ask(client: &mut Client, token: &str) -> Answer {
    client.get("example.com", "/", &format!("authorization: Bearer {token}\r\n"))
}

#[test]
fn a_server_tells_who_calls() {
    let issuer = Issuer::start();
    let gateway = gateway(&issuer, ", audiences: [api], required: [sub]");
    let mut client = Client::new(gateway.web());
    let good = json!({ "active": true, "sub": "alice", "aud": "api", "exp": now() + 600, "scope": "a b" });
    issuer.tell("good", &good);
    let but = |name: &str, value: serde_json::Value| {
        let mut told = good.clone();
        told[name] = value;
        told
    };
    issuer.tell("expired", &but("exp", json!(now() - 1)));
    issuer.tell("audience", &but("aud", json!("other")));
    issuer.tell("nobody", &but("sub", json!(null)));
    issuer.tell("odd", &but("exp", json!("soon")));
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "good").status, 200);
        for token in ["unknown", "expired", "audience", "nobody", "odd"] {
            let answer = ask(&mut client, token);
            assert_eq!((answer.status, answer.code()), (401, "unauthenticated".to_owned()), "{token}");
            let challenge = "Bearer realm=\"tollgate\", error=\"invalid_token\"";
            assert_eq!(answer.field("www-authenticate"), Some(challenge));
        }
    }
    let asked = issuer.asked("/introspect");
    assert_eq!(asked.len(), 6, "each token is asked about once");
    assert_eq!(asked[0].field("authorization"), Some("Basic Z2F0ZXdheTpzM2NyZXQ="));
    assert_eq!(asked[0].body, b"token=good");
}

#[test]
fn answers_count_for_a_while() {
    let issuer = Issuer::start();
    let gateway = gateway(&issuer, ", cache: 0s, negative: 0s");
    let mut client = Client::new(gateway.web());
    assert_eq!(ask(&mut client, "token").status, 401);
    issuer.tell("token", &json!({ "active": true, "sub": "alice" }));
    assert_eq!(ask(&mut client, "token").status, 200);
    issuer.tell("token", &json!({ "active": false }));
    assert_eq!(ask(&mut client, "token").status, 401, "revoked at the server");
    assert_eq!(issuer.asked("/introspect").len(), 3);
}

#[test]
fn many_with_one_token_ask_once() {
    let issuer = Issuer::start();
    issuer.tell("token", &json!({ "active": true, "sub": "alice" }));
    issuer.set_mood(Mood::Slow(Duration::from_millis(300)));
    let gateway = gateway(&issuer, ", call: { timeout: 20s }");
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let web = gateway.web();
            std::thread::spawn(move || ask(&mut Client::new(web), "token").status)
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 200);
    }
    assert_eq!(issuer.asked("/introspect").len(), 1);
}

/// A server that answers for one token and keeps all others waiting.
fn slow_but_for(token: &'static str) -> (Origin, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let origin = Origin::start(move |request, stream| {
        let said = if request.body == format!("token={token}").as_bytes() {
            json!({ "active": true, "sub": "alice" })
        } else {
            // Until the test ends.
            let _ = held.lock().map(|held| held.recv());
            json!({ "active": false })
        };
        stream.write_all(&answer("200 OK", "content-type: application/json\r\n", &said.to_string())).is_ok()
    });
    (origin, release)
}

#[test]
fn a_flood_of_one_client_takes_nobody_elses_calls() {
    let (server, release) = slow_but_for("good");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', trusted_proxies: ['127.0.0.0/8'] }} }}
identity:
  providers:
    partner:
      introspection: {{ url: 'http://{}/', client_id: gateway, client_secret: s3cret, in_flight: 4, \
                       cache: 0s, negative: 0s, call: {{ timeout: 60s }} }}
routes:
  all:
    policies: {{ authenticate: {{ any_of: [{{ introspection: partner }}] }} }}
    to: {{ echo: {{}} }}
",
        server.address()
    ));
    let web = gateway.web();
    let by = |client: &str, token: &str| {
        let fields = format!("x-forwarded-for: {client}\r\nauthorization: Bearer {token}\r\n");
        Client::new(web).get("example.com", "/", &fields).status
    };
    let flood: Vec<_> = (0..12)
        .map(|n| {
            std::thread::spawn(move || {
                let fields = format!("x-forwarded-for: 192.0.2.1\r\nauthorization: Bearer flood-{n}\r\n");
                Client::new(web).get("example.com", "/", &fields).status
            })
        })
        .collect();
    wait_until("all calls are under way", || server.received().len() >= 4);
    for _ in 0..10 {
        assert_eq!(by("192.0.2.2", "good"), 200, "another client finds a place");
    }
    drop(release);
    let statuses: Vec<u16> = flood.into_iter().map(|one| one.join().unwrap()).collect();
    let turned_away = statuses.iter().filter(|status| **status == 503).count();
    assert!(turned_away >= 8, "the flood has its four places and no more: {statuses:?}");
}

#[test]
fn nobody_gets_in_while_the_server_is_down() {
    let issuer = Issuer::start();
    issuer.tell("token", &json!({ "active": true, "sub": "alice" }));
    let gateway = gateway(&issuer, ", cache: 0s, breaker: { failures: 2, open_for: 1s }");
    let mut client = Client::new(gateway.web());
    assert_eq!(ask(&mut client, "token").status, 200);
    for mood in
        [Mood::Down, Mood::Garbage("<html>"), Mood::Garbage("{}"), Mood::Garbage("{\"active\":\"true\"}")]
    {
        issuer.set_mood(mood);
        let answer = ask(&mut client, "token");
        assert_eq!((answer.status, answer.code()), (503, "authentication_unavailable".to_owned()));
        assert!(answer.field("retry-after").is_some());
    }
    let before = issuer.asked("/introspect").len();
    for _ in 0..20 {
        assert_eq!(ask(&mut client, "token").status, 503);
    }
    assert!(issuer.asked("/introspect").len() <= before + 2, "it is left alone");
    issuer.set_mood(Mood::Good);
    wait_until("the server is tried again", || ask(&mut client, "token").status == 200);
}

/// What any client can bring about does not make the server one that is down for all.
#[test]
fn nobody_can_have_it_left_alone_for_others() {
    let server = Origin::start(|request, stream| {
        let said = match request.body.as_slice() {
            b"token=odd" => answer("400 Bad Request", "", "{}"),
            b"token=long" => {
                answer("200 OK", "", &format!("{{\"active\":true,\"x\":\"{}\"}}", "x".repeat(2 << 20)))
            }
            _ => answer("200 OK", "", r#"{"active":true,"sub":"alice"}"#),
        };
        stream.write_all(&said).is_ok()
    });
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}
identity:
  providers:
    partner:
      introspection: {{ url: 'http://{}/', client_id: gateway, client_secret: s3cret, cache: 0s, \
                       breaker: {{ failures: 2, open_for: 1h }} }}
routes:
  all:
    policies: {{ authenticate: {{ any_of: [{{ introspection: partner }}] }} }}
    to: {{ echo: {{}} }}
",
        server.address()
    ));
    let mut client = Client::new(gateway.web());
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "odd").status, 503);
        assert_eq!(ask(&mut client, "long").status, 503);
        assert_eq!(ask(&mut client, "odd").status, 503);
        assert_eq!(ask(&mut client, "good").status, 200);
    }
}

#[test]
fn old_answers_count_where_it_is_said() {
    let issuer = Issuer::start();
    let active = json!({ "active": true, "sub": "alice" });
    issuer.tell("token", &active);
    issuer.tell("short", &json!({ "active": true, "sub": "bob", "exp": now() + 2 }));
    let gateway = gateway(&issuer, ", cache: 0s, when_down: { allow_stale: 1h }");
    let mut client = Client::new(gateway.web());
    for token in ["token", "short"] {
        assert_eq!(ask(&mut client, token).status, 200);
    }
    issuer.set_mood(Mood::Down);
    assert_eq!(ask(&mut client, "token").status, 200, "the server said so before");
    assert_eq!(ask(&mut client, "other").status, 503, "it never said anything of this one");
    wait_until("the token ends", || ask(&mut client, "short").status == 401);
}
