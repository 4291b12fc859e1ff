//! Of which URLs something is kept, in whatever tier, or on its way there. What is unsafe for others (RFC 9111 section
//! 4.4) is remembered as a purge only for these: who sends POSTs to what nobody keeps makes nobody remember anything.
//!
//! Whoever holds such a thing holds a mark for as long as it is there: the map of the memory tier and the index of the
//! disk tier for each key, a fetch until what it brought is kept, a file until it is written. A URL has many keys (by
//! tenant, caller, field); they count together, so that it need not be known which of them there are.

use ahash::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

const SHARDS: usize = 64;

/// Marks by the hash of their URL. Two URLs with one hash are taken for one, which costs a purge and no more.
type Counts = HashMap<u64, u32, RandomState>;

/// The URLs.
#[derive(Debug)]
pub struct Urls {
    shards: Box<[Mutex<Counts>]>,
    hasher: RandomState,
}

/// Something of a URL is there, until this is dropped.
#[derive(Debug)]
pub struct Mark {
    urls: Arc<Urls>,
    hash: u64,
}

impl Default for Urls {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl Urls {
    /// Marks the URL of a key, or a URL.
    pub fn mark(self: &Arc<Self>, key: &str) -> Mark {
        let mark = Mark { urls: Arc::clone(self), hash: self.hash(key) };
        self.change(mark.hash, |counts| *counts.entry(mark.hash).or_default() += 1);
        mark
    }

    /// True if there is something of the URL of a key, or of a URL.
    pub fn has(&self, key: &str) -> bool {
        let hash = self.hash(key);
        let mut has = false;
        self.change(hash, |counts| has = counts.contains_key(&hash));
        has
    }

    fn hash(&self, key: &str) -> u64 {
        // A key begins with its URL, which has no line break.
        self.hasher.hash_one(key.split('\n').next().unwrap_or(key))
    }

    fn change(&self, hash: u64, change: impl FnOnce(&mut Counts)) {
        if let Some(shard) = self.shards.get(hash as usize % SHARDS) {
            change(&mut shard.lock());
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.urls.change(self.hash, |counts| {
            let Entry::Occupied(mut count) = counts.entry(self.hash) else { return };
            match *count.get() {
                0 | 1 => drop(count.remove()),
                more => *count.get_mut() = more - 1,
            }
        });
    }
}
