//! The sums of a scrape, in the shape that the `prometheus` crate writes.

use super::handles::{Distribution, StatusClass, Substitute};
use super::table::{self, Family};
use super::{CertificateExpiry, RouteMetrics, State};
use crate::values::ListenerId;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// The collector of all families in the table.
pub(super) struct Collected {
    state: Arc<State>,
    descriptions: Vec<Desc>,
}

impl Collected {
    pub(super) fn new(state: Arc<State>) -> Self {
        let describe = |family: &&Family| {
            let labels = family.labels.iter().map(ToString::to_string).collect();
            Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new()).ok()
        };
        Self { state, descriptions: table::ALL.iter().filter_map(describe).collect() }
    }
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut scrape = Scrape::default();
        self.state.collect_routes(&mut scrape);
        self.state.collect_listeners(&mut scrape);
        self.state.collect_upstreams(&mut scrape);
        self.state.collect_gateway(&mut scrape);
        self.state.collect_process(&mut scrape);
        scrape.families()
    }
}

/// The samples so far, by the name of their family.
#[derive(Default)]
struct Scrape(HashMap<&'static str, Vec<Metric>>);

impl Scrape {
    fn add(&mut self, family: &Family, labels: &[&str], value: f64) {
        let mut metric = labelled(family, labels);
        match family.kind {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.0.entry(family.name).or_default().push(metric);
    }

    fn add_histogram(&mut self, family: &Family, labels: &[&str], bounds: &[u64], sums: &Distribution) {
        let mut count = 0;
        let mut cumulative = sums.buckets.iter().map(|inside| {
            count += inside;
            count
        });
        let buckets = bounds
            .iter()
            .zip(&mut cumulative)
            .map(|(bound, count)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound as f64 / 1e6);
                bucket.set_cumulative_count(count);
                bucket
            })
            .collect();
        let mut histogram = Histogram::default();
        histogram.set_sample_count(cumulative.last().unwrap_or_default());
        histogram.set_sample_sum(sums.sum);
        histogram.set_bucket(buckets);
        let mut metric = labelled(family, labels);
        metric.set_histogram(histogram);
        self.0.entry(family.name).or_default().push(metric);
    }

    fn families(mut self) -> Vec<MetricFamily> {
        table::ALL
            .iter()
            .filter_map(|family| {
                let mut collected = MetricFamily::default();
                collected.set_metric(self.0.remove(family.name)?);
                collected.set_name(family.name.to_owned());
                collected.set_help(family.help.to_owned());
                collected.set_field_type(family.kind);
                Some(collected)
            })
            .collect()
    }
}

fn labelled(family: &Family, values: &[&str]) -> Metric {
    let pairs = family.labels.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}

impl State {
    fn collect_routes(&self, scrape: &mut Scrape) {
        let routes = self.routes.lock();
        let mut living: Vec<Arc<RouteMetrics>> = routes.living.values().filter_map(Weak::upgrade).collect();
        drop(routes);
        living.push(self.unrouted.lock().clone());
        living.push(self.other_route.lock().clone());
        let listeners: HashMap<ListenerId, Arc<str>> = (self.listeners.lock().iter())
            .filter_map(|(id, listener)| Some((*id, listener.upgrade()?.name.clone())))
            .collect();
        for route in living {
            collect_route(&route, &listeners, scrape);
        }
    }

    fn collect_listeners(&self, scrape: &mut Scrape) {
        let connections = self.connections.lock();
        for (id, listener) in self.listeners.lock().iter() {
            let Some(listener) = listener.upgrade() else { continue };
            scrape.add(&table::IN_FLIGHT, &[&listener.name], listener.in_flight() as f64);
            for (cause, count) in listener.unseen_counts() {
                scrape.add(&table::UNSEEN, &[&listener.name, cause], count as f64);
            }
            let Some(known) = connections.as_ref().and_then(|connections| connections(*id)) else { continue };
            scrape.add(&table::CONNECTIONS, &[&listener.name], known.open as f64);
            scrape.add(&table::ACCEPT_ERRORS, &[&listener.name], known.accept_errors as f64);
            for (cause, count) in known.refused {
                scrape.add(&table::REFUSED, &[&listener.name, cause], count as f64);
            }
            for (cause, count) in known.handshakes_failed {
                scrape.add(&table::HANDSHAKES_FAILED, &[&listener.name, cause], count as f64);
            }
        }
    }

    fn collect_upstreams(&self, scrape: &mut Scrape) {
        let living: Vec<_> = self.upstreams.lock().values().filter_map(Weak::upgrade).collect();
        for upstream in living.iter().chain([&self.other_upstream]) {
            let name: &str = &upstream.name;
            let (opened, reused) = upstream.connections();
            for (reused, count) in [("false", opened), ("true", reused)] {
                if count > 0 {
                    scrape.add(&table::UPSTREAM_CONNECTIONS, &[name, reused], count as f64);
                }
            }
            if upstream.retries() > 0 {
                scrape.add(&table::RETRIES, &[name], upstream.retries() as f64);
            }
            if upstream.barred_retries() > 0 {
                scrape.add(&table::RETRIES_BARRED, &[name], upstream.barred_retries() as f64);
            }
            for (outcome, count) in upstream.hedges() {
                if count > 0 {
                    scrape.add(&table::HEDGES, &[name, outcome], count as f64);
                }
            }
        }
    }

    fn collect_gateway(&self, scrape: &mut Scrape) {
        let ways: Vec<_> = self.auth.lock().values().filter_map(Weak::upgrade).collect();
        for way in ways {
            let (method, provider) = way.labels();
            for (outcome, count) in way.sums() {
                scrape.add(&table::AUTH, &[method, provider, outcome], count as f64);
            }
        }
        let limits: Vec<_> = self.limits.lock().values().filter_map(Weak::upgrade).collect();
        for limit in limits.iter().chain([&self.other_limit]) {
            let (place, name) = limit.labels();
            for (outcome, count) in limit.sums() {
                scrape.add(&table::LIMITS, &[place, name, outcome], count as f64);
            }
        }
        if let Some(keys) = self.limit_keys.lock().as_ref().and_then(|source| source()) {
            scrape.add(&table::LIMIT_KEYS, &[], keys.keys as f64);
            scrape.add(&table::LIMIT_KEYS_FORGOTTEN, &[], keys.forgotten as f64);
            scrape.add(&table::LIMIT_MEMORY, &[], keys.bytes as f64);
        }
        if let Some(quotas) = self.quota_keys.lock().as_ref().and_then(|source| source()) {
            scrape.add(&table::QUOTA_KEYS, &[], quotas.keys.keys as f64);
            scrape.add(&table::QUOTA_KEYS_FORGOTTEN, &[], quotas.keys.forgotten as f64);
            scrape.add(&table::QUOTA_MEMORY, &[], quotas.keys.bytes as f64);
            scrape.add(&table::QUOTA_SAVED, &[], quotas.saved_at as f64);
            scrape.add(&table::QUOTA_SAVE_FAILURES, &[], quotas.failures as f64);
        }
        if let Some(in_flight) = self.bounded.lock().as_ref().and_then(|source| source()) {
            scrape.add(&table::BOUNDED, &[], in_flight as f64);
        }
        if let Some((level, delay)) = self.pressure.lock().as_ref().map(|source| source()) {
            scrape.add(&table::OVERLOAD, &[], f64::from(level));
            scrape.add(&table::WORKER_DELAY, &[], delay);
        }
        for (cause, count) in self.denials.sums() {
            scrape.add(&table::DENIALS, &[cause], count as f64);
        }
        for (code, count) in self.rejections.sums() {
            scrape.add(&table::REJECTIONS, &[code], count as f64);
        }
        for (outcome, count) in ["applied", "rejected", "unchanged"].into_iter().zip(&self.reloads) {
            scrape.add(&table::RELOADS, &[outcome], count.load(Ordering::Relaxed) as f64);
        }
        // One reference is the registry's own.
        let snapshots = Arc::strong_count(&self.snapshots).saturating_sub(1);
        scrape.add(&table::SNAPSHOTS, &[], snapshots as f64);
        for CertificateExpiry { listener, certificate, not_after } in self.certificates.lock().iter() {
            scrape.add(&table::CERTIFICATE_EXPIRY, &[listener, certificate], *not_after as f64);
        }
        self.collect_endpoints(scrape);
        let stores = self.stores.lock().as_ref().map(|source| source()).unwrap_or_default();
        for (store, count) in &stores {
            scrape.add(&table::STORE_CONNECTED, &[store], f64::from(u8::from(count.connected)));
            scrape.add(&table::STORE_CONNECT_FAILURES, &[store], count.connect_failures as f64);
            for (outcome, calls) in count.calls.iter().filter(|(_, calls)| *calls > 0) {
                scrape.add(&table::STORE_CALLS, &[store, outcome], *calls as f64);
            }
        }
        self.collect_caches(scrape);
        if let Some(revocations) = self.revocations.lock().as_ref() {
            scrape.add(&table::REVOCATIONS, &[], revocations() as f64);
        }
        let dropped = self.access_log_dropped.load(Ordering::Relaxed);
        scrape.add(&table::ACCESS_LOG_DROPPED, &[], dropped as f64);
        scrape.add(&table::BODY_MEMORY, &[], self.body_memory.load(Ordering::Relaxed) as f64);
        scrape.add(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    }

    fn collect_endpoints(&self, scrape: &mut Scrape) {
        let endpoints = self.endpoints.lock().as_ref().map(|source| source()).unwrap_or_default();
        for (upstream, count) in &endpoints {
            scrape.add(&table::UPSTREAM_ENDPOINTS, &[upstream], count.endpoints as f64);
            scrape.add(&table::UPSTREAM_HEALTHY, &[upstream], count.healthy as f64);
            scrape.add(&table::UPSTREAM_EJECTED, &[upstream], count.ejected as f64);
            if let Some((open, opened)) = count.breaker {
                scrape.add(&table::BREAKER_OPEN, &[upstream], f64::from(u8::from(open)));
                scrape.add(&table::BREAKER_OPENED, &[upstream], opened as f64);
            }
            if let Some((open, opened)) = count.breakers {
                scrape.add(&table::ENDPOINT_BREAKERS_OPEN, &[upstream], open as f64);
                scrape.add(&table::ENDPOINT_BREAKERS_OPENED, &[upstream], opened as f64);
            }
            if let Some((in_flight, waiting, limit, shed)) = count.room {
                scrape.add(&table::UPSTREAM_IN_FLIGHT, &[upstream], in_flight as f64);
                scrape.add(&table::UPSTREAM_WAITING, &[upstream], waiting as f64);
                scrape.add(&table::UPSTREAM_LIMIT, &[upstream], limit as f64);
                scrape.add(&table::UPSTREAM_SHED, &[upstream], shed as f64);
            }
            if let Some(failures) = count.failures {
                scrape.add(&table::DISCOVERY_FAILURES, &[upstream], failures as f64);
            }
        }
    }

    fn collect_caches(&self, scrape: &mut Scrape) {
        let caches = self.caches.lock().as_ref().map(|source| source()).unwrap_or_default();
        for (cache, count) in &caches {
            scrape.add(&table::CACHE_BYTES, &[cache], count.bytes as f64);
            scrape.add(&table::CACHE_KEYS, &[cache], count.keys as f64);
            scrape.add(&table::CACHE_STORED, &[cache], count.stored as f64);
            scrape.add(&table::CACHE_EVICTED, &[cache], count.evicted as f64);
            scrape.add(&table::CACHE_FETCHES, &[cache], count.fetches as f64);
            if let Some(sharing) = &count.sharing {
                let connected = f64::from(u8::from(sharing.is_connected));
                scrape.add(&table::CACHE_SHARING, &[cache], connected);
                scrape.add(&table::CACHE_SHARING_WAITING, &[cache], sharing.waiting as f64);
                for (event, times) in &sharing.events {
                    scrape.add(&table::CACHE_SHARING_EVENTS, &[cache, event], *times as f64);
                }
            }
            let Some(disk) = &count.disk else { continue };
            scrape.add(&table::CACHE_DISK_BYTES, &[cache], disk.bytes as f64);
            scrape.add(&table::CACHE_DISK_OBJECTS, &[cache], disk.objects as f64);
            scrape.add(&table::CACHE_DISK_ILL, &[cache], f64::from(u8::from(disk.is_ill)));
            for (event, times) in &disk.events {
                scrape.add(&table::CACHE_DISK_EVENTS, &[cache, event], *times as f64);
            }
        }
    }

    fn collect_process(&self, scrape: &mut Scrape) {
        let reading = self.process.read();
        let values = [
            (&table::PROCESS_CPU, reading.cpu),
            (&table::PROCESS_OPEN_FDS, reading.open_fds),
            (&table::PROCESS_MAX_FDS, reading.max_fds),
            (&table::PROCESS_RESIDENT, reading.resident),
            (&table::PROCESS_VIRTUAL, reading.virtual_memory),
            (&table::PROCESS_THREADS, reading.threads),
            (&table::PROCESS_START, reading.start_time),
        ];
        for (family, value) in values {
            if let Some(value) = value {
                scrape.add(family, &[], value);
            }
        }
    }
}

fn collect_route(route: &RouteMetrics, listeners: &HashMap<ListenerId, Arc<str>>, scrape: &mut Scrape) {
    for (outcome, count) in route.cache_counts().into_iter().filter(|(_, count)| *count > 0) {
        scrape.add(&table::CACHE_REQUESTS, &[&route.name, outcome], count as f64);
    }
    let Some((durations, answers)) = route.counted() else { return };
    for by in Substitute::ALL {
        let count = durations.substitutes(route.shape.bounds.len(), by);
        if count > 0 {
            scrape.add(&table::FALLBACKS, &[&route.name, by.as_str()], count as f64);
        }
    }
    for answer in answers {
        let Some((listener, upstream)) = listeners.get(&answer.listener).zip(answer.upstream()) else {
            continue;
        };
        for (class, count) in StatusClass::LABELS.into_iter().zip(answer.counts()) {
            if count > 0 {
                scrape.add(&table::REQUESTS, &[listener, &route.name, &upstream, class], count as f64);
            }
        }
    }
    let bounds = &route.shape.bounds;
    scrape.add_histogram(
        &table::REQUEST_DURATION,
        &[&route.name],
        bounds,
        &durations.sums(bounds.len(), false),
    );
    let upstream = durations.sums(bounds.len(), true);
    if upstream.buckets.iter().any(|count| *count > 0) {
        scrape.add_histogram(&table::UPSTREAM_DURATION, &[&route.name], bounds, &upstream);
    }
}
