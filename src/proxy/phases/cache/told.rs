//! What a flight tells those that it is for of its exchange.

use super::kept::Known;
use crate::cache::store::flight::Failure;
use crate::proxy::RequestContext;
use crate::telemetry::metrics::Substitute;
use crate::upstream::{Choice, Endpoint};
use http::StatusCode;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The part of a flight that its own hooks see, and the request that began it.
#[derive(Debug, Default)]
pub struct Fill {
    /// The exchange broke off: what came is not whole, whatever its framing says.
    broken: AtomicBool,
    /// What came is the gateway's own word, or somebody's who stands in for the upstream: it is never kept.
    stands_in: AtomicBool,
    /// What it asks about, where the route's `fallback` may want it.
    known: Option<Known>,
    /// How the upstream failed, if it was the upstream that did.
    outage: Mutex<Option<Failure>>,
    told: Mutex<Told>,
}

/// What a flight knows of its exchange, for the log line and the counts of the request that began it.
#[derive(Debug, Default)]
struct Told {
    upstream: Option<usize>,
    endpoint: Option<Arc<Endpoint>>,
    began: Option<Instant>,
    connecting: Duration,
    attempts: u8,
    cause: Option<&'static str>,
    substitute: Option<Substitute>,
}

impl Fill {
    pub(super) fn asking_about(known: Option<Known>) -> Self {
        Self { known, ..Self::default() }
    }

    pub(super) fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(super) fn stands_in(&self) -> bool {
        self.stands_in.load(Ordering::Acquire)
    }

    /// Notes how the exchange went, before anything of its answer is passed on.
    pub fn note(&self, cx: &RequestContext) {
        let exchange = &cx.exchange;
        let endpoint = exchange.choice.as_ref().map(Choice::endpoint).or(exchange.tried.last());
        *self.told.lock() = Told {
            upstream: exchange.upstream,
            endpoint: endpoint.map(Arc::clone),
            began: exchange.began,
            connecting: exchange.connecting,
            attempts: exchange.attempts,
            cause: cx.cause,
            substitute: exchange.substitute,
        };
        if exchange.substitute.is_some() {
            self.stands_in.store(true, Ordering::Release);
        }
    }

    /// Notes that it failed, and why; `broken` if something had come by then, which is not whole. `outage`, if it
    /// was the upstream that failed, and nothing that is this request's own.
    pub fn fail(&self, cause: &'static str, broken: bool, outage: Option<Failure>) {
        self.broken.fetch_or(broken, Ordering::AcqRel);
        self.told.lock().cause = Some(cause);
        *self.outage.lock() = outage;
    }

    /// What those that wait learn when the answer is the gateway's own, with this status, or somebody's who stands in.
    pub(super) fn failure(&self, status: StatusCode) -> Failure {
        let own = || {
            let is_error = self.told.lock().substitute.is_none();
            Failure { status: is_error.then_some(status.as_u16()), ..Failure::default() }
        };
        self.outage.lock().unwrap_or_else(own)
    }

    /// Notes that the gateway answers itself.
    pub fn answer_ourselves(&self, cx: &RequestContext) {
        self.note(cx);
        self.stands_in.store(true, Ordering::Release);
    }

    /// Why the upstream failed, if what is kept stands in.
    pub(super) fn stands_in_by_kept(&self) -> Option<&'static str> {
        let told = self.told.lock();
        told.cause.filter(|_| told.substitute == Some(Substitute::Stale))
    }

    /// Tells the request that began it how the exchange went.
    pub fn tell(&self, cx: &mut RequestContext) {
        let told = std::mem::take(&mut *self.told.lock());
        if cx.exchange.upstream.is_some() {
            // It went on by itself, and knows better.
            return;
        }
        cx.exchange.upstream = told.upstream;
        cx.exchange.tried.extend(told.endpoint);
        cx.exchange.began = told.began;
        cx.exchange.connecting = told.connecting;
        cx.exchange.attempts = told.attempts;
        cx.exchange.substitute = cx.exchange.substitute.or(told.substitute);
        cx.cause = cx.cause.or(told.cause);
    }
}
