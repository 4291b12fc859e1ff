//! The configuration in force.

use super::Snapshot;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The one place where the configuration in force is held. It is swapped in whole; a request
/// takes it once, when it begins, and ends on what it began with.
pub struct Current(ArcSwap<Snapshot>);

impl Current {
    /// Begins with this one.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(ArcSwap::new(snapshot))
    }

    /// The snapshot in force, for one request.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts another one in force. Requests that have begun keep the one before.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(snapshot);
    }
}
