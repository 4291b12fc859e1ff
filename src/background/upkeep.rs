//! Keeps upstreams up to date: finds their endpoints and probes their health; and caches, which carry
//! out purges and hear what other gateways have purged. What stores are to be connected is told here as well. It holds what outlives
//! configurations and no snapshot; a reload tells it what is wanted now.

use super::{probe, resolve};
use crate::cache::store::Store as Cache;
use crate::outbound::redis;
use crate::runtime::Snapshot;
use crate::telemetry::random;
use crate::upstream::discovery::Discovery;
use crate::upstream::health::{self, Monitor};
use async_trait::async_trait;
use futures_util::future::join_all;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long a start or a reload waits for endpoints that have never been looked for. After it, an
/// upstream without any is served as one: its requests get 503. The keys of issuers have as long.
pub const FIRST_ANSWERS: Duration = Duration::from_secs(3);
/// How often the endpoints that a monitor probes are looked at anew.
const LOOK: Duration = Duration::from_millis(250);

/// What is to be kept.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    discoveries: Vec<Arc<Discovery>>,
    monitors: Vec<Arc<Monitor>>,
    stores: Vec<redis::Keeping>,
    caches: Vec<Arc<Cache>>,
}

impl Kept {
    /// What a snapshot wants.
    pub fn of(snapshot: &Snapshot) -> Self {
        let upstreams = || snapshot.upstreams.iter().map(|(upstream, _)| upstream);
        let mut kept = Self {
            discoveries: upstreams().filter_map(|upstream| upstream.discovery().cloned()).collect(),
            monitors: upstreams().filter_map(|upstream| upstream.monitor().cloned()).collect(),
            stores: snapshot.stores.iter().map(redis::Store::keeping).collect(),
            caches: snapshot.caches.values().map(Arc::clone).collect(),
        };
        // Upstreams may share a source.
        kept.discoveries.sort_by_key(Arc::as_ptr);
        kept.discoveries.dedup_by(|a, b| Arc::ptr_eq(a, b));
        kept
    }

    /// Stores' connections.
    pub fn stores(&self) -> &[redis::Keeping] {
        &self.stores
    }

    /// Waits until each source has been asked, each store was tried and each cache has heard others once, or
    /// for [`FIRST_ANSWERS`].
    pub async fn settled(&self) {
        let found = join_all(self.discoveries.iter().map(|discovery| discovery.settled()));
        let connected = join_all(self.stores.iter().map(redis::Keeping::settled));
        let heard = join_all(self.caches.iter().map(|cache| cache.settled()));
        let all = async { tokio::join!(found, connected, heard) };
        let _ = tokio::time::timeout(FIRST_ANSWERS, all).await;
    }

    fn is_settled(&self) -> bool {
        self.discoveries.iter().all(|discovery| discovery.is_settled())
            && self.stores.iter().all(redis::Keeping::is_settled)
            && self.caches.iter().all(|cache| cache.is_settled())
    }
}

/// Where a reload says what is to be kept.
#[derive(Clone, Debug)]
pub struct Keeper(watch::Sender<Kept>);

impl Keeper {
    /// Begins with what this snapshot wants.
    pub fn new(snapshot: &Snapshot) -> Self {
        Self(watch::Sender::new(Kept::of(snapshot)))
    }

    /// Looks for what a new snapshot needs, besides what is kept, and waits for it on this thread,
    /// which may block. What is never published is forgotten at the next [`Self::keep`].
    pub fn prepare(&self, snapshot: &Snapshot) {
        let wanted = Kept::of(snapshot);
        if wanted.is_settled() {
            return;
        }
        self.0.send_modify(|kept| {
            kept.discoveries.extend(wanted.discoveries.iter().cloned());
            kept.stores.extend(wanted.stores.iter().cloned());
            kept.caches.extend(wanted.caches.iter().cloned());
        });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.block_on(wanted.settled());
        }
    }

    /// Keeps what this snapshot wants, and nothing else.
    pub fn keep(&self, snapshot: &Snapshot) {
        self.0.send_replace(Kept::of(snapshot));
    }

    /// Tells whenever something else is to be kept.
    pub fn subscribe(&self) -> watch::Receiver<Kept> {
        self.0.subscribe()
    }

    /// Waits for the first answers of what is kept now.
    pub async fn settled(&self) {
        let kept = self.0.borrow().clone();
        kept.settled().await;
    }
}

/// The service.
pub struct Upkeep(watch::Receiver<Kept>);

impl Upkeep {
    /// Does what it is told here.
    pub fn new(keeper: &Keeper) -> Self {
        Self(keeper.subscribe())
    }
}

/// A task that ends with its place in a list.
pub(super) struct Task(AbortHandle);

impl Task {
    /// Begins it, on the runtime of whoever calls.
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl BackgroundService for Upkeep {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut wanted = self.0.clone();
        wanted.mark_changed();
        let mut tasks: HashMap<usize, Task> = HashMap::new();
        let probes = Arc::<probe::Prober>::default();
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                changed = wanted.changed() => if changed.is_err() { return },
            }
            let kept = wanted.borrow_and_update().clone();
            let mut next = HashMap::new();
            for discovery in &kept.discoveries {
                let key = Arc::as_ptr(discovery) as usize;
                let task =
                    tasks.remove(&key).unwrap_or_else(|| Task::spawn(resolve::keep(Arc::clone(discovery))));
                next.insert(key, task);
            }
            for monitor in &kept.monitors {
                let key = Arc::as_ptr(monitor) as usize;
                let task = tasks
                    .remove(&key)
                    .unwrap_or_else(|| Task::spawn(watch_over(Arc::clone(monitor), probes.clone())));
                next.insert(key, task);
            }
            for cache in &kept.caches {
                let key = Arc::as_ptr(cache) as usize;
                let task = tasks.remove(&key).unwrap_or_else(|| Task::spawn(Arc::clone(cache).keep()));
                next.insert(key, task);
            }
            tasks = next;
        }
    }
}

/// Probes the endpoints of a monitor, each in its own time, as long as they are there.
async fn watch_over(monitor: Arc<Monitor>, prober: Arc<probe::Prober>) {
    let every = monitor.active.every.get();
    let mut tasks: HashMap<Box<str>, Task> = HashMap::new();
    let mut seen = None;
    loop {
        let generation = Some(monitor.generation());
        let endpoints = if seen == generation { Vec::new() } else { monitor.endpoints() };
        if seen != generation {
            tasks.retain(|label, _| endpoints.iter().any(|endpoint| endpoint.label == *label));
        }
        seen = generation;
        for endpoint in endpoints {
            if tasks.contains_key(&endpoint.label) {
                continue;
            }
            let label = endpoint.label.clone();
            let (monitor, prober) = (Arc::clone(&monitor), Arc::clone(&prober));
            let probing = async move {
                // A reload starts these tasks anew: the time since the last probe counts on.
                let first = endpoint.state.since_probe(Instant::now());
                let spread = every.min(Duration::from_secs(1));
                let micros = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX).max(1);
                let soon = Duration::from_micros(random::next_u64() % micros);
                tokio::time::sleep(first.map_or(soon, |since| every.saturating_sub(since))).await;
                loop {
                    endpoint.state.begin_probe(Instant::now());
                    let failure = prober.probe(&monitor, &endpoint).await.err();
                    monitor.note(&endpoint, failure.as_deref());
                    tokio::time::sleep(health::jittered(every, random::next_u64())).await;
                }
            };
            tasks.insert(label, Task::spawn(probing));
        }
        monitor.judge();
        tokio::time::sleep(LOOK).await;
    }
}
