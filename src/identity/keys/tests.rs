//! Keys that are fetched, against servers on real sockets.

use super::remote::SPACING;
use super::*;
use crate::identity::jwt::Algorithm;
use crate::outbound::{CallConfig, Outbound};
use parking_lot::Mutex;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// An issuer whose answer the test sets, and that remembers when it was asked.
struct Issuer {
    url: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answer, asked) = (Arc::<Mutex<String>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (current, seen) = (Arc::clone(&answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                    head.push(byte[0]);
                }
                let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
                let body = match path.as_str() {
                    "/.well-known/openid-configuration" => {
                        let host = stream.local_addr().unwrap();
                        json!({ "issuer": format!("http://{host}"), "jwks_uri": format!("http://{host}/found") })
                            .to_string()
                    }
                    _ => current.lock().clone(),
                };
                seen.lock().push((path, Instant::now()));
                let status = if body.is_empty() { "503 Away" } else { "200 OK" };
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { url, answer, asked }
    }

    /// Publishes Ed25519 keys of these names.
    fn publish(&self, names: &[&str]) {
        let keys: Vec<_> = names
            .iter()
            .map(|name| json!({ "kty": "OKP", "crv": "Ed25519", "kid": name, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }))
            .collect();
        *self.answer.lock() = json!({ "keys": keys }).to_string();
    }

    fn say(&self, body: &str) {
        body.clone_into(&mut self.answer.lock());
    }

    fn fetches(&self) -> Vec<Instant> {
        let asked = self.asked.lock();
        asked
            .iter()
            .filter(|(path, _)| path != "/.well-known/openid-configuration")
            .map(|(_, when)| *when)
            .collect()
    }

    fn source(&self, location: Location) -> Source {
        let client = Outbound::default().client(&CallConfig::default()).unwrap();
        let every = Duration::from_secs(3600);
        Source { location, client, every, keep: Duration::from_secs(3600), most: 10 }
    }

    fn keys(&self) -> (Arc<RemoteKeys>, JoinHandle<()>) {
        self.keys_of(self.source(Location::Url(format!("{}/keys", self.url).parse().unwrap())))
    }

    fn keys_of(&self, source: Source) -> (Arc<RemoteKeys>, JoinHandle<()>) {
        let keys = Arc::<RemoteKeys>::default();
        let kept = Arc::clone(&keys);
        (keys, tokio::spawn(async move { kept.keep_fresh(&source).await }))
    }
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn has(set: &KeySet, kid: &str) -> bool {
    set.candidates(Some(kid), Algorithm::EdDSA).next().is_some()
}

async fn wait(keys: &RemoteKeys, kid: &str, time: Duration) -> Result<Arc<KeySet>, NoKey> {
    let known = keys.current();
    keys.wait_for((Some(kid), Algorithm::EdDSA), &known, CLIENT, Wait { places: 100, time }).await
}

const PATIENT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn keys_are_there_before_they_are_needed() {
    let issuer = Issuer::start();
    issuer.publish(&["1"]);
    let (keys, task) = issuer.keys();
    assert!(has(&wait(&keys, "1", PATIENT).await.unwrap(), "1"));
    assert!(has(&keys.current(), "1"));
    task.abort();
}

#[tokio::test]
async fn keys_are_found_by_their_issuer() {
    let issuer = Issuer::start();
    issuer.publish(&["1"]);
    let metadata = format!("{}/.well-known/openid-configuration", issuer.url).parse().unwrap();
    let located = |name: &str| Location::Discovered { issuer: name.into(), metadata };
    let (keys, task) = issuer.keys_of(issuer.source(located(&issuer.url)));
    assert!(has(&wait(&keys, "1", PATIENT).await.unwrap(), "1"));
    let asked: Vec<String> = issuer.asked.lock().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(asked[..2], ["/.well-known/openid-configuration", "/found"]);
    task.abort();
    // Metadata of another issuer's name is none.
    let metadata = format!("{}/.well-known/openid-configuration", issuer.url).parse().unwrap();
    let other = Location::Discovered { issuer: "http://127.0.0.1".into(), metadata };
    let (keys, task) = issuer.keys_of(issuer.source(other));
    assert_eq!(wait(&keys, "1", PATIENT).await.unwrap_err(), NoKey::Unknown);
    assert!(keys.current().is_empty());
    task.abort();
}

#[tokio::test]
async fn a_new_key_is_fetched_when_it_is_asked_for() {
    let issuer = Issuer::start();
    issuer.publish(&["1"]);
    let (keys, task) = issuer.keys();
    wait(&keys, "1", PATIENT).await.unwrap();
    issuer.publish(&["1", "2"]);
    assert!(has(&wait(&keys, "2", PATIENT).await.unwrap(), "2"));
    task.abort();
}

/// Random names ask for a fetch all the time; a rotation in the midst of it is not missed, and the
/// issuer sees no storm.
#[tokio::test]
async fn random_names_spend_nothing() {
    let issuer = Issuer::start();
    issuer.publish(&["1"]);
    let (keys, task) = issuer.keys();
    wait(&keys, "1", PATIENT).await.unwrap();
    let flood: Vec<_> = (0..50)
        .map(|number| {
            let keys = Arc::clone(&keys);
            tokio::spawn(async move { wait(&keys, &format!("random {number}"), PATIENT).await.map(|_| ()) })
        })
        .collect();
    while keys.room_taken() < 50 {
        tokio::task::yield_now().await;
    }
    issuer.publish(&["2"]);
    assert!(wait(&keys, "2", PATIENT).await.is_ok());
    assert!(!has(&keys.current(), "1"), "it is withdrawn");
    for one in flood {
        assert_eq!(one.await.unwrap(), Err(NoKey::Unknown));
    }
    let fetches = issuer.fetches();
    let near = |pair: &[Instant]| pair[1] - pair[0] < SPACING.mul_f64(0.8);
    assert!(!fetches.windows(2).any(near), "{fetches:?}");
    assert!(fetches.len() <= 4, "{fetches:?}");
    task.abort();
}

#[tokio::test]
async fn the_last_good_keys_stay_while_the_issuer_is_away_or_talks_nonsense() {
    let issuer = Issuer::start();
    issuer.publish(&["1"]);
    let (keys, task) = issuer.keys();
    wait(&keys, "1", PATIENT).await.unwrap();
    for nonsense in ["", "<html>", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"XX"}]}"#, &"[".repeat(5000)] {
        issuer.say(nonsense);
        assert_eq!(wait(&keys, "2", PATIENT).await.unwrap_err(), NoKey::Unknown, "{nonsense}");
        assert!(has(&keys.current(), "1"), "{nonsense}");
    }
    issuer.publish(&["2"]);
    assert!(wait(&keys, "2", PATIENT).await.is_ok());
    task.abort();
}

#[tokio::test]
async fn keys_do_not_stay_for_ever() {
    let issuer = Issuer::start();
    issuer.publish(&["1"]);
    let location = Location::Url(format!("{}/keys", issuer.url).parse().unwrap());
    let (keys, task) = issuer.keys_of(Source { keep: Duration::ZERO, ..issuer.source(location) });
    let set = wait(&keys, "1", PATIENT).await.unwrap();
    let key = Arc::clone(set.candidates(Some("1"), Algorithm::EdDSA).next().unwrap());
    issuer.say("");
    assert_eq!(wait(&keys, "2", PATIENT).await.unwrap_err(), NoKey::Unknown);
    assert!(keys.current().is_empty() && key.is_withdrawn());
    task.abort();
}

#[tokio::test]
async fn a_wait_ends() {
    let keys = RemoteKeys::default();
    assert_eq!(wait(&keys, "1", Duration::from_millis(20)).await.unwrap_err(), NoKey::TooLate);
    let none = Wait { places: 0, time: PATIENT };
    let full = keys.wait_for((None, Algorithm::EdDSA), &KeySet::default(), CLIENT, none).await;
    assert_eq!(full.unwrap_err(), NoKey::Full);
    assert_eq!(keys.room_taken(), 0);
}
