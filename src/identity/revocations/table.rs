//! Revocations as requests look them up: without a lock, in a time that does not grow with them.

use super::entry::{Revocation, RevocationId, Target};
use crate::identity::Principal;
use crate::values::Sha256;
use ahash::RandomState;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A change copies one shard.
const SHARDS: usize = 256;

/// A table in which single ones change.
pub(super) struct Table {
    hasher: RandomState,
    shards: Box<[ArcSwap<Shard>]>,
    len: AtomicUsize,
}

type ByText = HashMap<Box<str>, Vec<Arc<Revocation>>, RandomState>;

#[derive(Clone, Default)]
struct Shard {
    keys: HashMap<Sha256, Arc<Revocation>, RandomState>,
    tokens: ByText,
    subjects: ByText,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Default for Table {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| ArcSwap::default()).collect();
        Self { hasher: RandomState::new(), shards, len: AtomicUsize::new(0) }
    }
}

impl Table {
    /// Of these.
    pub fn of(all: impl IntoIterator<Item = Arc<Revocation>>) -> Self {
        let table = Self::default();
        let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::default()).collect();
        let mut count = 0;
        for one in all {
            if let Some(shard) = shards.get_mut(table.place(&one.target)) {
                shard.put(&one);
                count += 1;
            }
        }
        for (place, shard) in table.shards.iter().zip(shards) {
            place.store(Arc::new(shard));
        }
        table.len.store(count, Ordering::Release);
        table
    }

    /// True if there is none: nothing has to be looked up.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn place(&self, target: &Target) -> usize {
        match target {
            Target::Key(key) => self.hashed(key),
            Target::Token { id, .. } => self.hashed(&**id),
            Target::Subject { subject, .. } => self.hashed(&**subject),
        }
    }

    fn hashed(&self, of: impl std::hash::Hash) -> usize {
        self.hasher.hash_one(of) as usize % SHARDS
    }

    /// Puts one in the place of the one before. Changes do not come at the same time.
    pub fn put(&self, one: &Arc<Revocation>) {
        self.change(one, |shard| shard.put(one));
    }

    /// Takes one away.
    pub fn remove(&self, one: &Arc<Revocation>) {
        self.change(one, |shard| shard.remove(one));
    }

    fn change(&self, one: &Revocation, change: impl FnOnce(&mut Shard) -> isize) {
        let Some(place) = self.shards.get(self.place(&one.target)) else { return };
        let mut shard = Shard::clone(&place.load());
        let more = change(&mut shard);
        place.store(Arc::new(shard));
        match more {
            0.. => self.len.fetch_add(more.unsigned_abs(), Ordering::AcqRel),
            _ => self.len.fetch_sub(more.unsigned_abs(), Ordering::AcqRel),
        };
    }

    /// True if one of them is about this caller.
    pub fn refuses(&self, caller: &Principal, now: impl Fn() -> u64) -> bool {
        let refuse = |near: Option<&Vec<Arc<Revocation>>>| {
            near.is_some_and(|near| near.iter().any(|one| one.refuses(caller, now())))
        };
        let shard = |of: &str| self.shards.get(self.hashed(of));
        let by_token = |id: &str| shard(id).is_some_and(|shard| refuse(shard.load().tokens.get(id)));
        let by_name = |name: &str| shard(name).is_some_and(|shard| refuse(shard.load().subjects.get(name)));
        caller.token_id.as_deref().is_some_and(by_token)
            || by_name(&caller.subject)
            || caller.consumer.as_ref().is_some_and(|consumer| by_name(&consumer.name))
    }

    /// True if the credential of this digest does not count.
    pub fn refuses_key(&self, key: &Sha256, now: impl Fn() -> u64) -> bool {
        let Some(shard) = self.shards.get(self.hashed(key)) else { return false };
        shard.load().keys.get(key).is_some_and(|one| !one.withdrawn && now() < one.until)
    }
}

impl Shard {
    /// How many more there are then.
    fn put(&mut self, one: &Arc<Revocation>) -> isize {
        let (texts, text) = match &one.target {
            Target::Key(key) => return isize::from(self.keys.insert(*key, Arc::clone(one)).is_none()),
            Target::Token { id, .. } => (&mut self.tokens, id),
            Target::Subject { subject, .. } => (&mut self.subjects, subject),
        };
        let near = texts.entry(text.clone()).or_default();
        let before = without(near, one.id());
        near.push(Arc::clone(one));
        1 - before
    }

    fn remove(&mut self, one: &Arc<Revocation>) -> isize {
        let (texts, text) = match &one.target {
            Target::Key(key) => return -isize::from(self.keys.remove(key).is_some()),
            Target::Token { id, .. } => (&mut self.tokens, id),
            Target::Subject { subject, .. } => (&mut self.subjects, subject),
        };
        let Some(near) = texts.get_mut(text) else { return 0 };
        let gone = without(near, one.id());
        if near.is_empty() {
            texts.remove(text);
        }
        -gone
    }
}

fn without(near: &mut Vec<Arc<Revocation>>, id: RevocationId) -> isize {
    let before = near.len();
    near.retain(|known| known.id() != id);
    (before - near.len()) as isize
}
