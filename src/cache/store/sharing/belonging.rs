//! How a store belongs to a sharing: set by the configuration, kept beside requests.

use super::{PATIENCE, Place, Sharing};
use crate::cache::store::Store;
use crate::cache::store::purge::Purge;
use crate::outbound::redis;
use std::sync::Arc;

/// A purge on its way to the other gateways.
#[derive(Debug)]
pub struct PassedOn(Option<(Arc<Sharing>, u64)>);

impl PassedOn {
    /// Waits until they can hear of it, for a second at most. False if they cannot yet: it is tried again
    /// until they can.
    pub async fn done(self) -> bool {
        let Some((sharing, number)) = self.0 else { return true };
        let mut told = sharing.told.subscribe();
        let told = told.wait_for(|told| *told >= number);
        sharing.redis.is_connected() && matches!(tokio::time::timeout(PATIENCE, told).await, Ok(Ok(_)))
    }
}

impl Store {
    /// Passes purges on to other gateways by this store, and takes in theirs, or no longer. Called after
    /// [`Self::set_disk`], where its place is.
    pub fn set_sharing(&self, cache: &str, redis: Option<&redis::Store>) {
        let disk = self.disk();
        let folder = disk.as_ref().map(|disk| disk.root().to_owned());
        self.sharing.send_if_modified(|current| {
            let Some(redis) = redis else { return current.take().is_some() };
            if current.as_ref().is_some_and(|known| known.is_for(redis, folder.as_ref())) {
                return false;
            }
            let heard = disk.and_then(|disk| disk.heard());
            let heard = heard.map(|text| Place::parse(&text).unwrap_or(Place::NOWHERE));
            let place = heard.or_else(|| *current.as_ref()?.place.lock());
            let next = Sharing::new(cache, redis, (folder, place));
            if let Some(before) = current {
                let untold = std::mem::take(&mut before.outbox.lock().waiting);
                for (_, purge) in &untold {
                    next.pass_on(purge);
                }
            }
            *current = Some(Arc::new(next));
            true
        });
    }

    /// Does what there is to do for it, until it is dropped.
    pub(in crate::cache::store) async fn keep_sharing(&self) {
        let mut current = self.sharing.subscribe();
        loop {
            let sharing = current.borrow_and_update().clone();
            let run = async {
                match &sharing {
                    Some(sharing) => sharing.run(self).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = run => {}
                // Its sender is in `self`.
                _ = current.changed() => {}
            }
        }
    }

    /// How purges are passed on, if they are.
    pub fn sharing(&self) -> Option<Arc<Sharing>> {
        self.sharing.borrow().clone()
    }

    /// True once it was tried to hear what others have purged, or if nobody is to be heard.
    pub fn is_settled(&self) -> bool {
        self.sharing().is_none_or(|sharing| *sharing.settled.borrow())
    }

    /// Waits for that.
    pub async fn settled(&self) {
        if let Some(sharing) = self.sharing() {
            // Its sender is in `sharing`.
            let _ = sharing.settled.subscribe().wait_for(|settled| *settled).await;
        }
    }

    /// Passes a purge on to other gateways, where that is configured.
    pub fn pass_on(&self, purge: &Purge) -> PassedOn {
        PassedOn(self.sharing().map(|sharing| {
            let number = sharing.pass_on(purge);
            (sharing, number)
        }))
    }
}
