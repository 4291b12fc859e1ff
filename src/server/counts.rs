//! What a scrape asks of the rooms: it counts nothing itself.

use crate::background::quotas::QuotaKeeper;
use crate::background::reload::InForce;
use crate::cache::store::Store;
use crate::cache::store::sharing::SharingCount;
use crate::listen::{Counters, HandshakeFailure, Refusal};
use crate::outbound::redis;
use crate::policy::quota;
use crate::policy::rate_limit::Leases;
use crate::policy::shared::gcra;
use crate::policy::shared::in_flight::InFlight;
use crate::retained::Retained;
use crate::runtime::pressure::Pressure;
use crate::telemetry::metrics::{
    CacheCount, CacheDiskCount, CacheSharingCount, Connections, EndpointCount, LimitKeys, QuotaKeys,
    StoreCount,
};
use crate::upstream::breaker;
use crate::values::ListenerId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Lets a scrape ask about the connections of a listener.
pub(super) fn connections(in_force: &InForce) {
    let listeners = in_force.listeners.clone();
    let current = Arc::clone(&in_force.current);
    in_force.metrics.set_connections_source(Box::new(move |id: ListenerId| {
        let snapshot = current.load();
        let name = &snapshot.listener(id)?.name;
        let counters = listeners.counters();
        counters.iter().find(|(known, _)| known == name).map(|(_, counters)| of_listener(counters))
    }));
}

/// Lets a scrape ask how many keys limits remember, and how many requests in flight are bounded.
pub(super) fn limits(in_force: &InForce, retained: &Arc<Retained>) {
    let bounded = Arc::clone(retained);
    in_force.metrics.set_bounded_source(Box::new(move || Some(InFlight::of(&bounded)?.permits())));
    let retained = Arc::clone(retained);
    in_force.metrics.set_limit_keys_source(Box::new(move || {
        let store = gcra::Store::of(&retained)?;
        let leases = Leases::of(&retained).map_or(0, |leases| leases.bytes());
        Some(LimitKeys { keys: store.len(), bytes: store.bytes() + leases, forgotten: store.forgotten() })
    }));
}

/// Lets a scrape ask how many keys quotas remember, and whether they are on disk.
pub(super) fn quotas(in_force: &InForce, retained: &Arc<Retained>, keeper: &Arc<QuotaKeeper>) {
    let (retained, keeper) = (Arc::clone(retained), Arc::clone(keeper));
    in_force.metrics.set_quota_keys_source(Box::new(move || {
        let store = quota::Store::of(&retained)?;
        let keys = LimitKeys { keys: store.len(), bytes: store.bytes(), forgotten: store.forgotten() };
        let (saved_at, failures) = keeper.counts();
        Some(QuotaKeys { keys, saved_at, failures })
    }));
}

/// Lets a scrape ask how the endpoints of upstreams are.
pub(super) fn endpoints(in_force: &InForce) {
    let current = Arc::clone(&in_force.current);
    in_force.metrics.set_endpoints_source(Box::new(move || {
        let mut counts = BTreeMap::<String, EndpointCount>::new();
        for (upstream, metrics) in &current.load().upstreams {
            let (count, failures) = (upstream.count(), upstream.discovery().map(|it| it.failures()));
            // Those beyond `max_routes` share a label.
            let sum = counts.entry(metrics.name().to_owned()).or_default();
            sum.endpoints += count.endpoints;
            sum.healthy += count.healthy;
            sum.ejected += upstream.ejected();
            if let Some((count, limit)) = upstream.gate() {
                let (in_flight, waiting, most, shed) = sum.room.unwrap_or_default();
                let (more, wait) = (in_flight + count.in_flight, waiting + count.waiting);
                sum.room = Some((more, wait, most + limit, shed + count.shed));
            }
            if let Some((state, opened)) = upstream.breaker() {
                let (open, before) = sum.breaker.unwrap_or_default();
                sum.breaker = Some((open || state == breaker::State::Open, before + opened));
            }
            if let Some((open, opened)) = upstream.breakers() {
                let (more, before) = sum.breakers.unwrap_or_default();
                sum.breakers = Some((open + more, opened + before));
            }
            sum.failures = failures.map_or(sum.failures, |more| Some(sum.failures.unwrap_or(0) + more));
        }
        counts
    }));
}

/// Lets a scrape ask how hard it is for the gateway itself.
pub(super) fn pressure(in_force: &InForce, pressure: &Arc<Pressure>) {
    let pressure = Arc::clone(pressure);
    in_force.metrics.set_pressure_source(Box::new(move || (pressure.level() as u8, pressure.delay())));
}

/// Lets a scrape ask how much is revoked.
pub(super) fn revocations(in_force: &InForce) {
    let current = Arc::clone(&in_force.current);
    let count = move || current.load().identity.revocations().len();
    in_force.metrics.set_revocations_source(Box::new(count));
}

/// Lets a scrape ask what the caches hold.
pub(super) fn caches(in_force: &InForce) {
    let current = Arc::clone(&in_force.current);
    in_force.metrics.set_caches_source(Box::new(move || {
        let count = |store: &Store| CacheCount {
            bytes: store.bytes(),
            keys: store.keys() as u64,
            stored: store.counts.stored.load(Ordering::Relaxed),
            evicted: store.counts.evicted.load(Ordering::Relaxed),
            fetches: store.flights.count() as u64,
            sharing: store.sharing().map(|sharing| {
                let SharingCount { is_connected, waiting, events } = sharing.count();
                CacheSharingCount { is_connected, waiting, events }
            }),
            disk: store.disk().map(|disk| CacheDiskCount {
                bytes: disk.bytes(),
                objects: disk.objects(),
                is_ill: disk.is_ill(),
                events: [
                    ("hit", &disk.counts.hits),
                    ("written", &disk.counts.written),
                    ("evicted", &disk.counts.evicted),
                    ("damaged", &disk.counts.damaged),
                    ("error", &disk.counts.errors),
                    ("passed_over", &disk.counts.passed_over),
                ]
                .map(|(event, count)| (event, count.load(Ordering::Relaxed))),
            }),
        };
        current.load().caches.iter().map(|(name, store)| (name.to_string(), count(store))).collect()
    }));
}

/// Lets a scrape ask how the stores are.
pub(super) fn stores(in_force: &InForce) {
    let current = Arc::clone(&in_force.current);
    in_force.metrics.set_stores_source(Box::new(move || {
        let count = |store: &redis::Store| {
            let redis::StoreCount { connected, connect_failures, calls } = store.count();
            (store.name().to_owned(), StoreCount { connected, connect_failures, calls })
        };
        current.load().stores.iter().map(count).collect()
    }));
}

fn of_listener(counters: &Counters) -> Connections {
    Connections {
        open: counters.open() as u64,
        refused: Refusal::ALL.map(|cause| (cause.as_str(), counters.refusals(cause))).to_vec(),
        handshakes_failed: HandshakeFailure::ALL
            .map(|cause| (cause.as_str(), counters.handshake_failures(cause)))
            .to_vec(),
        accept_errors: counters.accept_errors(),
    }
}
