//! Where to: upstreams, their endpoints, and which of them gets the next request.

pub mod balance;
pub mod breaker;
pub mod discovery;
pub mod ejection;
mod endpoint;
pub mod ewma;
mod guard;
pub mod health;
mod hedge;
mod key;
mod live;
mod maker;
pub mod peer;
pub mod resolve;
pub mod retry;
mod set;
pub mod shed;
mod tls;

pub use endpoint::{Choice, Endpoint, EndpointState};
pub use guard::{Call, Outcome};
pub use hedge::Hedges;
pub use key::Asking;
pub use live::Now;
pub use set::EndpointSet;

use crate::config::model::dns::Dns;
use crate::config::model::upstream as model;
use crate::retained::{Retained, StableId};
use crate::values::{ConfigPath, Finding, Importance, Name};
use balance::Sticky;
use discovery::{Discovery, Source};
use endpoint::DRAINING;
use guard::{Clock, Guard};
use health::{Count, Monitor, UNHEALTHY};
use http::HeaderValue;
use key::Key;
use live::{Endpoints, Live};
use maker::Maker;
use retry::Retries;
use set::Choosing;
use shed::{Entry, Gate, Turn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tls::UpstreamTls;

/// An upstream, compiled.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// What the upstream sees as Host.
    pub host: Host,
    /// How long things may take.
    pub timeouts: model::Timeouts,
    /// When a request is tried again.
    pub retries: Retries,
    /// When a second endpoint is asked as well, if it ever is.
    pub hedges: Option<Hedges>,
    key: Key,
    endpoints: Endpoints,
    /// What keeps requests from an endpoint, unless too few are healthy.
    closed: u8,
    panicking: Arc<AtomicBool>,
    monitor: Option<Arc<Monitor>>,
    guard: Guard,
    gate: Option<(Arc<Gate>, shed::Rules)>,
    /// Holds what must not be drawn anew by a reload.
    _sticky: Option<Arc<Sticky>>,
}

/// The Host that an upstream sees.
#[derive(Debug)]
pub enum Host {
    /// The client's.
    Keep,
    /// The endpoint's address.
    Endpoint,
    /// This one.
    Name(HeaderValue),
}

impl Upstream {
    /// Makes of the text what requests are sent by. The text was checked: it has endpoints, not
    /// all of weight zero, and its host is one. Paths of findings are relative to the upstream.
    ///
    /// # Errors
    /// All findings, the warnings included, if one of them is an error.
    pub fn compile(
        name: &Name,
        config: &Arc<model::Upstream>,
        dns: &Dns,
        retained: &Arc<Retained>,
    ) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        let under_tls = |findings: Vec<Finding>| {
            let path = ConfigPath::root().key("tls");
            findings.into_iter().map(|finding| finding.under(&path)).collect::<Vec<_>>()
        };
        let (tls, warnings) = match config.tls.as_ref().map(UpstreamTls::compile).transpose() {
            Ok(compiled) => compiled.map_or((None, Vec::new()), |(tls, found)| (Some(tls), under_tls(found))),
            Err(found) => return Err(under_tls(found)),
        };
        let maker = Maker::new(name, config, tls.as_ref(), retained);
        let sticky = maker.sticky.clone();
        let endpoints = match &config.discover {
            None => maker.set(&config.endpoints).map(|set| Endpoints::Fixed(Arc::new(set))).map_err(
                |(index, problem)| {
                    let path = ConfigPath::root().key("endpoints").index(index);
                    vec![Finding::error(path, problem)]
                },
            )?,
            Some(discover) => Endpoints::Live(find(discover, dns, maker, retained)?),
        };
        let panicking = retained.get_or(StableId::new("panic", name), AtomicBool::default);
        let monitor = config.health.active.as_ref().map(|active| {
            let kept = (endpoints.clone(), Arc::clone(&panicking), Clock::of(name, retained));
            Arc::new(Monitor::new(name, active, config, kept))
        });
        let upstream = Self {
            name: name.clone(),
            host: match &config.host {
                model::HostRewrite::Keep => Host::Keep,
                model::HostRewrite::Endpoint => Host::Endpoint,
                model::HostRewrite::Name(host) => Host::Name(header_value(host)),
            },
            timeouts: config.timeouts.clone(),
            retries: Retries::new(
                &config.retry,
                retained.get_or(StableId::new("retries", name), Default::default),
            ),
            hedges: config.hedge.as_ref().map(|hedge| {
                Hedges::new(hedge, retained.get_or(StableId::new("hedges", name), Default::default))
            }),
            key: Key::new(&config.balance),
            endpoints,
            closed: if monitor.is_some() { DRAINING | UNHEALTHY } else { DRAINING },
            panicking,
            monitor,
            guard: Guard::new(name, config, retained),
            gate: config.limits.as_ref().map(|limits| {
                (retained.get_or(StableId::new("gate", name), Gate::default), shed::Rules::new(limits))
            }),
            _sticky: sticky,
        };
        Ok((upstream, warnings))
    }

    /// Its endpoints at this moment.
    pub fn endpoints(&self) -> Now<'_> {
        self.endpoints.load()
    }

    /// Where its endpoints are found, unless they are listed.
    pub fn discovery(&self) -> Option<&Arc<Discovery>> {
        match &self.endpoints {
            Endpoints::Fixed(_) => None,
            Endpoints::Live(live) => Some(live.discovery()),
        }
    }

    /// What probes its endpoints, if anything does.
    pub fn monitor(&self) -> Option<&Arc<Monitor>> {
        self.monitor.as_ref()
    }

    /// True while too few endpoints are healthy for health to count.
    pub fn panicking(&self) -> bool {
        self.monitor.is_some() && self.panicking.load(Ordering::Relaxed)
    }

    /// How many endpoints it has, and how many of them are well.
    pub fn count(&self) -> Count {
        let count = health::count(&self.endpoints());
        match self.monitor {
            Some(_) => count,
            None => Count { healthy: count.endpoints, ..count },
        }
    }

    /// How many requests are on their way to its endpoints now.
    pub fn in_flight(&self) -> u64 {
        self.endpoints().endpoints().iter().map(|endpoint| endpoint.state.in_flight()).sum()
    }

    /// What of a request decides about its endpoint.
    pub fn hint(&self, asking: &Asking<'_>) -> Option<u64> {
        self.key.hint(asking)
    }

    /// The endpoint for a request that brings `hint`, leaving out those that drain, those that
    /// are not healthy or whose breaker is open unless too few are healthy, and those in `tried`. None if that leaves none. If only tried ones are left, one of them gets another
    /// chance.
    pub fn choose(&self, hint: Option<u64>, tried: &[Arc<Endpoint>]) -> Option<Choice> {
        self.endpoints.load().choose(&Choosing {
            hint,
            tried,
            closed: self.closed(),
            breaker: if self.panicking() { None } else { self.guard.each() },
            ejects: self.guard.ejects(),
            slow_start: self.guard.slow_start,
            now: if self.guard.needs_time() { self.guard.now() } else { 0 },
        })
    }

    /// The same, but none if only such are left as have been tried.
    pub fn choose_untried(&self, hint: Option<u64>, tried: &[Arc<Endpoint>]) -> Option<Choice> {
        let choice = self.choose(hint, tried)?;
        let is_tried = tried.iter().any(|it| Arc::ptr_eq(&it.state, &choice.endpoint().state));
        (!is_tried).then_some(choice)
    }

    /// What keeps requests from an endpoint now.
    fn closed(&self) -> u8 {
        if self.panicking() { DRAINING } else { self.closed }
    }

    /// How long until one of its endpoints may be tried, if it is their breakers that keep requests away.
    pub fn closed_for(&self) -> Option<Duration> {
        self.guard.closed_for(&self.endpoints.load(), self.closed())
    }

    /// What the breaker of an endpoint is; none where they have none.
    pub fn breaker_of(&self, endpoint: &Endpoint) -> Option<breaker::State> {
        self.guard.each().map(|_| endpoint.state.breaker.state(self.guard.now()))
    }

    /// How many of its endpoints have an open breaker, and how often one opened; none where they have none.
    pub fn breakers(&self) -> Option<(usize, u64)> {
        self.guard.breakers(&self.endpoints.load())
    }

    /// Room for a request, if there is some without a wait; where there is none, [`Self::wait`] for it.
    pub fn enter(&self) -> Entry {
        match &self.gate {
            None => Entry::Unlimited,
            Some((gate, rules)) => gate.try_enter(rules).map_or(Entry::Full, Entry::Room),
        }
    }

    /// Room for a request, after a while, which is no longer than `left`; `None` if it is shed.
    pub async fn wait(&self, importance: Importance, left: Duration) -> Option<Turn> {
        let (gate, rules) = self.gate.as_ref()?;
        gate.enter(rules, importance, left).await
    }

    /// How many requests it has and how many there may be; none where it has no limits.
    pub fn gate(&self) -> Option<(shed::Count, usize)> {
        self.gate.as_ref().map(|(gate, rules)| (gate.count(), gate.limit(rules)))
    }

    /// Whether a request may be sent to it; none where it has no breaker.
    ///
    /// # Errors
    /// The breaker is open: for how long.
    pub fn call(&self) -> Result<Option<Call>, Duration> {
        self.guard.call()
    }

    /// Notes what came of an attempt at this endpoint.
    pub fn note(&self, choice: &mut Choice, call: Option<&mut Call>, outcome: Outcome) {
        if let Some((gate, rules)) = &self.gate {
            gate.note(rules, outcome.took, outcome.failed);
        }
        self.guard.note(choice, &self.endpoints.load(), call, outcome);
    }

    /// Notes that an attempt was left after this long, before an answer came, as another one answered.
    pub fn note_left(&self, choice: &mut Choice, took: Duration) {
        self.guard.note_left(choice, took);
    }

    /// What its breaker is, and how often it opened; none where it has none.
    pub fn breaker(&self) -> Option<(breaker::State, u64)> {
        self.guard.breaker()
    }

    /// How many of its endpoints are left out because their requests failed.
    pub fn ejected(&self) -> usize {
        self.guard.ejected(&self.endpoints.load())
    }

    /// The `Set-Cookie` that keeps a client at this endpoint, unless it brought that already.
    pub fn set_cookie(&self, endpoint: &Endpoint, hint: Option<u64>, over_tls: bool) -> Option<HeaderValue> {
        let Key::Sticky(cookie) = &self.key else { return None };
        let id = endpoint.sticky_id.filter(|id| hint != Some(*id))?;
        cookie.value(id, over_tls)
    }
}

/// The endpoints that a source has, from now on. A file is read at once, so that what is wrong with
/// it rejects the configuration; names are left to the background.
fn find(
    discover: &model::Discover,
    dns: &Dns,
    maker: Maker,
    retained: &Retained,
) -> Result<Arc<Live>, Vec<Finding>> {
    let source = Source::new(discover, dns);
    let id = StableId::new("discovery", format_args!("{source} {dns:?}"));
    let discovery = retained.get_or(id, || Discovery::new(source.clone()));
    if let Source::File(path) = &source {
        let found = discovery::read_file(path).map_err(|problem| {
            vec![Finding::error(ConfigPath::root().key("discover").key("file"), problem)]
        })?;
        if !discovery.is_settled() {
            discovery.found(found);
        }
    }
    Ok(Live::new(maker, discovery))
}

/// An address or a checked host is always a header value; were it not, an empty Host would be
/// refused by the upstream rather than misunderstood.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
