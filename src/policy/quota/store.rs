//! What all keys of all quotas have used: in parts, each with a lock of its own that is held for a look-up
//! and a sum. It has a bound; a key that has nothing used gives its place first.

use super::count::{At, Count, Millis};
use crate::retained::{Retained, StableId};
use ahash::HashMap;
use parking_lot::{Mutex, MutexGuard};
use std::collections::hash_map::Entry as Place;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A key of a quota: half of a SHA-256, the same in every process, and chosen by nobody.
pub type Digest = [u8; 16];

/// About so many keys share a lock, and a key that needs room looks among them for the one that goes.
const EACH: usize = 256;

/// What keys have used. It outlives configurations, and processes by a file and by the hand-over.
#[derive(Debug)]
pub struct Store {
    parts: Box<[Mutex<Part>]>,
    /// The most keys in a part.
    most: usize,
    forgotten: AtomicU64,
    /// Whether what the file holds is in here.
    pub(super) loaded: AtomicBool,
    /// When another process was given what is here, in milliseconds since 1970; 0 if none was.
    pub(super) handed_over: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Part {
    pub keys: HashMap<Digest, Entry>,
    /// Something has changed since it was written down.
    pub is_changed: bool,
}

/// What a key has used.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Of which quota: where that stands, its name, its key.
    pub quota: Arc<str>,
    /// Whose, for people.
    pub label: Box<str>,
    pub count: Count,
    /// The most, when it was asked last.
    pub max: u64,
    /// When something was used last.
    pub touched: Millis,
    /// What was used while the store that counts could not be asked, and is still to be told to it; and when.
    pub untold: Option<(At, u64)>,
}

/// What a request asks of a quota.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Of which: where that stands, its name, its key.
    pub quota: &'a Arc<str>,
    /// The key.
    pub digest: Digest,
    /// When.
    pub at: At,
    /// How many units; more than there may be cost all that there may be.
    pub cost: u64,
    /// The most units in a period.
    pub max: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All had enough left, and what was asked for is taken.
    Admitted,
    /// Nothing is taken: one has not enough left.
    Refused {
        /// Which has to wait for longest.
        by: usize,
        /// For how long, in milliseconds.
        wait: Millis,
    },
}

/// How a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Units used.
    pub used: u64,
    /// When more come back; `None` if all are there.
    pub more_at: Option<Millis>,
}

/// Milliseconds since 1970, by the system's clock.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Store {
    /// The process's, for at least so many keys if it is made now.
    pub fn of_process(retained: &Retained, keys: usize) -> Arc<Self> {
        retained.get_or_carried(Self::id(), || Self::new(keys))
    }

    /// The process's, if something uses it.
    pub fn of(retained: &Retained) -> Option<Arc<Self>> {
        retained.get(Self::id())
    }

    fn id() -> StableId {
        StableId::new("quotas", "")
    }

    /// A store for about so many keys.
    pub fn new(keys: usize) -> Self {
        let parts = (keys / EACH).clamp(16, 1 << 16).next_power_of_two();
        // Keys do not spread evenly.
        let most = (keys * 5 / 4).div_ceil(parts).max(16);
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            most,
            forgotten: AtomicU64::new(0),
            loaded: AtomicBool::new(false),
            handed_over: AtomicU64::new(0),
        }
    }

    /// Takes from all quotas, or from none; nobody sees some of them taken. `label` says whose the key at this
    /// place is, for people.
    pub fn take(&self, asks: &[Ask<'_>], label: impl Fn(usize) -> Box<str>) -> Outcome {
        let mut places: Vec<(usize, usize)> =
            asks.iter().enumerate().map(|(at, ask)| (self.place(&ask.digest), at)).collect();
        // Everybody locks in the same order, so that nobody waits for somebody who waits for him.
        places.sort_unstable();
        let mut locked: Vec<(usize, MutexGuard<'_, Part>)> = Vec::with_capacity(places.len());
        let mut worst: Option<(usize, Millis)> = None;
        for (place, at) in &places {
            if locked.last().is_none_or(|(last, _)| last != place) {
                locked.push((*place, self.parts[*place].lock()));
            }
            let (Some((_, part)), ask) = (locked.last_mut(), &asks[*at]) else { continue };
            let entry = self.entry(part, ask, || label(*at));
            let wait = entry.count.wait(ask.at, (ask.cost, ask.max));
            if wait > 0 && worst.is_none_or(|(_, longest)| wait > longest) {
                worst = Some((*at, wait));
            }
        }
        if let Some((by, wait)) = worst {
            return Outcome::Refused { by, wait };
        }
        for (place, at) in &places {
            let held = locked.binary_search_by_key(place, |(held, _)| *held);
            let Some((_, part)) = held.ok().and_then(|held| locked.get_mut(held)) else { continue };
            let ask = &asks[*at];
            let Some(entry) = part.keys.get_mut(&ask.digest) else { continue };
            entry.count.add(ask.cost.min(ask.max));
            entry.touched = ask.at.now;
            part.is_changed = true;
        }
        Outcome::Admitted
    }

    /// The key's entry; one that is not known yet gets a place, if need be another's.
    fn entry<'p>(
        &self,
        part: &'p mut Part,
        ask: &Ask<'_>,
        label: impl FnOnce() -> Box<str>,
    ) -> &'p mut Entry {
        if part.keys.len() >= self.most && !part.keys.contains_key(&ask.digest) {
            self.make_room(part, ask.at.now);
        }
        match part.keys.entry(ask.digest) {
            Place::Occupied(known) => {
                let entry = known.into_mut();
                entry.max = ask.max;
                entry
            }
            Place::Vacant(free) => free.insert(Entry {
                quota: Arc::clone(ask.quota),
                label: label(),
                count: Count::new(ask.at),
                max: ask.max,
                touched: ask.at.now,
                untold: None,
            }),
        }
    }

    #[cold]
    fn make_room(&self, part: &mut Part, now: Millis) {
        let before = part.keys.len();
        part.keys.retain(|_, entry| !entry.count.is_over(now));
        if part.keys.len() < before {
            return;
        }
        // Whoever used the least of what it has loses least, and gains least by making others go.
        let share = |entry: &Entry| {
            let used: u64 = entry.count.written().1.iter().map(|(_, used)| *used).sum();
            u128::from(used) * 1_000_000 / u128::from(entry.max.max(1))
        };
        if let Some(least) = part.keys.iter().min_by_key(|(_, entry)| share(entry)).map(|(key, _)| *key) {
            part.keys.remove(&least);
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Knows from the store that counts what a key has used, for whoever asks this gateway. Answers what that
    /// store was not told yet, and counts as told from now on.
    pub(super) fn know(
        &self,
        ask: &Ask<'_>,
        used: u64,
        label: impl FnOnce() -> Box<str>,
    ) -> Option<(At, u64)> {
        let mut part = self.parts[self.place(&ask.digest)].lock();
        if used == 0 && !part.keys.contains_key(&ask.digest) {
            return None;
        }
        let entry = self.entry(&mut part, ask, label);
        let untold = entry.untold.take().filter(|(at, _)| at.counts_at(ask.at));
        entry.count = Count::new(ask.at);
        entry.count.add(used.saturating_add(untold.map_or(0, |(_, more)| more)));
        entry.touched = ask.at.now;
        part.is_changed = true;
        untold
    }

    /// Notes what was taken while the store that counts could not be asked.
    pub(super) fn note_untold(&self, ask: &Ask<'_>) {
        let mut part = self.parts[self.place(&ask.digest)].lock();
        if let Some(entry) = part.keys.get_mut(&ask.digest) {
            let before = entry.untold.filter(|(at, _)| at.counts_at(ask.at)).map_or(0, |(_, more)| more);
            entry.untold = Some((ask.at, before.saturating_add(ask.cost.min(ask.max))));
        }
    }

    /// Adds to what a key has used, whatever it has left.
    pub fn charge(&self, digest: &Digest, at: At, more: u64) {
        let mut part = self.parts[self.place(digest)].lock();
        if let Some(entry) = part.keys.get_mut(digest) {
            entry.count.used(at);
            entry.count.add(more);
            if let Some((_, untold)) = &mut entry.untold {
                *untold = untold.saturating_add(more);
            }
            part.is_changed = true;
        }
    }

    /// Gives back what was taken at that moment.
    pub fn give_back(&self, digest: &Digest, taken_at: At, cost: u64) {
        let mut part = self.parts[self.place(digest)].lock();
        if let Some(entry) = part.keys.get_mut(digest) {
            entry.count.give_back(taken_at, cost);
            if let Some((_, untold)) = &mut entry.untold {
                *untold = untold.saturating_sub(cost);
            }
            part.is_changed = true;
        }
    }

    /// How a key is.
    pub fn state(&self, digest: &Digest, at: At) -> State {
        let mut part = self.parts[self.place(digest)].lock();
        match part.keys.get_mut(digest) {
            None => State { used: 0, more_at: None },
            Some(entry) => State { used: entry.count.used(at), more_at: entry.count.more(at) },
        }
    }

    /// How many keys have something used.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().keys.len()).sum()
    }

    /// True if no key has anything used.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most keys that there can be.
    pub fn most(&self) -> usize {
        self.most * self.parts.len()
    }

    /// True if what the file holds is known.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// How many keys were forgotten for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// The memory that it takes, in bytes, without what the allocator adds.
    pub fn bytes(&self) -> usize {
        let of = |part: &Mutex<Part>| {
            let part = part.lock();
            let keys = part.keys.values().map(|entry| entry.label.len() + entry.count.bytes());
            part.keys.capacity() * (size_of::<(Digest, Entry)>() + 1) + keys.sum::<usize>()
        };
        self.parts.iter().map(of).sum()
    }

    /// All parts, one after the other.
    pub(super) fn parts(&self) -> impl Iterator<Item = MutexGuard<'_, Part>> {
        self.parts.iter().map(Mutex::lock)
    }

    /// Knows what a key has used; `adds` it to what is known of it, or puts it in its place.
    pub(super) fn put(&self, digest: Digest, entry: Entry, (adds, now): (bool, Millis)) {
        let mut part = self.parts[self.place(&digest)].lock();
        if part.keys.len() >= self.most && !part.keys.contains_key(&digest) {
            self.make_room(&mut part, now);
        }
        part.is_changed = true;
        match part.keys.entry(digest) {
            Place::Occupied(mut known) if adds => known.get_mut().count.merge(&entry.count),
            Place::Occupied(mut known) => drop(known.insert(entry)),
            Place::Vacant(free) => drop(free.insert(entry)),
        }
    }

    fn place(&self, digest: &Digest) -> usize {
        let [a, b, c, ..] = digest;
        u32::from_le_bytes([*a, *b, *c, 0]) as usize & (self.parts.len() - 1)
    }
}
