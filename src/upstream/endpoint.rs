//! One endpoint, what is known of it across configurations, and a request's hold on it.

use super::breaker::{Breaker, Pass, Rules};
use super::ejection::Record;
use super::ewma::PeakEwma;
use super::guard::Clock;
use super::health::UNHEALTHY;
use super::peer::Peer;
use crate::retained::Carried;
use crate::values::EndpointAddress;
use http::HeaderValue;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One endpoint, compiled.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// The address as text, for logs and the admin listener.
    pub label: Box<str>,
    /// What it sees as Host where the configuration says `host: endpoint`.
    pub host: HeaderValue,
    /// Its weight.
    pub weight: u16,
    /// Its group; the lowest in which an endpoint is open gets the requests.
    pub priority: u8,
    /// What outlives the configuration.
    pub state: Arc<EndpointState>,
    /// What a sticky cookie says of it, where the upstream has one.
    pub(super) sticky_id: Option<u64>,
    pub(super) peer: Peer,
}

/// What is known of an endpoint across configurations.
#[derive(Debug, Default)]
pub struct EndpointState {
    /// Its upstream's.
    clock: Arc<Clock>,
    in_flight: AtomicU64,
    /// [`DRAINING`] and what else keeps requests away.
    closed: AtomicU8,
    /// How many probes in a row went well (positive) or failed (negative).
    pub(super) streak: AtomicI32,
    probed: Mutex<Option<Instant>>,
    /// What requests told of it.
    pub(super) record: Record,
    /// Its own breaker, where its upstream has such.
    pub(super) breaker: Breaker,
    /// How long its answers take.
    pub(super) ewma: PeakEwma,
    /// Since when it is there, or healthy again, in milliseconds of its upstream's clock.
    pub(super) since: AtomicU64,
}

/// An operator said so.
pub(super) const DRAINING: u8 = 1;

impl EndpointState {
    /// One that is there from now on.
    pub(super) fn new(clock: &Arc<Clock>) -> Self {
        Self { since: AtomicU64::new(clock.now()), clock: Arc::clone(clock), ..Self::default() }
    }

    /// Requests that are on their way to it now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// True if it gets no new requests because an operator said so.
    pub fn draining(&self) -> bool {
        self.is(DRAINING)
    }

    /// Starts or ends a drain.
    pub fn set_draining(&self, draining: bool) {
        self.set(DRAINING, draining);
    }

    /// How long ago its last probe began; none if there was none.
    pub fn since_probe(&self, now: Instant) -> Option<Duration> {
        self.probed.lock().map(|at| now.saturating_duration_since(at))
    }

    /// A probe begins.
    pub fn begin_probe(&self, now: Instant) {
        *self.probed.lock() = Some(now);
    }

    /// True if any of these bits keeps requests away.
    pub(super) fn is(&self, bits: u8) -> bool {
        self.closed.load(Ordering::Relaxed) & bits != 0
    }

    /// Sets or clears a bit; true if that changed it.
    pub(super) fn set(&self, bit: u8, on: bool) -> bool {
        let before = match on {
            true => self.closed.fetch_or(bit, Ordering::Relaxed),
            false => self.closed.fetch_and(!bit, Ordering::Relaxed),
        };
        (before & bit != 0) != on
    }
}

/// What keeps requests away, as the next process is told of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Closed {
    draining: bool,
    unhealthy: bool,
    /// For how many milliseconds its breaker lets nobody pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_open_ms: Option<u64>,
}

/// What an operator drains, probes found dead, or a breaker keeps requests from, gets none of the next process either.
impl Carried for EndpointState {
    const VERSION: u32 = 1;

    fn export(&self, _room: usize) -> Option<Value> {
        let left_open_ms = self.breaker.left_open(self.clock.now());
        let closed = Closed { draining: self.is(DRAINING), unhealthy: self.is(UNHEALTHY), left_open_ms };
        let value = serde_json::to_value(&closed).ok()?;
        (closed.draining || closed.unhealthy || left_open_ms.is_some()).then_some(value)
    }

    fn import(&self, _version: u32, data: Value) -> Result<(), String> {
        let closed: Closed = serde_json::from_value(data).map_err(|error| error.to_string())?;
        if closed.draining {
            self.set(DRAINING, true);
        }
        // What a probe of this process found out is newer.
        if closed.unhealthy && self.streak.load(Ordering::Relaxed) == 0 {
            self.set(UNHEALTHY, true);
        }
        if let Some(left) = closed.left_open_ms {
            self.breaker.take_over(left, self.clock.now());
        }
        Ok(())
    }
}

/// An endpoint that was chosen for a request, which counts as in flight there until this is
/// dropped, whatever happens to it. An endpoint that leaves its upstream lives until the last of
/// these.
#[derive(Debug)]
pub struct Choice {
    endpoint: Arc<Endpoint>,
    /// What its breaker said, until it is told what came of it.
    pass: Option<Pass>,
}

impl Choice {
    /// None if its breaker, where these are its rules, lets nobody pass at this millisecond.
    pub(super) fn new(endpoint: &Arc<Endpoint>, breaker: Option<&Rules>, now: u64) -> Option<Self> {
        let pass = match breaker {
            None => None,
            Some(rules) => Some(endpoint.state.breaker.ask(rules, now).ok()?),
        };
        endpoint.state.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Self { endpoint: Arc::clone(endpoint), pass })
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What its breaker said, which is about to be told what came of it.
    pub(super) const fn told(&mut self) -> Option<Pass> {
        self.pass.take()
    }
}

impl Drop for Choice {
    fn drop(&mut self) {
        if let Some(pass) = self.pass {
            self.endpoint.state.breaker.forget(pass);
        }
        self.endpoint.state.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
