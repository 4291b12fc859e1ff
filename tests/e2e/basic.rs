//! Who calls, by user name and password.

use crate::harness::{Answer, Client, Gateway, Origin, binary, wait_until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Write as _;
use std::process::{Output, Stdio};

fn hash(password: &str, arguments: &[&str]) -> Output {
    let mut command = binary();
    command.arg("hash").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn hashed(password: &str) -> String {
    let output = hash(password, &[]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn yaml(origin: &Origin, consumers: &str, passwords: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         identity: {{ passwords: {{ {passwords} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         consumers: {{ {consumers} }}\n\
         routes:\n  \
           all: {{ policies: {{ authenticate: {{ any_of: [{{ basic: {{ realm: 'the orders', forward: false }} }}] }} }}, to: origin }}\n  \
           kept: {{ match: {{ path: /kept }}, policies: {{ authenticate: {{ any_of: [{{ basic: {{}} }}] }} }}, to: origin }}\n",
        origin.address()
    )
}

fn consumer(name: &str, hash: &str) -> String {
    format!("{name}: {{ credentials: [{{ basic: {{ user: {name}, hash: '{hash}' }} }}] }}")
}

fn ask(client: &mut Client, path: &str, user: &str, password: &str) -> Answer {
    let credential = STANDARD.encode(format!("{user}:{password}"));
    client.get("a", path, &format!("authorization: Basic {credential}\r\n"))
}

#[test]
fn a_password_lets_its_consumer_in() {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&yaml(&origin, &consumer("alice", &hashed("corr\u{e9}ct horse")), ""));
    let mut client = Client::new(gateway.web());
    let nobody = client.get("a", "/", "");
    assert_eq!(
        (nobody.status, nobody.field("www-authenticate")),
        (401, Some("Basic realm=\"the orders\", charset=\"UTF-8\""))
    );
    assert_eq!(ask(&mut client, "/", "alice", "wrong").status, 401);
    assert_eq!(ask(&mut client, "/", "bob", "corr\u{e9}ct horse").status, 401);
    assert!(origin.received().is_empty());
    assert_eq!(ask(&mut client, "/", "alice", "corr\u{e9}ct horse").status, 200);
    assert_eq!(origin.last().field("authorization"), None, "the upstream does not get it");
    assert_eq!(ask(&mut client, "/kept", "alice", "corr\u{e9}ct horse").status, 200);
    assert!(origin.last().field("authorization").is_some(), "unless it shall");
    for malformed in ["Basic", "Basic !", "Basic YWxpY2U=", "basic AAAA\r\nauthorization: Basic AAAA"] {
        let refused = client.get("a", "/", &format!("authorization: {malformed}\r\n"));
        assert_eq!(refused.status, 401, "{malformed}");
    }
    assert_eq!(
        client.get("a", "/", "authorization: Bearer x\r\n").status,
        401,
        "of no kind that is known here"
    );
    let outcome = |outcome: &str| {
        gateway.metric(&format!(
            "tollgate_auth_total{{method=\"basic\",provider=\"_none\",outcome=\"{outcome}\"}}"
        ))
    };
    assert_eq!(["admitted", "wrong_password", "malformed", "ambiguous"].map(outcome), [2.0, 2.0, 3.0, 1.0]);
}

#[test]
fn a_changed_password_counts_at_once() {
    let origin = Origin::saying("in");
    let (first, second) = (hashed("first"), hashed("second"));
    let gateway = Gateway::start(&yaml(&origin, &consumer("alice", &first), ""));
    let mut client = Client::new(gateway.web());
    assert_eq!(ask(&mut client, "/", "alice", "first").status, 200);
    assert_eq!(ask(&mut client, "/", "alice", "second").status, 401);
    gateway.rewrite(&yaml(&origin, &consumer("alice", &second), ""));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(
        ask(&mut client, "/", "alice", "first").status,
        401,
        "what was remembered is of the former hash"
    );
    assert_eq!(ask(&mut client, "/", "alice", "second").status, 200, "that it was wrong as well");
}

#[test]
fn a_flood_of_passwords_stops_nobody_whose_own_is_known() {
    let origin = Origin::saying("in");
    let passwords = "at_once: 1, waiting: 2, wait: 30s";
    let gateway = Gateway::start(&yaml(&origin, &consumer("alice", &hashed("secret")), passwords));
    let mut alice = Client::new(gateway.web());
    assert_eq!(ask(&mut alice, "/", "alice", "secret").status, 200);
    let address = gateway.web();
    let flood: Vec<_> = (0..24)
        .map(|number| {
            std::thread::spawn(move || ask(&mut Client::new(address), "/", "alice", &number.to_string()))
        })
        .collect();
    let busy = || {
        gateway.metric("tollgate_auth_total{method=\"basic\",provider=\"_none\",outcome=\"passwords_busy\"}")
            > 0.0
    };
    wait_until("the places are taken", busy);
    assert_eq!(ask(&mut alice, "/", "alice", "secret").status, 200);
    let answers: Vec<Answer> = flood.into_iter().map(|one| one.join().unwrap()).collect();
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(count(401) + count(503), 24);
    assert!(count(401) >= 1 && count(503) >= 1, "{} {}", count(401), count(503));
    let refused = answers.iter().find(|answer| answer.status == 503).unwrap();
    assert!(refused.field("retry-after").is_some());
}

#[test]
fn a_command_makes_hashes() {
    let argon2 = hash("secret", &[]);
    assert!(
        String::from_utf8_lossy(&argon2.stdout).starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{argon2:?}"
    );
    let bcrypt = hash("secret\n", &["--algorithm", "bcrypt"]);
    assert!(String::from_utf8_lossy(&bcrypt.stdout).starts_with("$2b$12$"), "{bcrypt:?}");
    let long = "x".repeat(2000);
    for (password, arguments, says) in [
        ("", &[][..], "no password"),
        ("\n", &[], "no password"),
        ("a\tb", &[], "control character"),
        (&long, &[], "longer than"),
        (&long[..100], &["--algorithm", "bcrypt"], "71 bytes"),
    ] {
        let output = hash(password, arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && output.stdout.is_empty() && told.contains(says), "{told}");
        assert!(password.trim().is_empty() || !told.contains(password), "it is not shown");
    }
}
