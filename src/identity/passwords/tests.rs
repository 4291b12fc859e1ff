use super::*;
use crate::identity::config::ConsumersConfig;
use crate::identity::consumers::Known as Names;
use argon2::password_hash::PasswordHasher as _;
use std::collections::BTreeMap;

/// A hash that costs next to nothing.
fn cheap(password: &str) -> String {
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon2.hash_password_with_salt(password.as_bytes(), b"somesaltsomesalt").unwrap().to_string()
}

fn consumers(users: &[(&str, &str)]) -> Arc<Consumers> {
    let consumer = |(user, password): &(&str, &str)| {
        let credential = serde_json::json!({ "basic": { "user": user, "hash": cheap(password) } });
        (format!("the-{user}"), serde_json::json!({ "credentials": [credential] }))
    };
    let json: serde_json::Map<_, _> = users.iter().map(consumer).collect();
    let config: ConsumersConfig = serde_json::from_value(json.into()).unwrap();
    let (plans, providers) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Vec::new();
    let names = Names { plans: &plans, providers: &providers };
    let consumers = Consumers::compile(&config, names, &Retained::default(), &mut found);
    assert!(found.is_empty(), "{found:?}");
    Arc::new(consumers)
}

fn config(json: &str) -> PasswordsConfig {
    serde_json::from_str(json).unwrap()
}

fn client() -> IpAddr {
    IpAddr::from([192, 0, 2, 1])
}

fn check<'a>(passwords: &'a Passwords, user: &str, password: &str) -> Checked<'a> {
    passwords.check(user, Zeroizing::new(password.as_bytes().to_vec()), client())
}

/// Who is let in, and whether that was known.
async fn whose(passwords: &Passwords, user: &str, password: &str) -> (Result<String, Refused>, bool) {
    let (whose, known) = match check(passwords, user, password) {
        Checked::Known(whose) => (whose, true),
        Checked::Wait(whose) => (whose.await, false),
    };
    (whose.map(|principal| principal.consumer.as_ref().unwrap().name.to_string()), known)
}

#[tokio::test]
async fn each_is_compared_once() {
    let retained = Retained::default();
    let both = consumers(&[("alice", "secret"), ("bob", "hunter2")]);
    let passwords = Passwords::new(&config("{}"), &both, &retained);
    let (alice, wrong) = (Ok("the-alice".to_owned()), Err(Refused::Wrong));
    for (user, password, expected) in [
        ("alice", "secret", &alice),
        ("alice", "hunter2", &wrong),
        ("alice", "", &wrong),
        ("Alice", "secret", &wrong),
        ("nobody", "secret", &wrong),
        ("", "", &wrong),
        // What follows the user is the password's.
        ("alices", "ecret", &wrong),
    ] {
        assert_eq!(whose(&passwords, user, password).await, (expected.clone(), false), "{user} {password}");
        assert_eq!(
            whose(&passwords, user, password).await,
            (expected.clone(), true),
            "{user} {password} again"
        );
    }

    // Kept over a reload, but for a password that has changed.
    let changed = consumers(&[("alice", "another"), ("bob", "hunter2")]);
    let later = Passwords::new(&config("{}"), &changed, &retained);
    assert_eq!(whose(&later, "alice", "secret").await, (wrong.clone(), false));
    assert_eq!(whose(&later, "alice", "another").await, (alice, false));
    assert_eq!(whose(&passwords, "alice", "secret").await.0.as_deref(), Ok("the-alice"));
    let gone = Passwords::new(&config("{}"), &consumers(&[]), &retained);
    assert_eq!(whose(&gone, "alice", "secret").await.0, wrong);
}

#[tokio::test]
async fn what_was_known_lapses() {
    let passwords = Passwords::new(
        &config(r#"{"keep":"0s","keep_wrong":"1h"}"#),
        &consumers(&[("alice", "secret")]),
        &Retained::default(),
    );
    for _ in 0..2 {
        assert!(!whose(&passwords, "alice", "secret").await.1);
    }
    assert!(!whose(&passwords, "alice", "wrong").await.1);
    assert!(whose(&passwords, "alice", "wrong").await.1);
}

#[tokio::test]
async fn somebody_elses_password_is_remembered_as_a_wrong_one() {
    let passwords = Passwords::new(
        &config(r#"{"keep":"1h","keep_wrong":"0s"}"#),
        &consumers(&[("alice", "secret")]),
        &Retained::default(),
    );
    for _ in 0..2 {
        assert_eq!(whose(&passwords, "nobody", "secret").await, (Err(Refused::Wrong), false));
    }
    assert!(!whose(&passwords, "alice", "secret").await.1);
    assert!(whose(&passwords, "alice", "secret").await.1);
}

#[tokio::test]
async fn so_many_wait_and_no_more() {
    let passwords = Passwords::new(
        &config(r#"{"at_once":1,"waiting":1,"wait":"1h"}"#),
        &consumers(&[("alice", "secret")]),
        &Retained::default(),
    );
    let turn = passwords.state.turns.clone().acquire_owned().await.unwrap();
    let (first, second) = (check(&passwords, "alice", "secret"), check(&passwords, "alice", "other"));
    let (Checked::Wait(mut first), Checked::Wait(second)) = (first, second) else {
        panic!("nothing is known")
    };
    assert!(futures_util::poll!(&mut first).is_pending());
    assert_eq!(second.await.map(drop), Err(Refused::Busy));
    // Another client gets the place of whoever has the most only if that has more.
    drop(turn);
    assert!(first.await.is_ok());

    let hurried = Passwords::new(
        &config(r#"{"at_once":1,"wait":"1ms"}"#),
        &consumers(&[("alice", "secret")]),
        &Retained::default(),
    );
    let _turn = hurried.state.turns.clone().acquire_owned().await.unwrap();
    assert_eq!(whose(&hurried, "alice", "secret").await.0, Err(Refused::Busy));
}

#[test]
fn a_user_who_is_not_there_costs_what_others_cost() {
    let both = consumers(&[("alice", "secret"), ("bob", "hunter2"), ("carol", "x")]);
    let drawn: std::collections::BTreeSet<&str> = (0..3).filter_map(|n| both.some_hash(n)).collect();
    assert_eq!(drawn.len(), 3, "each of the hashes may be the one: {drawn:?}");
    let passwords = Passwords::new(&config("{}"), &both, &Retained::default());
    assert_eq!(passwords.state.draw("nobody"), passwords.state.draw("nobody"), "the same each time");
}

#[test]
fn nobody_has_the_decoys_password() {
    hash::check(DECOY).unwrap();
    assert!(!hash::verify(DECOY, b"") && !hash::verify(DECOY, b"secret"));
    assert_eq!(consumers(&[]).some_hash(7), None);
}
