//! Keys that an issuer publishes: fetched before traffic needs them, kept while the issuer is away.

use super::key::Origin;
use super::schedule::{after_failures, after_success};
use super::set::{KeySet, Read};
use crate::identity::json;
use crate::identity::jwt::Algorithm;
use crate::identity::waiting::WaitingRoom;
use crate::outbound::{Answer, Call, Client};
use crate::retained::Carried;
use crate::telemetry::random;
use crate::values::ServiceUrl;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Fetches of one issuer's keys begin at least this far apart, whoever asks for them.
pub const SPACING: Duration = Duration::from_secs(1);
/// A discovered address is looked up again after this long.
const REDISCOVER: Duration = Duration::from_secs(3600);

/// An issuer's keys, as they were last seen. Outlives configurations, and is found again by where
/// the keys come from.
#[derive(Debug, Default)]
pub struct RemoteKeys {
    set: ArcSwap<KeySet>,
    /// What the set was read from.
    good: Mutex<Option<Good>>,
    fetches: watch::Sender<Fetches>,
    wanted: Notify,
    room: Arc<WaitingRoom>,
}

/// An issuer's answer that keys were read from.
#[derive(Debug)]
struct Good {
    text: Bytes,
    at: Instant,
}

/// [`Good`] as the next process is told of it.
#[derive(Serialize, Deserialize)]
struct Told {
    /// The JSON Web Key Set, as the issuer sent it.
    set: String,
    /// How long ago, in milliseconds.
    age: u64,
}

/// How many fetches there were; at most one is under way.
#[derive(Clone, Copy, Debug, Default)]
struct Fetches {
    begun: u64,
    done: u64,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At this address.
    Url(ServiceUrl),
    /// Where the issuer of this name says (OpenID Connect Discovery 1.0, section 4).
    Discovered {
        /// The issuer's name, to the byte as its tokens have it.
        issuer: Box<str>,
        /// Where it says so.
        metadata: ServiceUrl,
    },
}

/// How an issuer's keys are fetched.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where they are.
    pub location: Location,
    /// What calls there.
    pub client: Client,
    /// How often, where the answer does not say.
    pub every: Duration,
    /// How long the last good ones count while no better ones come.
    pub keep: Duration,
    /// The most keys of a set.
    pub most: usize,
}

/// How a token waits for its key.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Places for tokens that wait.
    pub places: usize,
    /// The longest wait.
    pub time: Duration,
}

/// Why a wait brought no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// A fetch that began after the token came did not bring it either.
    Unknown,
    /// The wait took too long: the issuer is slow or down.
    TooLate,
    /// Too many wait.
    Full,
}

impl RemoteKeys {
    /// The last good set; empty before there was one.
    pub fn current(&self) -> Arc<KeySet> {
        self.set.load_full()
    }

    /// Waits until there are keys.
    pub async fn known(&self) {
        let mut fetches = self.fetches.subscribe();
        while self.set.load().is_empty() && fetches.changed().await.is_ok() {}
    }

    /// How many tokens wait.
    pub fn room_taken(&self) -> usize {
        self.room.taken()
    }

    /// Waits for a set with a key for such a token that `known` does not have.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn wait_for(
        &self,
        (kid, algorithm): (Option<&str>, Algorithm),
        known: &KeySet,
        client: IpAddr,
        wait: Wait,
    ) -> Result<Arc<KeySet>, NoKey> {
        let mut place = self.room.enter(client, wait.places).ok_or(NoKey::Full)?;
        let mut fetches = self.fetches.subscribe();
        // The fetch that is under way may have passed the issuer before the key was there.
        let enough = fetches.borrow_and_update().begun + 1;
        let news = || {
            let set = self.current();
            let is_new = set.candidates(kid, algorithm).any(|key| !known.has(key));
            is_new.then_some(set)
        };
        if let Some(set) = news() {
            return Ok(set);
        }
        self.wanted.notify_one();
        let fetched = async {
            while fetches.changed().await.is_ok() {
                let done = fetches.borrow_and_update().done;
                if let Some(set) = news() {
                    return Ok(set);
                }
                if done >= enough {
                    break;
                }
            }
            Err(NoKey::Unknown)
        };
        tokio::select! {
            found = timeout(wait.time, fetched) => found.unwrap_or(Err(NoKey::TooLate)),
            () = place.lost() => Err(NoKey::Full),
        }
    }

    /// Fetches the keys at once, and again when it is time or when somebody waits for one. Never ends.
    pub async fn keep_fresh(&self, source: &Source) {
        let mut state = State { failures: 0, begun: Instant::now(), discovered: None, told: None };
        let (mut due, mut earliest) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.wanted.notified() => sleep_until(earliest).await,
            }
            earliest = Instant::now() + SPACING;
            self.fetches.send_modify(|fetches| fetches.begun += 1);
            let fetched = source.fetch(&mut state.discovered).await;
            due = Instant::now() + self.conclude(source, &mut state, fetched);
            self.fetches.send_modify(|fetches| fetches.done = fetches.begun);
        }
    }

    /// Puts what was fetched in force, or keeps what was there; and says how long to wait.
    fn conclude(&self, source: &Source, state: &mut State, fetched: Result<Fetched, String>) -> Duration {
        match fetched {
            Ok(Fetched { read, text, max_age }) => {
                if state.told.take().is_some() {
                    log::info!("keys fetched again from={}", source.location);
                }
                if self.current().is_empty() {
                    log::info!("keys fetched from={} keys={}", source.location, read.set.len());
                }
                if !read.skipped.is_empty() {
                    log::debug!("keys of no use from={} {}", source.location, read.skipped.join("; "));
                }
                let mut good = self.good.lock();
                self.set.store(Arc::new(read.set.succeeding(&self.current())));
                *good = Some(Good { text, at: Instant::now() });
                drop(good);
                state.failures = 0;
                after_success(max_age, source.every)
            }
            Err(why) => {
                let why = format!("keys not fetched from={} cause={why:?}", source.location);
                if state.told.as_ref() != Some(&why) {
                    log::warn!("{why}; the last good ones stay for {}s", source.keep.as_secs());
                }
                state.told = Some(why);
                state.failures = state.failures.saturating_add(1);
                state.discovered = None;
                let kept = self.current();
                let last_good = self.good.lock().as_ref().map_or(state.begun, |good| good.at);
                if last_good.elapsed() > source.keep && !kept.is_empty() {
                    log::error!("keys given up from={}: no good ones came in time", source.location);
                    kept.withdraw();
                    self.set.store(Arc::default());
                    *self.good.lock() = None;
                }
                after_failures(state.failures, random::next_u64())
            }
        }
    }
}

/// What a fetching task remembers.
struct State {
    failures: u32,
    begun: Instant,
    discovered: Option<(ServiceUrl, Instant)>,
    /// The failure that the log has been told.
    told: Option<String>,
}

struct Fetched {
    read: Read,
    text: Bytes,
    max_age: Option<u64>,
}

/// A new process knows the keys from its first request on, even while their issuer is away.
impl Carried for RemoteKeys {
    const VERSION: u32 = 1;
    /// Twice what an answer may have by default, since quotes are escaped.
    const ROOM: usize = 2 << 20;
    const FIRST: bool = true;

    fn export(&self, _room: usize) -> Option<Value> {
        let good = self.good.lock();
        let Good { text, at } = good.as_ref()?;
        let set = std::str::from_utf8(text).ok()?.to_owned();
        let age = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        serde_json::to_value(Told { set, age }).ok()
    }

    fn import(&self, _version: u32, data: Value) -> Result<(), String> {
        let Told { set, age } = serde_json::from_value(data).map_err(|error| error.to_string())?;
        // The process before has held them to its bound; how long they may be is bounded besides.
        let read = KeySet::read(set.as_bytes(), usize::MAX, Origin::Network)?;
        let at = Instant::now().checked_sub(Duration::from_millis(age)).ok_or("they are too old")?;
        let mut good = self.good.lock();
        // What this process fetched itself is newer.
        if good.is_none() {
            *good = Some(Good { text: set.into(), at });
            self.set.store(Arc::new(read.set));
            self.fetches.send_modify(|_| {});
        }
        Ok(())
    }
}

impl Source {
    async fn fetch(&self, discovered: &mut Option<(ServiceUrl, Instant)>) -> Result<Fetched, String> {
        let url = match &self.location {
            Location::Url(url) => url.clone(),
            Location::Discovered { issuer, metadata } => match discovered {
                Some((url, when)) if when.elapsed() < REDISCOVER => url.clone(),
                _ => {
                    let url = self.discover(issuer, metadata.clone()).await?;
                    *discovered = Some((url.clone(), Instant::now()));
                    url
                }
            },
        };
        let answer = self.get(url).await?;
        let read = KeySet::read(&answer.body, self.most, Origin::Network)?;
        let max_age = answer.max_age();
        Ok(Fetched { read, text: answer.body, max_age })
    }

    /// The issuer has to be the one that was asked about (OpenID Connect Discovery 1.0, section 4.3).
    async fn discover(&self, issuer: &str, metadata: ServiceUrl) -> Result<ServiceUrl, String> {
        let answer = self.get(metadata).await?;
        let document = json::object(&answer.body).map_err(|why| format!("the issuer's metadata: {why}"))?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        if text("issuer") != Some(issuer) {
            return Err("the metadata is another issuer's: `issuer`".to_owned());
        }
        let url = text("jwks_uri").ok_or("the issuer's metadata has no `jwks_uri`")?;
        url.parse().map_err(|problem| format!("the issuer's `jwks_uri`: {problem}"))
    }

    async fn get(&self, url: ServiceUrl) -> Result<Answer, String> {
        let answer = self.client.call(Call::get(url)).await.map_err(|failure| failure.to_string())?;
        match answer.status {
            StatusCode::OK => Ok(answer),
            status => Err(format!("status {}", status.as_u16())),
        }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Discovered { metadata, .. } => metadata.fmt(f),
        }
    }
}
