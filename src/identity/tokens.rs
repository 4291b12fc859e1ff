//! Tokens that were verified, shared by all workers and kept over reloads.
//!
//! A token is found again by a digest of every byte of it, of a seed that never leaves the process,
//! and of what its provider expects: the issuer, the audiences, the keys in the configuration and the
//! consumers. Another token with the same digest would be a collision of SHA-256. A changed provider
//! has another digest, so what was verified for the one before is not found again. Keys that come from
//! their issuer are not part of it: each entry holds the key that verified it, and does not count any
//! more once that key is withdrawn, while a key that is added invalidates nothing.

use super::keys::Key;
use super::{Consumers, Principal};
use aws_lc_rs::{digest, rand};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::fmt;
use std::sync::{Arc, Weak};

/// What an entry takes besides its token, in bytes.
const OVERHEAD: u64 = 512;
/// How much larger claims are in memory than in their token.
const GROWTH: u64 = 4;
/// About how large a token is.
const USUAL: u64 = 1024;

/// Verified tokens.
pub struct TokenCache {
    seed: Seed,
    entries: Cache<Id, Arc<Entry>, Weight>,
}

/// What a token is found again by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id([u8; 32]);

/// What every digest of a provider's tokens begins with.
#[derive(Clone)]
pub struct Prefix(digest::Context);

/// A token that was verified.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose it is.
    pub principal: Arc<Principal>,
    /// What verified it.
    pub key: Arc<Key>,
    /// The consumers that its own one was looked up among.
    pub consumers: Weak<Consumers>,
    /// From when on it counts, in seconds since 1970.
    pub from: u64,
    /// When it stops to.
    pub until: u64,
    /// How long it was, in bytes.
    pub length: usize,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Id, Arc<Entry>> for Weight {
    fn weight(&self, _: &Id, entry: &Arc<Entry>) -> u64 {
        OVERHEAD + entry.length as u64 * GROWTH
    }
}

impl TokenCache {
    /// Room for about so many bytes of what tokens say.
    pub fn new(bytes: u64) -> Self {
        let usual = usize::try_from(bytes / (OVERHEAD + USUAL * GROWTH)).unwrap_or(usize::MAX);
        Self { seed: Seed::new(), entries: Cache::with_weighter(usual, bytes, Weight) }
    }

    /// What digests of tokens begin with.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Changes the room.
    pub fn resize(&self, bytes: u64) {
        if self.entries.capacity() != bytes {
            self.entries.set_capacity(bytes);
        }
    }

    /// What is known of a token that counts at this time, in seconds since 1970.
    pub fn get(&self, id: &Id, now: u64) -> Option<Arc<Entry>> {
        let entry = self.entries.get(id)?;
        let counts = entry.from <= now && now < entry.until && !entry.key.is_withdrawn();
        counts.then_some(entry)
    }

    /// Remembers a token.
    pub fn insert(&self, id: Id, entry: Entry) {
        self.entries.insert(id, Arc::new(entry));
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What digests of tokens begin with, different in each process.
pub struct Seed([u8; 32]);

impl Seed {
    /// A new one.
    pub fn new() -> Self {
        let mut seed = [0; 32];
        // Without it the digest is that of SHA-256, which nobody finds collisions of either.
        let _ = rand::fill(&mut seed);
        Self(seed)
    }

    /// The prefix for tokens of a provider with this digest of all that it expects.
    pub fn prefix(&self, provider: &[u8; 32]) -> Prefix {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        context.update(provider);
        Prefix(context)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

impl Prefix {
    /// What a token is found again by.
    pub fn id(&self, token: &str) -> Id {
        let mut context = self.0.clone();
        context.update(token.as_bytes());
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Id(id)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prefix")
    }
}
