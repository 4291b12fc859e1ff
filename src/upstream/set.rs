//! The endpoints of an upstream at one moment, with what chooses among them.

use super::balance::{Balancer, Load};
use super::breaker::Rules;
use super::ejection;
use super::endpoint::{Choice, Endpoint};
use crate::telemetry::random::next_u64;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The endpoints of an upstream at one moment. It is never changed; a reload, or an answer of the
/// DNS, puts another one in its place.
#[derive(Debug)]
pub struct EndpointSet {
    endpoints: Box<[Arc<Endpoint>]>,
    balancer: Balancer,
    /// The priorities that there are, ascending.
    tiers: Box<[u8]>,
}

/// How often an endpoint is looked for, when others were sooner at one that lets only a few try.
const RACES: usize = 4;

/// What is looked at when one is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choosing<'a> {
    /// What the request brings.
    pub hint: Option<u64>,
    /// Those that have had it.
    pub tried: &'a [Arc<Endpoint>],
    /// What of these an endpoint is keeps it from being open.
    pub closed: u8,
    /// Whether those that are ejected are left out.
    pub ejects: bool,
    /// The rules of their breakers, where those count.
    pub breaker: Option<&'a Rules>,
    /// How long an endpoint takes to its whole share, milliseconds.
    pub slow_start: u64,
    /// Milliseconds of the upstream's clock.
    pub now: u64,
}

impl EndpointSet {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>, balancer: Balancer) -> Self {
        let tiers: BTreeSet<u8> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
        Self { endpoints: endpoints.into(), balancer, tiers: tiers.into_iter().collect() }
    }

    /// The endpoints, in the order in which they were given.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// As [`Self::find`], held for a request. One whose breaker lets a few try may just have been taken by others:
    /// then another one is.
    pub(super) fn choose(&self, by: &Choosing<'_>) -> Option<Choice> {
        (0..RACES).find_map(|_| {
            let at = self.find(by);
            at.map_or(Some(None), |at| Choice::new(&self.endpoints[at], by.breaker, by.now).map(Some))
        })?
    }

    /// An endpoint that is open, by what the request brings and the manner of balancing, of the first
    /// priority in which there is one; one of those tried only if no other is open. None if none is.
    fn find(&self, by: &Choosing<'_>) -> Option<usize> {
        let is_tried =
            |at: usize| by.tried.iter().any(|it| Arc::ptr_eq(&it.state, &self.endpoints[at].state));
        let fresh = |at: usize| by.tried.is_empty() || !is_tried(at);
        let well = |at: usize| self.is_open(at, by, by.ejects) && fresh(at);
        let open = |at: usize| self.is_open(at, by, by.ejects);
        self.of_first_tier(|tier| {
            // Who is not warm yet gives way to others of its own tier, not to those that stand by.
            let warm = self.pick(by, tier, |at| well(at) && self.is_warm(at, by));
            warm.or_else(|| if by.slow_start > 0 { self.pick(by, tier, well) } else { None })
        })
        .or_else(|| {
            if by.tried.is_empty() { None } else { self.of_first_tier(|tier| self.pick(by, tier, open)) }
        })
        // Rather one that failed lately than none.
        .or_else(|| {
            let any = |at: usize| self.is_open(at, by, false);
            if by.ejects { self.of_first_tier(|tier| self.pick(by, tier, any)) } else { None }
        })
    }

    /// What is found in the first priority in which there is anything. None stands for all, where all are one.
    fn of_first_tier(&self, find: impl Fn(Option<u8>) -> Option<usize>) -> Option<usize> {
        if self.tiers.len() <= 1 {
            return find(None);
        }
        self.tiers.iter().find_map(|tier| find(Some(*tier)))
    }

    fn pick(&self, by: &Choosing<'_>, tier: Option<u8>, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let load = Load(&self.endpoints, by.now);
        let is_of = |at: usize| tier.is_none_or(|tier| self.endpoints[at].priority == tier);
        self.balancer.pick(by.hint, &load, |at| is_of(at) && fits(at))
    }

    fn is_open(&self, at: usize, by: &Choosing<'_>, ejects: bool) -> bool {
        let state = &self.endpoints[at].state;
        let may_be_called =
            || by.breaker.is_none_or(|rules| state.breaker.closed_for(rules, by.now).is_none());
        !(state.is(by.closed) || ejects && state.record.is_out(by.now)) && may_be_called()
    }

    /// Whether an endpoint that has not its whole share yet gets this request. Who is kept at an endpoint
    /// stays there.
    fn is_warm(&self, at: usize, by: &Choosing<'_>) -> bool {
        if by.slow_start == 0 || self.balancer.keeps() {
            return true;
        }
        let state = &self.endpoints[at].state;
        let since = state.since.load(Ordering::Relaxed).max(state.record.back_since().unwrap_or(0));
        if since == 0 || by.now >= since.saturating_add(by.slow_start) {
            return true;
        }
        let share = (ejection::warmth(since, by.now, by.slow_start) * f64::from(u32::MAX)) as u64;
        next_u64() >> 32 < share
    }
}
