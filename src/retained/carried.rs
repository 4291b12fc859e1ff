//! State that the next process takes over from this one at an upgrade.
//!
//! A piece of it is written down when this process has stopped accepting, goes over the control socket
//! under its [`StableId`](super::StableId) and a version, and is read before the next process accepts. What
//! may be large goes [`Ahead`], while this process serves on, and what has changed meanwhile afterwards. The
//! next process may be another build with another configuration: what it has no state for, or does not
//! understand, is left. Requests that still run here after the export count here alone.

use super::{Retained, StableId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::any::Any;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The most that all pieces together may take, in bytes of JSON text. A frame of the hand-over has 16 MiB.
const TOTAL: usize = 12 << 20;

/// State that outlives its process. [`Retained::get_or_carried`] is all that it takes to be one.
///
/// Times go as ages or as UTC; an `Instant` means nothing in another process. Nobody is served while this
/// runs: it takes milliseconds, and waits for nothing.
pub trait Carried: Any + Send + Sync {
    /// The version of the form that [`Self::export`] writes. A reader that knows only earlier ones would
    /// misread it: what is merely added as a field needs no new version.
    const VERSION: u32;
    /// The most that this may take, in bytes of JSON text. What is longer stays behind, and the log says so.
    const ROOM: usize = 1 << 20;
    /// Whether it goes before others where not all fit: what refuses callers, rather than what counts them.
    const FIRST: bool = false;

    /// Writes it down in at most `room` bytes, the most valuable part of it if not all fits; `None` where
    /// there is nothing worth it.
    fn export(&self, room: usize) -> Option<Value>;

    /// Writes the next piece of what can go while this process serves on, in at most [`Self::ROOM`] bytes:
    /// what does not fit into one, and may come in any order and twice. `None` where nothing is left.
    fn ahead(&self, _mark: &mut Mark) -> Option<Value> {
        None
    }

    /// As [`Self::export`], of what has changed since [`Self::ahead`] was asked first.
    fn rest(&self, _mark: &Mark, room: usize) -> Option<Value> {
        self.export(room)
    }

    /// Nobody took over after all, and this process serves on.
    fn resume(&self) {}

    /// Takes over what a process of this or another build wrote; it has at most [`Self::ROOM`] bytes.
    ///
    /// # Errors
    /// Why it cannot, for the log: an unknown version, say. Nothing has changed then.
    fn import(&self, version: u32, data: Value) -> Result<(), String>;
}

/// How far a state has gone ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Whether it was asked before.
    pub begun: bool,
    /// The last of its parts that has gone, in an order of its own.
    pub after: u128,
}

/// State that goes to the next process piece by piece, while this one serves on.
#[derive(Default)]
pub struct Ahead {
    states: Vec<(StableId, Way, State, Mark)>,
    at: usize,
}

/// A piece of state on its way to the next process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose it is.
    #[serde(default)]
    pub tenant: String,
    /// What it is.
    pub kind: String,
    /// Which of its kind.
    #[serde(default)]
    pub name: String,
    /// The version of its form.
    pub version: u32,
    /// The thing.
    pub data: Value,
}

type State = Arc<dyn Any + Send + Sync>;
// Not of `&dyn Any`, which a reference to the `Arc` would be as well.
type Export = fn(&State, usize) -> Option<Value>;
type GoAhead = fn(&State, &mut Mark) -> Option<Value>;
type Resume = fn(&State);
type Rest = fn(&State, &Mark, usize) -> Option<Value>;
type Import = fn(&State, u32, Value) -> Result<(), String>;

/// [`Carried`] of a type that is not known any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    version: u32,
    room: usize,
    first: bool,
    export: Export,
    ahead: GoAhead,
    rest: Rest,
    resume: Resume,
    import: Import,
}

impl Way {
    pub(super) fn of<T: Carried>() -> Self {
        Self {
            version: T::VERSION,
            room: T::ROOM,
            first: T::FIRST,
            export: |state, room| (**state).downcast_ref::<T>().and_then(|state| state.export(room)),
            ahead: |state, mark| (**state).downcast_ref::<T>().and_then(|state| state.ahead(mark)),
            rest: |state, mark, room| (**state).downcast_ref::<T>().and_then(|state| state.rest(mark, room)),
            resume: |state| {
                if let Some(state) = (**state).downcast_ref::<T>() {
                    state.resume();
                }
            },
            import: |state, version, data| match (**state).downcast_ref::<T>() {
                Some(state) => state.import(version, data),
                None => Err("it is of another type".to_owned()),
            },
        }
    }
}

impl Retained {
    /// As [`Self::get_or`], of state that the next process takes over as well, under the same id.
    pub fn get_or_carried<T: Carried>(&self, id: StableId, make: impl FnOnce() -> T) -> Arc<T> {
        self.get_or_with(id, Some(Way::of::<T>()), make)
    }

    /// What can go to the next process while this one serves on.
    pub fn ahead(&self) -> Ahead {
        let states = self.carried().into_iter();
        Ahead { states: states.map(|(id, way, state)| (id, way, state, Mark::default())).collect(), at: 0 }
    }

    /// Writes down what is carried; of what has gone ahead, what has changed since.
    pub fn export(&self, gone: &Ahead) -> Vec<Kept> {
        let mut all = self.carried();
        all.sort_by(|(a, way_a, _), (b, way_b, _)| (Reverse(way_a.first), a).cmp(&(Reverse(way_b.first), b)));
        let (mut kept, mut left) = (Vec::new(), TOTAL);
        for (id, way, state) in all {
            let room = way.room.min(left);
            // A part that breaks must not take the upgrade, or this process, with it.
            let mark =
                gone.states.iter().find(|(of, .., mark)| *of == id && mark.begun).map(|(.., mark)| mark);
            let exported = catch_unwind(AssertUnwindSafe(|| match mark {
                Some(mark) => (way.rest)(&state, mark, room),
                None => (way.export)(&state, room),
            }));
            let Ok(exported) = exported else {
                log::error!("state stays behind kind={} name={:?}: its export broke off", id.kind, id.name);
                continue;
            };
            let Some(data) = exported else { continue };
            let length = length(&data);
            if length > room {
                let (kind, name) = (id.kind, &id.name);
                log::warn!("state stays behind kind={kind} name={name:?} bytes={length} room={room}");
                continue;
            }
            left -= length;
            kept.push(Kept::new(&id, &way, data));
        }
        kept
    }

    /// Has the parts that were written down know that nobody took over.
    pub fn resume(&self) {
        for (id, way, state) in self.carried() {
            if catch_unwind(AssertUnwindSafe(|| (way.resume)(&state))).is_err() {
                log::error!("state does not go on kind={} name={:?}: it broke off", id.kind, id.name);
            }
        }
    }

    /// Takes over what another process wrote down. What nothing here is for is left.
    pub fn import(&self, all: Vec<Kept>) {
        let carried = self.carried();
        let each = carried.iter().map(|(id, way, state)| ((&*id.tenant, id.kind, &*id.name), (way, state)));
        let carried: HashMap<_, _> = each.collect();
        for kept in all {
            let Kept { tenant, kind, name, version, data } = kept;
            let Some((way, state)) = carried.get(&(&*tenant, &*kind, &*name)) else {
                log::debug!("state is of no use here kind={kind:?} name={name:?} version={version}");
                continue;
            };
            let length = length(&data);
            if length > way.room {
                log::warn!(
                    "state is not taken over kind={kind} name={name:?} bytes={length} room={}",
                    way.room
                );
                continue;
            }
            let imported = catch_unwind(AssertUnwindSafe(|| (way.import)(state, version, data)));
            let why = match imported {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => why,
                Err(_) => "its import broke off".to_owned(),
            };
            log::warn!("state is not taken over kind={kind} name={name:?} version={version} cause={why:?}");
        }
    }

    /// What is carried and alive.
    fn carried(&self) -> Vec<(StableId, Way, State)> {
        let known = self.known.lock();
        let each = known.iter();
        each.filter_map(|((_, id), entry)| Some((id.clone(), entry.way?, entry.state.upgrade()?))).collect()
    }
}

impl Kept {
    fn new(id: &StableId, way: &Way, data: Value) -> Self {
        let (tenant, kind, name) = (id.tenant.to_string(), id.kind.to_owned(), id.name.to_string());
        Self { tenant, kind, name, version: way.version, data }
    }
}

impl Iterator for Ahead {
    type Item = Kept;

    fn next(&mut self) -> Option<Kept> {
        while let Some((id, way, state, mark)) = self.states.get_mut(self.at) {
            let data = catch_unwind(AssertUnwindSafe(|| (way.ahead)(state, mark)));
            match data {
                Ok(Some(data)) => {
                    mark.begun = true;
                    return Some(Kept::new(id, way, data));
                }
                Ok(None) => {}
                // It goes with all others then.
                Err(_) => {
                    *mark = Mark::default();
                    log::error!("state does not go ahead kind={} name={:?}: it broke off", id.kind, id.name);
                }
            }
            self.at += 1;
        }
        None
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").field("at", &self.at).field("of", &self.states.len()).finish()
    }
}

/// Of its text, in bytes.
fn length(data: &Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither can fail: the writer takes all, and a value has no keys but texts.
    serde_json::to_writer(&mut count, data).map_or(usize::MAX, |()| count.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Counter(AtomicU64);

    impl Carried for Counter {
        const VERSION: u32 = 2;
        const ROOM: usize = 64;

        fn export(&self, _room: usize) -> Option<Value> {
            match self.0.load(Ordering::Relaxed) {
                0 => None,
                13 => panic!("unlucky"),
                count if count > 1_000_000 => Some(json!("x".repeat(100))),
                count => Some(json!({ "count": count })),
            }
        }

        fn import(&self, version: u32, data: Value) -> Result<(), String> {
            if version > Self::VERSION {
                return Err("an unknown version".to_owned());
            }
            let count = data["count"].as_u64().ok_or("no count")?;
            assert_ne!(count, 13, "unlucky");
            self.0.fetch_add(count, Ordering::Relaxed);
            Ok(())
        }
    }

    /// Goes first, and takes all that it may.
    struct Greedy(usize);

    impl Carried for Greedy {
        const VERSION: u32 = 1;
        const ROOM: usize = TOTAL;
        const FIRST: bool = true;

        fn export(&self, room: usize) -> Option<Value> {
            Some(json!("x".repeat(self.0.min(room - 2))))
        }

        fn import(&self, _version: u32, _data: Value) -> Result<(), String> {
            Ok(())
        }
    }

    fn counter(retained: &Retained, name: &str, count: u64) -> Arc<Counter> {
        let counter = retained.get_or_carried(StableId::new("counter", name), Counter::default);
        counter.0.store(count, Ordering::Relaxed);
        counter
    }

    fn names(kept: &[Kept]) -> Vec<&str> {
        kept.iter().map(|kept| kept.name.as_str()).collect()
    }

    #[test]
    fn what_is_carried_is_found_again_by_its_id() {
        let (old, new) = (Retained::default(), Retained::default());
        let _before = [counter(&old, "b", 7), counter(&old, "a", 5), counter(&old, "gone", 3)];
        let _not_carried = old.get_or(StableId::new("health", "a"), || 1_u32);
        drop(counter(&old, "dropped with its last user", 9));
        let kept = old.export(&Ahead::default());
        assert_eq!(names(&kept), ["a", "b", "gone"]);
        // By way of the text that goes between the processes.
        let kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
        let after = [counter(&new, "a", 1), counter(&new, "b", 0)];
        new.import(kept);
        assert_eq!(after.map(|counter| counter.0.load(Ordering::Relaxed)), [6, 7]);
    }

    #[test]
    fn what_is_not_understood_is_left() {
        let retained = Retained::default();
        let counter = counter(&retained, "a", 1);
        let kept = |kind: &str, name: &str, version, data| Kept {
            tenant: "default".to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            version,
            data,
        };
        retained.import(vec![
            kept("of tomorrow", "a", 1, json!(1)),
            kept("counter", "of another configuration", 2, json!({ "count": 1 })),
            Kept { tenant: "another".to_owned(), ..kept("counter", "a", 2, json!({ "count": 1 })) },
            kept("counter", "a", 3, json!({ "count": 1 })),
            kept("counter", "a", 2, json!("text")),
            kept("counter", "a", 2, json!({ "count": 1, "and": "x".repeat(100) })),
            kept("counter", "a", 2, json!({ "count": 13 })),
            kept("counter", "a", 1, json!({ "count": 4, "unknown": null })),
        ]);
        assert_eq!(counter.0.load(Ordering::Relaxed), 5, "the last one alone counts");
    }

    #[test]
    fn what_is_too_long_or_breaks_stays_behind() {
        let retained = Retained::default();
        let _counters = [
            counter(&retained, "a", 13),
            counter(&retained, "b", 1),
            counter(&retained, "c", 2_000_000),
            counter(&retained, "d", 0),
        ];
        assert_eq!(names(&retained.export(&Ahead::default())), ["b"]);
        let greedy = retained.get_or_carried(StableId::new("z", "first"), || Greedy(usize::MAX));
        let kept = retained.export(&Ahead::default());
        assert_eq!(names(&kept), ["first"], "it leaves no room");
        assert_eq!(length(&kept[0].data), TOTAL);
        drop(greedy);
        let _modest = retained.get_or_carried(StableId::new("z", "first"), || Greedy(10));
        assert_eq!(names(&retained.export(&Ahead::default())), ["first", "b"]);
    }

    /// Numbers, of which three go ahead at a time.
    #[derive(Default)]
    struct Numbers(parking_lot::Mutex<std::collections::BTreeMap<u64, bool>>);

    impl Numbers {
        fn add(&self, number: u64) {
            self.0.lock().insert(number, true);
        }

        fn all(&self) -> Vec<u64> {
            self.0.lock().keys().copied().collect()
        }
    }

    impl Carried for Numbers {
        const VERSION: u32 = 1;

        fn export(&self, _room: usize) -> Option<Value> {
            Some(json!(self.all()))
        }

        fn ahead(&self, mark: &mut Mark) -> Option<Value> {
            let mut numbers = self.0.lock();
            if !mark.begun {
                numbers.values_mut().for_each(|is_new| *is_new = false);
            }
            let next: Vec<u64> =
                numbers.keys().copied().filter(|n| u128::from(*n) > mark.after).take(3).collect();
            mark.after = u128::from(*next.last()?);
            Some(json!(next))
        }

        fn rest(&self, _mark: &Mark, _room: usize) -> Option<Value> {
            let new: Vec<u64> =
                self.0.lock().iter().filter(|(_, is_new)| **is_new).map(|(n, _)| *n).collect();
            Some(json!(new))
        }

        fn import(&self, _version: u32, data: Value) -> Result<(), String> {
            let all: Vec<u64> = serde_json::from_value(data).map_err(|error| error.to_string())?;
            all.into_iter().for_each(|number| self.add(number));
            Ok(())
        }
    }

    #[test]
    fn what_is_large_goes_ahead_and_its_changes_afterwards() {
        let (old, new) = (Retained::default(), Retained::default());
        let id = || StableId::new("numbers", "");
        let (before, after) =
            (old.get_or_carried(id(), Numbers::default), new.get_or_carried(id(), Numbers::default));
        let _counter = counter(&old, "a", 7);
        (1..=7).for_each(|number| before.add(number));
        let mut ahead = old.ahead();
        let mut pieces = 0;
        for piece in &mut ahead {
            pieces += 1;
            new.import(vec![piece]);
            // It serves on.
            if pieces <= 2 {
                before.add(100 + pieces);
            }
        }
        assert_eq!(pieces, 3, "three at a time, and what came behind them meanwhile");
        before.add(1);
        before.add(0);
        let rest = old.export(&ahead);
        assert_eq!(rest.iter().map(|kept| kept.kind.as_str()).collect::<Vec<_>>(), ["counter", "numbers"]);
        assert_eq!(rest[1].data, json!([0, 1, 101, 102]));
        new.import(rest);
        assert_eq!(after.all(), before.all());
        assert_eq!(old.export(&Ahead::default())[1].data, json!(before.all()), "all of it, if none has gone");
    }
}
