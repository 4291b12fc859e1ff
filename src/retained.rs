//! State that outlives a configuration, found again by a stable id after a reload.

mod carried;

pub use carried::{Ahead, Carried, Kept, Mark};

use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// What a piece of state belongs to: the tenant, the kind of thing, and its name.
///
/// A changed parameter keeps the id and so the state; what makes it another thing (an endpoint's
/// address, a limit's key source) is part of the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StableId {
    tenant: Box<str>,
    kind: &'static str,
    name: Box<str>,
}

impl StableId {
    /// An id of the tenant `default`, which everything belongs to that names none.
    pub fn new(kind: &'static str, name: impl fmt::Display) -> Self {
        Self { tenant: "default".into(), kind, name: name.to_string().into() }
    }
}

/// State that outlives a configuration. It is held by the snapshots that use it, and goes with
/// the last of them; here are only the ways to find it again.
#[derive(Debug, Default)]
pub struct Retained {
    known: Mutex<HashMap<(TypeId, StableId), Entry>>,
}

/// A way to find state again.
#[derive(Debug)]
struct Entry {
    state: Weak<dyn Any + Send + Sync>,
    /// How it goes to the next process, if it does.
    way: Option<carried::Way>,
}

impl Retained {
    /// The state under this id: what an older snapshot still holds, or what `make` makes.
    pub fn get_or<T: Any + Send + Sync>(&self, id: StableId, make: impl FnOnce() -> T) -> Arc<T> {
        self.get_or_with(id, None, make)
    }

    fn get_or_with<T: Any + Send + Sync>(
        &self,
        id: StableId,
        way: Option<carried::Way>,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let mut known = self.known.lock();
        let key = (TypeId::of::<T>(), id);
        let alive = known.get(&key).and_then(|entry| entry.state.upgrade());
        alive.and_then(|any| any.downcast::<T>().ok()).unwrap_or_else(|| {
            let fresh = Arc::new(make());
            let state: Weak<T> = Arc::downgrade(&fresh);
            known.insert(key, Entry { state, way });
            fresh
        })
    }

    /// The state under this id, if a snapshot holds it.
    pub fn get<T: Any + Send + Sync>(&self, id: StableId) -> Option<Arc<T>> {
        let known = self.known.lock();
        let entry = known.get(&(TypeId::of::<T>(), id))?;
        entry.state.upgrade()?.downcast().ok()
    }

    /// Forgets the ids of what is gone. Called after a snapshot was replaced.
    pub fn sweep(&self) {
        self.known.lock().retain(|_, entry| entry.state.strong_count() > 0);
    }

    /// How many ids are known, those of what is gone included until the next [`Self::sweep`].
    pub fn len(&self) -> usize {
        self.known.lock().len()
    }

    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn state_lives_as_long_as_its_users() {
        let retained = Retained::default();
        let id = || StableId::new("counter", "a");
        let first = retained.get_or(id(), || AtomicU32::new(1));
        first.store(7, Ordering::Relaxed);
        assert_eq!(retained.get_or(id(), || AtomicU32::new(1)).load(Ordering::Relaxed), 7);
        drop(first);
        assert!(retained.get::<AtomicU32>(id()).is_none());
        assert_eq!(retained.get_or(id(), || AtomicU32::new(1)).load(Ordering::Relaxed), 1);
        retained.sweep();
        assert!(retained.is_empty());
    }

    #[test]
    fn types_do_not_meet() {
        let retained = Retained::default();
        let _a = retained.get_or(StableId::new("x", "a"), || 1_u32);
        assert_eq!(*retained.get_or(StableId::new("x", "a"), || 2_u64), 2);
    }
}
