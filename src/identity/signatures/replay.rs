use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Into how many parts what is remembered is divided, so that workers seldom wait for each other.
const SHARDS: usize = 16;

/// Signed requests that were let in, so that none is let in twice.
///
/// Each is remembered until its signature would not count any more. There is a bound; when it is reached,
/// nothing more is let in until the oldest ones lapse. What was forgotten is known by when it lapsed: a
/// clock that is set back lets none of it in again.
#[derive(Debug)]
pub struct Replay {
    /// By the first byte of the id, a digest.
    shards: [Mutex<Shard>; SHARDS],
    /// In all shards.
    count: AtomicUsize,
    most: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    seen: HashSet<[u8; 32], ahash::RandomState>,
    /// By the last second at which they would count.
    by_end: BTreeMap<u64, Vec<[u8; 32]>>,
    /// What would count until then at the latest may have been forgotten.
    forgotten: Option<u64>,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is the first one.
    New,
    /// It was let in before, or may have been.
    Again,
    /// There is no room to remember it.
    Full,
}

impl Replay {
    pub(super) fn new(most: usize) -> Self {
        let (shards, count) = (Default::default(), AtomicUsize::new(0));
        Self { shards, count, most: AtomicUsize::new(most) }
    }

    /// Changes the bound.
    pub(super) fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Remembers a request that counts until `until`, in seconds since 1970 as `now`.
    pub(super) fn admit(&self, id: [u8; 32], until: u64, now: u64) -> Seen {
        let most = self.most.load(Ordering::Relaxed);
        if self.count.load(Ordering::Relaxed) >= most {
            for shard in &self.shards {
                self.forget(&mut shard.lock(), now);
            }
        }
        let mut shard = self.shards[usize::from(id[0]) % SHARDS].lock();
        self.forget(&mut shard, now);
        if shard.forgotten.is_some_and(|end| until <= end) || shard.seen.contains(&id) {
            return Seen::Again;
        }
        let room = |count: usize| (count < most).then_some(count + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Seen::Full;
        }
        shard.seen.insert(id);
        shard.by_end.entry(until).or_default().push(id);
        Seen::New
    }

    /// Takes away what does not count any more.
    fn forget(&self, shard: &mut Shard, now: u64) {
        while let Some(first) = shard.by_end.first_entry() {
            let end = *first.key();
            if end >= now {
                break;
            }
            for id in first.remove() {
                if shard.seen.remove(&id) {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
            }
            shard.forgotten = shard.forgotten.max(Some(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> [u8; 32] {
        [number; 32]
    }

    #[test]
    fn nothing_is_let_in_twice_and_nothing_is_forgotten_early() {
        let replay = Replay::new(2);
        assert_eq!(replay.admit(id(1), 100, 50), Seen::New);
        assert_eq!(replay.admit(id(1), 100, 51), Seen::Again);
        assert_eq!(replay.admit(id(2), 110, 60), Seen::New);
        assert_eq!(replay.admit(id(3), 120, 100), Seen::Full, "until the first lapses");
        assert_eq!(replay.admit(id(2), 110, 100), Seen::Again);
        assert_eq!(replay.admit(id(3), 120, 101), Seen::New);
        replay.resize(3);
        assert_eq!(replay.admit(id(4), 130, 101), Seen::New);
    }

    #[test]
    fn a_clock_that_is_set_back_lets_nothing_in_again() {
        let replay = Replay::new(10);
        // Of one shard.
        let id = |number: u8| id(number * 16);
        assert_eq!(replay.admit(id(1), 100, 50), Seen::New);
        assert_eq!(replay.admit(id(2), 300, 200), Seen::New, "the first is forgotten");
        assert_eq!(replay.admit(id(1), 100, 60), Seen::Again);
        assert_eq!(replay.admit(id(3), 101, 60), Seen::New, "what counts longer was never forgotten");
    }

    proptest! {
        #[test]
        fn each_is_let_in_once_at_most(steps in proptest::collection::vec((0_u8..6, 0_u64..40, -20_i64..60), 1..200)) {
            let replay = Replay::new(4);
            let (mut now, mut admitted) = (1000_i64, HashSet::new());
            for (number, life, step) in steps {
                now = (now + step).max(0);
                // One request counts until the same second whenever it comes.
                let until = 900 + u64::from(number) * 40 + life / 40;
                if until >= now as u64 && replay.admit(id(number), until, now as u64) == Seen::New {
                    prop_assert!(admitted.insert(number), "{number} twice");
                }
                let held: usize = replay.shards.iter().map(|shard| shard.lock().seen.len()).sum();
                prop_assert!(held <= 4 && held == replay.count.load(Ordering::Relaxed));
            }
        }
    }
}
