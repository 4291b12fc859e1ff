//! Whether an attempt may be hedged, who the second endpoint is, and what came of it.

use super::session::{Hedging, Planned};
use crate::message::hop_by_hop;
use crate::proxy::RequestContext;
use crate::proxy::phases::retry;
use crate::runtime::Snapshot;
use crate::telemetry::metrics::{Hedged, UpstreamMetrics};
use crate::upstream::retry::{Further, Traffic};
use crate::upstream::shed::{Entry, Turn};
use crate::upstream::{Choice, Endpoint, Host, Outcome, Upstream, breaker, peer};
use crate::values::RouteId;
use http::HeaderValue;
use parking_lot::Mutex;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How an attempt goes to a second endpoint, and what came of it.
struct Plan {
    after: Duration,
    snapshot: Arc<Snapshot>,
    upstream: usize,
    route: RouteId,
    hint: Option<u64>,
    /// Who has been asked: the first endpoint, and those before it.
    asked: Vec<Arc<Endpoint>>,
    /// Whether the Host is the endpoint's own.
    own_host: bool,
    /// When the exchange's time is over.
    ends: Instant,
    report: Mutex<Report>,
}

/// What the session has to tell.
#[derive(Default)]
pub struct Report {
    /// The second endpoint answered: since when it was asked, and whether the first one failed rather than being silent.
    won: Option<(Choice, Instant, bool)>,
    /// The second endpoint failed.
    failed: Option<Arc<Endpoint>>,
}

/// A second endpoint, chosen. What it holds is given back when it is dropped.
pub struct Hedge {
    /// The endpoint, as it is connected to.
    pub peer: HttpPeer,
    /// What it sees as Host, if that is its own.
    pub host: Option<HeaderValue>,
    choice: Choice,
    began: Instant,
    count: Count,
    _further: Further,
    _turn: Option<Turn>,
}

/// Counts what came of it, whatever happens to it.
struct Count {
    metrics: Arc<UpstreamMetrics>,
    outcome: Hedged,
}

impl Drop for Count {
    fn drop(&mut self) {
        self.metrics.hedged(self.outcome);
    }
}

/// Lets the attempt at this peer be hedged, if its upstream hedges and the request may be sent twice: a safe method
/// (RFC 9110 section 9.2.1), no body, nothing for this hop alone. Marks the peer then.
pub fn plan(session: &mut Session, cx: &RequestContext, peer: &mut HttpPeer) -> Option<Planned> {
    let (at, route) = (cx.exchange.upstream?, cx.route?);
    let (upstream, _) = &cx.snapshot.upstreams[at];
    let after = upstream.hedges.as_ref()?.after();
    let has_other = upstream.endpoints().endpoints().len() > 1;
    let head = session.req_header();
    let is_safe = head.method.is_safe() && head.raw_path_is_utf8() && cx.held.is_none() && !cx.upgrade;
    if !has_other || !is_safe || retry::attempts(cx) != 1 || !hop_by_hop::is_free(&head.headers) {
        return None;
    }
    let now = Instant::now();
    let left = cx.left_at(now);
    if after >= left || !session.as_downstream_mut().is_body_empty() {
        return None;
    }
    peer::mark_hedged(peer);
    let first = cx.exchange.choice.as_ref().map(|choice| Arc::clone(choice.endpoint()));
    let plan = Plan {
        after,
        snapshot: Arc::clone(&cx.snapshot),
        upstream: at,
        route,
        hint: cx.exchange.hint,
        asked: cx.exchange.tried.iter().cloned().chain(first).collect(),
        own_host: matches!(upstream.host, Host::Endpoint) && cx.policy.edits.host.is_none(),
        ends: now + left,
        report: Mutex::default(),
    };
    Some(Planned(Arc::new(plan)))
}

impl Plan {
    fn upstream(&self) -> (&Upstream, &Arc<UpstreamMetrics>) {
        let (upstream, metrics) = &self.snapshot.upstreams[self.upstream];
        (upstream, metrics)
    }

    fn try_hedge(&self) -> Option<Hedge> {
        let (upstream, metrics) = self.upstream();
        let began = Instant::now();
        let left = self.ends.saturating_duration_since(began);
        if left.is_zero() || upstream.breaker().is_some_and(|(state, _)| state != breaker::State::Closed) {
            return None;
        }
        let load = Traffic { requests: metrics.requests(), active: upstream.in_flight() };
        let choice = upstream.choose_untried(self.hint, &self.asked)?;
        let turn = match upstream.enter() {
            Entry::Unlimited => None,
            Entry::Room(turn) => Some(turn),
            Entry::Full => return None,
        };
        let further = upstream.hedges.as_ref()?.spend(load, began)?;
        let endpoint = choice.endpoint();
        let timeouts = &self.snapshot.route(self.route).timeouts;
        Some(Hedge {
            peer: *peer::for_attempt(endpoint, timeouts, left, true),
            host: self.own_host.then(|| endpoint.host.clone()),
            choice,
            began,
            count: Count { metrics: Arc::clone(metrics), outcome: Hedged::Lost },
            _further: further,
            _turn: turn,
        })
    }
}

impl Hedging for Plan {
    fn after(&self) -> Duration {
        self.after
    }

    fn hedge(&self) -> Option<Hedge> {
        let hedge = self.try_hedge();
        if hedge.is_none() {
            self.upstream().1.hedged(Hedged::Barred);
        }
        hedge
    }

    fn won(&self, mut hedge: Hedge, first_failed: bool) {
        hedge.count.outcome = Hedged::Won;
        self.report.lock().won = Some((hedge.choice, hedge.began, first_failed));
    }

    fn lost(&self, mut hedge: Hedge, failed: bool) {
        let (upstream, _) = self.upstream();
        let took = hedge.began.elapsed();
        if failed {
            upstream.note(&mut hedge.choice, None, Outcome { failed, took });
            self.report.lock().failed = Some(Arc::clone(hedge.choice.endpoint()));
        } else {
            upstream.note_left(&mut hedge.choice, took);
        }
    }

    fn report(&self) -> Report {
        std::mem::take(&mut *self.report.lock())
    }
}

/// Takes over what came of the attempt's hedge, if it was hedged: from here on the exchange is with the endpoint that
/// answered, and the other one has had the request.
pub fn settle(cx: &mut RequestContext) {
    let Some(Planned(plan)) = &cx.exchange.hedge else { return };
    let Report { won, failed } = plan.report();
    cx.exchange.tried.extend(failed);
    let Some((choice, began, first_failed)) = won else { return };
    let first = cx.exchange.choice.replace(choice);
    let first_began = cx.exchange.attempt_began.replace(began);
    let (Some(mut first), Some(at)) = (first, cx.exchange.upstream) else { return };
    let (upstream, _) = &cx.snapshot.upstreams[at];
    let took = first_began.map_or(Duration::ZERO, |began| began.elapsed());
    if first_failed {
        upstream.note(&mut first, cx.exchange.call.as_mut(), Outcome { failed: true, took });
    } else {
        upstream.note_left(&mut first, took);
    }
    cx.exchange.tried.push(Arc::clone(first.endpoint()));
}
