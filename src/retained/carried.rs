//! State that the next process takes over from this one at an upgrade.
//!
//! A piece of it is written down when this process has stopped accepting, goes over the control socket
//! under its [`StableId`](super::StableId) and a version, and is read before the next process accepts. The
//! next process may be another build with another configuration: what it has no state for, or does not
//! understand, is left. Requests that still run here after the export count here alone.

use super::{Retained, StableId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::any::Any;
use std::cmp::Reverse;
use std::collections::HashMap;
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

    /// Takes over what a process of this or another build wrote; it has at most [`Self::ROOM`] bytes.
    ///
    /// # Errors
    /// Why it cannot, for the log: an unknown version, say. Nothing has changed then.
    fn import(&self, version: u32, data: Value) -> Result<(), String>;
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
type Import = fn(&State, u32, Value) -> Result<(), String>;

/// [`Carried`] of a type that is not known any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    version: u32,
    room: usize,
    first: bool,
    export: Export,
    import: Import,
}

impl Way {
    pub(super) fn of<T: Carried>() -> Self {
        Self {
            version: T::VERSION,
            room: T::ROOM,
            first: T::FIRST,
            export: |state, room| (**state).downcast_ref::<T>().and_then(|state| state.export(room)),
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

    /// Writes down what is carried.
    pub fn export(&self) -> Vec<Kept> {
        let mut all = self.carried();
        all.sort_by(|(a, way_a, _), (b, way_b, _)| (Reverse(way_a.first), a).cmp(&(Reverse(way_b.first), b)));
        let (mut kept, mut left) = (Vec::new(), TOTAL);
        for (id, way, state) in all {
            let room = way.room.min(left);
            // A part that breaks must not take the upgrade, or this process, with it.
            let exported = catch_unwind(AssertUnwindSafe(|| (way.export)(&state, room)));
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
            let StableId { tenant, kind, name } = id;
            let (tenant, kind, name) = (tenant.into(), kind.to_owned(), name.into());
            kept.push(Kept { tenant, kind, name, version: way.version, data });
        }
        kept
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
        let kept = old.export();
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
        assert_eq!(names(&retained.export()), ["b"]);
        let greedy = retained.get_or_carried(StableId::new("z", "first"), || Greedy(usize::MAX));
        let kept = retained.export();
        assert_eq!(names(&kept), ["first"], "it leaves no room");
        assert_eq!(length(&kept[0].data), TOTAL);
        drop(greedy);
        let _modest = retained.get_or_carried(StableId::new("z", "first"), || Greedy(10));
        assert_eq!(names(&retained.export()), ["first", "b"]);
    }
}
