//! How many requests may come in a period: a minute, an hour, a day, a week, a month.
//!
//! ```yaml
//! quota:
//!   - { name: month, key: consumer, plan: true }
//!   - { key: consumer, max: 10000/day, zone: Europe/Berlin, fields: always }
//!   - { name: burst, key: client_ip, max: 500/hour, window: rolling }
//! ```
//!
//! All quotas have to admit a request, and whichever refuses it, it costs nothing at the others, nor at rate
//! limits. What is used outlives reloads, plans that change, upgrades and restarts: it is in a file
//! ([`file`]), which is at most a second old; or in a store that several gateways count in ([`shared`]).

mod allowance;
mod carried;
mod config;
pub mod count;
pub mod file;
mod parts;
mod shared;
mod store;
mod together;
mod usage;

#[cfg(test)]
mod tests;

pub use allowance::Allowance;
pub use config::{QuotaConfig, QuotasConfig, WindowConfig};
pub use store::{Store, now};
pub use usage::{PAGE, Wanted};

use super::context::PolicyContext;
use super::shared::fields::{Fields, Told};
use super::shared::terms::several_stores;
use super::{CompileEnv, Policy, Step, Verdict};
use crate::rejection::Rejection;
use crate::values::{Finding, Period};
use count::{At, Millis};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use store::{Ask, Digest, Outcome};
use together::Remote;

/// [`QuotasConfig`], compiled.
#[derive(Debug)]
pub struct Quotas {
    all: Box<[Allowance]>,
    store: Arc<Store>,
}

/// A quota is used up.
pub const QUOTA_EXCEEDED: &str = "quota_exceeded";

/// What a quota did to a request.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Which quota.
    quota: Arc<str>,
    digest: Digest,
    /// When.
    at: At,
    period: Period,
    max: u64,
    /// What was taken.
    taken: u64,
    /// How long this request would have to wait, if the policy refused it: in milliseconds, from then on.
    refused: Option<Millis>,
    /// What the answer says of its cost has been read.
    settled: bool,
    /// Where it was taken, if that was not here.
    remote: Option<Box<Remote>>,
}

impl Policy for Quotas {
    const NAME: &'static str = "quota";
    const LIMITS: bool = true;
    type Config = QuotasConfig;

    fn compile(config: &QuotasConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let all = config.compile(|quota| Allowance::compile(quota, env), Allowance::name)?;
        if let Some(wrong) = several_stores(all.iter().map(|quota| &quota.terms), "quotas") {
            return Err(vec![wrong]);
        }
        Ok(Self { all: all.into(), store: Store::of_process(&env.retained, env.quota_keys) })
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        if let Err(rejection) = self.take_here(head, cx) {
            return Step::Reject(rejection);
        }
        if self.all.iter().any(|quota| quota.terms.shared.is_some() && !quota.terms.shadow) {
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
        for mark in cx.quotas.iter_mut().filter(|mark| mark.taken > 0 && self.of(mark).is_some()) {
            match &mark.remote {
                Some(remote) => remote.adjust(mark.at, (mark.taken, 0)),
                None => self.store.give_back(&mark.digest, mark.at, mark.taken),
            }
            mark.taken = 0;
        }
    }

    fn on_response(&self, _: &RequestHeader, answer: &mut ResponseHeader, cx: &mut PolicyContext) {
        if cx.quotas.is_empty() {
            return;
        }
        let now = now();
        let refused = cx.quotas.iter().any(|mark| mark.refused.is_some());
        let mut told = Fields::default();
        for mark in &mut cx.quotas {
            let Some(quota) = self.of(mark) else { continue };
            self.settle(quota, mark, answer, now);
            if quota.terms.fields.tells(refused) && !quota.terms.shadow {
                told.add(quota.name(), self.told(quota, mark, now));
            }
        }
        told.write(answer);
    }
}

impl Quotas {
    /// From those that this gateway counts by itself.
    fn take_here(&self, head: &RequestHeader, cx: &mut PolicyContext) -> Result<(), Box<Rejection>> {
        let asked = self.all.iter().filter(|quota| !quota.terms.shadow && quota.terms.shared.is_none());
        self.take(asked, head, cx, |_| {})
    }

    /// Takes from all of these, or refuses; `taken` sees what was asked and admitted.
    fn take<'q>(
        &'q self,
        of: impl Iterator<Item = &'q Allowance>,
        head: &RequestHeader,
        cx: &mut PolicyContext,
        taken: impl Fn(&Ask<'_>),
    ) -> Result<(), Box<Rejection>> {
        let now = now();
        let count = self.all.len();
        let mut quotas = Vec::with_capacity(count);
        let mut asks: Vec<Ask<'_>> = Vec::with_capacity(count);
        let mut marks = Vec::with_capacity(count);
        for quota in of {
            let Some((ask, period)) = quota.ask(head, cx, now) else { continue };
            marks.push(Mark::new(&ask, period));
            quotas.push(quota);
            asks.push(ask);
        }
        if asks.is_empty() {
            return Ok(());
        }
        let label = |at: usize| quotas.get(at).map(|quota| quota.label(head, cx)).unwrap_or_default();
        let outcome = self.store.take(&asks, label);
        let Outcome::Refused { by, wait } = outcome else {
            quotas.iter().for_each(|quota| quota.terms.metrics.admitted());
            asks.iter().for_each(taken);
            cx.quotas.extend(marks);
            return Ok(());
        };
        cx.quotas.extend(Mark::refused(marks, (by, wait)));
        Err(refuse(quotas.get(by).copied(), wait))
    }

    /// Those that only count, each by what this gateway sees.
    fn try_shadows(&self, head: &RequestHeader, cx: &mut PolicyContext) {
        let now = now();
        for quota in self.all.iter().filter(|quota| quota.terms.shadow) {
            let Some((ask, period)) = quota.ask(head, cx, now) else { continue };
            let mark = Mark::new(&ask, period);
            if self.store.take(std::slice::from_ref(&ask), |_| quota.label(head, cx)) == Outcome::Admitted {
                quota.terms.metrics.admitted();
                cx.quotas.push(mark);
            } else {
                quota.terms.metrics.would_refuse();
            }
        }
    }

    fn of(&self, mark: &Mark) -> Option<&Allowance> {
        self.all.iter().find(|quota| quota.terms.id == mark.quota)
    }

    /// Charges what the answer says that the request cost, in place of what it was charged.
    fn settle(&self, quota: &Allowance, mark: &mut Mark, answer: &ResponseHeader, now: Millis) {
        if mark.settled || mark.taken == 0 || !quota.terms.cost.is_told() {
            return;
        }
        let Some(cost) = quota.terms.cost.told(answer) else { return };
        let cost = cost.min(mark.max);
        mark.settled = true;
        if let Some(remote) = &mut mark.remote {
            remote.settle(mark.at, (mark.taken, cost));
        } else if cost < mark.taken {
            self.store.give_back(&mark.digest, mark.at, mark.taken - cost);
        } else if cost > mark.taken {
            self.store.charge(&mark.digest, quota.window(mark.period).at(now), cost - mark.taken);
        }
        mark.taken = cost;
    }

    /// `q` is the most in a period, `w` that period in seconds, `r` what is left, and `t` the seconds until
    /// there is more, or as much as a refused request asked for.
    fn told(&self, quota: &Allowance, mark: &Mark, now: Millis) -> Told {
        let window = quota.window(mark.period);
        let now = mark.remote.as_ref().map_or(now, |remote| remote.now());
        let at = window.at(now);
        let here = || self.store.state(&mark.digest, at);
        let state = mark.remote.as_ref().map_or_else(here, |remote| remote.state);
        let more = state.more_at.map(|then| then.saturating_sub(now));
        let wait = mark.refused.filter(|wait| *wait > 0).map(|wait| (mark.at.now + wait).saturating_sub(now));
        Told {
            quota: mark.max,
            window: window.seconds(at),
            left: mark.max.saturating_sub(state.used),
            more_in: wait.or(more).map(|millis| millis.div_ceil(1000)),
        }
    }

    /// The quotas, for who explains them.
    pub fn all(&self) -> &[Allowance] {
        &self.all
    }
}

impl Mark {
    fn new(ask: &Ask<'_>, period: Period) -> Self {
        Self {
            quota: Arc::clone(ask.quota),
            digest: ask.digest,
            at: ask.at,
            period,
            max: ask.max,
            taken: ask.cost,
            refused: None,
            settled: false,
            remote: None,
        }
    }

    /// Of a request that one of them refuses.
    fn refused(marks: Vec<Self>, (by, wait): (usize, Millis)) -> impl Iterator<Item = Self> {
        let of = move |(at, mark)| Self { taken: 0, refused: Some(if at == by { wait } else { 0 }), ..mark };
        marks.into_iter().enumerate().map(of)
    }
}

fn refuse(by: Option<&Allowance>, wait: Millis) -> Box<Rejection> {
    by.into_iter().for_each(|quota| quota.terms.metrics.refused());
    Box::new(refusal(by.map_or("", Allowance::name), wait))
}

fn refusal(by: &str, wait: Millis) -> Rejection {
    let title = "The quota of this period is used up";
    Rejection::new(StatusCode::TOO_MANY_REQUESTS, QUOTA_EXCEEDED, title)
        .header(RETRY_AFTER, HeaderValue::from(wait.div_ceil(1000).max(1)))
        .detail(format!("quota={by} wait={}s", wait.div_ceil(1000)))
}
