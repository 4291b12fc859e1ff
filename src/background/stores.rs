//! Keeps the connections to stores. It has a thread of its own: their deadlines are a few
//! milliseconds, and other work beside requests may take longer.

use super::upkeep::{Keeper, Kept, Task};
use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::collections::HashMap;
use tokio::sync::watch;

/// The service.
pub struct StoreUpkeep(watch::Receiver<Kept>);

impl StoreUpkeep {
    /// Keeps what it is told here.
    pub fn new(keeper: &Keeper) -> Self {
        Self(keeper.subscribe())
    }
}

#[async_trait]
impl BackgroundService for StoreUpkeep {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut wanted = self.0.clone();
        wanted.mark_changed();
        let mut tasks: HashMap<usize, Task> = HashMap::new();
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                changed = wanted.changed() => if changed.is_err() { return },
            }
            let stores = wanted.borrow_and_update().stores().to_vec();
            tasks.retain(|id, _| stores.iter().any(|store| store.id() == *id));
            for store in stores {
                tasks.entry(store.id()).or_insert_with(|| Task::spawn(store.keep()));
            }
        }
    }
}
