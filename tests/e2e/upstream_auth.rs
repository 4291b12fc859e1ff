//! What upstreams are shown.

use crate::harness::{Answer, Client, Gateway, Issuer, Mood, Origin, wait_until};
use serde_json::json;

/// A gateway with these accounts, of which the route shows `it`.
fn gateway(issuer: &Issuer, origin: &Origin, account: &str) -> Gateway {
    Gateway::start(&yaml(issuer, origin, account))
}

fn yaml(issuer: &Issuer, origin: &Origin, account: &str) -> String {
    let url = issuer.url();
    format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}
listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}
identity:
  providers:
    main: {{ jwt: {{ issuer: '{url}', audiences: [api], algorithms: [ES256], forward: false }} }}
    opaque: {{ introspection: {{ url: '{url}/introspect', client_id: a, client_secret: b }} }}
  accounts:
    it: {account}
upstreams: {{ origin: {{ endpoints: ['{}'] }} }}
routes:
  open: {{ match: {{ path: /open }}, policies: {{ upstream_auth: {{ account: it }} }}, to: origin }}
  closed:
    match: {{ path: /closed }}
    policies:
      authenticate: {{ any_of: [{{ jwt: main }}, {{ introspection: opaque }}] }}
      upstream_auth: {{ account: it }}
    to: origin
",
        origin.address()
    )
}

fn client(issuer: &Issuer, more: &str) -> String {
    format!("{{ token_url: '{}/token', client_id: gateway, client_secret: s3cret{more} }}", issuer.url())
}

fn ask(gateway: &Gateway, path: &str, token: &str) -> Answer {
    Client::new(gateway.web()).get("example.com", path, &format!("authorization: Bearer {token}\r\n"))
}

#[test]
fn a_field_that_is_always_the_same() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("in"));
    let gateway = gateway(&issuer, &origin, "{ header: { name: x-api-key, value: k3y } }");
    let answer = Client::new(gateway.web()).get("example.com", "/open", "x-api-key: mine\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(origin.last().fields("x-api-key"), ["k3y"], "the client's own does not pass");
}

#[test]
fn a_token_of_the_gateways_own() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("in"));
    let more = ", scopes: [orders:read, orders:write], audience: orders, client_auth: post";
    let gateway = gateway(&issuer, &origin, &format!("{{ client_credentials: {} }}", client(&issuer, more)));
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "/open", "mine").status, 200);
        assert_eq!(origin.last().fields("authorization"), ["Bearer granted-1"]);
    }
    let asked = issuer.asked("/token");
    assert_eq!(asked.len(), 1, "one token serves all");
    let form = String::from_utf8(asked[0].body.clone()).unwrap();
    assert_eq!(
        form,
        "grant_type=client_credentials&scope=orders%3Aread+orders%3Awrite&audience=orders\
         &client_id=gateway&client_secret=s3cret"
    );
}

#[test]
fn an_own_token_is_replaced_before_it_ends_and_outlives_reloads() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("in"));
    issuer.set_lifetime(4);
    let account = format!("{{ client_credentials: {} }}", client(&issuer, ""));
    let gateway = gateway(&issuer, &origin, &account);
    assert_eq!(ask(&gateway, "/open", "").status, 200);
    wait_until("there is a second token", || {
        assert_eq!(ask(&gateway, "/open", "").status, 200, "there always is one");
        origin.last().fields("authorization") != ["Bearer granted-1"]
    });
    issuer.set_lifetime(3600);
    wait_until("there is one that lasts", || issuer.asked("/token").len() >= 3);
    let before = issuer.asked("/token").len();
    gateway.rewrite(&format!("{}\n  # another file\n", yaml(&issuer, &origin, &account)));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(ask(&gateway, "/open", "").status, 200);
    assert_eq!(issuer.asked("/token").len(), before);
}

#[test]
fn without_a_token_nothing_goes_upstream() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("in"));
    issuer.set_mood(Mood::Down);
    let account = format!("{{ client_credentials: {} }}", client(&issuer, ", wait: 200ms"));
    let gateway = gateway(&issuer, &origin, &account);
    let answer = ask(&gateway, "/open", "mine");
    assert_eq!((answer.status, answer.code()), (503, "upstream_auth_unavailable".to_owned()));
    assert!(answer.field("retry-after").is_some() && origin.received().is_empty());
    issuer.set_mood(Mood::Good);
    wait_until("there is a token", || ask(&gateway, "/open", "mine").status == 200);
}

#[test]
fn tokens_are_exchanged_caller_by_caller() {
    let (issuer, origin) = (Issuer::start(), Origin::saying("in"));
    let account = format!("{{ token_exchange: {} }}", client(&issuer, ", audience: orders"));
    let gateway = gateway(&issuer, &origin, &account);
    let (alice, bob) = (issuer.token(&json!({})), issuer.token(&json!({ "sub": "bob" })));
    for token in [&alice, &bob, &alice, &bob] {
        assert_eq!(ask(&gateway, "/closed", token).status, 200);
    }
    let shown: Vec<String> =
        origin.received().iter().map(|seen| seen.fields("authorization").join(", ")).collect();
    assert_eq!(shown, ["Bearer granted-1", "Bearer granted-2", "Bearer granted-1", "Bearer granted-2"]);
    let asked = issuer.asked("/token");
    assert_eq!(asked.len(), 2);
    let form = String::from_utf8(asked[0].body.clone()).unwrap();
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=";
    assert!(form.starts_with(&format!("{grant}{alice}&")), "{form}");
    assert!(form.ends_with("&audience=orders"), "{form}");

    issuer.tell("refuse-me", &json!({ "active": true, "sub": "carol" }));
    for _ in 0..2 {
        let answer = ask(&gateway, "/closed", "refuse-me");
        assert_eq!((answer.status, answer.code()), (403, "token_exchange_refused".to_owned()));
    }
    assert_eq!(issuer.asked("/token").len(), 3, "a refusal counts for a while");
    let answer = ask(&gateway, "/open", &alice);
    assert_eq!(
        (answer.status, answer.code()),
        (403, "token_exchange_refused".to_owned()),
        "nobody looked at it"
    );
    issuer.set_mood(Mood::Down);
    assert_eq!(ask(&gateway, "/closed", &alice).status, 200);
    let answer = ask(&gateway, "/closed", &issuer.token(&json!({ "sub": "dave" })));
    assert_eq!((answer.status, answer.code()), (503, "upstream_auth_unavailable".to_owned()));
}
