//! Users with passwords: compared with slow hashes beside the workers, and remembered.
//!
//! - **At most so many at a time.** A comparison takes some dozen milliseconds and some MiB. Whoever sends
//!   passwords makes us pay them, so comparisons have a bound, and so have those who wait; places to wait
//!   are shared out by client address, as those for keys are.
//! - **A user who is not there costs what another costs.** It is compared with the hash of somebody else,
//!   chosen by its name, and refused whatever comes of it: neither time nor the mix of hashes tells.
//! - **Remembered by a keyed digest** of the user, the password and the hash that it was compared with. So
//!   memory holds nothing that a password can be guessed from without the key, and a changed hash is
//!   another digest: what was remembered for the one before is not found again.

mod config;
pub mod hash;

pub use config::PasswordsConfig;

use super::waiting::WaitingRoom;
use super::{Consumers, Method, Principal};
use crate::retained::{Retained, StableId};
use aws_lc_rs::{hmac, rand};
use futures_util::future::BoxFuture;
use quick_cache::sync::Cache;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// How many passwords are remembered: about 100 bytes each.
const REMEMBERED: usize = 50_000;

/// Compared with where nobody has a password: nothing hashes to it.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Who has which password.
#[derive(Clone, Debug)]
pub struct Passwords {
    state: Arc<State>,
    consumers: Arc<Consumers>,
    waiting: usize,
    wait: Duration,
    keep: Duration,
    keep_wrong: Duration,
}

/// What outlives a configuration.
struct State {
    key: hmac::Key,
    known: Cache<[u8; 32], Known>,
    turns: Arc<Semaphore>,
    room: Arc<WaitingRoom>,
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug)]
struct Known {
    right: bool,
    until: Instant,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such user, or another password.
    Wrong,
    /// Too many others are compared before.
    Busy,
}

/// What is known of a user and a password.
pub enum Checked<'a> {
    /// Whose they are, or why nobody's.
    Known(Result<Arc<Principal>, Refused>),
    /// They have to be compared.
    Wait(BoxFuture<'a, Result<Arc<Principal>, Refused>>),
}

impl State {
    fn new(at_once: usize) -> Self {
        let mut key = [0; 32];
        // Without it digests could be guessed from by who reads our memory, who could as well read the
        // passwords that come.
        let _ = rand::fill(&mut key);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            known: Cache::new(REMEMBERED),
            turns: Arc::new(Semaphore::new(at_once)),
            room: Arc::default(),
        }
    }

    /// What a comparison is remembered by.
    fn id(&self, user: &str, password: &[u8], hash: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user.as_bytes(), password, hash.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut id = [0; 32];
        id.copy_from_slice(context.sign().as_ref());
        id
    }

    /// A number by a name, which nobody outside can tell beforehand.
    fn draw(&self, user: &str) -> u64 {
        let tag = hmac::sign(&self.key, user.as_bytes());
        tag.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Passwords {
    /// The passwords of these consumers. What was compared before, and the bounds, are found again.
    pub(super) fn new(config: &PasswordsConfig, consumers: &Arc<Consumers>, retained: &Retained) -> Self {
        let processors = || std::thread::available_parallelism().map_or(1, |count| count.get() / 2).max(1);
        let at_once = config.at_once.map_or_else(processors, |count| count.get().into());
        Self {
            state: retained.get_or(StableId::new("passwords", at_once), || State::new(at_once)),
            consumers: Arc::clone(consumers),
            waiting: config.waiting.get().into(),
            wait: config.wait.get(),
            keep: config.keep.get(),
            keep_wrong: config.keep_wrong.get(),
        }
    }

    /// Whose user name and password these are; `client` is who sends them.
    pub fn check<'a>(&'a self, user: &str, password: Zeroizing<Vec<u8>>, client: IpAddr) -> Checked<'a> {
        let known = self.consumers.by_user(user);
        let hash = match &known {
            Some((_, hash)) => *hash,
            None => self.consumers.some_hash(self.state.draw(user)).unwrap_or(DECOY),
        };
        let id = self.state.id(user, &password, hash);
        let consumer = known.map(|(consumer, _)| Arc::clone(consumer));
        let is_there = consumer.is_some();
        let found = self.state.known.get(&id).filter(|known| Instant::now() < known.until);
        let told = move |right: bool, user: &str| match &consumer {
            Some(consumer) if right => Ok(Arc::new(Principal::of(Method::Basic, user, Arc::clone(consumer)))),
            _ => Err(Refused::Wrong),
        };
        if let Some(known) = found {
            return Checked::Known(told(known.right, user));
        }
        let (user, hash): (Box<str>, Box<str>) = (user.into(), hash.into());
        Checked::Wait(Box::pin(async move {
            let right = self.compare(id, (hash, is_there), password, client).await?;
            told(right, &user)
        }))
    }

    /// Compares, in turn, beside the workers. Nothing is right for a user who is not there: how long it is
    /// remembered would tell that it is somebody else's password.
    async fn compare(
        &self,
        id: [u8; 32],
        (hash, is_there): (Box<str>, bool),
        password: Zeroizing<Vec<u8>>,
        client: IpAddr,
    ) -> Result<bool, Refused> {
        let turn = {
            let mut place = self.state.room.enter(client, self.waiting).ok_or(Refused::Busy)?;
            tokio::select! {
                turn = tokio::time::timeout(self.wait, Arc::clone(&self.state.turns).acquire_owned()) => turn,
                () = place.lost() => return Err(Refused::Busy),
            }
        };
        let Ok(Ok(turn)) = turn else { return Err(Refused::Busy) };
        // Somebody with the same may have been before.
        if let Some(known) = self.state.known.get(&id).filter(|known| Instant::now() < known.until) {
            return Ok(known.right);
        }
        let compared = tokio::task::spawn_blocking(move || {
            let right = hash::verify(&hash, &password) && is_there;
            // Not before: whoever asked may have gone away, the work has not.
            drop(turn);
            right
        });
        let right = compared.await.map_err(|_| Refused::Busy)?;
        let keep = if right { self.keep } else { self.keep_wrong };
        self.state.known.insert(id, Known { right, until: Instant::now() + keep });
        Ok(right)
    }
}

#[cfg(test)]
mod tests;
