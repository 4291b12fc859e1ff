//! What is known of a request. Each part is filled in one phase.

use super::hedge::Planned;
use super::phases::cache::{Fill, Visit};
use super::phases::hold::Held;
use super::stream::{self, Watched};
use crate::config::model::upstream::Condition;
use crate::listen::ConnInfo;
use crate::policy::context::PolicyContext;
use crate::rejection::Rejection;
use crate::runtime::snapshot::Host;
use crate::runtime::{Listener, Route, Snapshot};
use crate::telemetry::metrics::{InFlight, Substitute};
use crate::telemetry::trace::TraceContext;
use crate::upstream::retry::Further;
use crate::upstream::shed::Turn;
use crate::upstream::{Call, Choice, Endpoint, Outcome};
use crate::values::{Importance, ListenerId, RouteId};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A request, from its head to its line in the log. Dropped whatever happens to it, so what must
/// be given back is held by guards in it.
pub struct RequestContext {
    /// The configuration that this request ends on.
    pub snapshot: Arc<Snapshot>,
    /// When its head was there.
    pub started: Instant,
    /// The same on the wall clock, for the log.
    pub time: SystemTime,
    /// `admit`: the connection that it came by.
    pub conn: Option<Arc<ConnInfo>>,
    /// `admit`: whom it is addressed to, checked; empty if it names nobody.
    pub authority: Box<str>,
    /// `admit`: counts it as in flight.
    pub in_flight: Option<InFlight>,
    /// `admit`: its place in a trace.
    pub trace: Option<TraceContext>,
    /// `admit`: whether the peer's forwarding fields are believed.
    pub believed: bool,
    /// `check`: whether it has an `upgrade` field.
    pub upgrade: bool,
    /// `check`: how long the caller waits, where it speaks gRPC and says so.
    pub call_time: Option<Duration>,
    /// `check`: its route.
    pub route: Option<RouteId>,
    /// What the policies see.
    pub policy: PolicyContext,
    /// `hold`: the body, if a policy has to see it whole.
    pub held: Option<Box<Held>>,
    /// `cache`: what the cache knows of it.
    pub visit: Option<Box<Visit>>,
    /// `cache`: it is a flight, and nobody's client's.
    pub fill: Option<Arc<Fill>>,
    /// `connect`: the exchange with the upstream.
    pub exchange: Exchange,
    /// A refusal that waits for `fail` to be written, from a hook that cannot write.
    pub refused: Option<Box<Rejection>>,
    /// The code of what went wrong, for the log.
    pub cause: Option<&'static str>,
    /// `connect`: the watch over its HTTP/2 stream, if its body may outlast anybody's patience.
    pub watched: Option<Box<Watched>>,
}

/// What was cut has no other end than this.
impl Drop for RequestContext {
    fn drop(&mut self) {
        stream::conclude(self);
    }
}

/// The exchange with the upstream.
#[derive(Default)]
pub struct Exchange {
    /// Which upstream.
    pub upstream: Option<usize>,
    /// The endpoint of the attempt that is under way.
    pub choice: Option<Choice>,
    /// What its breaker said, where there is one.
    pub call: Option<Call>,
    /// Its room at the upstream, where that has limits.
    pub turn: Option<Turn>,
    /// Whether what came of the attempt under way has been noted.
    pub noted: bool,
    /// What of the request decides about its endpoint.
    pub hint: Option<u64>,
    /// How it goes to a second endpoint, if it may.
    pub hedge: Option<Planned>,
    /// Endpoints that failed.
    pub tried: Vec<Arc<Endpoint>>,
    /// Attempts begun.
    pub attempts: u8,
    /// Those of them that were made at upstreams which it has left.
    pub before: u8,
    /// Those at this one that only replaced a connection which had ended in the pool.
    pub renewals: u8,
    /// Held while it is tried again.
    pub further: Option<Further>,
    /// Steps of the route's fallback that were taken.
    pub steps: u8,
    /// Whether the upstream has still to let it in.
    pub is_due: bool,
    /// What failed last, if it was the upstream that failed.
    pub failure: Option<Condition>,
    /// Who answers in the place of the route's upstream.
    pub substitute: Option<Substitute>,
    /// How long the next attempt waits.
    pub wait: Duration,
    /// The longest that the whole may take.
    pub total: Duration,
    /// When it began to wait for room, if it had to.
    pub waited: Option<Instant>,
    /// When the first attempt began.
    pub began: Option<Instant>,
    /// How long connecting took, all attempts together.
    pub connecting: Duration,
    /// When the last attempt began.
    pub attempt_began: Option<Instant>,
}

impl RequestContext {
    /// A request that begins now, on this snapshot.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            started: Instant::now(),
            time: SystemTime::now(),
            conn: None,
            authority: Box::default(),
            in_flight: None,
            trace: None,
            believed: false,
            upgrade: false,
            call_time: None,
            route: None,
            policy: PolicyContext::new(),
            held: None,
            visit: None,
            fill: None,
            exchange: Exchange::default(),
            refused: None,
            cause: None,
            watched: None,
        }
    }

    /// Where it came in. Zero only for what came by no listener of ours.
    pub fn listener_id(&self) -> ListenerId {
        self.conn.as_ref().map_or(ListenerId(0), |conn| conn.listener())
    }

    /// The listener in this snapshot, unless a reload took it away.
    pub fn listener(&self) -> Option<&Listener> {
        self.snapshot.listener(self.listener_id())
    }

    /// The route, once `check` found one.
    pub fn route(&self) -> Option<&Route> {
        self.route.map(|id| self.snapshot.route(id))
    }

    /// What is special about the host, if anything is.
    pub fn host(&self, authority: &str) -> Option<&Host> {
        self.snapshot.hosts.get(crate::message::authority::host(authority))
    }

    /// Notes what came of the attempt that is under way, once: whether it failed, which no answer and a 5xx
    /// are.
    pub fn note_attempt(&mut self, failed: bool) {
        self.note_attempt_at(Instant::now(), failed);
    }

    /// The same for who has looked at the clock already.
    pub fn note_attempt_at(&mut self, now: Instant, failed: bool) {
        let (Some(at), Some(choice)) = (self.exchange.upstream, &mut self.exchange.choice) else { return };
        if std::mem::replace(&mut self.exchange.noted, true) {
            return;
        }
        let took =
            self.exchange.attempt_began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let (upstream, _) = &self.snapshot.upstreams[at];
        upstream.note(choice, self.exchange.call.as_mut(), Outcome { failed, took });
    }

    /// How much it matters: by its route, or else by the caller's plan.
    pub fn importance(&self) -> Importance {
        let of_plan = || self.snapshot.identity.plans().get(self.policy.plan()?)?.importance;
        self.route().and_then(|route| route.importance).or_else(of_plan).unwrap_or_default()
    }

    /// What is left of the exchange's time.
    pub fn left(&self) -> Duration {
        self.left_at(Instant::now())
    }

    /// The same for who has looked at the clock already.
    pub fn left_at(&self, now: Instant) -> Duration {
        let began = self.exchange.waited.or(self.exchange.began);
        let spent = began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.exchange.total.saturating_sub(spent)
    }
}
