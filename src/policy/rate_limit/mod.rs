//! How often requests may come.
//!
//! ```yaml
//! rate_limit:
//!   - { key: client_ip, rate: 100/s, burst: 200 }
//!   - { name: writes, key: [consumer, route], rate: 30/m, cost: { cel: 'request.method == "GET" ? 0 : 1' } }
//!   - { key: consumer, plan: true, fields: always }
//! ```
//!
//! All limits have to admit a request, and whichever refuses it, it costs nothing at the others. Limits by
//! what is known without a caller run before anything asks who calls; the others right after it is known
//! what the caller may do. What a limit has counted outlives a reload, also one that changes its rate.

mod config;
mod lease;
mod limit;
mod shared;
mod together;

#[cfg(test)]
mod tests;

pub use config::{LimitConfig, RateLimitConfig};
pub use lease::Leases;
pub use limit::{Limit, plan_problem};

use super::context::PolicyContext;
use super::shared::fields::{Fields, Told};
use super::shared::gcra::{Ask, Outcome, Pace, Store, Ticks, span};
use super::shared::terms::several_stores;
use super::{CompileEnv, Policy, Step, Verdict};
use crate::rejection::Rejection;
use crate::values::Finding;
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use together::Remote;

/// Limits whose keys need no caller.
pub type ClientLimits = RateLimit<false>;
/// Limits whose keys are known once the caller is.
pub type CallerLimits = RateLimit<true>;

/// [`RateLimitConfig`], compiled: the limits of one of the two stages.
#[derive(Debug)]
pub struct RateLimit<const CALLER: bool> {
    limits: Box<[Limit]>,
    store: Arc<Store>,
}

/// There were too many requests.
pub const RATE_LIMITED: &str = "rate_limited";

/// What a limit did to a request.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Which limit, by its family.
    family: u64,
    digest: u64,
    pace: Pace,
    /// What was asked for.
    cost: Ticks,
    /// What was taken.
    taken: Ticks,
    /// The policy of this limit refused the request.
    refused: bool,
    /// What the answer says of its cost has been read.
    settled: bool,
    /// Where it was taken, if that was not here.
    remote: Option<Box<Remote>>,
}

impl<const CALLER: bool> Policy for RateLimit<CALLER> {
    const NAME: &'static str = "rate_limit";
    const LIMITS: bool = true;
    type Config = RateLimitConfig;

    fn compile(config: &RateLimitConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let store = Store::of_process(&env.retained, env.limit_keys);
        let mut limits = config.compile(|limit| Limit::compile(limit, &store, env), Limit::name)?;
        if let Some(wrong) = several_stores(limits.iter().map(|limit| &limit.terms), "limits") {
            return Err(vec![wrong]);
        }
        limits.retain(|limit| limit.needs_caller() == CALLER);
        Ok(Self { limits: limits.into(), store })
    }

    fn is_idle(&self) -> bool {
        self.limits.is_empty()
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        if let Err(rejection) = self.take_here(head, cx) {
            return Step::Reject(rejection);
        }
        if self.limits.iter().any(|limit| limit.terms.shared.is_some() && !limit.terms.shadow) {
            return Step::Wait(Box::pin(async move {
                let decided = self.take_there(head, cx).await;
                decided.map_or_else(Verdict::Reject, |()| {
                    self.try_shadows(head, cx);
                    Verdict::Continue
                })
            }));
        }
        self.try_shadows(head, cx);
        Step::Continue
    }

    fn give_back(&self, cx: &mut PolicyContext) {
        for mark in cx.limits.iter_mut().filter(|mark| mark.taken > 0) {
            match &mut mark.remote {
                Some(remote) => remote.give_back(mark.pace, mark.taken, self.store.now()),
                None => self.store.give_back((mark.digest, mark.pace), mark.taken),
            }
            mark.taken = 0;
        }
    }

    fn on_response(&self, _: &RequestHeader, answer: &mut ResponseHeader, cx: &mut PolicyContext) {
        if cx.limits.is_empty() {
            return;
        }
        let now = self.store.now();
        let refused = cx.limits.iter().any(|mark| mark.refused);
        let mut told = Fields::default();
        for mark in &mut cx.limits {
            let Some(limit) = self.limits.iter().find(|limit| limit.family().id() == mark.family) else {
                continue;
            };
            if !mark.settled && mark.taken > 0 {
                mark.settled = limit.settle(&self.store, mark, answer, now);
            }
            if limit.terms.fields.tells(refused) && !limit.terms.shadow {
                let here = || self.store.full(mark.digest, mark.pace, now);
                let full = mark.remote.as_ref().map_or_else(here, |remote| remote.full());
                told.add(limit.name(), mark.told(full, now));
            }
        }
        told.write(answer);
    }
}

impl<const CALLER: bool> RateLimit<CALLER> {
    /// Those that this gateway decides by itself.
    fn take_here(&self, head: &RequestHeader, cx: &mut PolicyContext) -> Result<(), Box<Rejection>> {
        let asked = self.limits.iter().filter(|limit| !limit.terms.shadow && limit.terms.shared.is_none());
        let asked = asked.filter_map(|limit| Some((limit, limit.ask(&self.store, head, cx)?))).collect();
        self.take(asked, cx)
    }

    fn take(&self, asked: Vec<(&Limit, Ask<'_>)>, cx: &mut PolicyContext) -> Result<(), Box<Rejection>> {
        if asked.is_empty() {
            return Ok(());
        }
        let (limits, asks): (Vec<&Limit>, Vec<Ask<'_>>) = asked.into_iter().unzip();
        let outcome = self.store.take(&asks, self.store.now());
        let admitted = outcome == Outcome::Admitted;
        cx.limits.extend(limits.iter().zip(&asks).map(|(limit, ask)| Mark::new(limit, ask, admitted)));
        match outcome {
            Outcome::Admitted => {
                limits.iter().for_each(|limit| limit.terms.metrics.admitted());
                Ok(())
            }
            Outcome::Refused { by, wait } => Err(Self::refuse(limits.get(by).copied(), wait)),
        }
    }

    fn refuse(by: Option<&Limit>, wait: Ticks) -> Box<Rejection> {
        by.into_iter().for_each(|limit| limit.terms.metrics.refused());
        Box::new(refusal(by.map_or("", Limit::name), wait))
    }

    /// Those that only count: each by itself, by what this gateway sees, and only for requests that go on.
    fn try_shadows(&self, head: &RequestHeader, cx: &mut PolicyContext) {
        let now = self.store.now();
        for limit in self.limits.iter().filter(|limit| limit.terms.shadow) {
            let Some(ask) = limit.ask(&self.store, head, cx) else { continue };
            if self.store.take(&[ask], now) == Outcome::Admitted {
                limit.terms.metrics.admitted();
                cx.limits.push(Mark::new(limit, &ask, true));
            } else {
                limit.terms.metrics.would_refuse();
            }
        }
    }

    /// The limits, for who explains them.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }
}

impl Mark {
    fn new(limit: &Limit, ask: &Ask<'_>, taken: bool) -> Self {
        Self {
            family: limit.family().id(),
            digest: ask.digest,
            pace: ask.pace,
            cost: ask.cost,
            taken: if taken { ask.cost } else { 0 },
            refused: !taken,
            settled: false,
            remote: None,
        }
    }

    /// `q` is the burst, `w` the seconds in which all of it comes back, `r` what could be had at once, and `t`
    /// the seconds until there is a whole unit more, or what a refused request asked for, so that `t` never is
    /// beyond `Retry-After`.
    fn told(&self, full: Ticks, now: Ticks) -> Told {
        let pace = self.pace;
        let wait = match pace.take(full, now, self.cost) {
            Err(wait) if self.refused => Some(wait),
            _ => pace.until_more(full, now),
        };
        Told {
            quota: pace.burst().into(),
            window: seconds(pace.whole()),
            left: pace.left(full, now).into(),
            more_in: wait.map(seconds),
        }
    }
}

fn refusal(by: &str, wait: Ticks) -> Rejection {
    let rejection =
        Rejection::new(StatusCode::TOO_MANY_REQUESTS, RATE_LIMITED, "There were too many requests");
    rejection
        .header(RETRY_AFTER, HeaderValue::from(seconds(wait).max(1)))
        .detail(format!("limit={by} wait={}s", seconds(wait)))
}

/// Whole seconds, rounded up.
fn seconds(ticks: Ticks) -> u64 {
    let span = span(ticks);
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
