//! One limit.

use super::Mark;
use super::config::LimitConfig;
use super::lease::Leases;
use super::shared::Shared;
use crate::identity::config::PlanConfig;
use crate::policy::context::PolicyContext;
use crate::policy::shared::gcra::{Ask, Family, LONGEST, Pace, Store, Ticks};
use crate::policy::shared::key::Key;
use crate::policy::shared::terms::{Terms, TermsConfig, too_dear};
use crate::policy::{CompileEnv, at};
use crate::retained::StableId;
use crate::values::{Finding, Problem, Rate};
use ahash::HashMap;
use pingora_http::{RequestHeader, ResponseHeader};
use std::hash::Hasher as _;
use std::num::NonZeroU32;
use std::sync::Arc;

/// [`LimitConfig`], compiled.
#[derive(Debug)]
pub struct Limit {
    pub(super) terms: Terms<Shared>,
    family: Arc<Family>,
    /// For callers whose plan says nothing, and where plans do not count.
    pace: Option<(Rate, Pace)>,
    /// By the plan's name, where plans count.
    plans: Option<HashMap<Box<str>, Pace>>,
    local_share: f64,
    /// How many units are leased at once, and where they are.
    lease: Option<(u32, Arc<Leases>)>,
}

impl Limit {
    pub(super) fn compile(
        config: &LimitConfig,
        store: &Store,
        env: &CompileEnv<'_>,
    ) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        let pace = pace(config, &mut found);
        let plans = config.plan.then(|| plans(config, env, &mut found));
        let most = pace.as_ref().map(|(_, pace)| u64::from(pace.burst()));
        found.extend(most.and_then(|most| too_dear(&config.cost, most, "burst")));
        if config.lease.is_some() && config.shared.is_none() {
            let problem = Problem::new("there is no store that units could be leased from")
                .remedy("name one with `shared`, or leave `lease` out");
            found.push(at("lease", problem));
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
        let id = &*terms.id;
        let family = env.retained.get_or(StableId::new("rate_limit", id), || store.family(id));
        let paces = plans.iter().flat_map(HashMap::values).chain(pace.iter().map(|(_, pace)| pace));
        let local_share = config.local_share.fraction();
        for pace in paces {
            family.learn(pace.interval());
            if terms.shared.is_some() {
                family.learn(pace.share(local_share).interval());
            }
        }
        let lease = config.lease.map(|units| (units.get(), Leases::of_process(&env.retained)));
        Ok(Self { terms, family, pace, plans, local_share, lease })
    }

    /// What this request asks of it; none if it does not concern it.
    pub(super) fn ask<'l>(
        &'l self,
        store: &Store,
        head: &RequestHeader,
        cx: &PolicyContext,
    ) -> Option<Ask<'l>> {
        let (pace, units) = self.price(head, cx)?;
        let mut hasher = store.hasher(&self.family);
        self.terms.key.digest(&mut hasher, head, cx);
        Some(Ask { family: &self.family, digest: hasher.finish(), pace, cost: pace.cost(units) })
    }

    /// What it asks of this gateway alone, while the others cannot be asked.
    pub(super) fn ask_alone<'l>(
        &'l self,
        store: &Store,
        head: &RequestHeader,
        cx: &PolicyContext,
    ) -> Option<Ask<'l>> {
        let (pace, units) = self.price(head, cx)?;
        let pace = pace.share(self.local_share);
        let ask = self.ask(store, head, cx)?;
        Some(Ask { pace, cost: pace.cost(units), ..ask })
    }

    /// The pace for this request, and its cost in units; none if it does not concern it.
    pub(super) fn price(&self, head: &RequestHeader, cx: &PolicyContext) -> Option<(Pace, u32)> {
        let pace = self.pace_of(cx)?;
        let units = u32::try_from(self.terms.cost.of(&self.terms.name, head, cx)).unwrap_or(u32::MAX);
        Some((pace, units))
    }

    fn pace_of(&self, cx: &PolicyContext) -> Option<Pace> {
        let of_plan = self.plans.as_ref().and_then(|plans| plans.get(cx.plan()?)).copied();
        of_plan.or(self.pace.map(|(_, pace)| pace))
    }

    /// Charges what the answer says that the request cost, in place of what it was charged. True if the
    /// answer says it.
    pub(super) fn settle(&self, store: &Store, mark: &mut Mark, answer: &ResponseHeader, now: Ticks) -> bool {
        if !self.terms.cost.is_told() {
            return true;
        }
        let Some(units) = self.terms.cost.told(answer) else { return false };
        let cost = mark.pace.cost(u32::try_from(units).unwrap_or(u32::MAX));
        if let Some(remote) = &mut mark.remote {
            let more = cost.cast_signed() - mark.taken.cast_signed();
            if more != 0 {
                remote.adjust(mark.pace, more);
            }
        } else if cost < mark.taken {
            store.give_back((mark.digest, mark.pace), mark.taken - cost);
        } else if cost > mark.taken {
            let ask = Ask { family: &self.family, digest: mark.digest, pace: mark.pace, cost };
            store.charge(&ask, cost - mark.taken, now);
        }
        true
    }

    /// How many units are leased at once, and where they are.
    pub(super) const fn lease(&self) -> Option<&(u32, Arc<Leases>)> {
        self.lease.as_ref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.terms.name
    }

    /// By what it tells requests apart.
    pub const fn key(&self) -> &Key {
        &self.terms.key
    }

    /// True if it is decided once the caller is known.
    pub fn needs_caller(&self) -> bool {
        self.plans.is_some() || self.terms.need_caller()
    }

    /// True if plans say rate and burst.
    pub const fn goes_by_plans(&self) -> bool {
        self.plans.is_some()
    }

    /// True if callers without a plan are not limited.
    pub const fn is_for_plans_alone(&self) -> bool {
        self.plans.is_some() && self.pace.is_none()
    }

    pub(super) fn family(&self) -> &Family {
        &self.family
    }

    /// In words, for who explains it: `client_ip: 100/s, 200 at once`.
    pub fn explain(&self, cx: &PolicyContext) -> String {
        let mut text = format!("{}: ", self.name());
        match (self.pace_of(cx), cx.plan()) {
            (None, _) => text.push_str("does not concern this caller"),
            (Some(pace), Some(plan)) if self.plans.as_ref().is_some_and(|plans| plans.contains_key(plan)) => {
                text.push_str(&format!("plan `{plan}`, {} at once", pace.burst()));
            }
            (Some(pace), _) => {
                let rate = self.pace.map(|(rate, _)| rate.to_string()).unwrap_or_default();
                text.push_str(&format!("{rate}, {} at once", pace.burst()));
            }
        }
        self.terms.explain(&mut text);
        if let Some((units, _)) = &self.lease {
            text.push_str(&format!(", leased by up to {units}"));
        }
        text
    }
}

fn pace(config: &LimitConfig, found: &mut Vec<Finding>) -> Option<(Rate, Pace)> {
    let Some(rate) = config.rate else {
        if !config.plan {
            let problem = Problem::new("nothing says how many may come").remedy(
                "write a rate such as `rate: 100/s`, or `plan: true` for what the caller's plan says",
            );
            found.push(at("rate", problem));
        } else if config.burst.is_some() {
            let problem =
                Problem::new("a burst without a rate").remedy("add `rate`, or write the burst in plans");
            found.push(at("burst", problem));
        }
        return None;
    };
    let pace = of_rate(rate, config.burst);
    if pace.is_none() {
        found.push(at(if config.burst.is_some() { "burst" } else { "rate" }, too_long()));
    }
    Some((rate, pace?))
}

fn of_rate(rate: Rate, burst: Option<NonZeroU32>) -> Option<Pace> {
    Pace::new(rate, burst.map_or(rate.count(), NonZeroU32::get))
}

fn too_long() -> Problem {
    Problem::new(format!("all of it would take longer than {} days to come back", LONGEST.as_secs() / 86_400))
        .remedy("lower `burst`")
}

fn plans(config: &LimitConfig, env: &CompileEnv<'_>, found: &mut Vec<Finding>) -> HashMap<Box<str>, Pace> {
    let mut plans = HashMap::default();
    for (name, plan) in env.identity.plans() {
        let PlanConfig { rate: Some(rate), burst, .. } = **plan else { continue };
        // What is wrong with a plan is said there.
        plans.extend(of_rate(rate, burst).map(|pace| (Box::from(name.as_str()), pace)));
    }
    if plans.is_empty() && config.rate.is_none() {
        let problem = Problem::new("no plan has a rate: nobody would be limited")
            .remedy("give a plan `rate: 100/s`, or the limit a `rate` of its own");
        found.push(at("plan", problem));
    }
    plans
}

/// What is wrong with a plan's rate and burst.
pub fn plan_problem(plan: &PlanConfig) -> Option<(&'static str, Problem)> {
    match (plan.rate, plan.burst) {
        (None, Some(_)) => {
            Some(("burst", Problem::new("a burst without a rate").remedy("add a rate such as `rate: 100/s`")))
        }
        (Some(rate), burst) if of_rate(rate, burst).is_none() => Some(("burst", too_long())),
        _ => None,
    }
}
