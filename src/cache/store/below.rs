//! The disk tier under a store: what the memory has lost, or never had in this process.

use super::body::Follower;
use super::object::{Body, Object};
use super::{Found, Store};
use crate::cache::disk::index::Bounds;
use crate::cache::disk::{Disk, Hit};
use crate::cache::rules::key::Key;
use http::HeaderMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// So many keys are looked for on disk at once, more or less.
pub(super) const LOOKING: usize = 256;

/// How long a request waits for another one that looks for the same: a disk that is slow holds nobody up.
const PATIENCE: Duration = Duration::from_millis(250);

/// What is larger than this part of the memory is served from disk each time.
const LARGEST_PART: u64 = 16;

/// What the disk has for a request.
#[derive(Debug)]
pub struct Below {
    /// The answer.
    pub object: Arc<Object>,
    /// Whether it is stale whatever its age.
    pub aged: bool,
    /// The request's place in the body, if that is on its way.
    pub place: Option<Follower>,
}

impl Store {
    /// Puts a disk tier under it, takes it away, or changes how much it may hold. Blocks, briefly.
    ///
    /// # Errors
    /// The folder cannot be made or written to; then all stays as it is.
    pub fn set_disk(&self, disk: Option<(&Path, Bounds)>) -> io::Result<()> {
        let Some((root, bounds)) = disk else {
            self.disk.store(None);
            return Ok(());
        };
        if let Some(known) = self.disk.load().as_ref().filter(|known| known.root() == root) {
            known.set_bounds(bounds);
            return Ok(());
        }
        let purges = Arc::downgrade(&self.purges);
        let heard = Box::new(move |purge: &super::purge::Purge| {
            if let Some(purges) = purges.upgrade() {
                purges.remember(purge);
            }
        });
        let shared = (Arc::clone(self.purges.clock()), Arc::clone(&self.urls));
        let disk = Disk::open(root, bounds, shared, heard)?;
        self.disk.store(Some(disk));
        Ok(())
    }

    fn has_newer(&self, key: &Key, object: &Object) -> bool {
        let is_newer = |known: &Arc<Object>| known.variant == object.variant && known.born > object.born;
        if self.disk.load().as_ref().is_some_and(|disk| disk.has_newer(key, object)) {
            return true;
        }
        self.entries.peek(key.as_str()).is_some_and(|entry| entry.variants.iter().any(is_newer))
    }

    /// The disk tier, if there is one.
    pub fn disk(&self) -> Option<Arc<Disk>> {
        self.disk.load_full()
    }

    /// The answer on disk for a request that finds none in memory. What is small is in memory afterwards.
    pub async fn find_below(
        self: &Arc<Self>,
        key: &Arc<Key>,
        request: &HeaderMap,
        now: Duration,
    ) -> Option<Below> {
        let disk = self.disk.load_full()?;
        if !disk.may_have(key.as_str()) {
            return None;
        }
        // Its file may have to leave while it comes up.
        let mark = self.mark(key);
        let at = self.hasher.hash_one(key.as_str()) as usize % LOOKING;
        let in_turn = tokio::time::timeout(PATIENCE, self.looking.get(at)?.lock()).await;
        let Ok(_in_turn) = in_turn else {
            disk.counts.passed_over.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if let Found::Object { object, aged } = self.find(key.as_str(), request) {
            return Some(Below { object, aged, place: None });
        }
        let largest = self.capacity.load(Ordering::Relaxed) / LARGEST_PART;
        let hit = disk.find((key.as_str(), request), now, (largest, &self.flights.budget)).await?;
        let is_aged = |object: &Object| object.aged.load(Ordering::Acquire);
        match hit {
            Hit::Whole(object) => {
                self.put_up(key, Arc::clone(&object), now);
                Some(Below { aged: is_aged(&object), object, place: None })
            }
            Hit::Coming(object, pump) => {
                let Body::Filling(filling) = &object.body else { return None };
                // Before anything of it can go by.
                let place = filling.follow();
                let (store, key) = (Arc::clone(self), Arc::clone(key));
                tokio::spawn(async move {
                    // It may have been asked about meanwhile, and be fresher in memory.
                    if let Some(object) = pump.run().await.filter(|object| !store.has_newer(&key, object)) {
                        store.put_up(&key, object, now);
                    }
                    drop(mark);
                });
                Some(Below { aged: is_aged(&object), object, place })
            }
        }
    }
}
