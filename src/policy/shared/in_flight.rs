//! How many of something each key has in hand.

use crate::retained::{Retained, StableId};
use crate::telemetry::random;
use ahash::{AHasher, RandomState};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;

/// Parts, each with a lock of its own that is held for a look-up.
const PARTS: usize = 64;

/// How many requests each key has in flight. It knows the keys that have some, so that requests in flight
/// bound it.
pub struct InFlight {
    parts: [Mutex<HashMap<u64, u32, RandomState>>; PARTS],
    hashes: RandomState,
}

/// One request in flight. It is given back when this is dropped, however the request ends.
#[must_use = "a request is in flight as long as this is held"]
pub struct Permit {
    of: Arc<InFlight>,
    key: u64,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("permits", &self.permits()).finish()
    }
}

impl Default for InFlight {
    fn default() -> Self {
        let seed = [(); 4].map(|()| random::next_u64());
        let hashes = RandomState::with_seeds(seed[0], seed[1], seed[2], seed[3]);
        Self { parts: std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(hashes.clone()))), hashes }
    }
}

impl InFlight {
    /// The process's.
    pub fn of_process(retained: &Retained) -> Arc<Self> {
        retained.get_or(Self::id(), Self::default)
    }

    /// The process's, if something uses it.
    pub fn of(retained: &Retained) -> Option<Arc<Self>> {
        retained.get(Self::id())
    }

    fn id() -> StableId {
        StableId::new("in_flight", "")
    }

    /// Digests a key of this family. What goes in has to be told apart by whoever writes it.
    pub fn hasher(&self, family: u64) -> AHasher {
        use std::hash::Hasher as _;
        let mut hasher = self.hashes.build_hasher();
        hasher.write_u64(family);
        hasher
    }

    /// What tells the keys of one limit from those of others, by its stable name.
    pub fn family(&self, name: &str) -> u64 {
        self.hashes.hash_one(name)
    }

    /// One more for this key, unless it has `most` already.
    pub fn enter(self: &Arc<Self>, key: u64, most: u32) -> Option<Permit> {
        match self.part(key).lock().entry(key) {
            Entry::Occupied(has) if *has.get() >= most => return None,
            Entry::Occupied(mut has) => *has.get_mut() += 1,
            Entry::Vacant(none) => drop(none.insert(1)),
        }
        Some(Permit { of: Arc::clone(self), key })
    }

    /// How many requests are in flight, all keys together.
    pub fn permits(&self) -> usize {
        self.parts.iter().map(|part| part.lock().values().map(|count| *count as usize).sum::<usize>()).sum()
    }

    fn part(&self, key: u64) -> &Mutex<HashMap<u64, u32, RandomState>> {
        &self.parts[key as usize % PARTS]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut part = self.of.part(self.key).lock();
        if let Entry::Occupied(mut has) = part.entry(self.key) {
            if *has.get() > 1 {
                *has.get_mut() -= 1;
            } else {
                has.remove();
            }
        }
        // A burst of many keys does not hold its memory for ever.
        if part.is_empty() && part.capacity() > 1024 {
            part.shrink_to(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn a_key_has_so_many_and_gets_them_back() {
        let all = Arc::new(InFlight::default());
        let (one, two) = (all.enter(1, 2), all.enter(1, 2));
        assert!(one.is_some() && two.is_some() && all.enter(1, 2).is_none());
        let other = all.enter(65, 1);
        assert!(other.is_some(), "another key of the same part");
        assert!(all.enter(1, 3).is_some(), "a higher bound counts what there is");
        assert_eq!(all.permits(), 3);
        drop(one);
        assert!(all.enter(1, 2).is_some());
        drop((two, other));
        assert_eq!(all.permits(), 0);
    }

    #[test]
    fn a_panic_gives_back() {
        let all = Arc::new(InFlight::default());
        let taken = Arc::clone(&all);
        let ended = std::thread::spawn(move || {
            let _permit = taken.enter(1, 1);
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        assert_eq!(all.permits(), 0);
    }

    #[test]
    fn threads_together_have_no_more_than_may_be() {
        let (all, inside) = (Arc::new(InFlight::default()), AtomicI64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..20_000_u64 {
                        let Some(permit) = all.enter(turn % 3, 2) else { continue };
                        assert!(inside.fetch_add(1, Ordering::AcqRel) < 6);
                        inside.fetch_sub(1, Ordering::AcqRel);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(all.permits(), 0);
    }
}
