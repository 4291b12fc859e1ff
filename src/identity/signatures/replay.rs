use crate::retained::Carried;
use ahash::RandomState;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Into how many parts what is remembered is divided, so that workers seldom wait for each other.
const SHARDS: usize = 16;

/// Signed requests that were let in, so that none is let in twice.
///
/// - **For how long.** Several routes may ask with several windows. Each request is remembered until none of
///   them would take it any more, by the longest of those that are in force ([`Window`]).
/// - **Never early.** There is a bound; when it is reached, nothing more is let in until the oldest ones
///   lapse. What was forgotten is known by when it was signed: neither a clock that is set back nor a window
///   that becomes longer lets any of it in again.
/// - **Nobody takes the room of all.** A signer may have as many remembered as there is room left (the
///   dynamic threshold of Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet
///   Switches", 1998): alone it gets half of the room, two get a third each, and what is left over is there
///   for all others.
#[derive(Debug)]
pub struct Replay {
    /// By the id, a digest.
    shards: [Mutex<Shard>; SHARDS],
    /// How many of each signer are remembered, by its name; none that has none.
    signers: [Mutex<HashMap<Arc<str>, usize, RandomState>>; SHARDS],
    hasher: RandomState,
    /// In all shards.
    count: AtomicUsize,
    most: AtomicUsize,
    /// The windows in force, in seconds, with how many have them.
    windows: Mutex<BTreeMap<u64, usize>>,
    /// The longest of them.
    longest: AtomicU64,
}

/// What a request is remembered by: the first half of a digest. To find a second one of the same half takes
/// as long as to guess a key.
pub(super) type ReplayId = u128;

#[derive(Debug, Default)]
struct Shard {
    seen: HashSet<ReplayId, RandomState>,
    /// By the second in which they were signed, with who signed them.
    by_birth: BTreeMap<u64, Vec<(ReplayId, Arc<str>)>>,
    /// What was signed then or before may have been forgotten.
    forgotten: Option<u64>,
}

/// A window of time in which signatures count somewhere, in force until it is dropped.
#[derive(Debug)]
pub struct Window {
    replay: Arc<Replay>,
    seconds: u64,
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
    /// Its signer has more than its share of the room.
    FullOfOne,
}

impl Replay {
    pub(super) fn new(most: usize) -> Self {
        Self {
            shards: Default::default(),
            signers: Default::default(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            windows: Mutex::default(),
            longest: AtomicU64::new(0),
        }
    }

    /// Changes the bound.
    pub(super) fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Puts a window in force: what was signed counts for so many seconds at most.
    pub(super) fn window(self: &Arc<Self>, seconds: u64) -> Window {
        self.change_windows(|windows| *windows.entry(seconds).or_default() += 1);
        Window { replay: Arc::clone(self), seconds }
    }

    fn change_windows(&self, change: impl FnOnce(&mut BTreeMap<u64, usize>)) {
        let mut windows = self.windows.lock();
        change(&mut windows);
        let longest = windows.last_key_value().map_or(0, |(seconds, _)| *seconds);
        self.longest.store(longest, Ordering::Relaxed);
    }

    /// Remembers a request of this signer that was signed at `born`, in seconds since 1970 as `now`.
    pub(super) fn admit(&self, id: ReplayId, signer: &str, born: u64, now: u64) -> Seen {
        let most = self.most.load(Ordering::Relaxed);
        let left = || most.saturating_sub(self.count.load(Ordering::Relaxed));
        if left() == 0 || self.held(signer) > left() {
            for shard in &self.shards {
                self.forget(&mut shard.lock(), now);
            }
        }
        let mut shard = self.shard(id).lock();
        self.forget(&mut shard, now);
        if shard.forgotten.is_some_and(|forgotten| born <= forgotten) || shard.seen.contains(&id) {
            return Seen::Again;
        }
        // Of requests that come at the same time a few more may pass here; the bound itself is exact.
        if self.held(signer) > left() {
            return if left() == 0 { Seen::Full } else { Seen::FullOfOne };
        }
        let room = |count: usize| (count < most).then_some(count + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Seen::Full;
        }
        let signer = self.hold(signer);
        shard.seen.insert(id);
        shard.by_birth.entry(born).or_default().push((id, signer));
        Seen::New
    }

    fn shard(&self, id: ReplayId) -> &Mutex<Shard> {
        &self.shards[(id >> 124) as usize % SHARDS]
    }

    fn signer(&self, name: &str) -> &Mutex<HashMap<Arc<str>, usize, RandomState>> {
        &self.signers[self.hasher.hash_one(name) as usize % SHARDS]
    }

    fn held(&self, signer: &str) -> usize {
        self.signer(signer).lock().get(signer).copied().unwrap_or_default()
    }

    /// Counts one more of this signer.
    fn hold(&self, signer: &str) -> Arc<str> {
        let mut signers = self.signer(signer).lock();
        if let Some((name, held)) =
            signers.get_key_value(signer).map(|(name, held)| (Arc::clone(name), *held))
        {
            signers.insert(Arc::clone(&name), held + 1);
            return name;
        }
        let name: Arc<str> = signer.into();
        signers.insert(Arc::clone(&name), 1);
        name
    }

    /// Counts one less.
    fn release(&self, signer: &Arc<str>) {
        let mut signers = self.signer(signer).lock();
        let left = signers.get_mut(signer).map(|held| {
            *held = held.saturating_sub(1);
            *held
        });
        if left == Some(0) {
            signers.remove(signer);
        }
    }

    /// Takes away what counts nowhere any more.
    fn forget(&self, shard: &mut Shard, now: u64) {
        let longest = self.longest.load(Ordering::Relaxed);
        while let Some(first) = shard.by_birth.first_entry() {
            let born = *first.key();
            if born.saturating_add(longest) >= now {
                break;
            }
            for (id, signer) in first.remove() {
                if shard.seen.remove(&id) {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                    self.release(&signer);
                }
            }
            shard.forgotten = shard.forgotten.max(Some(born));
        }
    }
}

/// What goes to the next process: in base64, 16 bytes of id and 8 of the second it was signed in for each.
#[derive(Serialize, Deserialize)]
struct Written {
    /// What was signed then or before may have been forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forgotten: Option<u64>,
    by_signer: BTreeMap<String, String>,
}

/// What one takes of [`Written`], and what a signer takes besides its name, in bytes of text.
const EACH: usize = 32;
const OF_SIGNER: usize = 16;

impl Carried for Replay {
    const VERSION: u32 = 1;
    const ROOM: usize = 8 << 20;
    const FIRST: bool = true;

    /// The latest, where not all fit; what was signed before those counts as forgotten.
    fn export(&self, room: usize) -> Option<Value> {
        let mut all: Vec<(u64, ReplayId, Arc<str>)> = Vec::new();
        let mut forgotten = None;
        for shard in &self.shards {
            let shard = shard.lock();
            forgotten = forgotten.max(shard.forgotten);
            let each = shard.by_birth.iter().flat_map(|(born, all)| all.iter().map(move |one| (*born, one)));
            all.extend(each.map(|(born, (id, signer))| (born, *id, Arc::clone(signer))));
        }
        all.sort_unstable_by_key(|(born, ..)| Reverse(*born));
        let mut left = room.saturating_sub(100);
        let mut packed: BTreeMap<Arc<str>, Vec<u8>> = BTreeMap::new();
        for (born, id, signer) in all {
            let more = if packed.contains_key(&signer) { EACH } else { EACH + OF_SIGNER + 2 * signer.len() };
            let Some(rest) = left.checked_sub(more) else {
                forgotten = forgotten.max(Some(born));
                break;
            };
            left = rest;
            let bytes = packed.entry(signer).or_default();
            bytes.extend(id.to_be_bytes());
            bytes.extend(born.to_be_bytes());
        }
        if packed.is_empty() && forgotten.is_none() {
            return None;
        }
        let by_signer = packed.into_iter().map(|(name, bytes)| (name.to_string(), STANDARD.encode(bytes)));
        serde_json::to_value(Written { forgotten, by_signer: by_signer.collect() }).ok()
    }

    fn import(&self, version: u32, data: Value) -> Result<(), String> {
        if version != Self::VERSION {
            return Err("an unknown version".to_owned());
        }
        let Written { forgotten, by_signer } =
            serde_json::from_value(data).map_err(|error| error.to_string())?;
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.forgotten = shard.forgotten.max(forgotten);
        }
        for (signer, text) in by_signer {
            let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
            for one in bytes.as_chunks::<24>().0 {
                let id = ReplayId::from_be_bytes(one.first_chunk().copied().unwrap_or_default());
                let born = u64::from_be_bytes(one.last_chunk().copied().unwrap_or_default());
                let mut shard = self.shard(id).lock();
                if shard.seen.insert(id) {
                    self.count.fetch_add(1, Ordering::Relaxed);
                    shard.by_birth.entry(born).or_default().push((id, self.hold(&signer)));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.replay.change_windows(|windows| {
            let left = windows.get_mut(&self.seconds).map(|count| {
                *count = count.saturating_sub(1);
                *count
            });
            if left == Some(0) {
                windows.remove(&self.seconds);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of one shard.
    fn id(number: u8) -> ReplayId {
        ReplayId::from(number)
    }

    /// Requests count for 50 seconds.
    fn replay(most: usize) -> (Arc<Replay>, Window) {
        let replay = Arc::new(Replay::new(most));
        let window = replay.window(50);
        (replay, window)
    }

    #[test]
    fn nothing_is_let_in_twice_and_nothing_is_forgotten_early() {
        let (replay, _window) = replay(2);
        assert_eq!(replay.admit(id(1), "a", 50, 50), Seen::New);
        assert_eq!(replay.admit(id(1), "a", 50, 51), Seen::Again);
        assert_eq!(replay.admit(id(2), "b", 60, 60), Seen::New);
        assert_eq!(replay.admit(id(3), "c", 70, 100), Seen::Full, "until the first lapses");
        assert_eq!(replay.admit(id(2), "b", 60, 100), Seen::Again);
        assert_eq!(replay.admit(id(3), "c", 70, 101), Seen::New);
        replay.resize(3);
        assert_eq!(replay.admit(id(4), "d", 80, 101), Seen::New);
    }

    #[test]
    fn a_clock_that_is_set_back_lets_nothing_in_again() {
        let (replay, _window) = replay(10);
        assert_eq!(replay.admit(id(1), "a", 50, 50), Seen::New);
        assert_eq!(replay.admit(id(2), "a", 200, 200), Seen::New, "the first is forgotten");
        assert_eq!(replay.admit(id(1), "a", 50, 60), Seen::Again);
        assert_eq!(replay.admit(id(3), "a", 51, 60), Seen::New, "what was signed later was never forgotten");
    }

    /// One route takes signatures for 50 seconds, another for 300.
    #[test]
    fn a_request_is_remembered_as_long_as_any_route_would_take_it() {
        let (replay, short) = replay(10);
        let long = replay.window(300);
        assert_eq!(replay.admit(id(1), "a", 100, 100), Seen::New);
        assert_eq!(replay.admit(id(1), "a", 100, 400), Seen::Again, "the longer one would take it still");
        drop(long);
        assert_eq!(replay.admit(id(2), "a", 400, 400), Seen::New, "the first is forgotten");
        // A reload makes a window longer: what was forgotten before is not let in by it.
        let _long = replay.window(1000);
        drop(short);
        assert_eq!(replay.admit(id(1), "a", 100, 401), Seen::Again);
        assert_eq!(replay.admit(id(2), "a", 400, 1400), Seen::Again);
        assert_eq!(replay.admit(id(3), "a", 401, 1401), Seen::New);
    }

    #[test]
    fn the_greedy_one_alone_is_refused() {
        let (replay, _window) = replay(100);
        let greedy = (0..200).map(|number| replay.admit(id(number), "greedy", 100, 100));
        let let_in = greedy.filter(|seen| *seen == Seen::New).count();
        assert_eq!(let_in, 51, "half of it");
        assert_eq!(replay.admit(id(200), "greedy", 100, 100), Seen::FullOfOne);
        for number in 201..221 {
            assert_eq!(replay.admit(id(number), "modest", 100, 100), Seen::New);
        }
        assert_eq!(replay.admit(id(221), "another", 100, 100), Seen::New);
        // It may again when its own have lapsed, and nothing is left of it but what is remembered.
        assert_eq!(replay.admit(id(222), "greedy", 151, 151), Seen::New);
        let names: usize = replay.signers.iter().map(|signers| signers.lock().len()).sum();
        assert_eq!((names, replay.held("greedy"), replay.held("modest")), (1, 1, 0));
    }

    #[test]
    fn the_next_process_knows_what_was_let_in() {
        let spread = |number: u8| ReplayId::from(number) << 120 | ReplayId::from(number);
        let (old, _window) = replay(1000);
        assert_eq!(old.export(1 << 20), None, "nothing to say");
        for number in 0..200 {
            let signer = ["a", "b \"quoted\""][usize::from(number % 2)];
            assert_eq!(old.admit(spread(number), signer, 100 + u64::from(number), 100), Seen::New);
        }
        let data = old.export(1 << 20).unwrap();
        assert!(data.to_string().len() < 200 * EACH + 200);
        let (new, _window) = replay(1000);
        new.import(1, data.clone()).unwrap();
        new.import(1, data).unwrap();
        assert_eq!((new.count.load(Ordering::Relaxed), new.held("a")), (200, 100), "twice is once");
        for number in 0..200 {
            assert_eq!(new.admit(spread(number), "a", 100 + u64::from(number), 110), Seen::Again);
        }
        assert_eq!(new.admit(spread(201), "a", 300, 110), Seen::New);
        // What does not fit is refused all the same.
        let few = old.export(1000).unwrap();
        assert!(few.to_string().len() <= 1000);
        let (new, _window) = replay(1000);
        new.import(1, few).unwrap();
        for number in 0..200 {
            assert_eq!(new.admit(spread(number), "a", 100 + u64::from(number), 110), Seen::Again);
        }
        assert_eq!(new.admit(spread(201), "a", 300, 110), Seen::New);
        assert!(new.import(2, Value::Null).is_err() && new.import(1, Value::Null).is_err());
    }

    proptest! {
        #[test]
        fn each_is_let_in_once_at_most(
            steps in proptest::collection::vec((0_u8..6, 0_u8..2, -20_i64..60, 0_u64..3), 1..200),
        ) {
            let (replay, _window) = replay(4);
            let (mut now, mut admitted, mut windows) = (1000_i64, HashSet::new(), Vec::new());
            for (number, signer, step, window) in steps {
                now = (now + step).max(0);
                // Routes come and go.
                match window {
                    1 => windows.push(replay.window(100)),
                    2 => windows.clear(),
                    _ => {}
                }
                let born = 900 + u64::from(number) * 40;
                let signer = ["a", "b"][usize::from(signer)];
                if replay.admit(id(number), signer, born, now as u64) == Seen::New {
                    prop_assert!(admitted.insert(number), "{number} twice");
                }
                let held: usize = replay.shards.iter().map(|shard| shard.lock().seen.len()).sum();
                prop_assert!(held <= 4 && held == replay.count.load(Ordering::Relaxed));
                prop_assert_eq!(held, replay.held("a") + replay.held("b"));
            }
        }
    }
}
