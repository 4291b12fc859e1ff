//! What keys have left: one table for all limits of the process.

use super::pages::prefer_large;
use super::slot::{EMPTY, Held, Slot};
use super::{Pace, Ticks, at_interval, ticks};
use crate::retained::{Retained, StableId};
use crate::telemetry::random;
use crate::values::Sha256;
use ahash::{AHasher, RandomState};
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Words of a cache line: four slots.
const LINE: usize = 8;
/// Lines that a key may stand in, from its own on.
const WINDOW: usize = 16;
/// Slots for each 100 keys: with this, of a million keys one or none finds no place in its window.
const SLOTS: usize = 160;
/// Locks for the way of new keys into the table.
const GATES: usize = 256;
/// How often several limits are tried to be had together. Each failure means that a key was pushed out
/// between two steps; this many in a row do not happen.
const TRIES: usize = 64;
/// The furthest a key can be in debt, in ticks: two years.
const DEEPEST: Ticks = 1 << 60;
/// How many intervals a family remembers.
const INTERVALS: usize = 64;

/// What keys have left, for all limits of a process. A key is known by 64 bits of a keyed hash, which a
/// caller cannot choose; that any two of a million keys share one has a probability of 1 in 37 million.
///
/// It takes memory as keys come, up to a bound. A key of which all is there is as good as unknown,
/// and gives its place to a new one; only if all places for a key hold others that have something to
/// remember, the one with the least to remember is forgotten, and counted.
pub struct Store {
    /// The system gives memory for it as it is used.
    words: Box<[AtomicU64]>,
    /// Where the first whole cache line begins.
    first: usize,
    /// Lines that a window may begin with.
    lines: usize,
    gates: Box<[Mutex<()>]>,
    /// What keys are hashed with, and what that was made of; drawn when it is first asked for, unless it
    /// is taken over before.
    hashes: OnceLock<([u64; 4], RandomState)>,
    epoch: Instant,
    forgotten: AtomicU64,
    /// Keys that got a place, those that gave it up included.
    placed: AtomicU64,
}

/// The keys of one limit, whatever its rate becomes.
#[derive(Debug)]
pub struct Family {
    id: u64,
    /// The intervals that its keys may stand there with. What a key has left means another number of units
    /// at another interval, so the interval is part of where it stands, and a key is carried over when it
    /// is missing at its own.
    intervals: RwLock<Vec<Ticks>>,
    has_several: AtomicBool,
}

/// What is asked of one limit.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The limit.
    pub family: &'a Family,
    /// The key's digest, of [`Store::hasher`].
    pub digest: u64,
    /// The limit's pace for this key.
    pub pace: Pace,
    /// What it costs; [`Pace::cost`].
    pub cost: Ticks,
}

/// Whether all could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All are taken.
    Admitted,
    /// Nothing is taken.
    Refused {
        /// Which of them refuses for longest.
        by: usize,
        /// For how long.
        wait: Ticks,
    },
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl Family {
    /// What tells it from others.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Has keys at this interval from now on.
    pub fn learn(&self, interval: Ticks) {
        let mut known = self.intervals.write();
        known.retain(|one| *one != interval);
        if known.len() == INTERVALS {
            known.remove(0);
        }
        known.push(interval);
        self.has_several.store(known.len() > 1, Ordering::Release);
    }
}

impl Ask<'_> {
    const fn key(&self) -> u64 {
        place_of(self.digest, self.pace.interval())
    }
}

/// What a key stands under at an interval: never [`EMPTY`].
const fn place_of(digest: u64, interval: Ticks) -> u64 {
    let key = digest ^ interval.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if key == EMPTY { 1 } else { key }
}

impl Store {
    /// The store of a process, for so many keys if it is not there yet.
    pub fn of_process(retained: &Retained, keys: usize) -> Arc<Self> {
        retained.get_or_carried(Self::id(), || Self::new(keys))
    }

    /// The store of a process, if a limit uses it.
    pub fn of(retained: &Retained) -> Option<Arc<Self>> {
        retained.get(Self::id())
    }

    fn id() -> StableId {
        StableId::new("limit_store", "")
    }

    /// A store for so many keys, all limits together.
    pub fn new(keys: usize) -> Self {
        let lines = (keys.saturating_mul(SLOTS) / 100).div_ceil(LINE / 2).max(1);
        // Made of zeros that nobody has written, so that what is not used takes no memory.
        let words = vec![0; (lines + WINDOW) * LINE].into_iter().map(AtomicU64::new);
        let words: Box<[AtomicU64]> = words.collect();
        let first = (words.as_ptr().addr() / 8).wrapping_neg() % LINE;
        Self {
            words,
            first,
            lines,
            gates: (0..GATES).map(|_| Mutex::default()).collect(),
            hashes: OnceLock::new(),
            epoch: Instant::now(),
            forgotten: AtomicU64::new(0),
            placed: AtomicU64::new(0),
        }
    }

    /// The time.
    pub fn now(&self) -> Ticks {
        ticks(self.epoch.elapsed())
    }

    /// The family of a stable name: the same in every process.
    pub fn family(&self, name: &str) -> Family {
        let id = Sha256::of(name.as_bytes()).bytes().first_chunk().copied().map_or(0, u64::from_le_bytes);
        Family { id, intervals: RwLock::default(), has_several: AtomicBool::new(false) }
    }

    /// Digests a key of this family. What goes in has to be told apart by whoever writes it.
    pub fn hasher(&self, family: &Family) -> AHasher {
        let mut hasher = self.hashes().1.build_hasher();
        hasher.write_u64(family.id);
        hasher
    }

    /// Takes from all limits, or from none. No other thread sees some of them taken.
    pub fn take(&self, asks: &[Ask<'_>], now: Ticks) -> Outcome {
        if let [ask] = asks { self.take_one(ask, now) } else { self.take_all(asks, now) }
    }

    /// When all of a key is there; `now` or before if it is not known.
    pub fn full(&self, digest: u64, pace: Pace, now: Ticks) -> Ticks {
        let key = place_of(digest, pace.interval());
        self.find(key).and_then(|slot| slot.read(key)).map_or(now, |(full, _)| full)
    }

    /// Takes more, whatever is there. A key in debt has to wait until it has paid.
    pub fn charge(&self, ask: &Ask<'_>, more: Ticks, now: Ticks) {
        loop {
            let slot = self.place(ask, now);
            let Some((full, seen)) = slot.read(ask.key()) else { continue };
            let next = full.max(now).saturating_add(more).min(now.saturating_add(DEEPEST));
            if slot.advance(seen, next) {
                return;
            }
        }
    }

    /// Gives back what was taken from a key. One that is unknown by now has all of it.
    pub fn give_back(&self, (digest, pace): (u64, Pace), taken: Ticks) {
        let key = place_of(digest, pace.interval());
        while let Some(slot) = self.find(key) {
            let Some((full, seen)) = slot.read(key) else { continue };
            if slot.advance(seen, full.saturating_sub(taken)) {
                return;
            }
        }
    }

    /// How many keys were forgotten for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// The memory that it takes at most, in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// How many keys have something to remember. It looks at all of them.
    pub fn len(&self) -> usize {
        let now = self.now();
        self.all().filter(|slot| slot.key() != EMPTY && slot.full().is_none_or(|full| full > now)).count()
    }

    /// True if no key has anything to remember.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What keys are hashed with.
    pub(super) fn seed(&self) -> [u64; 4] {
        self.hashes().0
    }

    /// Hashes keys with this from now on. False if it has hashed some already.
    pub(super) fn take_seed(&self, seed: [u64; 4]) -> bool {
        self.hashes.set(hashes(seed)).is_ok()
    }

    fn hashes(&self) -> &([u64; 4], RandomState) {
        self.hashes.get_or_init(|| hashes([(); 4].map(|()| random::next_u64())))
    }

    /// All places.
    pub(super) fn all(&self) -> impl Iterator<Item = Slot<'_>> {
        self.slots(0..self.lines + WINDOW - 1)
    }

    /// Knows a key of which all is there at `full`.
    pub(super) fn put(&self, key: u64, full: Ticks, now: Ticks) {
        let _gate = self.gates[self.home(key) % GATES].lock();
        if self.find(key).is_none()
            && let Some(free) = self.window(key).find_map(|slot| slot.hold_idle(now))
        {
            free.give(key, full);
            self.note_placed();
        }
    }

    /// Once every small page of the table has been used, large ones take no more memory: from some dozen keys
    /// a page on, which are a sixteenth of all, there is none that has not.
    fn note_placed(&self) {
        if self.placed.fetch_add(1, Ordering::Relaxed) == (self.lines * LINE / 2 / 16) as u64 {
            prefer_large(&self.words);
        }
    }

    /// The slots of these lines.
    fn slots(&self, lines: Range<usize>) -> impl Iterator<Item = Slot<'_>> {
        let words = &self.words[self.first + lines.start * LINE..self.first + lines.end * LINE];
        words.as_chunks().0.iter().map(Slot::new)
    }

    /// The slots where a key may stand.
    fn window(&self, key: u64) -> impl Iterator<Item = Slot<'_>> {
        let first = self.home(key);
        self.slots(first..first + WINDOW)
    }

    fn take_one(&self, ask: &Ask<'_>, now: Ticks) -> Outcome {
        let key = ask.key();
        loop {
            let slot = self.place(ask, now);
            let Some((full, seen)) = slot.read(key) else { continue };
            match ask.pace.take(full, now, ask.cost) {
                Ok(next) if slot.advance(seen, next) => return Outcome::Admitted,
                Ok(_) => {}
                Err(wait) => return Outcome::Refused { by: 0, wait },
            }
        }
    }

    fn take_all(&self, asks: &[Ask<'_>], now: Ticks) -> Outcome {
        for _ in 0..TRIES {
            if let Some(outcome) = self.try_all(asks, now) {
                return outcome;
            }
        }
        Outcome::Admitted
    }

    /// None if a key went elsewhere meanwhile.
    fn try_all(&self, asks: &[Ask<'_>], now: Ticks) -> Option<Outcome> {
        let mut places = Vec::with_capacity(asks.len());
        let mut refused = Worst(None);
        for (at, ask) in asks.iter().enumerate() {
            let slot = self.place(ask, now);
            let (full, _) = slot.read(ask.key())?;
            if let Err(wait) = ask.pace.take(full, now, ask.cost) {
                refused.add(at, wait);
            }
            places.push((slot.address(), at, slot));
        }
        if let Some(outcome) = refused.outcome() {
            return Some(outcome);
        }
        // Everybody holds them in the same order, so that nobody waits for somebody who waits for him.
        places.sort_unstable_by_key(|(address, at, _)| (*address, *at));
        let mut held: Vec<Held<'_>> = Vec::with_capacity(places.len());
        let mut taken = Vec::with_capacity(places.len());
        for (_, at, slot) in places {
            let ask = &asks[at];
            if !held.last().is_some_and(|last| last.is(slot)) {
                let one = slot.hold(ask.key())?;
                taken.push(one.full());
                held.push(one);
            }
            let full = taken.last_mut()?;
            match ask.pace.take(*full, now, ask.cost) {
                Ok(next) => *full = next,
                Err(wait) => refused.add(at, wait),
            }
        }
        if let Some(outcome) = refused.outcome() {
            return Some(outcome);
        }
        held.iter_mut().zip(taken).for_each(|(one, full)| one.set(full));
        Some(Outcome::Admitted)
    }

    /// Where a key stands, or stood a moment ago.
    fn find(&self, key: u64) -> Option<Slot<'_>> {
        self.window(key).find(|slot| slot.key() == key)
    }

    /// Where a key stands; an unknown one gets a place.
    fn place(&self, ask: &Ask<'_>, now: Ticks) -> Slot<'_> {
        let key = ask.key();
        self.find(key).unwrap_or_else(|| self.admit(ask, key, now))
    }

    #[cold]
    fn admit(&self, ask: &Ask<'_>, key: u64, now: Ticks) -> Slot<'_> {
        // One thread at a time has a key in hand, so that no key ever stands in two places.
        let _gate = self.gates[self.home(key) % GATES].lock();
        if let Some(slot) = self.find(key) {
            return slot;
        }
        let full = self.carried(ask, now).unwrap_or(now);
        loop {
            for slot in self.window(key) {
                if let Some(held) = slot.hold_idle(now) {
                    held.give(key, full);
                    self.note_placed();
                    return slot;
                }
            }
            let least =
                self.window(key).filter_map(|slot| Some((slot.full()?, slot))).min_by_key(|(full, _)| *full);
            let Some((least, slot)) = least else { continue };
            if let Some(mut held) = slot.hold_as(least) {
                self.forgotten.fetch_add(1, Ordering::Relaxed);
                held.set(now.saturating_sub(1));
                held.give(key, full);
                return slot;
            }
        }
    }

    /// What the key has left at another interval of its limit, in units of this one; it is gone from there.
    fn carried(&self, ask: &Ask<'_>, now: Ticks) -> Option<Ticks> {
        if !ask.family.has_several.load(Ordering::Acquire) {
            return None;
        }
        let own = ask.pace.interval();
        let known = ask.family.intervals.read();
        let moved = known.iter().filter(|interval| **interval != own).filter_map(|interval| {
            let key = place_of(ask.digest, *interval);
            let held = self.find(key)?.hold(key)?;
            let full = at_interval(held.full(), now, (*interval, own));
            held.empty();
            Some(full)
        });
        moved.max()
    }

    /// The first line where a key may stand.
    fn home(&self, key: u64) -> usize {
        ((u128::from(key) * self.lines as u128) >> 64) as usize
    }
}

fn hashes(seed: [u64; 4]) -> ([u64; 4], RandomState) {
    (seed, RandomState::with_seeds(seed[0], seed[1], seed[2], seed[3]))
}

/// The one that refuses for longest.
struct Worst(Option<(usize, Ticks)>);

impl Worst {
    fn add(&mut self, by: usize, wait: Ticks) {
        if self.0.is_none_or(|(_, longest)| wait > longest) {
            self.0 = Some((by, wait));
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        self.0.map(|(by, wait)| Outcome::Refused { by, wait })
    }
}
