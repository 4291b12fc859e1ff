//! How many requests may be in flight at once.
//!
//! ```yaml
//! concurrency:
//!   - { key: client_ip, max: 20 }
//!   - { name: plan, key: consumer, plan: true }
//! ```
//!
//! A request counts from its head until its answer has gone out, or until it ends otherwise: the client goes,
//! a time is over, the tunnel that it became is closed.

use super::context::PolicyContext;
use super::shared::in_flight::{InFlight, Permit};
use super::shared::key::{Key, KeyConfig};
use super::shared::list::{Listed, OneOrMany};
use super::{CompileEnv, Policy, Step, at};
use crate::rejection::Rejection;
use crate::telemetry::metrics::LimitMetrics;
use crate::values::{ConfigPath, Finding, Name, Problem};
use ahash::HashMap;
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::hash::Hasher as _;
use std::num::NonZeroU32;
use std::sync::Arc;

/// How many requests may be in flight: bounds that all have to admit a request.
pub type ConcurrencyConfig = OneOrMany<BoundConfig>;

/// A bound of requests in flight. What goes beyond it is answered with 429.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BoundConfig {
    /// Its name, in metrics and in the log. Default: its key, such as `client_ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// By what requests are told apart. Default `client_ip`.
    pub key: KeyConfig,
    /// The most in flight for each key. It is needed unless there is `plan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<NonZeroU32>,
    /// Whether the caller's plan says how many. `max` is then for callers whose plan says nothing; without
    /// it they are not bounded. Default false.
    pub plan: bool,
    /// Whether it only counts whom it would refuse. Default false.
    pub shadow: bool,
}

impl Listed for BoundConfig {
    const EXPECTED: &'static str = "a bound such as `{ key: client_ip, max: 20 }`";
    const DESCRIPTION: &'static str = "How many requests may be in flight: a bound, or a list of bounds, all of which have to admit a request.";
    const NAME: &'static str = "Concurrency";
    const MOST: usize = 8;
    const SEVERAL: &'static str = "bounds";
    const POLICY: &'static str = Concurrency::NAME;
}

/// [`ConcurrencyConfig`], compiled.
#[derive(Debug)]
pub struct Concurrency {
    bounds: Box<[Bound]>,
    in_flight: Arc<InFlight>,
}

/// [`BoundConfig`], compiled.
#[derive(Debug)]
pub struct Bound {
    name: Box<str>,
    key: Key,
    family: u64,
    max: Option<u32>,
    plans: Option<HashMap<Box<str>, u32>>,
    shadow: bool,
    metrics: Arc<LimitMetrics>,
}

/// There are too many requests in flight.
pub const TOO_MANY_IN_FLIGHT: &str = "too_many_in_flight";

/// When to come again, in seconds: nobody knows when a request ends.
const SOON: HeaderValue = HeaderValue::from_static("1");

impl Policy for Concurrency {
    const NAME: &'static str = "concurrency";
    const LIMITS: bool = true;
    type Config = ConcurrencyConfig;

    fn compile(config: &ConcurrencyConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let in_flight = InFlight::of_process(&env.retained);
        let bounds = config.compile(|bound| Bound::compile(bound, &in_flight, env), |bound| &bound.name)?;
        Ok(Self { bounds: bounds.into(), in_flight })
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        let before = cx.permits.len();
        for bound in &self.bounds {
            let Some(most) = bound.most(cx) else { continue };
            match self.enter(bound, most, head, cx) {
                Some(permit) => {
                    bound.metrics.admitted();
                    cx.permits.push(permit);
                }
                None if bound.shadow => bound.metrics.would_refuse(),
                None => {
                    cx.permits.truncate(before);
                    bound.metrics.refused();
                    return Step::reject(refusal(bound, most));
                }
            }
        }
        Step::Continue
    }
}

impl Concurrency {
    fn enter(&self, bound: &Bound, most: u32, head: &RequestHeader, cx: &PolicyContext) -> Option<Permit> {
        let mut hasher = self.in_flight.hasher(bound.family);
        bound.key.digest(&mut hasher, head, cx);
        self.in_flight.enter(hasher.finish(), most)
    }

    /// The bounds, for who explains them.
    pub fn bounds(&self) -> &[Bound] {
        &self.bounds
    }
}

fn refusal(bound: &Bound, most: u32) -> Rejection {
    let title = "There are too many requests at once";
    Rejection::new(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_IN_FLIGHT, title)
        .header(RETRY_AFTER, SOON)
        .detail(format!("bound={} max={most}", bound.name))
}

impl Bound {
    fn compile(
        config: &BoundConfig,
        in_flight: &InFlight,
        env: &CompileEnv<'_>,
    ) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let key = Key::compile(&config.key, &env.scope).map_err(|wrong| {
            let at = ConfigPath::root().key("key");
            wrong.into_iter().map(|finding| finding.under(&at)).collect::<Vec<_>>()
        })?;
        let plans = config.plan.then(|| {
            let plans = env.identity.plans().iter();
            plans.filter_map(|(name, plan)| Some((name.as_str().into(), plan.concurrency?.get()))).collect()
        });
        if plans.as_ref().is_some_and(HashMap::is_empty) && config.max.is_none() {
            let problem = Problem::new("no plan has a concurrency: nobody would be bounded")
                .remedy("give a plan `concurrency: 20`, or the bound a `max` of its own");
            found.push(at("plan", problem));
        }
        if config.max.is_none() && !config.plan {
            let problem = Problem::new("nothing says how many may be in flight")
                .remedy("write a number such as `max: 20`, or `plan: true` for what the caller's plan says");
            found.push(at("max", problem));
        }
        if !found.is_empty() {
            return Err(found);
        }
        let place = env.place.borrow();
        let name: Box<str> = config.name.as_ref().map_or_else(|| key.as_str(), Name::as_str).into();
        let family = in_flight.family(&format!("{place}/{name}/{}", key.as_str()));
        let metrics = match &env.metrics {
            Some(metrics) => metrics.limit(&place.to_string(), &name),
            None => Arc::new(LimitMetrics::unseen()),
        };
        let (max, shadow) = (config.max.map(NonZeroU32::get), config.shadow);
        Ok(Self { name, key, family, max, plans, shadow, metrics })
    }

    fn most(&self, cx: &PolicyContext) -> Option<u32> {
        self.plans.as_ref().and_then(|plans| plans.get(cx.plan()?)).copied().or(self.max)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// By what it tells requests apart.
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// True if it is decided by who calls.
    pub fn needs_caller(&self) -> bool {
        self.key.needs_caller() || self.plans.is_some()
    }

    /// True if plans say how many.
    pub const fn goes_by_plans(&self) -> bool {
        self.plans.is_some()
    }

    /// True if callers without a plan are not bounded.
    pub const fn is_for_plans_alone(&self) -> bool {
        self.plans.is_some() && self.max.is_none()
    }

    /// In words, for who explains it: `client_ip: 20 in flight`.
    pub fn explain(&self, cx: &PolicyContext) -> String {
        let shadow = if self.shadow { ", only counted" } else { "" };
        match self.most(cx) {
            Some(most) => format!("{}: {most} in flight{shadow}", self.name),
            None => format!("{}: does not concern this caller", self.name),
        }
    }
}
