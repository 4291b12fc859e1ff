//! What a request counts on: handles that live in the snapshot and go with it.

use super::sharded::{Coded, LevelGuard, Levels, Sharded};
use crate::values::ListenerId;
use arc_swap::ArcSwapOption;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The class of a final status, or that there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are the whole meaning")]
pub enum StatusClass {
    Aborted,
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl StatusClass {
    pub(super) const LABELS: [&'static str; 6] = ["aborted", "1xx", "2xx", "3xx", "4xx", "5xx"];

    /// The class of the status that was sent; `None` is a request that ended without one, and so is
    /// a number that is no status. 101 is the only final 1xx.
    pub const fn of(status: Option<u16>) -> Self {
        match status {
            Some(100..=199) => Self::Informational,
            Some(200..=299) => Self::Success,
            Some(300..=399) => Self::Redirection,
            Some(400..=499) => Self::ClientError,
            Some(500..=599) => Self::ServerError,
            _ => Self::Aborted,
        }
    }
}

/// Who answers in the place of a route's upstream, which failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Substitute {
    /// What the cache has, too old as it is.
    Stale,
    /// Another upstream.
    Upstream,
    /// The gateway.
    Respond,
}

impl Substitute {
    pub(super) const ALL: [Self; 3] = [Self::Stale, Self::Upstream, Self::Respond];

    /// Its word in metrics, in the log and in the answer, which is that of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Upstream => "upstream",
            Self::Respond => "respond",
        }
    }
}

/// How a request ended.
pub struct Answer<'a> {
    /// Which listener it came by.
    pub listener: ListenerId,
    /// Which upstream answered or failed it last, if one was asked.
    pub upstream: Option<&'a Arc<UpstreamMetrics>>,
    /// What was sent.
    pub class: StatusClass,
    /// From the first byte of the head to the last byte of the answer.
    pub duration: Duration,
    /// What of it was spent with upstreams, if one was asked.
    pub upstream_duration: Option<Duration>,
}

/// What a cache did to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are the whole meaning; the metric's help has them")]
pub enum CacheOutcome {
    Hit,
    Stale,
    Miss,
    Revalidated,
    Coalesced,
    Bypass,
}

impl CacheOutcome {
    pub(super) const LABELS: [&'static str; 6] =
        ["hit", "stale", "miss", "revalidated", "coalesced", "bypass"];
}

/// A route's counters. Before the first request it is a name and two pointers.
pub struct RouteMetrics {
    pub(super) name: Arc<str>,
    pub(super) shape: Arc<Shape>,
    used: ArcSwapOption<Used>,
}

/// What the counters of every route have in common.
pub(super) struct Shape {
    /// Upper bounds of the buckets in microseconds, ascending.
    pub bounds: Vec<u64>,
    /// Workers, rounded up to a power of two.
    pub shards: usize,
}

/// The counters of a route that had a request. The lists are replaced, never changed.
struct Used {
    durations: Arc<Durations>,
    /// Ascending by key.
    answers: Vec<Arc<AnswerCell>>,
    /// By [`CacheOutcome`], where there is a cache.
    cached: Option<Arc<Sharded>>,
}

/// Requests of one route by one listener to one upstream, by class.
pub(super) struct AnswerCell {
    key: u64,
    pub(super) listener: ListenerId,
    /// `None` if no upstream was asked; dead once the upstream has gone.
    upstream: Option<Weak<UpstreamMetrics>>,
    classes: Sharded,
}

impl RouteMetrics {
    pub(super) fn new(name: &str, shape: Arc<Shape>) -> Self {
        Self { name: name.into(), shape, used: ArcSwapOption::empty() }
    }

    /// Something else than its upstream has a request of it.
    pub fn substituted(&self, by: Substitute) {
        loop {
            if let Some(used) = &*self.used.load() {
                used.durations.substituted(self.shape.bounds.len(), by);
                return;
            }
            self.used.rcu(|used| Some(used.clone().unwrap_or_else(|| Used::new(&self.shape))));
        }
    }

    /// The label: the route's name, `_other` or `_none`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts a request that ended. No lock, no allocation but at the first request of a route, a
    /// listener and an upstream together.
    pub fn record(&self, answer: &Answer<'_>) {
        let key = AnswerCell::key(answer.listener, answer.upstream);
        loop {
            if let Some(used) = &*self.used.load()
                && let Some(cell) = used.find(key)
            {
                cell.classes.add(answer.class as usize, 1);
                used.durations.record(&self.shape.bounds, answer);
                return;
            }
            self.used.rcu(|used| Some(Used::with(used.as_deref(), &self.shape, answer)));
        }
    }

    /// Counts what a cache did to a request. Allocates at the first one of a route.
    pub fn cached(&self, outcome: CacheOutcome) {
        loop {
            if let Some(used) = &*self.used.load()
                && let Some(cached) = &used.cached
            {
                cached.add(outcome as usize, 1);
                return;
            }
            self.used.rcu(|used| Some(Used::with_cache(used.as_deref(), &self.shape)));
        }
    }

    /// What a cache did to its requests, if one did anything.
    pub(super) fn cache_counts(&self) -> Vec<(&'static str, u64)> {
        let used = self.used.load();
        let Some(cached) = used.as_ref().and_then(|used| used.cached.as_ref()) else { return Vec::new() };
        CacheOutcome::LABELS.into_iter().enumerate().map(|(at, label)| (label, cached.sum(at))).collect()
    }

    /// Forgets counts for upstreams and listeners that are gone.
    pub(super) fn prune(&self, listener_lives: impl Fn(ListenerId) -> bool) {
        let lives = |cell: &AnswerCell| cell.lives() && listener_lives(cell.listener);
        if self.used.load().as_ref().is_none_or(|used| used.answers.iter().all(|cell| lives(cell))) {
            return;
        }
        self.used.rcu(|used| {
            used.as_ref().map(|used| {
                let answers = used.answers.iter().filter(|cell| lives(cell)).cloned().collect();
                Arc::new(Used { durations: used.durations.clone(), answers, cached: used.cached.clone() })
            })
        });
    }

    /// The durations and the answers, if there was a request.
    pub(super) fn counted(&self) -> Option<(Arc<Durations>, Vec<Arc<AnswerCell>>)> {
        self.used.load().as_ref().map(|used| (used.durations.clone(), used.answers.clone()))
    }
}

impl Used {
    fn new(shape: &Shape) -> Arc<Self> {
        Arc::new(Self { durations: Arc::new(Durations::new(shape)), answers: Vec::new(), cached: None })
    }

    fn with(old: Option<&Self>, shape: &Shape, answer: &Answer<'_>) -> Arc<Self> {
        let key = AnswerCell::key(answer.listener, answer.upstream);
        let durations = old.map_or_else(|| Arc::new(Durations::new(shape)), |old| old.durations.clone());
        let mut answers = old.map_or_else(Vec::new, |old| old.answers.clone());
        if let Err(place) = answers.binary_search_by_key(&key, |cell| cell.key) {
            let cell = AnswerCell {
                key,
                listener: answer.listener,
                upstream: answer.upstream.map(Arc::downgrade),
                classes: Sharded::new(StatusClass::LABELS.len(), shape.shards),
            };
            answers.insert(place, Arc::new(cell));
        }
        Arc::new(Self { durations, answers, cached: old.and_then(|old| old.cached.clone()) })
    }

    fn with_cache(old: Option<&Self>, shape: &Shape) -> Arc<Self> {
        let fresh = || Arc::new(Sharded::new(CacheOutcome::LABELS.len(), shape.shards));
        Arc::new(Self {
            durations: old.map_or_else(|| Arc::new(Durations::new(shape)), |old| old.durations.clone()),
            answers: old.map_or_else(Vec::new, |old| old.answers.clone()),
            cached: Some(old.and_then(|old| old.cached.clone()).unwrap_or_else(fresh)),
        })
    }

    fn find(&self, key: u64) -> Option<&AnswerCell> {
        let place = self.answers.binary_search_by_key(&key, |cell| cell.key).ok()?;
        Some(&self.answers[place])
    }
}

impl AnswerCell {
    fn key(listener: ListenerId, upstream: Option<&Arc<UpstreamMetrics>>) -> u64 {
        let upstream = upstream.map_or(0, |upstream| upstream.number);
        u64::from(listener.0) << 48 | upstream
    }

    fn lives(&self) -> bool {
        self.upstream.as_ref().is_none_or(|upstream| upstream.strong_count() > 0)
    }

    /// The upstream's label, unless the upstream has gone.
    pub(super) fn upstream(&self) -> Option<Arc<str>> {
        match &self.upstream {
            None => Some(super::NONE.into()),
            Some(upstream) => Some(upstream.upgrade()?.name.clone()),
        }
    }

    /// The count of each class, in the order of [`StatusClass::LABELS`].
    pub(super) fn counts(&self) -> [u64; 6] {
        std::array::from_fn(|class| self.classes.sum(class))
    }
}

/// Two histograms of a route, the whole request and its time with upstreams, and how many requests went to a
/// substitute.
pub(super) struct Durations(Sharded);

/// A histogram, summed.
pub(super) struct Distribution {
    /// How many fell into each bucket; the last one has no upper bound.
    pub buckets: Vec<u64>,
    /// All values together, in seconds.
    pub sum: f64,
}

impl Durations {
    fn new(shape: &Shape) -> Self {
        let slots = 2 * Self::slots(shape.bounds.len()) + Substitute::ALL.len();
        Self(Sharded::new(slots, shape.shards))
    }

    /// A histogram's counters: its buckets, the one without a bound, and the sum.
    const fn slots(bounds: usize) -> usize {
        bounds + 2
    }

    fn record(&self, bounds: &[u64], answer: &Answer<'_>) {
        self.observe(bounds, 0, answer.duration);
        if let Some(duration) = answer.upstream_duration {
            self.observe(bounds, Self::slots(bounds.len()), duration);
        }
    }

    fn substituted(&self, bounds: usize, by: Substitute) {
        self.0.add(2 * Self::slots(bounds) + by as usize, 1);
    }

    /// How many requests went to a substitute.
    pub(super) fn substitutes(&self, bounds: usize, by: Substitute) -> u64 {
        self.0.sum(2 * Self::slots(bounds) + by as usize)
    }

    fn observe(&self, bounds: &[u64], first: usize, duration: Duration) {
        // Rounded to the nearest microsecond: nanoseconds would overflow the sum within weeks.
        let micros = u64::try_from((duration.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
        let bucket = bounds.partition_point(|bound| *bound < micros);
        self.0.add(first + bucket, 1);
        self.0.add(first + bounds.len() + 1, micros);
    }

    /// The whole requests (`false`) or their time with upstreams (`true`), summed.
    pub(super) fn sums(&self, bounds: usize, upstream: bool) -> Distribution {
        let first = if upstream { Self::slots(bounds) } else { 0 };
        Distribution {
            buckets: (first..=first + bounds).map(|slot| self.0.sum(slot)).collect(),
            sum: self.0.sum(first + bounds + 1) as f64 / 1e6,
        }
    }
}

/// What came of a request to a second endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedged {
    /// The second endpoint answered.
    Won,
    /// The first one did, or none.
    Lost,
    /// It was not sent: no other endpoint, no room, no budget.
    Barred,
}

/// An upstream's counters.
pub struct UpstreamMetrics {
    pub(super) name: Arc<str>,
    /// Never given twice, and 0 to none, so that it can stand for the upstream in a key. 48 bits.
    number: u64,
    counts: Sharded,
}

impl UpstreamMetrics {
    const OPENED: usize = 0;
    const REUSED: usize = 1;
    const RETRIED: usize = 2;
    const BARRED: usize = 3;
    const HEDGES: usize = 4;

    pub(super) fn new(name: &str, number: u64, shards: usize) -> Self {
        Self { name: name.into(), number, counts: Sharded::new(7, shards) }
    }

    /// The label: the upstream's name, or `_other`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A request got a connection, from the pool or a new one.
    pub fn connected(&self, reused: bool) {
        self.counts.add(if reused { Self::REUSED } else { Self::OPENED }, 1);
    }

    /// A request is tried again after an attempt that failed.
    pub fn retried(&self) {
        self.counts.add(Self::RETRIED, 1);
    }

    /// A request is not tried again, since the budget for that is spent.
    pub fn barred(&self) {
        self.counts.add(Self::BARRED, 1);
    }

    /// A request went to a second endpoint as well, or did not though it should have.
    pub fn hedged(&self, outcome: Hedged) {
        self.counts.add(Self::HEDGES + outcome as usize, 1);
    }

    pub(super) fn hedges(&self) -> [(&'static str, u64); 3] {
        [("won", Hedged::Won), ("lost", Hedged::Lost), ("barred", Hedged::Barred)]
            .map(|(name, outcome)| (name, self.counts.sum(Self::HEDGES + outcome as usize)))
    }

    /// How many requests got a connection so far, each counted once however often it was tried.
    pub fn requests(&self) -> u64 {
        let (opened, reused) = self.connections();
        (opened + reused).saturating_sub(self.retries())
    }

    pub(super) fn barred_retries(&self) -> u64 {
        self.counts.sum(Self::BARRED)
    }

    /// How many connections were opened and how many found in the pool.
    pub(super) fn connections(&self) -> (u64, u64) {
        (self.counts.sum(Self::OPENED), self.counts.sum(Self::REUSED))
    }

    pub(super) fn retries(&self) -> u64 {
        self.counts.sum(Self::RETRIED)
    }
}

/// A listener's counters.
pub struct ListenerMetrics {
    pub(super) name: Arc<str>,
    in_flight: Levels,
    unseen: Coded,
}

/// A request that is in flight until this is dropped, on whichever thread.
#[must_use = "a request is in flight as long as this is held"]
pub struct InFlight {
    _level: LevelGuard,
}

impl ListenerMetrics {
    pub(super) fn new(name: &str, shards: usize) -> Self {
        Self { name: name.into(), in_flight: Levels::new(shards), unseen: Coded::new(shards) }
    }

    /// A request has begun.
    pub fn begin(&self) -> InFlight {
        InFlight { _level: self.in_flight.enter() }
    }

    /// The parser refused a request; `cause` is a word of the code, such as `header_too_large`.
    pub fn unseen(&self, cause: &'static str) {
        self.unseen.count(cause);
    }

    pub(super) fn in_flight(&self) -> i64 {
        self.in_flight.sum()
    }

    pub(super) fn unseen_counts(&self) -> Vec<(&'static str, u64)> {
        self.unseen.sums()
    }
}
