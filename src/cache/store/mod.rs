//! The store: answers in memory by key and variant, the flights that fetch them, and what was purged.

mod below;
pub mod body;
pub mod flight;
pub mod object;
pub mod purge;
pub mod sharing;
pub mod urls;

#[cfg(test)]
mod tests;

pub use below::Below;

use super::disk::{Disk, Recorded};
use super::rules::key::Key;
use super::rules::vary::Vary;
use crate::values::ByteSize;
use arc_swap::ArcSwapOption;
use flight::Flights;
use http::HeaderMap;
use object::{Body, Object};
use parking_lot::Mutex;
use purge::{Purge, Purges, Verdict};
use quick_cache::sync::Cache as QuickCache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use sharing::Sharing;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use urls::{Mark, Urls};

/// The most variants of one key; beyond them the oldest goes.
const MOST_VARIANTS: usize = 64;

/// Shards are no smaller than this, so that large objects find room in one.
const SMALLEST_SHARD: u64 = 32 << 20;

/// Changes of one key follow each other; those of different keys seldom wait.
const STRIPES: usize = 64;

/// What is known of a key: its variants, the newest first.
#[derive(Clone, Debug)]
struct Entry {
    variants: Arc<[Arc<Object>]>,
    weight: u64,
}

/// A key as the map holds it, found by its text.
#[derive(Debug)]
struct Stored {
    key: Arc<Key>,
    _mark: Mark,
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Stored {}

impl Hash for Stored {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.as_str().hash(state);
    }
}

impl quick_cache::Equivalent<Stored> for str {
    fn equivalent(&self, key: &Stored) -> bool {
        self == key.key.as_str()
    }
}

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<Stored, Entry> for Weights {
    fn weight(&self, key: &Stored, entry: &Entry) -> u64 {
        entry.weight + key.key.as_str().len() as u64 + 160
    }
}

/// Counts the keys that leave for want of room.
#[derive(Clone, Debug)]
struct Leaving(Arc<AtomicU64>);

/// The key that is put in: what it replaces is handed over like what is evicted, and is neither gone nor counted.
#[derive(Default)]
struct Putting(Option<Arc<Key>>);

impl Lifecycle<Stored, Entry> for Leaving {
    type RequestState = Putting;

    fn on_evict(&self, putting: &mut Putting, key: Stored, _: Entry) {
        if putting.0.take_if(|put| *put == key.key).is_none() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is found for a request.
#[derive(Debug)]
pub enum Found {
    /// An answer that is for it; `aged` if a purge has made it stale.
    Object {
        /// The answer.
        object: Arc<Object>,
        /// Whether it is stale whatever its age.
        aged: bool,
    },
    /// Only answers to other requests, which vary on this.
    OtherVariants(Vary),
    /// Nothing.
    Nothing,
}

/// A store of answers, bounded in bytes. It evicts what is asked for least, and what is asked for once goes
/// before what is asked for often (S3-FIFO and its kin; here `quick_cache`), so that a scan costs nothing.
#[derive(Debug)]
pub struct Store {
    entries: QuickCache<Stored, Entry, Weights, ahash::RandomState, Leaving>,
    stripes: [Mutex<()>; STRIPES],
    hasher: ahash::RandomState,
    /// What is being fetched.
    pub flights: Flights,
    purges: Arc<Purges>,
    urls: Arc<Urls>,
    /// There are many purges.
    sweep_due: Notify,
    capacity: AtomicU64,
    /// What outlives the memory.
    disk: ArcSwapOption<Disk>,
    /// How purges are passed on to other gateways.
    sharing: watch::Sender<Option<Arc<Sharing>>>,
    /// Who looks on disk, by key: those who want the same wait for one.
    looking: Box<[tokio::sync::Mutex<()>]>,
    /// Counts for the metrics.
    pub counts: Counts,
}

/// What a store counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answers that were put in.
    pub stored: AtomicU64,
    /// Keys that had to leave for want of room.
    pub evicted: Arc<AtomicU64>,
}

impl Store {
    /// A store that holds so many bytes at most, what is being fetched aside.
    pub fn new(memory: ByteSize) -> Self {
        let memory = memory.bytes().max(1 << 20);
        let shards = usize::try_from((memory / SMALLEST_SHARD).clamp(1, 64)).unwrap_or(1).next_power_of_two();
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(usize::try_from(memory / 8192).unwrap_or(1024).clamp(1024, 1 << 20))
            .weight_capacity(memory)
            .build();
        let counts = Counts::default();
        let entries = match options {
            Ok(options) => QuickCache::with_options(
                options,
                Weights,
                ahash::RandomState::new(),
                Leaving(Arc::clone(&counts.evicted)),
            ),
            Err(_) => QuickCache::with(
                1024,
                memory,
                Weights,
                ahash::RandomState::new(),
                Leaving(Arc::clone(&counts.evicted)),
            ),
        };
        Self {
            entries,
            stripes: [const { Mutex::new(()) }; STRIPES],
            hasher: ahash::RandomState::new(),
            flights: Flights::new(memory / 2),
            purges: Arc::default(),
            urls: Arc::default(),
            sweep_due: Notify::new(),
            capacity: AtomicU64::new(memory),
            disk: ArcSwapOption::empty(),
            sharing: watch::Sender::default(),
            looking: (0..below::LOOKING).map(|_| tokio::sync::Mutex::default()).collect(),
            counts,
        }
    }

    /// Changes how much it may hold.
    pub fn set_memory(&self, memory: ByteSize) {
        let memory = memory.bytes().max(1 << 20);
        if self.capacity.swap(memory, Ordering::Relaxed) != memory {
            self.entries.set_capacity(memory);
            self.flights.set_budget(memory / 2);
        }
    }

    /// The answer for a request with these fields.
    pub fn find(&self, key: &str, request: &HeaderMap) -> Found {
        let Some(entry) = self.entries.get(key) else { return Found::Nothing };
        let mut others = None;
        let mut last: Option<(&Vary, Box<[u8]>)> = None;
        for object in entry.variants.iter() {
            let vary = &object.head.vary;
            if !vary.is_empty() {
                // Variants of one key nearly always vary on the same.
                let known = last.take().filter(|(known, _)| *known == vary).map(|(_, of_request)| of_request);
                let of_request = known.unwrap_or_else(|| vary.of_request(request));
                let is_for_it = of_request == object.variant;
                last = Some((vary, of_request));
                if !is_for_it {
                    others = others.or(Some(vary));
                    continue;
                }
            }
            match self.purges.verdict(key, object) {
                Verdict::Good => return Found::Object { object: Arc::clone(object), aged: false },
                Verdict::Aged => return Found::Object { object: Arc::clone(object), aged: true },
                Verdict::Gone => {}
            }
        }
        others.map_or(Found::Nothing, |vary| Found::OtherVariants(vary.clone()))
    }

    /// Keeps an answer in the place of those that are for the same requests. One that was purged while it
    /// came is not kept. Answers whether it is.
    pub fn put(&self, key: &Arc<Key>, object: Arc<Object>, now: Duration) -> bool {
        let disk = self.disk.load();
        let Some(disk) = &*disk else { return self.put_up(key, object, now) };
        let is_kept = self.put_up(key, Arc::clone(&object), now);
        if is_kept {
            disk.offer(key, &object, now);
        }
        is_kept
    }

    /// Keeps what a 304 has made of an answer that is kept.
    pub fn renew(&self, key: &Arc<Key>, known: &Object, object: Arc<Object>, now: Duration) {
        if let Body::Whole(_) = &object.body {
            self.put(key, object, now);
        } else if let Some(disk) = &*self.disk.load() {
            // Its body comes from disk and goes by: the file is what stays.
            disk.renew(key, known.born, &object);
        }
    }

    /// Keeps an answer in memory alone.
    fn put_up(&self, key: &Arc<Key>, object: Arc<Object>, now: Duration) -> bool {
        if self.purges.verdict(key.as_str(), &object) == Verdict::Gone {
            return false;
        }
        self.change(key, |variants| {
            variants.retain(|known| {
                let is_replaced = known.head.vary == object.head.vary && known.variant == object.variant;
                !is_replaced
                    && !known.is_useless(now)
                    && self.purges.verdict(key.as_str(), known) != Verdict::Gone
            });
            variants.insert(0, object);
            variants.truncate(MOST_VARIANTS);
        });
        self.counts.stored.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Replaces an answer by what it has become, unless it has gone meanwhile.
    pub fn replace(&self, key: &Arc<Key>, old: &Arc<Object>, new: Option<Arc<Object>>) {
        if let (Some(disk), None) = (&*self.disk.load(), &new) {
            disk.remove(key, &old.variant);
        }
        self.change(key, |variants| {
            let Some(at) = variants.iter().position(|known| Arc::ptr_eq(known, old)) else { return };
            match new {
                Some(new) => drop(std::mem::replace(&mut variants[at], new)),
                None => drop(variants.remove(at)),
            }
        });
    }

    fn change(&self, key: &Arc<Key>, change: impl FnOnce(&mut Vec<Arc<Object>>)) {
        let at = self.hasher.hash_one(key.as_str()) as usize % STRIPES;
        let Some(stripe) = self.stripes.get(at) else { return };
        let _in_turn = stripe.lock();
        let mut variants =
            self.entries.peek(key.as_str()).map_or_else(Vec::new, |entry| entry.variants.to_vec());
        change(&mut variants);
        if variants.is_empty() {
            self.entries.remove(key.as_str());
            return;
        }
        let weight = variants.iter().map(|object| object.weight()).sum();
        let stored = Stored { key: Arc::clone(key), _mark: self.mark(key) };
        let mut putting = Putting(Some(Arc::clone(key)));
        let entry = Entry { variants: variants.into(), weight };
        self.entries.insert_with_lifecycle(stored, entry, &mut putting);
    }

    /// Purges; in force for the next request. Costs the same however much is kept. With a disk tier it holds
    /// after a restart once what this returns is done.
    pub fn purge(&self, purge: &Purge) -> Recorded {
        // The disk first: what comes up from it has a moment from before it was looked at there.
        let recorded =
            self.disk.load().as_ref().map_or_else(Recorded::default, |disk| disk.begin_purge(purge));
        // So many are remembered that those before are carried out, once for all; that looks at every key, and
        // is no request's work.
        match self.purges.add(purge) {
            purge::MOST.. => self.sweep(),
            purge::MANY.. => self.sweep_due.notify_one(),
            _ => {}
        }
        recorded
    }

    /// True if a purge has reached an answer that came, or comes, under this key.
    pub fn is_purged(&self, key: &Key, object: &Object) -> bool {
        self.purges.verdict(key.as_str(), object) != Verdict::Good
    }

    /// True if a purge has taken an answer away that is kept under this key.
    pub fn is_gone(&self, key: &Key, object: &Object) -> bool {
        self.purges.verdict(key.as_str(), object) == Verdict::Gone
    }

    /// Says that something of a key's URL is there, or on its way, until what this returns is dropped.
    pub fn mark(&self, key: &Key) -> Mark {
        self.urls.mark(key.url())
    }

    /// False if nothing of a URL is kept or on its way: what makes it invalid need not be remembered.
    pub fn may_have(&self, url: &str) -> bool {
        self.urls.has(url) || self.disk.load().as_ref().is_some_and(|disk| !disk.knows_all())
    }

    /// When something is made: what is purged afterwards reaches it, however long it takes to come.
    pub fn stamp(&self) -> u64 {
        self.purges.stamp()
    }

    /// Carries out all purges that there were, and forgets them.
    pub fn sweep(&self) {
        let upto = self.purges.stamp();
        self.entries.retain(|key, entry| {
            // Each answer remembers that it was looked at.
            entry.variants.iter().fold(false, |any, object| {
                let is_kept = self.purges.verdict(key.key.as_str(), object) != Verdict::Gone;
                if is_kept {
                    object.checked.fetch_max(upto, Ordering::AcqRel);
                }
                any | is_kept
            })
        });
        self.purges.forget(upto);
    }

    /// Does what there is to do beside requests, until it is dropped: carries out purges, passes them on.
    pub async fn keep(self: Arc<Self>) {
        let sweeping = async {
            loop {
                self.sweep_due.notified().await;
                let store = Arc::clone(&self);
                // It fails only when the process ends.
                let _ = tokio::task::spawn_blocking(move || store.sweep()).await;
            }
        };
        tokio::join!(sweeping, self.keep_sharing());
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    /// Keys that are kept.
    pub fn keys(&self) -> usize {
        self.entries.len()
    }
}
