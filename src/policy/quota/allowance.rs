//! One quota.

use super::config::{QuotaConfig, WindowConfig};
use super::count::{Millis, Window};
use super::shared::Shared;
use super::store::{Ask, Digest};
use crate::policy::context::PolicyContext;
use crate::policy::shared::cost::Cost;
use crate::policy::shared::fields::FieldsConfig;
use crate::policy::shared::key::Key;
use crate::policy::shared::store_failure::OnFailure;
use crate::policy::{CompileEnv, at};
use crate::telemetry::metrics::LimitMetrics;
use crate::values::{ConfigPath, Finding, Name, Period, Problem, Quota, Zone};
use ahash::HashMap;
use pingora_http::RequestHeader;
use std::sync::Arc;

/// [`QuotaConfig`], compiled.
#[derive(Debug)]
pub struct Allowance {
    name: Box<str>,
    key: Key,
    /// What its counts are found by: where it stands, its name, its key.
    id: Arc<str>,
    /// For callers whose plan says nothing, and where plans do not count.
    max: Option<Quota>,
    /// By the plan's name, where plans count.
    plans: Option<HashMap<Box<str>, Quota>>,
    /// By period, and what its keys are digested with.
    windows: [(Window, Box<str>); Period::ALL.len()],
    rolling: bool,
    zone: Zone,
    cost: Cost,
    shadow: bool,
    fields: FieldsConfig,
    metrics: Arc<LimitMetrics>,
    /// The store that counts, by its name, and how it is asked.
    shared: Option<(Name, Arc<Shared>)>,
    on_failure: OnFailure,
}

impl Allowance {
    pub(super) fn compile(config: &QuotaConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let key = Key::compile(&config.key, &env.scope).map_err(|wrong| {
            let at = ConfigPath::root().key("key");
            found.extend(wrong.into_iter().map(|finding| finding.under(&at)));
        });
        let cost = Cost::compile(&config.cost, &env.scope).map_err(|wrong| found.push(wrong));
        if config.max.is_none() && !config.plan {
            let problem = Problem::new("nothing says how many may come").remedy(
                "write a quota such as `max: 10000/day`, or `plan: true` for what the caller's plan says",
            );
            found.push(at("max", problem));
        }
        if let (Ok(Cost::Units(units)), Some(max)) = (&cost, config.max)
            && u64::from(*units) > max.count()
        {
            let problem =
                Problem::new(format!("a request costs {units}, and there are {} at most", max.count()));
            found.push(at("cost", problem.remedy("raise `max`, or lower `cost`")));
        }
        if config.window == WindowConfig::Rolling && config.zone != Zone::default() {
            let problem = Problem::new("a time zone says when days begin, and a rolling window has none");
            found.push(at("zone", problem.remedy("take it away, or write `window: calendar`")));
        }
        let plans: Option<HashMap<Box<str>, Quota>> = config.plan.then(|| {
            let plans = env.identity.plans().iter();
            plans.filter_map(|(name, plan)| Some((name.as_str().into(), plan.quota?))).collect()
        });
        if plans.as_ref().is_some_and(HashMap::is_empty) && config.max.is_none() {
            let problem = Problem::new("no plan has a quota: nobody would have one")
                .remedy("give a plan `quota: 10000/day`, or the policy a `max` of its own");
            found.push(at("plan", problem));
        }
        let shared = config.shared.as_ref().and_then(|name| match env.stores.get(name) {
            Ok(store) => Some((name.clone(), Arc::new(Shared::new(store)))),
            Err(problem) => {
                found.extend(problem.map(|problem| at("shared", problem)));
                None
            }
        });
        let (true, Ok(key), Ok(cost)) = (found.is_empty(), key, cost) else { return Err(found) };
        let name: Box<str> = config.name.as_ref().map_or_else(|| key.as_str(), Name::as_str).into();
        let place = env.place.borrow();
        let id: Arc<str> = format!("{place}/{name}/{}", key.as_str()).into();
        let metrics = match &env.metrics {
            Some(metrics) => metrics.limit(&place.to_string(), &name),
            None => Arc::new(LimitMetrics::unseen()),
        };
        let rolling = config.window == WindowConfig::Rolling;
        let how = if rolling { "rolling" } else { "calendar" };
        // A plan with another period counts by itself.
        let windows = Period::ALL.map(|period| {
            (Window::new(period, &config.zone, rolling), format!("{id}/{how}/{period}").into())
        });
        let (max, zone, shadow, fields) = (config.max, config.zone.clone(), config.shadow, config.fields);
        let on_failure = config.on_failure;
        Ok(Self {
            name,
            key,
            id,
            max,
            plans,
            windows,
            rolling,
            zone,
            cost,
            shadow,
            fields,
            metrics,
            shared,
            on_failure,
        })
    }

    /// What this request asks of it, and for which period; `None` if it does not concern it.
    pub(super) fn ask(
        &self,
        head: &RequestHeader,
        cx: &PolicyContext,
        now: Millis,
    ) -> Option<(Ask<'_>, Period)> {
        let quota = self.quota_of(cx)?;
        let (period, max) = (quota.period(), quota.count());
        let cost = self.cost.of(&self.name, head, cx).min(max);
        let digest = self.digest(period, head, cx);
        Some((Ask { quota: &self.id, digest, at: self.window(period).at(now), cost, max }, period))
    }

    /// The window of a period.
    pub(super) const fn window(&self, period: Period) -> &Window {
        &self.counted(period).0
    }

    const fn counted(&self, period: Period) -> &(Window, Box<str>) {
        let [minute, hour, day, week, month] = &self.windows;
        match period {
            Period::Minute => minute,
            Period::Hour => hour,
            Period::Day => day,
            Period::Week => week,
            Period::Month => month,
        }
    }

    fn digest(&self, period: Period, head: &RequestHeader, cx: &PolicyContext) -> Digest {
        let mut digest = Digest::default();
        let whole = self.key.sha256(&self.counted(period).1, head, cx);
        digest.iter_mut().zip(whole.bytes()).for_each(|(to, from)| *to = *from);
        digest
    }

    /// Whose a key is, for people.
    pub(super) fn label(&self, head: &RequestHeader, cx: &PolicyContext) -> Box<str> {
        self.key.label(head, cx).into()
    }

    fn quota_of(&self, cx: &PolicyContext) -> Option<Quota> {
        self.plans.as_ref().and_then(|plans| plans.get(cx.plan()?)).copied().or(self.max)
    }

    pub(super) const fn cost(&self) -> &Cost {
        &self.cost
    }

    pub(super) const fn is_shadow(&self) -> bool {
        self.shadow
    }

    pub(super) const fn fields(&self) -> FieldsConfig {
        self.fields
    }

    pub(super) fn metrics(&self) -> &LimitMetrics {
        &self.metrics
    }

    /// The store that counts, by its name, and how it is asked.
    pub(super) const fn shared(&self) -> Option<&(Name, Arc<Shared>)> {
        self.shared.as_ref()
    }

    pub(super) const fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    pub(super) const fn id(&self) -> &Arc<str> {
        &self.id
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
        self.key.needs_caller() || self.plans.is_some() || self.cost.needs_caller()
    }

    /// True if plans say how many.
    pub const fn goes_by_plans(&self) -> bool {
        self.plans.is_some()
    }

    /// True if callers without a plan have no quota.
    pub const fn is_for_plans_alone(&self) -> bool {
        self.plans.is_some() && self.max.is_none()
    }

    /// In words, for who explains it: `consumer: 10000/day, Europe/Berlin`.
    pub fn explain(&self, cx: &PolicyContext) -> String {
        let Some(quota) = self.quota_of(cx) else {
            return format!("{}: does not concern this caller", self.name);
        };
        let mut text = format!("{}: {quota}", self.name);
        let counts = |plan: &&str| self.plans.as_ref().is_some_and(|plans| plans.contains_key(*plan));
        if let Some(plan) = cx.plan().filter(counts) {
            text.push_str(&format!(" by plan `{plan}`"));
        }
        if self.rolling {
            text.push_str(", at any moment");
        } else if quota.period() > Period::Hour {
            text.push_str(&format!(", by the calendar of {}", self.zone));
        }
        if *self.name != *self.key.as_str() {
            text.push_str(&format!(", by {}", self.key.as_str()));
        }
        if let Some((store, _)) = &self.shared {
            text.push_str(&format!(", together in `{store}`"));
        }
        if self.shadow {
            text.push_str(", only counted");
        }
        text
    }
}
