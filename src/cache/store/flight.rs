//! Flights: one fetch for any number of requests. And what is remembered of fetches that were in vain, so
//! that nobody waits for the next one.

use super::body::Budget;
use super::object::Object;
use crate::config::model::upstream::Condition;
use ahash::RandomState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long a key passes without waiting after an answer that is not for others; then one request tries
/// again, and the others still do not wait.
const IN_VAIN: Duration = Duration::from_secs(10);

/// How many keys are remembered to be in vain.
const MOST_IN_VAIN: usize = 1 << 16;

const SHARDS: usize = 64;

/// How far a flight is.
#[derive(Clone, Debug, Default)]
pub enum Stage {
    /// The upstream is asked.
    #[default]
    Asking,
    /// Here is an answer for all whose request it is for.
    Answer(Arc<Object>),
    /// What came is for the one that asked alone.
    Private,
    /// Nothing came of it.
    Failed(Failure),
    /// It failed, and what is kept stands in, as the route says; why it failed.
    StandIn(&'static str),
}

/// How a fetch failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// What its client is told; none if that is nothing, or what stands in for the upstream.
    pub status: Option<u16>,
    /// What the upstream did, in the words of retries and fallbacks.
    pub condition: Option<Condition>,
    /// It says something of the upstream, and would have come to any other request as well.
    pub is_outage: bool,
}

/// A fetch.
#[derive(Debug, Default)]
pub struct Flight {
    stage: watch::Sender<Stage>,
    /// The fetch that those follow who followed this one in vain.
    next: Mutex<Option<Arc<Flight>>>,
}

impl Flight {
    /// Moves on.
    pub fn set(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// Waits until it is known what comes of it.
    pub async fn landed(&self) -> Stage {
        let mut stage = self.stage.subscribe();
        // The sender is in `self`.
        stage
            .wait_for(|stage| !matches!(stage, Stage::Asking))
            .await
            .map_or(Stage::Private, |stage| stage.clone())
    }
}

/// What a request gets that has to wait for a fetch.
#[derive(Debug)]
pub enum Boarding {
    /// Nobody fetches this: the request does.
    Fetch(Seat),
    /// Somebody does.
    Follow(Arc<Flight>),
    /// It is in vain to wait: the request goes on by itself.
    Alone,
    /// As before, but the request finds out whether that has changed.
    Probe,
}

/// Flights by the key of what they fetch.
type UnderWay = HashMap<Box<[u8]>, Arc<Flight>, RandomState>;

/// The flights of a store.
#[derive(Debug)]
pub struct Flights {
    shards: Box<[Mutex<UnderWay>]>,
    /// Hashes of keys that are in vain, with when to try again in milliseconds.
    in_vain: quick_cache::sync::Cache<u64, Arc<AtomicU64>>,
    hasher: RandomState,
    /// Memory of what is on its way.
    pub budget: Arc<Budget>,
}

/// The place of a flight among the others, left when it is dropped.
#[derive(Debug)]
pub struct Seat {
    /// The flight.
    pub flight: Arc<Flight>,
    key: Box<[u8]>,
}

impl Flights {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            in_vain: quick_cache::sync::Cache::new(MOST_IN_VAIN),
            hasher: RandomState::new(),
            budget: Arc::new(Budget::new(budget)),
        }
    }

    pub(super) fn set_budget(&self, bytes: u64) {
        self.budget.set(bytes);
    }

    /// How a request that finds nothing goes on. `key` is that of its answer and, where it is known that
    /// answers vary, of its variant.
    pub fn board(&self, key: &[u8], now: Duration) -> Boarding {
        let hash = self.hasher.hash_one(key);
        if let Some(again) = self.in_vain.get(&hash) {
            let now = millis(now);
            let due = again.load(Ordering::Relaxed);
            // A moment that is further ahead was noted before the clock was set back.
            if now < due && due - now <= millis(IN_VAIN) {
                return Boarding::Alone;
            }
            let next = now + millis(IN_VAIN);
            return match again.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => Boarding::Probe,
                Err(_) => Boarding::Alone,
            };
        }
        let Some(shard) = self.shards.get(hash as usize % SHARDS) else { return Boarding::Alone };
        let mut flights = shard.lock();
        if let Some(flight) = flights.get(key) {
            return Boarding::Follow(Arc::clone(flight));
        }
        let flight = Arc::<Flight>::default();
        flights.insert(key.into(), Arc::clone(&flight));
        Boarding::Fetch(Seat { flight, key: key.into() })
    }

    /// How a request goes on whose flight has failed: one of those that waited for it fetches, and all the others
    /// follow that fetch, even those that come to it when it is over.
    pub fn board_after(&self, failed: &Flight, key: &[u8], now: Duration) -> Boarding {
        let mut next = failed.next.lock();
        if let Some(flight) = &*next {
            return Boarding::Follow(Arc::clone(flight));
        }
        let boarding = self.board(key, now);
        match &boarding {
            Boarding::Fetch(Seat { flight, .. }) | Boarding::Follow(flight) => {
                *next = Some(Arc::clone(flight));
            }
            Boarding::Alone | Boarding::Probe => {}
        }
        boarding
    }

    /// Takes a flight out: from now on nobody follows it.
    pub fn leave(&self, seat: &Seat) {
        self.retire(&seat.key, &seat.flight);
    }

    /// Takes this flight out from under its key, if it still is there: what it brings is of no use to those that come
    /// now.
    pub fn retire(&self, key: &[u8], flight: &Arc<Flight>) {
        let hash = self.hasher.hash_one(key);
        if let Some(shard) = self.shards.get(hash as usize % SHARDS) {
            let mut flights = shard.lock();
            if flights.get(key).is_some_and(|known| Arc::ptr_eq(known, flight)) {
                flights.remove(key);
            }
        }
    }

    /// Remembers that what comes for a key is not for others.
    pub fn note_in_vain(&self, key: &[u8], now: Duration) {
        let again = Arc::new(AtomicU64::new(millis(now + IN_VAIN)));
        self.in_vain.insert(self.hasher.hash_one(key), again);
    }

    /// Forgets it again: what came can be kept.
    pub fn note_worthwhile(&self, key: &[u8]) {
        self.in_vain.remove(&self.hasher.hash_one(key));
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
