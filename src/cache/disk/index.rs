//! What is on disk, in memory: for each key the files of its variants. It decides what is evicted as the
//! memory tier does, so that a scan costs nothing, and forgets only what the folder can tell again.

use crate::cache::rules::vary::Vary;
use crate::cache::store::urls::Mark;
use crate::values::Sha256;
use http::HeaderMap;
use parking_lot::Mutex;
use quick_cache::sync::Cache as QuickCache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The most variants of one key; beyond them the oldest goes.
const MOST_VARIANTS: usize = 64;

/// Files take whole blocks.
const BLOCK: u64 = 4096;

/// Shards are no smaller than this.
const SMALLEST_SHARD: u64 = 1 << 30;

const STRIPES: usize = 64;

/// A key's hash: the first half of its SHA-256, so that nobody makes two keys meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub u128);

/// The name of a file: its key's hash and its variant's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// The key's.
    pub key: Digest,
    /// The variant's; zero for the answer to all.
    pub variant: u64,
}

impl Name {
    /// The name for a key's text and a variant.
    pub fn of(key: &str, variant: &[u8]) -> Self {
        let half =
            Sha256::of(key.as_bytes()).bytes().first_chunk().map_or(0, |half| u128::from_be_bytes(*half));
        Self { key: Digest(half), variant: variant_hash(variant) }
    }

    /// Reads what [`fmt::Display`] writes, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let (key, variant) = text.split_once('-')?;
        let is_hex = |text: &str| text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        if key.len() != 32 || variant.len() != 16 || !is_hex(key) || !is_hex(variant) {
            return None;
        }
        let key = Digest(u128::from_str_radix(key, 16).ok()?);
        Some(Self { key, variant: u64::from_str_radix(variant, 16).ok()? })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{:016x}", self.key.0, self.variant)
    }
}

/// A file that is there.
#[derive(Debug)]
pub struct Entry {
    /// Its name's second half.
    pub variant: u64,
    /// What it varies on.
    pub vary: Vary,
    /// Its length in bytes.
    pub size: u64,
    /// When its object's request was sent.
    pub born: u64,
    /// Up to when purges have been held against it.
    pub checked: AtomicU64,
    is_live: AtomicBool,
    _mark: Mark,
}

impl Entry {
    /// Of a file that is there.
    pub fn new((variant, vary): (u64, Vary), size: u64, (born, checked): (u64, u64), mark: Mark) -> Self {
        let (checked, is_live) = (AtomicU64::new(checked), AtomicBool::new(true));
        Self { variant, vary, size, born, checked, is_live, _mark: mark }
    }

    fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK) * BLOCK
    }
}

/// The variants of a key, the newest first, and what the bounds count for them.
#[derive(Clone, Debug)]
struct Slot(Arc<Variants>);

#[derive(Debug)]
struct Variants {
    entries: Box<[Arc<Entry>]>,
    weight: u64,
    /// Another one stands in its place, with what is left of it.
    is_superseded: AtomicBool,
}

impl Slot {
    fn new(entries: Vec<Arc<Entry>>, weight: u64) -> Self {
        Self(Arc::new(Variants { entries: entries.into(), weight, is_superseded: AtomicBool::new(false) }))
    }
}

#[derive(Clone, Debug)]
struct Weights;

impl Weighter<Digest, Slot> for Weights {
    fn weight(&self, _: &Digest, slot: &Slot) -> u64 {
        slot.0.weight
    }
}

/// Hands over what is evicted, or superseded: the map does not tell which.
#[derive(Clone, Debug)]
struct Leaving(Arc<Mutex<Vec<(Digest, Slot)>>>);

impl Lifecycle<Digest, Slot> for Leaving {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), key: Digest, slot: Slot) {
        self.0.lock().push((key, slot));
    }
}

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes, in whole blocks.
    pub bytes: u64,
    /// Files.
    pub objects: u64,
}

/// What is on disk.
#[derive(Debug)]
pub struct Index {
    slots: QuickCache<Digest, Slot, Weights, ahash::RandomState, Leaving>,
    stripes: [Mutex<()>; STRIPES],
    leaving: Arc<Mutex<Vec<(Digest, Slot)>>>,
    /// Each file counts as so much at least that there can be no more than allowed.
    least: AtomicU64,
    bytes: AtomicU64,
    objects: AtomicU64,
}

impl Index {
    /// One that knows nothing.
    pub fn new(bounds: Bounds) -> Self {
        let leaving = Arc::new(Mutex::default());
        let lifecycle = Leaving(Arc::clone(&leaving));
        let shards = usize::try_from((bounds.bytes / SMALLEST_SHARD).clamp(1, 16)).unwrap_or(1);
        let items = usize::try_from(bounds.objects.min(bounds.bytes / BLOCK)).unwrap_or(1024);
        let options = OptionsBuilder::new()
            .shards(shards.next_power_of_two())
            .estimated_items_capacity(items.clamp(64, 1 << 20))
            .weight_capacity(bounds.bytes)
            .build();
        let hasher = ahash::RandomState::new();
        let slots = match options {
            Ok(options) => QuickCache::with_options(options, Weights, hasher, lifecycle),
            Err(_) => QuickCache::with(1024, bounds.bytes, Weights, hasher, lifecycle),
        };
        Self {
            slots,
            stripes: [const { Mutex::new(()) }; STRIPES],
            leaving,
            least: AtomicU64::new(least(bounds)),
            bytes: AtomicU64::new(0),
            objects: AtomicU64::new(0),
        }
    }

    /// Changes the bounds. What has to leave is found by [`Self::evicted`].
    pub fn set_bounds(&self, bounds: Bounds) {
        // What is there keeps its weight until it changes.
        self.least.store(least(bounds), Ordering::Relaxed);
        self.slots.set_capacity(bounds.bytes);
    }

    /// The largest file that has a chance to stay, in bytes.
    pub fn largest(&self) -> u64 {
        self.slots.shard_capacity() / 2
    }

    /// The files for a request with these fields, each with its variant, in the order to try.
    pub fn find(&self, key: Digest, request: &HeaderMap) -> Vec<(Name, Box<[u8]>, Arc<Entry>)> {
        let Some(slot) = self.slots.get(&key) else { return Vec::new() };
        let wanted = slot.0.entries.iter().filter_map(|entry| {
            let of_request =
                if entry.vary.is_empty() { Box::default() } else { entry.vary.of_request(request) };
            let name = Name { key, variant: variant_hash(&of_request) };
            (name.variant == entry.variant).then(|| (name, of_request, Arc::clone(entry)))
        });
        wanted.collect()
    }

    /// All files of a key.
    pub fn of(&self, key: Digest) -> Vec<(Name, Arc<Entry>)> {
        let Some(slot) = self.slots.peek(&key) else { return Vec::new() };
        let pair = |entry: &Arc<Entry>| (Name { key, variant: entry.variant }, Arc::clone(entry));
        slot.0.entries.iter().map(pair).collect()
    }

    /// True if there is something of this key.
    pub fn has(&self, key: Digest) -> bool {
        self.slots.contains_key(&key)
    }

    /// A file, if it is known.
    pub fn get(&self, name: Name) -> Option<Arc<Entry>> {
        let slot = self.slots.peek(&name.key)?;
        slot.0.entries.iter().find(|entry| entry.variant == name.variant).map(Arc::clone)
    }

    /// Adds a file in the place of the one with its name. With `unless_known`, only if there is none.
    pub fn insert(&self, key: Digest, entry: Entry, unless_known: bool) {
        let entry = Arc::new(entry);
        self.change(key, |variants| {
            let known = variants.iter().position(|known| known.variant == entry.variant);
            match known {
                Some(_) if unless_known => return,
                Some(at) => drop(self.bury(&variants.remove(at))),
                None => {}
            }
            self.bytes.fetch_add(entry.blocks(), Ordering::Relaxed);
            self.objects.fetch_add(1, Ordering::Relaxed);
            let at = variants.iter().position(|known| known.born <= entry.born).unwrap_or(variants.len());
            variants.insert(at, Arc::clone(&entry));
        });
    }

    /// Forgets a file; with `only`, only if it is this one.
    pub fn remove(&self, name: Name, only: Option<&Arc<Entry>>) {
        self.change(name.key, |variants| {
            let is_meant = |known: &Arc<Entry>| {
                known.variant == name.variant && only.is_none_or(|only| Arc::ptr_eq(only, known))
            };
            if let Some(at) = variants.iter().position(is_meant) {
                self.bury(&variants.remove(at));
            }
        });
    }

    fn change(&self, key: Digest, change: impl FnOnce(&mut Vec<Arc<Entry>>)) {
        // The remainder is below the number of stripes.
        let Some(stripe) = self.stripes.get((key.0 % STRIPES as u128) as usize) else { return };
        let _in_turn = stripe.lock();
        let before = self.slots.peek(&key);
        let mut variants = before.as_ref().map_or_else(Vec::new, |slot| slot.0.entries.to_vec());
        change(&mut variants);
        // An eviction may have come between: then what it took is gone.
        variants.retain(|entry| entry.is_live.load(Ordering::Acquire));
        let surplus = variants.split_off(variants.len().min(MOST_VARIANTS));
        if !surplus.is_empty() {
            self.leaving.lock().push((key, Slot::new(surplus, 0)));
        }
        if variants.is_empty() {
            self.slots.remove(&key);
        } else {
            let least = self.least.load(Ordering::Relaxed);
            let weight = variants.iter().map(|entry| entry.blocks().max(least)).sum();
            if let Some(before) = before {
                before.0.is_superseded.store(true, Ordering::Release);
            }
            self.slots.insert(key, Slot::new(variants, weight));
        }
    }

    /// What had to leave since this was asked last: its files are to go.
    pub fn evicted(&self) -> Vec<Name> {
        let leaving = std::mem::take(&mut *self.leaving.lock());
        let mut names = Vec::new();
        for (key, slot) in leaving {
            if slot.0.is_superseded.load(Ordering::Acquire) {
                continue;
            }
            for entry in slot.0.entries.iter().filter(|entry| self.bury(entry)) {
                names.push(Name { key, variant: entry.variant });
            }
        }
        names
    }

    /// Counts a file no longer. True the first time.
    fn bury(&self, entry: &Entry) -> bool {
        let was_live = entry.is_live.swap(false, Ordering::AcqRel);
        if was_live {
            self.bytes.fetch_sub(entry.blocks(), Ordering::Relaxed);
            self.objects.fetch_sub(1, Ordering::Relaxed);
        }
        was_live
    }

    /// Bytes, in whole blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Files.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }
}

fn least(bounds: Bounds) -> u64 {
    bounds.bytes / bounds.objects.max(1)
}

fn variant_hash(variant: &[u8]) -> u64 {
    if variant.is_empty() {
        return 0;
    }
    Sha256::of(variant).bytes().first_chunk().map_or(0, |part| u64::from_be_bytes(*part))
}
