//! What requests tell of an upstream and its endpoints, and what follows: a breaker that opens, endpoints that
//! are left out, how long answers take.

use super::breaker::{self, Breaker, Pass};
use super::ejection;
use super::endpoint::{Choice, Endpoint};
use super::set::EndpointSet;
use crate::config::model::upstream as model;
use crate::retained::{Carried, Retained, StableId};
use crate::values::Name;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The rules of a configuration, over what is known across configurations.
#[derive(Debug)]
pub(super) struct Guard {
    name: Name,
    breaker: Option<breaker::Rules>,
    /// Of the breaker that each endpoint has.
    each: Option<breaker::Rules>,
    passive: Option<Passive>,
    /// Milliseconds.
    pub slow_start: u64,
    /// Whether times of answers are of use.
    times: bool,
    clock: Arc<Clock>,
    known: Arc<Known>,
}

#[derive(Debug)]
struct Passive {
    rules: ejection::Rules,
    rate: Option<model::SuccessRate>,
}

/// The clock of an upstream, which outlives a configuration.
#[derive(Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    /// The clock of the upstream of this name.
    pub(super) fn of(name: &Name, retained: &Retained) -> Arc<Self> {
        retained.get_or(StableId::new("clock", name), Self::default)
    }

    /// Milliseconds since the upstream is known; never 0, which stands for no time.
    pub(super) fn now(&self) -> u64 {
        millis(self.0.elapsed()) + 1
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

/// What outlives a configuration.
#[derive(Debug)]
struct Known {
    clock: Arc<Clock>,
    breaker: Breaker,
    /// When endpoints were compared last, in milliseconds of this clock.
    compared: AtomicU64,
    /// How often a breaker of an endpoint opened.
    opened: AtomicU64,
}

/// An upstream that is left alone is left alone by the next process as well.
impl Carried for Known {
    const VERSION: u32 = 1;

    fn export(&self, _room: usize) -> Option<Value> {
        self.breaker.left_open(self.clock.now()).map(|left| json!({ "left_open_ms": left }))
    }

    fn import(&self, _version: u32, data: Value) -> Result<(), String> {
        let left = data.get("left_open_ms").and_then(Value::as_u64).ok_or("no left_open_ms")?;
        self.breaker.take_over(left, self.clock.now());
        Ok(())
    }
}

/// A request that the breaker let pass. If nobody tells what came of it, it counts for nothing.
#[derive(Debug)]
pub struct Call {
    known: Arc<Known>,
    pass: Pass,
    told: bool,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// No answer came, or a 5xx.
    pub failed: bool,
    /// Until its head was there.
    pub took: Duration,
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.told {
            self.known.breaker.forget(self.pass);
        }
    }
}

impl Guard {
    pub(super) fn new(name: &Name, config: &model::Upstream, retained: &Retained) -> Self {
        let [breaker, each] =
            [&config.breaker, &config.endpoint_breaker].map(|breaker| breaker.as_ref().map(rules));
        let passive = config.health.passive.as_ref().map(|passive| Passive {
            rules: ejection::Rules {
                consecutive: passive.consecutive_failures,
                eject_for: millis(passive.eject.get()),
                longest: millis(passive.longest.get()),
                most: passive.max_ejected.fraction(),
            },
            rate: passive.success_rate.clone(),
        });
        // Before what is made with it: making one piece of what is retained must not ask for another.
        let clock = Clock::of(name, retained);
        let known = Known {
            clock: Arc::clone(&clock),
            breaker: Breaker::default(),
            compared: AtomicU64::default(),
            opened: AtomicU64::default(),
        };
        Self {
            name: name.clone(),
            breaker,
            each,
            passive,
            slow_start: millis(config.slow_start.get()),
            times: matches!(config.balance, model::Balance::PeakEwma),
            known: retained.get_or_carried(StableId::new("guard", name), || known),
            clock,
        }
    }

    /// Milliseconds of its clock.
    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Whether a clock is needed to choose.
    pub(super) const fn needs_time(&self) -> bool {
        self.passive.is_some() || self.each.is_some() || self.slow_start > 0 || self.times
    }

    /// The rules of the breakers of its endpoints.
    pub(super) const fn each(&self) -> Option<&breaker::Rules> {
        self.each.as_ref()
    }

    /// Whether endpoints may be left out.
    pub(super) const fn ejects(&self) -> bool {
        self.passive.is_some()
    }

    /// Whether a request may be sent; none where there is no breaker.
    ///
    /// # Errors
    /// It may not: for how long not.
    pub(super) fn call(&self) -> Result<Option<Call>, Duration> {
        let Some(rules) = &self.breaker else { return Ok(None) };
        let pass = self.known.breaker.ask(rules, self.now()).map_err(Duration::from_millis)?;
        Ok(Some(Call { known: Arc::clone(&self.known), pass, told: false }))
    }

    /// Notes what came of an attempt at this endpoint of this set.
    pub(super) fn note(
        &self,
        choice: &mut Choice,
        set: &EndpointSet,
        call: Option<&mut Call>,
        outcome: Outcome,
    ) {
        if self.breaker.is_none() && !self.needs_time() {
            return;
        }
        let now = self.now();
        let told = (outcome.failed, millis(outcome.took));
        let of_endpoint = choice.told().unwrap_or(Pass::Usual);
        let endpoint = choice.endpoint();
        if let Some(rules) = &self.each
            && endpoint.state.breaker.note(rules, of_endpoint, told, now)
        {
            self.opened(endpoint, rules);
        }
        if self.times && !outcome.failed {
            let micros = u64::try_from(outcome.took.as_micros()).unwrap_or(u64::MAX);
            endpoint.state.ewma.note(micros, now);
        }
        if let (Some(rules), Some(call)) = (&self.breaker, call) {
            call.told = true;
            let pass = call.pass;
            // Further attempts of the same request are as any others.
            call.pass = Pass::Usual;
            if self.known.breaker.note(rules, pass, told, now) {
                log::warn!("breaker open upstream={} open_for_ms={}", self.name, rules.open_for);
            }
        }
        let Some(passive) = &self.passive else { return };
        if endpoint.state.record.note(&passive.rules, outcome.failed) {
            self.eject(endpoint, set, &passive.rules, now, "failures in a row");
        }
        if let Some(rate) = &passive.rate {
            self.compare(set, &passive.rules, rate, now);
        }
    }

    /// Notes that an attempt was left before an answer came, after this long: another one answered. That is no
    /// failure, and no success. It tells how slow the endpoint is at least.
    pub(super) fn note_left(&self, choice: &mut Choice, took: Duration) {
        let now = self.now();
        let took_ms = millis(took);
        if self.times {
            choice.endpoint().state.ewma.left(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), now);
        }
        let Some(rules) = &self.each else { return };
        if rules.slow.is_none_or(|(after, _)| took_ms < after) {
            return;
        }
        let pass = choice.told().unwrap_or(Pass::Usual);
        let endpoint = choice.endpoint();
        if endpoint.state.breaker.note(rules, pass, (false, took_ms), now) {
            self.opened(endpoint, rules);
        }
    }

    fn opened(&self, endpoint: &Endpoint, rules: &breaker::Rules) {
        self.known.opened.fetch_add(1, Ordering::Relaxed);
        let (name, label) = (&self.name, &endpoint.label);
        log::warn!("breaker open upstream={name} endpoint={label} open_for_ms={}", rules.open_for);
    }

    fn eject(&self, endpoint: &Endpoint, set: &EndpointSet, rules: &ejection::Rules, now: u64, why: &str) {
        let all = set.endpoints().iter().filter(|it| it.weight > 0);
        let (of, out) =
            all.fold((0, 0), |(of, out), it| (of + 1, out + usize::from(it.state.record.is_out(now))));
        if endpoint.state.record.is_out(now) || !ejection::may_eject(out, of, rules.most) {
            return;
        }
        endpoint.state.record.eject(rules, now);
        log::warn!("endpoint ejected upstream={} endpoint={} cause={why:?}", self.name, endpoint.label);
    }

    /// Compares endpoints, if it is time to.
    fn compare(&self, set: &EndpointSet, rules: &ejection::Rules, rate: &model::SuccessRate, now: u64) {
        let last = self.known.compared.load(Ordering::Relaxed);
        let is_time = now >= last.saturating_add(millis(rate.every.get()));
        let claim =
            || self.known.compared.compare_exchange(last, now, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !is_time || !claim() {
            return;
        }
        let endpoints = set.endpoints();
        let calls: Vec<(u32, u32)> =
            endpoints.iter().map(|endpoint| endpoint.state.record.take(now)).collect();
        // The first span has no beginning.
        if last == 0 {
            return;
        }
        for at in ejection::outliers(&calls, rate.of_at_least, rate.deviations) {
            self.eject(&endpoints[at], set, rules, now, "success rate");
        }
    }

    /// What its breaker is, and how often it opened; none where there is no breaker.
    pub(super) fn breaker(&self) -> Option<(breaker::State, u64)> {
        self.breaker.as_ref().map(|_| (self.known.breaker.state(self.now()), self.known.breaker.opened()))
    }

    /// How many endpoints have an open breaker, and how often one opened; none where they have none.
    pub(super) fn breakers(&self, set: &EndpointSet) -> Option<(usize, u64)> {
        self.each.as_ref()?;
        let now = self.now();
        let is_open = |it: &&Arc<Endpoint>| it.state.breaker.state(now) == breaker::State::Open;
        let open = set.endpoints().iter().filter(is_open).count();
        Some((open, self.known.opened.load(Ordering::Relaxed)))
    }

    /// How long until an endpoint may be tried, if it is breakers that keep requests from all of them.
    pub(super) fn closed_for(&self, set: &EndpointSet, closed: u8) -> Option<Duration> {
        let (rules, now) = (self.each.as_ref()?, self.now());
        let could = set.endpoints().iter().filter(|it| it.weight > 0 && !it.state.is(closed));
        could.filter_map(|it| it.state.breaker.closed_for(rules, now)).min().map(Duration::from_millis)
    }

    /// How many endpoints of the set are left out.
    pub(super) fn ejected(&self, set: &EndpointSet) -> usize {
        let now = self.now();
        set.endpoints().iter().filter(|endpoint| self.ejects() && endpoint.state.record.is_out(now)).count()
    }
}

fn rules(config: &model::Breaker) -> breaker::Rules {
    breaker::Rules {
        failures: config.failures.fraction(),
        slow: config.slow.map(|slow| (millis(slow.after.get()), slow.share.fraction())),
        of_at_least: config.of_at_least,
        within: millis(config.within.get()),
        open_for: millis(config.open_for.get()),
        probes: config.probes,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
