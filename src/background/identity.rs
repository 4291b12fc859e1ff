//! What identities need done beside requests: keys to be fetched, tokens to be renewed.

use crate::identity::Upkeep;
use crate::runtime::Current;
use async_trait::async_trait;
use futures_util::future::join_all;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Does what the configuration in force asks for, and goes on over a reload with what it still asks
/// for in the same way.
pub struct IdentityUpkeep {
    current: Arc<Current>,
}

impl IdentityUpkeep {
    /// Does what this configuration in force asks for.
    pub fn new(current: Arc<Current>) -> Self {
        Self { current }
    }
}

/// Waits, for at most `time`, until requests find what they need of identities, such as the keys of an
/// issuer that is there.
pub async fn settled(current: &Current, time: Duration) {
    let upkeep = current.load().identity.upkeep().to_vec();
    let all = join_all(upkeep.iter().map(Upkeep::ready));
    if tokio::time::timeout(time, all).await.is_err() {
        log::warn!("not all keys of issuers are known yet; tokens wait for them");
    }
}

/// A piece of work that is under way.
struct Running {
    settings: String,
    task: tokio::task::AbortHandle,
}

#[async_trait]
impl BackgroundService for IdentityUpkeep {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut published = self.current.published();
        let mut tasks = JoinSet::new();
        let mut running: HashMap<String, Running> = HashMap::new();
        loop {
            published.mark_unchanged();
            self.adjust(&mut running, &mut tasks);
            tokio::select! {
                _ = shutdown.changed() => return,
                changed = published.changed() => if changed.is_err() { return },
                // Work does not end by itself: what did broke off, and is begun again.
                Some(ended) = tasks.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        log::error!("work for identities broke off");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    running.retain(|_, one| !one.task.is_finished());
                }
            }
        }
    }
}

impl IdentityUpkeep {
    /// Ends what is not asked for any more, begins what is new. No snapshot is held on the way.
    fn adjust(&self, running: &mut HashMap<String, Running>, tasks: &mut JoinSet<()>) {
        let identity = Arc::clone(&self.current.load().identity);
        running.retain(|id, one| {
            let stays =
                identity.upkeep().iter().any(|work| work.id() == id && work.settings() == one.settings);
            if !stays {
                one.task.abort();
            }
            stays
        });
        for work in identity.upkeep() {
            if !running.contains_key(work.id()) {
                let task = tasks.spawn(work.run());
                running.insert(work.id().to_owned(), Running { settings: work.settings().to_owned(), task });
            }
        }
    }
}
