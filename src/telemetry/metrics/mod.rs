//! Metrics for Prometheus.
//!
//! A request counts on handles that its snapshot holds ([`RouteMetrics`], [`UpstreamMetrics`],
//! [`ListenerMetrics`]), each worker on values of its own; a scrape sums them. The registry here
//! knows the handles weakly: a route's series go when the last snapshot that has the route goes, and
//! go on counting when the next snapshot asks for the same route while the last one lives.

mod auth;
mod collect;
mod handles;
mod limits;
mod process;
mod sharded;
mod table;
#[cfg(test)]
mod tests;

pub use auth::AuthMetrics;
pub use handles::{
    Answer, CacheOutcome, Hedged, InFlight, ListenerMetrics, RouteMetrics, StatusClass, Substitute,
    UpstreamMetrics,
};
pub use limits::LimitMetrics;

use crate::values::ListenerId;
use handles::Shape;
use parking_lot::Mutex;
use prometheus::{Encoder, Registry, TextEncoder};
use sharded::Coded;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The content type of [`Metrics::scrape`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The label of a request without a route or an upstream. No name begins with `_`.
const NONE: &str = "_none";
/// The label of what is beyond `max_routes`.
const OTHER: &str = "_other";

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// How many routes, and how many upstreams, have a label of their own in one snapshot.
    pub max_routes: usize,
    /// Upper bounds of the duration histograms, ascending, in whole microseconds.
    pub buckets: Vec<Duration>,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        let bounds = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000];
        Self { max_routes: 1000, buckets: bounds.map(Duration::from_millis).to_vec() }
    }
}

/// What came of a configuration that was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// It is in force.
    Applied,
    /// It has problems; the one before stays.
    Rejected,
    /// It means what the one before meant.
    Unchanged,
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// The listener's name.
    pub listener: String,
    /// What the configuration calls the certificate, such as its path.
    pub certificate: String,
    /// Its `notAfter`, in seconds since 1970.
    pub not_after: i64,
}

/// What a listener knows of its connections. Causes are words of the code's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Open now.
    pub open: u64,
    /// Refused, by cause.
    pub refused: Vec<(&'static str, u64)>,
    /// TLS handshakes that failed, by cause.
    pub handshakes_failed: Vec<(&'static str, u64)>,
    /// Times that the kernel had none to give: no file descriptors, no memory.
    pub accept_errors: u64,
}

/// The connections of a listener, asked at each scrape; `None` if it is not known.
pub type ConnectionsOf = dyn Fn(ListenerId) -> Option<Connections> + Send + Sync;

/// The endpoints of an upstream, or of several that share a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointCount {
    /// Those that could get requests.
    pub endpoints: usize,
    /// Those of them that are healthy.
    pub healthy: usize,
    /// How often they could not be looked for, where they are found.
    pub failures: Option<u64>,
    /// Those that are left out because their requests failed.
    pub ejected: usize,
    /// Of an upstream with limits: in flight, waiting, how many there may be, and how many were shed.
    pub room: Option<(usize, usize, usize, u64)>,
    /// Whether a breaker is open, and how often one opened, where there is one.
    pub breaker: Option<(bool, u64)>,
    /// How many endpoints have an open breaker, and how often one opened, where they have one each.
    pub breakers: Option<(usize, u64)>,
}

/// The keys that limits remember.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitKeys {
    /// Keys with something to remember.
    pub keys: usize,
    /// The memory of their table, in bytes.
    pub bytes: usize,
    /// How many were forgotten for lack of room.
    pub forgotten: u64,
}

/// How many requests are in flight by what bounds them, asked at each scrape; `None` if nothing does.
/// Asked how hard it is for the gateway itself: the level, and the delay of the workers in seconds.
pub type PressureOf = dyn Fn() -> (u8, f64) + Send + Sync;
/// Asked for the requests in flight that something bounds.
pub type BoundedOf = dyn Fn() -> Option<usize> + Send + Sync;

/// What quotas remember, asked at each scrape; `None` if there are no quotas.
pub type QuotaKeysOf = dyn Fn() -> Option<QuotaKeys> + Send + Sync;

/// What quotas remember, and whether it is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaKeys {
    /// The keys, their memory in bytes, and those that were forgotten.
    pub keys: LimitKeys,
    /// When it was written last, in seconds since 1970.
    pub saved_at: u64,
    /// How often it could not be written.
    pub failures: u64,
}

/// The keys that limits remember, asked at each scrape; `None` if there are no limits.
pub type LimitKeysOf = dyn Fn() -> Option<LimitKeys> + Send + Sync;

/// The endpoints of all upstreams by label, asked at each scrape.
pub type EndpointsOf = dyn Fn() -> BTreeMap<String, EndpointCount> + Send + Sync;

/// What counts a snapshot as living until it is dropped.
#[derive(Debug)]
pub struct SnapshotGuard(#[expect(dead_code, reason = "its references are what is counted")] Arc<()>);

/// How a store is, and what became of calls to it. Outcomes are words of the code's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCount {
    /// Whether there is a connection.
    pub connected: bool,
    /// How often there was none to be had.
    pub connect_failures: u64,
    /// Calls by outcome.
    pub calls: Vec<(&'static str, u64)>,
}

/// The stores by name, asked at each scrape.
pub type StoresOf = dyn Fn() -> BTreeMap<String, StoreCount> + Send + Sync;

/// What a cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCount {
    /// The memory of its answers.
    pub bytes: u64,
    /// Keys with answers.
    pub keys: u64,
    /// Answers that it took in.
    pub stored: u64,
    /// Keys that had to leave.
    pub evicted: u64,
    /// Fetches under way.
    pub fetches: u64,
    /// What it holds on disk, if it has a tier there.
    pub disk: Option<CacheDiskCount>,
    /// How purges are passed on, if they are.
    pub sharing: Option<CacheSharingCount>,
}

/// How a cache passes purges on to other gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheSharingCount {
    /// Others are heard.
    pub is_connected: bool,
    /// Purges that wait to be passed on.
    pub waiting: u64,
    /// What happened, by its label.
    pub events: [(&'static str, u64); 3],
}

/// What a cache holds on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheDiskCount {
    /// Bytes of its files, in whole blocks.
    pub bytes: u64,
    /// Its files.
    pub objects: u64,
    /// It does not work at the moment.
    pub is_ill: bool,
    /// What happened, by its label.
    pub events: [(&'static str, u64); 6],
}

/// The caches by name, asked at each scrape.
pub type CachesOf = dyn Fn() -> BTreeMap<String, CacheCount> + Send + Sync;

/// How many revocations there are, asked at each scrape.
pub type RevocationsOf = dyn Fn() -> usize + Send + Sync;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    state: Arc<State>,
}

/// What is shared with the collector.
struct State {
    routes: Mutex<Routes>,
    upstreams: Mutex<HashMap<Arc<str>, Weak<UpstreamMetrics>>>,
    listeners: Mutex<HashMap<ListenerId, Weak<ListenerMetrics>>>,
    unrouted: Mutex<Arc<RouteMetrics>>,
    other_route: Mutex<Arc<RouteMetrics>>,
    other_upstream: Arc<UpstreamMetrics>,
    next_upstream: AtomicU64,
    auth: Mutex<HashMap<auth::Key, Weak<AuthMetrics>>>,
    limits: Mutex<HashMap<limits::Key, Weak<LimitMetrics>>>,
    other_limit: Arc<LimitMetrics>,
    limit_keys: Mutex<Option<Box<LimitKeysOf>>>,
    quota_keys: Mutex<Option<Box<QuotaKeysOf>>>,
    bounded: Mutex<Option<Box<BoundedOf>>>,
    pressure: Mutex<Option<Box<PressureOf>>>,
    rejections: Coded,
    denials: Coded,
    reloads: [AtomicU64; 3],
    certificates: Mutex<Vec<CertificateExpiry>>,
    connections: Mutex<Option<Box<ConnectionsOf>>>,
    endpoints: Mutex<Option<Box<EndpointsOf>>>,
    stores: Mutex<Option<Box<StoresOf>>>,
    caches: Mutex<Option<Box<CachesOf>>>,
    revocations: Mutex<Option<Box<RevocationsOf>>>,
    access_log_dropped: Arc<AtomicU64>,
    body_memory: Arc<AtomicU64>,
    snapshots: Arc<()>,
    process: process::Process,
}

struct Routes {
    max: usize,
    shape: Arc<Shape>,
    living: HashMap<Arc<str>, Weak<RouteMetrics>>,
}

impl Metrics {
    /// Metrics at zero, for so many worker threads. More threads may count, only slower.
    pub fn new(settings: &MetricsSettings, workers: usize) -> Arc<Self> {
        let shards = workers.clamp(1, 256).next_power_of_two();
        let shape = shape(settings, shards);
        let state = Arc::new(State {
            unrouted: Mutex::new(Arc::new(RouteMetrics::new(NONE, shape.clone()))),
            other_route: Mutex::new(Arc::new(RouteMetrics::new(OTHER, shape.clone()))),
            routes: Mutex::new(Routes { max: settings.max_routes, shape, living: HashMap::new() }),
            upstreams: Mutex::default(),
            listeners: Mutex::default(),
            other_upstream: Arc::new(UpstreamMetrics::new(OTHER, 1, shards)),
            next_upstream: AtomicU64::new(2),
            auth: Mutex::default(),
            limits: Mutex::default(),
            other_limit: Arc::new(LimitMetrics::new((OTHER.into(), OTHER.into()), shards)),
            limit_keys: Mutex::default(),
            quota_keys: Mutex::default(),
            bounded: Mutex::default(),
            pressure: Mutex::default(),
            rejections: Coded::new(shards),
            denials: Coded::new(shards),
            reloads: Default::default(),
            certificates: Mutex::default(),
            connections: Mutex::default(),
            endpoints: Mutex::default(),
            stores: Mutex::default(),
            caches: Mutex::default(),
            revocations: Mutex::default(),
            access_log_dropped: Arc::default(),
            body_memory: Arc::default(),
            snapshots: Arc::default(),
            process: process::Process::new(),
        });
        let registry = Registry::new();
        // It fails for a name that is not one or stands twice: a test of the table, not of this place.
        if let Err(error) = registry.register(Box::new(collect::Collected::new(state.clone()))) {
            log::error!("metrics are not exported: {error}");
        }
        Arc::new(Self { registry, state })
    }

    /// Sets anew. Other buckets begin with the next snapshot, with all histograms and counters of
    /// routes at zero.
    pub fn configure(&self, settings: &MetricsSettings) {
        let mut routes = self.state.routes.lock();
        routes.max = settings.max_routes;
        let shape = shape(settings, routes.shape.shards);
        if shape.bounds == routes.shape.bounds {
            return;
        }
        *self.state.unrouted.lock() = Arc::new(RouteMetrics::new(NONE, shape.clone()));
        *self.state.other_route.lock() = Arc::new(RouteMetrics::new(OTHER, shape.clone()));
        routes.shape = shape;
    }

    /// The handles of all routes of a snapshot, in the order of their names.
    ///
    /// A route that an older snapshot still has keeps its counters, and its label before others get
    /// one: beyond `max_routes` all share `_other`.
    pub fn routes<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<Arc<RouteMetrics>> {
        let mut routes = self.state.routes.lock();
        let Routes { max, shape, living } = &mut *routes;
        let shape = &*shape;
        let other = self.state.other_route.lock().clone();
        let handles = admit(living, names, *max, &other, |old, name| {
            old.filter(|old| Arc::ptr_eq(&old.shape, shape))
                .unwrap_or_else(|| Arc::new(RouteMetrics::new(name, shape.clone())))
        });
        let listeners = self.state.listeners.lock();
        let lives = |id| listeners.get(&id).is_some_and(|listener| listener.strong_count() > 0);
        let living = living.values().filter_map(Weak::upgrade);
        living.chain([other, self.state.unrouted.lock().clone()]).for_each(|route| route.prune(lives));
        handles
    }

    /// The handle of requests without a route, labelled `_none`.
    pub fn unrouted(&self) -> Arc<RouteMetrics> {
        self.state.unrouted.lock().clone()
    }

    /// The handles of all upstreams of a snapshot, in the order of their names, as [`Self::routes`].
    pub fn upstreams<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<Arc<UpstreamMetrics>> {
        let (max, shards) = {
            let routes = self.state.routes.lock();
            (routes.max, routes.shape.shards)
        };
        let mut living = self.state.upstreams.lock();
        admit(&mut living, names, max, &self.state.other_upstream, |old, name| {
            old.unwrap_or_else(|| {
                let number = self.state.next_upstream.fetch_add(1, Ordering::Relaxed);
                Arc::new(UpstreamMetrics::new(name, number, shards))
            })
        })
    }

    /// The handle of a listener; the same one as long as it lives.
    pub fn listener(&self, id: ListenerId, name: &str) -> Arc<ListenerMetrics> {
        let shards = self.state.routes.lock().shape.shards;
        let mut listeners = self.state.listeners.lock();
        listeners.retain(|_, listener| listener.strong_count() > 0);
        if let Some(listener) = listeners.get(&id).and_then(Weak::upgrade) {
            return listener;
        }
        let listener = Arc::new(ListenerMetrics::new(name, shards));
        listeners.insert(id, Arc::downgrade(&listener));
        listener
    }

    /// What a way to authenticate counts on; the same one as long as it lives. Methods are constants,
    /// and providers are named by the configuration.
    pub fn authentication(&self, method: &'static str, provider: Option<&str>) -> Arc<AuthMetrics> {
        let shards = self.state.routes.lock().shape.shards;
        let key: auth::Key = (method, provider.unwrap_or(NONE).into());
        let mut living = self.state.auth.lock();
        living.retain(|_, metrics| metrics.strong_count() > 0);
        if let Some(metrics) = living.get(&key).and_then(Weak::upgrade) {
            return metrics;
        }
        let metrics = Arc::new(AuthMetrics::new(key.clone(), shards));
        living.insert(key, Arc::downgrade(&metrics));
        metrics
    }

    /// What a limit counts on, by where it stands and its name, which the configuration gives; the same one
    /// as long as it lives. Beyond `max_routes` all share `_other`.
    pub fn limit(&self, place: &str, name: &str) -> Arc<LimitMetrics> {
        let (max, shards) = {
            let routes = self.state.routes.lock();
            (routes.max, routes.shape.shards)
        };
        let key: limits::Key = (place.into(), name.into());
        let mut living = self.state.limits.lock();
        if let Some(metrics) = living.get(&key).and_then(Weak::upgrade) {
            return metrics;
        }
        living.retain(|_, metrics| metrics.strong_count() > 0);
        if living.len() >= max {
            return Arc::clone(&self.state.other_limit);
        }
        let metrics = Arc::new(LimitMetrics::new(key.clone(), shards));
        living.insert(key, Arc::downgrade(&metrics));
        metrics
    }

    /// Says who knows how hard it is for the gateway itself. It is asked at each scrape.
    pub fn set_pressure_source(&self, pressure: Box<PressureOf>) {
        *self.state.pressure.lock() = Some(pressure);
    }

    /// Says who knows the requests in flight that something bounds. It is asked at each scrape.
    pub fn set_bounded_source(&self, bounded: Box<BoundedOf>) {
        *self.state.bounded.lock() = Some(bounded);
    }

    /// Says who knows the keys of limits. It is asked at each scrape.
    pub fn set_limit_keys_source(&self, keys: Box<LimitKeysOf>) {
        *self.state.limit_keys.lock() = Some(keys);
    }

    /// Says who knows the keys of quotas. It is asked at each scrape.
    pub fn set_quota_keys_source(&self, keys: Box<QuotaKeysOf>) {
        *self.state.quota_keys.lock() = Some(keys);
    }

    /// Counts a caller that may not do what it asked for, by the cause.
    pub fn denied(&self, cause: &'static str) {
        self.state.denials.count(cause);
    }

    /// Counts a refusal by the code of its [`Rejection`](crate::rejection::Rejection).
    pub fn rejected(&self, code: &'static str) {
        self.state.rejections.count(code);
    }

    /// Counts a reload.
    pub fn reloaded(&self, outcome: ReloadOutcome) {
        self.state.reloads[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Says anew when the certificates of all listeners end.
    pub fn set_certificates(&self, certificates: Vec<CertificateExpiry>) {
        *self.state.certificates.lock() = certificates;
    }

    /// Says who knows the endpoints of upstreams. It is asked at each scrape.
    pub fn set_endpoints_source(&self, endpoints: Box<EndpointsOf>) {
        *self.state.endpoints.lock() = Some(endpoints);
    }

    /// Says who knows the stores. It is asked at each scrape.
    pub fn set_stores_source(&self, stores: Box<StoresOf>) {
        *self.state.stores.lock() = Some(stores);
    }

    /// Says who knows the caches. It is asked at each scrape.
    pub fn set_caches_source(&self, caches: Box<CachesOf>) {
        *self.state.caches.lock() = Some(caches);
    }

    /// Says who knows what is revoked. It is asked at each scrape.
    pub fn set_revocations_source(&self, revocations: Box<RevocationsOf>) {
        *self.state.revocations.lock() = Some(revocations);
    }

    /// Says who knows about the connections of a listener. It is asked at each scrape and may lock.
    pub fn set_connections_source(&self, connections: Box<ConnectionsOf>) {
        *self.state.connections.lock() = Some(connections);
    }

    /// The counter that access logs count their dropped lines on.
    pub fn access_log_dropped(&self) -> Arc<AtomicU64> {
        self.state.access_log_dropped.clone()
    }

    /// The memory of held request bodies, in bytes, for who holds them.
    pub fn body_memory(&self) -> Arc<AtomicU64> {
        self.state.body_memory.clone()
    }

    /// Counts a snapshot, for as long as it has this.
    pub fn snapshot(&self) -> SnapshotGuard {
        SnapshotGuard(Arc::clone(&self.state.snapshots))
    }

    /// All metrics in Prometheus' text format 0.0.4.
    pub fn scrape(&self) -> String {
        let mut text = Vec::with_capacity(16 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!("metrics cannot be written: {error}");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Finds or makes a handle for each name: those that live first, then new ones up to `max`.
fn admit<'a, T>(
    living: &mut HashMap<Arc<str>, Weak<T>>,
    names: impl IntoIterator<Item = &'a str>,
    max: usize,
    other: &Arc<T>,
    make: impl Fn(Option<Arc<T>>, &str) -> Arc<T>,
) -> Vec<Arc<T>> {
    let mut admitted = 0;
    let found: Vec<(&str, Option<Arc<T>>)> = names
        .into_iter()
        .map(|name| {
            let old = living.get(name).and_then(Weak::upgrade).filter(|_| admitted < max);
            admitted += usize::from(old.is_some());
            (name, old)
        })
        .collect();
    living.retain(|_, handle| handle.strong_count() > 0);
    found
        .into_iter()
        .map(|(name, old)| {
            if old.is_none() && admitted >= max {
                return other.clone();
            }
            admitted += usize::from(old.is_none());
            let handle = make(old, name);
            living.insert(name.into(), Arc::downgrade(&handle));
            handle
        })
        .collect()
}

fn shape(settings: &MetricsSettings, shards: usize) -> Arc<Shape> {
    let micros = |bound: &Duration| u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
    Arc::new(Shape { bounds: settings.buckets.iter().map(micros).collect(), shards })
}
