//! What happened lately, within bounds, with the clock passed in: a state that was answered and must
//! not be again, a refresh token that was spent and what it brought.

use ahash::RandomState;
use parking_lot::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

/// Values that are kept for a while: until their time is over or, if there are too many, until they
/// are the oldest.
pub struct Lately<K, V> {
    inner: Mutex<Inner<K, V>>,
    most: usize,
}

struct Inner<K, V> {
    by_key: HashMap<K, (V, u64), RandomState>,
    order: VecDeque<K>,
}

impl<K, V> fmt::Debug for Lately<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lately").field("len", &self.inner.lock().order.len()).finish_non_exhaustive()
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Lately<K, V> {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Self {
        let (by_key, order) = (HashMap::default(), VecDeque::new());
        Self { inner: Mutex::new(Inner { by_key, order }), most: most.max(1) }
    }

    /// What is kept under this key.
    pub fn get(&self, key: &K, now: u64) -> Option<V> {
        let inner = self.inner.lock();
        inner.by_key.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    /// Keeps a value until then. False if one is kept under this key already, which stays.
    pub fn put(&self, key: K, value: V, until: u64, now: u64) -> bool {
        let Inner { by_key, order } = &mut *self.inner.lock();
        let is_over = |kept: Option<&(V, u64)>| kept.is_none_or(|(_, until)| now >= *until);
        while order.front().is_some_and(|oldest| is_over(by_key.get(oldest))) {
            order.pop_front().and_then(|oldest| by_key.remove(&oldest));
        }
        match by_key.entry(key) {
            Entry::Occupied(kept) if now < kept.get().1 => false,
            Entry::Occupied(mut kept) => {
                kept.insert((value, until));
                true
            }
            Entry::Vacant(free) => {
                order.push_back(free.key().clone());
                free.insert((value, until));
                if order.len() > self.most {
                    order.pop_front().and_then(|oldest| by_key.remove(&oldest));
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_one_stays_until_its_time_is_over() {
        let lately = Lately::new(10);
        assert!(lately.put("a", 1, 100, 10));
        assert!(!lately.put("a", 2, 100, 99), "a replay");
        assert_eq!((lately.get(&"a", 99), lately.get(&"a", 100), lately.get(&"b", 0)), (Some(1), None, None));
        assert!(lately.put("a", 3, 200, 100));
        assert_eq!(lately.get(&"a", 150), Some(3));
    }

    #[test]
    fn the_oldest_makes_room() {
        let lately = Lately::new(2);
        for (key, until) in [("a", 100), ("b", 100), ("c", 100)] {
            assert!(lately.put(key, (), until, 10));
        }
        assert_eq!(["a", "b", "c"].map(|key| lately.get(&key, 10).is_some()), [false, true, true]);
    }

    proptest! {
        #[test]
        fn it_never_holds_more_than_it_may(puts in proptest::collection::vec((0_u8..20, 0_u64..50, 0_u64..50), 0..200)) {
            let lately = Lately::new(5);
            for (key, until, now) in puts {
                let before = lately.get(&key, now);
                prop_assert_eq!(lately.put(key, until, until, now), before.is_none());
                let inner = lately.inner.lock();
                prop_assert!(inner.order.len() <= 5);
                prop_assert_eq!(inner.order.len(), inner.by_key.len());
            }
        }
    }
}
