//! One quota.

use super::config::{QuotaConfig, WindowConfig};
use super::count::{Millis, Window};
use super::shared::Shared;
use super::store::{Ask, Digest};
use crate::policy::context::PolicyContext;
use crate::policy::shared::key::Key;
use crate::policy::shared::terms::{Terms, TermsConfig, too_dear};
use crate::policy::{CompileEnv, at};
use crate::values::{Finding, Period, Problem, Quota, Zone};
use ahash::HashMap;
use pingora_http::RequestHeader;

/// [`QuotaConfig`], compiled.
#[derive(Debug)]
pub struct Allowance {
    pub(super) terms: Terms<Shared>,
    /// For callers whose plan says nothing, and where plans do not count.
    max: Option<Quota>,
    /// By the plan's name, where plans count.
    plans: Option<HashMap<Box<str>, Quota>>,
    /// By period, and what its keys are digested with.
    windows: [(Window, Box<str>); Period::ALL.len()],
    rolling: bool,
    zone: Zone,
}

impl Allowance {
    pub(super) fn compile(config: &QuotaConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        if config.max.is_none() && !config.plan {
            let problem = Problem::new("nothing says how many may come").remedy(
                "write a quota such as `max: 10000/day`, or `plan: true` for what the caller's plan says",
            );
            found.push(at("max", problem));
        }
        found.extend(config.max.and_then(|max| too_dear(&config.cost, max.count(), "max")));
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
        let terms = TermsConfig {
            name: config.name.as_ref(),
            key: &config.key,
            cost: &config.cost,
            shadow: config.shadow,
            shared: config.shared.as_ref(),
            on_failure: config.on_failure,
            fields: config.fields,
        };
        let terms = Terms::compile(terms, Shared::new, env, found)?;
        let rolling = config.window == WindowConfig::Rolling;
        let how = if rolling { "rolling" } else { "calendar" };
        // A plan with another period counts by itself.
        let windows = Period::ALL.map(|period| {
            (Window::new(period, &config.zone, rolling), format!("{}/{how}/{period}", terms.id).into())
        });
        Ok(Self { terms, max: config.max, plans, windows, rolling, zone: config.zone.clone() })
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
        let cost = self.terms.cost.of(&self.terms.name, head, cx).min(max);
        let digest = self.digest(period, head, cx);
        Some((Ask { quota: &self.terms.id, digest, at: self.window(period).at(now), cost, max }, period))
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
        let whole = self.terms.key.sha256(&self.counted(period).1, head, cx);
        digest.iter_mut().zip(whole.bytes()).for_each(|(to, from)| *to = *from);
        digest
    }

    /// Whose a key is, for people.
    pub(super) fn label(&self, head: &RequestHeader, cx: &PolicyContext) -> Box<str> {
        self.terms.key.label(head, cx).into()
    }

    fn quota_of(&self, cx: &PolicyContext) -> Option<Quota> {
        self.plans.as_ref().and_then(|plans| plans.get(cx.plan()?)).copied().or(self.max)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.terms.name
    }

    /// By what it tells requests apart.
    pub const fn key(&self) -> &Key {
        &self.terms.key
    }

    /// True if it is decided by who calls.
    pub fn needs_caller(&self) -> bool {
        self.plans.is_some() || self.terms.need_caller()
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
            return format!("{}: does not concern this caller", self.name());
        };
        let mut text = format!("{}: {quota}", self.name());
        let counts = |plan: &&str| self.plans.as_ref().is_some_and(|plans| plans.contains_key(*plan));
        if let Some(plan) = cx.plan().filter(counts) {
            text.push_str(&format!(" by plan `{plan}`"));
        }
        if self.rolling {
            text.push_str(", at any moment");
        } else if quota.period() > Period::Hour {
            text.push_str(&format!(", by the calendar of {}", self.zone));
        }
        self.terms.explain(&mut text);
        text
    }
}
