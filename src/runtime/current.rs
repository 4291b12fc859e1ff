//! The configuration in force.

use super::Snapshot;
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::watch;

/// The one place where the configuration in force is held. It is swapped in whole; a request
/// takes it once, when it begins, and ends on what it began with.
pub struct Current {
    snapshot: ArcSwap<Snapshot>,
    published: watch::Sender<()>,
}

impl Current {
    /// Begins with this one.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot: ArcSwap::new(snapshot), published: watch::Sender::default() }
    }

    /// The snapshot in force, for one request.
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts another one in force. Requests that have begun keep the one before.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
        self.published.send_replace(());
    }

    /// Tells whenever another one is in force.
    pub fn published(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }
}
