//! Signed tokens, whole: who gets in, who does not and what they are told, and keys that change.

use crate::harness::{Answer, Authority, Client, Gateway, Issuer, Mood, Origin, answer, now, wait_until};
use serde_json::{Value, json};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A gateway that asks for tokens of this issuer, with further settings of the provider and the policy.
fn gateway(issuer: &Issuer, settings: &str, policy: &str) -> Gateway {
    Gateway::start(&yaml(issuer, settings, policy))
}

fn yaml(issuer: &Issuer, settings: &str, policy: &str) -> String {
    format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}
listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}
identity:
  providers:
    main: {{ jwt: {{ issuer: '{}', audiences: [api], algorithms: [ES256]{settings} }} }}
routes:
  all:
    policies:
      authenticate: {{ any_of: [{{ jwt: main }}]{policy} }}
    to: {{ echo: {{}} }}
",
        issuer.url()
    )
}

fn ask(client: &mut Client, token: &str) -> Answer {
    client.get("example.com", "/", &format!("authorization: Bearer {token}\r\n"))
}

#[test]
fn a_token_lets_in() {
    let issuer = Issuer::start();
    let gateway = gateway(&issuer, "", "");
    let mut client = Client::new(gateway.web());
    let token = issuer.token(&json!({}));
    for _ in 0..3 {
        let answer = ask(&mut client, &token);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let answer = client.get("example.com", "/", "");
    assert_eq!((answer.status, answer.code()), (401, "unauthenticated".to_owned()));
    assert_eq!(answer.fields("www-authenticate"), ["Bearer realm=\"tollgate\""]);
    let counted = |outcome| {
        gateway
            .metric(&format!("tollgate_auth_total{{method=\"jwt\",provider=\"main\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!(counted("admitted") as u64, 3);
    assert_eq!(issuer.asked("/keys").len(), 1, "keys are fetched once");
}

/// What is wrong with a token is for the log and the metric; the client learns that it is no good.
#[test]
fn what_does_not_count_is_refused() {
    let issuer = Issuer::start();
    let stranger = Issuer::start();
    let gateway = gateway(&issuer, ", fetch: { wait: 10s }", "");
    let mut client = Client::new(gateway.web());
    let good = issuer.token(&json!({}));
    assert_eq!(ask(&mut client, &good).status, 200);
    let large = issuer.token(&json!({ "pad": "x".repeat(9000) }));
    let fields = |token: &str| format!("authorization: Bearer {token}\r\n");
    for (fields, outcome) in [
        (fields("abc"), "token_not_jwt"),
        (fields(""), "token_not_jwt"),
        (fields(&format!("{good}=")), "token_encoding"),
        (fields(good.rsplit_once('.').unwrap().0), "token_not_jwt"),
        (fields(&format!("{}.", good.rsplit_once('.').unwrap().0)), "token_unsigned"),
        (fields(&large), "token_too_large"),
        (fields(&issuer.token(&json!({ "exp": now() - 100 }))), "token_expired"),
        (fields(&issuer.token(&json!({ "nbf": now() + 100 }))), "token_not_yet_valid"),
        (fields(&issuer.token(&json!({ "aud": "other" }))), "token_audience"),
        (fields(&stranger.token(&json!({}))), "token_issuer"),
        (fields(&stranger.token(&json!({ "iss": issuer.url() }))), "token_signature"),
        (fields(&issuer.token_by(&issuer.new_key(), &json!({}))), "token_key_unknown"),
        (fields("e30.e30.AAAA"), "token_malformed"),
        (format!("{}{}", fields(&good), fields(&good)), "token_ambiguous"),
    ] {
        let series = format!("tollgate_auth_total{{method=\"jwt\",provider=\"main\",outcome=\"{outcome}\"}}");
        let before = gateway.metric(&series);
        let answer = client.get("example.com", "/", &fields);
        assert_eq!((answer.status, answer.code()), (401, "unauthenticated".to_owned()), "{outcome}");
        let error = if outcome == "token_ambiguous" { "invalid_request" } else { "invalid_token" };
        let challenge = format!("Bearer realm=\"tollgate\", error=\"{error}\"");
        assert_eq!(answer.fields("www-authenticate"), [challenge.as_str()], "{outcome}");
        assert!(!answer.text().contains("token_"), "{}", answer.text());
        assert_eq!(gateway.metric(&series) as u64, before as u64 + 1, "{outcome}");
    }
    assert_eq!(ask(&mut client, &good).status, 200, "on the same connection");
}

#[test]
fn the_upstream_gets_the_token_or_not() {
    let issuer = Issuer::start();
    let origin = Origin::saying("in");
    let of = |settings: &str| {
        let yaml = yaml(&issuer, settings, "").replace("to: { echo: {} }", "to: origin");
        Gateway::start(&format!("{yaml}upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n", origin.address()))
    };
    let token = issuer.token(&json!({}));
    let places = "from: [bearer, { header: { name: x-token } }, { cookie: token }, { query: access_token }]";
    let kept = of(&format!(", {places}"));
    let stripped = of(&format!(", forward: false, {places}"));
    for (target, field) in [
        ("/a?b=c", format!("authorization: Bearer {token}\r\n")),
        ("/a?b=c", format!("x-token: {token}\r\n")),
        ("/a?b=c", format!("cookie: x=y; token={token}\r\n")),
        (&*format!("/a?access_token={token}&b=c"), String::new()),
    ] {
        for (gateway, forwarded) in [(&kept, true), (&stripped, false)] {
            let answer = Client::new(gateway.web()).get("example.com", target, &field);
            assert_eq!(answer.status, 200, "{target} {field}");
            let seen = origin.last();
            let everything = format!("{} {}", seen.line, seen.fields.join(" "));
            assert_eq!(everything.contains(&token), forwarded, "{everything}");
            assert!(seen.target().contains("b=c"));
        }
    }
}

/// Two issuers, and consumers' keys besides: each token finds its own.
#[test]
fn a_token_of_another_issuer_goes_to_the_next_way() {
    let (one, two) = (Issuer::start(), Issuer::start());
    let provider = |issuer: &Issuer| {
        format!("jwt: {{ issuer: '{}', audiences: [api], algorithms: [ES256] }}", issuer.url())
    };
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}
identity: {{ providers: {{ one: {{ {} }}, two: {{ {} }} }} }}
consumers: {{ acme: {{ credentials: [{{ jwt: {{ provider: two, subject: bob }} }}] }} }}
routes:
  all:
    policies:
      authenticate: {{ any_of: [{{ jwt: one }}, {{ jwt: two }}], optional: true }}
    to: {{ echo: {{}} }}
",
        provider(&one),
        provider(&two)
    ));
    let mut client = Client::new(gateway.web());
    for token in [one.token(&json!({})), two.token(&json!({ "sub": "bob" }))] {
        assert_eq!(ask(&mut client, &token).status, 200);
    }
    // A token of the one's, signed by the other, is nobody's; nor is one of a third issuer, although
    // whoever brings none gets in.
    assert_eq!(ask(&mut client, &two.token(&json!({ "iss": one.url() }))).status, 401);
    assert_eq!(ask(&mut client, &Issuer::start().token(&json!({}))).status, 401);
    assert_eq!(ask(&mut client, "opaque").status, 401);
    assert_eq!(client.get("example.com", "/", "").status, 200);
}

/// A reload that changes consumers changes whose a remembered token is.
#[test]
fn consumers_change_under_a_remembered_token() {
    let issuer = Issuer::start();
    let with = |consumers: &str| {
        let log = "telemetry: { access_log: { to: { file: access.log }, fields: [consumer, principal] } }\n";
        format!("{log}{consumers}{}", yaml(&issuer, "", ""))
    };
    let consumer = |name: &str| {
        format!(
            "consumers: {{ {name}: {{ credentials: [{{ jwt: {{ provider: main, subject: alice }} }}] }} }}\n"
        )
    };
    let gateway = Gateway::start(&with(&consumer("first")));
    let token = issuer.token(&json!({}));
    for consumers in [consumer("first"), consumer("second"), String::new(), consumer("third")] {
        gateway.rewrite(&with(&consumers));
        assert_eq!(gateway.reload().status, 200);
        assert_eq!(ask(&mut Client::new(gateway.web()), &token).status, 200);
    }
    let log = gateway.folder().join("access.log");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("the log is written", || lines().lines().count() == 4);
    let consumers: Vec<Value> = lines()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["consumer"].clone())
        .collect();
    assert_eq!(consumers, [json!("first"), json!("second"), json!(null), json!("third")]);
    assert_eq!(issuer.asked("/keys").len(), 1, "keys outlive reloads");
}

/// Callers that never stop, each request with a token that counts; what any of them was refused with.
struct Load {
    ended: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<u16>>>,
}

impl Load {
    fn start(
        count: usize,
        ask: impl Fn(&mut Client) -> u16 + Send + Sync + 'static,
        gateway: &Gateway,
    ) -> Self {
        let (ended, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let ask = Arc::new(ask);
        let threads = (0..count)
            .map(|_| {
                let (ended, served, ask, web) = (ended.clone(), served.clone(), ask.clone(), gateway.web());
                std::thread::spawn(move || {
                    let mut client = Client::new(web);
                    let mut refused = Vec::new();
                    while !ended.load(Ordering::SeqCst) {
                        match ask(&mut client) {
                            200 => drop(served.fetch_add(1, Ordering::SeqCst)),
                            status => refused.push(status),
                        }
                    }
                    refused
                })
            })
            .collect();
        Self { ended, served, threads }
    }

    /// Waits until so many more requests were served.
    fn goes_on(&self, requests: usize) {
        let enough = self.served.load(Ordering::SeqCst) + requests;
        wait_until("requests are served", || self.served.load(Ordering::SeqCst) >= enough);
    }

    fn end(self) -> Vec<u16> {
        self.ended.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// Rotation, outage, slowness and nonsense, with attackers' random keys all the time: no token that
/// counts is refused, and the issuer sees one fetch a second at the most.
#[test]
fn no_valid_token_is_refused_whatever_the_issuer_does() {
    let issuer = Arc::new(Issuer::start());
    let gateway = gateway(&issuer, ", fetch: { wait: 20s, call: { timeout: 2s } }", "");
    assert_eq!(ask(&mut Client::new(gateway.web()), &issuer.token(&json!({}))).status, 200);
    let began = Instant::now();

    let current = Arc::new(std::sync::Mutex::new("key-1".to_owned()));
    let (signing, signer) = (Arc::clone(&current), Arc::clone(&issuer));
    let number = AtomicUsize::new(0);
    let valid = move |client: &mut Client| {
        let kid = signing.lock().unwrap().clone();
        // Half of them are new each time, half are remembered.
        let number = number.fetch_add(1, Ordering::SeqCst);
        let claims = if number.is_multiple_of(2) {
            json!({ "jti": number.to_string() })
        } else {
            json!({ "exp": 4_000_000_000_u64 })
        };
        ask(client, &signer.token_by(&kid, &claims)).status
    };
    let load = Load::start(4, valid, &gateway);

    // Attackers: every token names another key.
    let stranger = Issuer::start();
    let forged = stranger.token(&json!({ "iss": issuer.url() }));
    let (_, rest) = forged.split_once('.').unwrap();
    let (rest, attacks) = (rest.to_owned(), AtomicUsize::new(0));
    let attack = move |client: &mut Client| {
        let kid = format!("random-{}", attacks.fetch_add(1, Ordering::SeqCst));
        let header = json!({ "alg": "ES256", "kid": kid }).to_string();
        let header = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header);
        match ask(client, &format!("{header}.{rest}")).status {
            401 => 200,
            other => other,
        }
    };
    let attackers = Load::start(4, attack, &gateway);

    let rotate = |published_first: bool| {
        let old = current.lock().unwrap().clone();
        let fresh = issuer.new_key();
        if published_first {
            issuer.publish(&[&old, &fresh]);
            load.goes_on(20);
        }
        // The key before the old one goes: nobody signs with it any more.
        issuer.publish(&[&old, &fresh]);
        current.lock().unwrap().clone_from(&fresh);
        load.goes_on(40);
    };
    load.goes_on(20);
    rotate(true);
    rotate(false);
    for mood in [Mood::Down, Mood::Garbage("<html>"), Mood::Garbage("{\"keys\":[]}"), Mood::Garbage("{}")] {
        issuer.set_mood(mood);
        load.goes_on(40);
    }
    issuer.set_mood(Mood::Slow(Duration::from_millis(700)));
    load.goes_on(20);
    rotate(false);
    issuer.set_mood(Mood::Good);
    rotate(true);
    attackers.goes_on(1);

    assert_eq!(load.end(), [0_u16; 0], "no valid request is refused");
    assert_eq!(attackers.end(), [0_u16; 0], "every attack is");
    let fetches = issuer.asked("/keys").len() as u64;
    // One more for each outage, after which the metadata is asked for again, and for the ends.
    assert!(fetches <= began.elapsed().as_secs() + 6, "{fetches} in {:?}", began.elapsed());
}

/// An issuer that was down when the gateway started.
#[test]
fn keys_come_when_the_issuer_does() {
    let issuer = Issuer::start();
    issuer.set_mood(Mood::Down);
    let gateway = gateway(&issuer, ", fetch: { wait: 200ms }", "");
    let mut client = Client::new(gateway.web());
    let token = issuer.token(&json!({}));
    assert_eq!(ask(&mut client, &token).status, 401);
    issuer.set_mood(Mood::Good);
    wait_until("the keys are there", || ask(&mut client, &token).status == 200);
}

/// A key that its issuer takes back ends what it signed, remembered or not.
#[test]
fn a_withdrawn_key_ends_its_tokens() {
    let issuer = Issuer::start();
    let gateway = gateway(&issuer, ", fetch: { every: 1s }", "");
    let mut client = Client::new(gateway.web());
    let token = issuer.token(&json!({}));
    assert_eq!(ask(&mut client, &token).status, 200);
    let fresh = issuer.new_key();
    issuer.publish(&[&fresh]);
    wait_until("the old key is gone", || ask(&mut client, &token).status == 401);
    assert_eq!(ask(&mut client, &issuer.token_by(&fresh, &json!({}))).status, 200);
}

/// Keys by TLS: only from whom the authority that is named vouches for.
#[test]
fn keys_come_from_whom_we_trust() {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::within(folder.path());
    authority.issue(folder.path(), "id", &["localhost"]);
    let certificate = CertificateDer::from_pem_file(folder.path().join("id.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.path().join("id.key")).unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let tls = Arc::new(tls.with_single_cert(vec![certificate], key).unwrap());
    let issuer = Issuer::start();
    let keys = Client::new(issuer.url().trim_start_matches("http://").parse().unwrap());
    let body = { keys }.get("id", "/keys", "").text();
    let server = Origin::raw(move |stream, _| {
        let Ok(connection) = rustls::ServerConnection::new(Arc::clone(&tls)) else { return };
        let mut stream = rustls::StreamOwned::new(connection, stream);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match std::io::Read::read(&mut stream, &mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let _ = stream.write_all(&answer("200 OK", "connection: close\r\n", &body));
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    Authority::within(&folder.path().join("other"));
    let url = format!("https://localhost:{}/keys", server.address().port());
    let token = issuer.token(&json!({}));
    for (ca, status) in [("other/ca.pem", 401), ("ca.pem", 200)] {
        let ca = folder.path().join(ca);
        let settings =
            format!(", keys: {{ url: '{url}' }}, fetch: {{ wait: 2s, call: {{ ca: '{}' }} }}", ca.display());
        let gateway = self::gateway(&issuer, &settings, "");
        assert_eq!(ask(&mut Client::new(gateway.web()), &token).status, status, "{}", ca.display());
    }
}

/// Subjects that nobody lists are consumers by what is claimed of them, for policies, templates and reloads.
#[test]
fn unknown_subjects_are_admitted_as_consumers() {
    let issuer = Issuer::start();
    let yaml = |admit: &str| {
        format!(
            "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}
listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}
plans: {{ gold: {{}}, free: {{}} }}
consumers: {{ acme: {{ plan: gold, credentials: [{{ jwt: {{ provider: main, subject: acme }} }}] }} }}
identity:
  providers:
    main: {{ jwt: {{ issuer: '{}', audiences: [api], algorithms: [ES256]{admit} }} }}
policies:
  defaults:
    authenticate: {{ any_of: [{{ jwt: main }}] }}
    headers: {{ response: {{ set: {{ x-who: '{{consumer.name}}', x-plan: '{{consumer.plan}}', x-groups: '{{consumer.groups}}' }} }} }}
routes:
  all: {{ to: {{ echo: {{}} }} }}
  staff:
    match: {{ path: /staff }}
    policies: {{ authorize: {{ groups: [staff], when: 'principal.plan == \"gold\"' }} }}
    to: {{ echo: {{}} }}
",
            issuer.url()
        )
    };
    let admit = ", admit: { groups: /realm/roles, plan: /tier, default_plan: free }";
    let gateway = Gateway::start(&yaml(admit));
    let mut client = Client::new(gateway.web());
    let gold = issuer.token(&json!({ "tier": "gold", "realm": { "roles": ["staff", "x"] } }));
    let plain = issuer.token(&json!({ "sub": "bob", "tier": "none such" }));
    let listed = issuer.token(&json!({ "sub": "acme", "tier": "free", "realm": { "roles": ["staff"] } }));
    let who = |token: &str| {
        let seen = ask(&mut Client::new(gateway.web()), token);
        ["x-who", "x-plan", "x-groups"].map(|name| seen.field(name).unwrap_or("-").to_owned()).join(" ")
    };
    assert_eq!(who(&gold), "main:alice gold staff,x");
    assert_eq!(who(&plain), "main:bob free -");
    assert_eq!(who(&listed), "acme gold -", "who is listed is not admitted");
    let mut staff = |token: &str| {
        client.get("example.com", "/staff", &format!("authorization: Bearer {token}\r\n")).status
    };
    assert_eq!((staff(&gold), staff(&plain), staff(&listed)), (200, 403, 403));
    // Tokens that were verified before are of other consumers after a reload.
    gateway.rewrite(&yaml(", admit: { prefix: 'x-' }"));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(who(&gold), "x-alice - -");
    gateway.rewrite(&yaml(""));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(who(&gold), "- - -", "nobody's without `admit`");
}
