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
mod fields;
mod limit;

#[cfg(test)]
mod tests;

pub use config::{CostConfig, FieldsConfig, LimitConfig, RateLimitConfig};
pub use limit::{Limit, plan_problem};

use super::context::PolicyContext;
use super::shared::gcra::{Ask, Outcome, Pace, Store, Ticks, span};
use super::shared::list::Listed as _;
use super::{CompileEnv, Policy, Step};
use crate::rejection::Rejection;
use crate::values::{ConfigPath, Finding, Problem};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;

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
#[derive(Clone, Copy, Debug)]
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
}

impl<const CALLER: bool> Policy for RateLimit<CALLER> {
    const NAME: &'static str = "rate_limit";
    type Config = RateLimitConfig;

    fn compile(config: &RateLimitConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let store = Store::of_process(&env.retained, env.limit_keys);
        let mut found = Vec::new();
        if !(1..=LimitConfig::MOST).contains(&config.0.len()) {
            let problem = Problem::new(format!(
                "{} limits, and one to {} can be",
                config.0.len(),
                LimitConfig::MOST
            ))
            .remedy("write `{ key: client_ip, rate: 100/s }`, or take the policy out with `rate_limit: off`");
            return Err(vec![Finding::error(ConfigPath::root(), problem)]);
        }
        let mut limits: Vec<Limit> = Vec::with_capacity(config.0.len());
        for (index, limit) in config.0.iter().enumerate() {
            let path = if config.0.len() > 1 { ConfigPath::root().index(index) } else { ConfigPath::root() };
            match Limit::compile(limit, &store, env) {
                Ok(limit) if limits.iter().any(|known| known.name() == limit.name()) => {
                    let problem = Problem::new(format!("there are two limits `{}`", limit.name()))
                        .remedy("give one of them another `name`");
                    found.push(Finding::error(path, problem));
                }
                Ok(limit) => limits.push(limit),
                Err(wrong) => found.extend(wrong.into_iter().map(|finding| finding.under(&path))),
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        limits.retain(|limit| limit.needs_caller() == CALLER);
        Ok(Self { limits: limits.into(), store })
    }

    fn is_idle(&self) -> bool {
        self.limits.is_empty()
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        let now = self.store.now();
        let mut asks = Vec::with_capacity(self.limits.len());
        let mut asked = Vec::with_capacity(self.limits.len());
        for limit in self.limits.iter().filter(|limit| !limit.is_shadow()) {
            if let Some(ask) = limit.ask(&self.store, head, cx) {
                asks.push(ask);
                asked.push(limit);
            }
        }
        let outcome = if asks.is_empty() { Outcome::Admitted } else { self.store.take(&asks, now) };
        let admitted = outcome == Outcome::Admitted;
        let mark = |(limit, ask): (&&Limit, &Ask<'_>)| Mark::new(limit, ask, admitted);
        cx.limits.extend(asked.iter().zip(&asks).map(mark));
        match outcome {
            Outcome::Admitted => {
                asked.iter().for_each(|limit| limit.metrics().admitted());
                self.try_shadows(head, cx, now);
                Step::Continue
            }
            Outcome::Refused { by, wait } => {
                for mark in cx.limits.iter_mut().filter(|mark| mark.taken > 0) {
                    self.store.give_back((mark.digest, mark.pace), mark.taken);
                    mark.taken = 0;
                }
                asked.get(by).into_iter().for_each(|limit| limit.metrics().refused());
                Step::reject(refusal(asked.get(by).map_or("", |limit| limit.name()), wait))
            }
        }
    }

    fn on_response(&self, _: &RequestHeader, answer: &mut ResponseHeader, cx: &mut PolicyContext) {
        if cx.limits.is_empty() {
            return;
        }
        let now = self.store.now();
        let refused = cx.limits.iter().any(|mark| mark.refused);
        let mut told = fields::Fields::default();
        for mark in &mut cx.limits {
            let Some(limit) = self.limits.iter().find(|limit| limit.family().id() == mark.family) else {
                continue;
            };
            if !mark.settled && mark.taken > 0 {
                mark.settled = limit.settle(&self.store, mark, answer, now);
            }
            let tells = match limit.fields() {
                FieldsConfig::Always => !limit.is_shadow(),
                FieldsConfig::Refused => refused && !limit.is_shadow(),
                FieldsConfig::Never => false,
            };
            if tells {
                let full = self.store.full(mark.digest, mark.pace, now);
                told.add(limit.name(), mark, (full, now));
            }
        }
        told.write(answer);
    }
}

impl<const CALLER: bool> RateLimit<CALLER> {
    /// Those that only count: each by itself, and only for requests that go on.
    fn try_shadows(&self, head: &RequestHeader, cx: &mut PolicyContext, now: Ticks) {
        for limit in self.limits.iter().filter(|limit| limit.is_shadow()) {
            let Some(ask) = limit.ask(&self.store, head, cx) else { continue };
            if self.store.take(&[ask], now) == Outcome::Admitted {
                limit.metrics().admitted();
                cx.limits.push(Mark::new(limit, &ask, true));
            } else {
                limit.metrics().would_refuse();
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
        }
    }
}

fn refusal(by: &str, wait: Ticks) -> Rejection {
    let rejection =
        Rejection::new(StatusCode::TOO_MANY_REQUESTS, RATE_LIMITED, "There were too many requests");
    rejection
        .header(RETRY_AFTER, HeaderValue::from(seconds(wait).max(1)))
        .detail(format!("limit={by} wait={:?}", span(wait)))
}

/// Whole seconds, rounded up.
fn seconds(ticks: Ticks) -> u64 {
    let span = span(ticks);
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
