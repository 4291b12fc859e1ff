//! Whether endpoints are healthy: what a probe's outcome changes, and when that no longer counts.

use super::endpoint::{Endpoint, EndpointState};
use super::guard::Clock;
use super::header_value;
use super::live::Endpoints;
use super::set::EndpointSet;
use crate::config::model::upstream as model;
use crate::values::Name;
use http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What keeps requests from an endpoint: its probes fail.
pub(super) const UNHEALTHY: u8 = 2;

/// Looks after the health of an upstream's endpoints. It belongs to a configuration; what it finds
/// out is the endpoints' own and outlives it.
#[derive(Debug)]
pub struct Monitor {
    /// The upstream's name.
    pub name: Name,
    /// How endpoints are probed.
    pub active: model::ActiveHealth,
    /// The share of healthy endpoints below which health no longer counts, 0 to 1.
    panic_below: f64,
    endpoints: Endpoints,
    panicking: Arc<AtomicBool>,
    clock: Arc<Clock>,
    host: Option<HeaderValue>,
}

/// How many endpoints there are, and how many of them get requests when everything is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those with a weight.
    pub endpoints: usize,
    /// Those of them that are healthy, or are not probed.
    pub healthy: usize,
}

impl Monitor {
    pub(super) fn new(
        name: &Name,
        active: &model::ActiveHealth,
        config: &model::Upstream,
        (endpoints, panicking, clock): (Endpoints, Arc<AtomicBool>, Arc<Clock>),
    ) -> Self {
        Self {
            name: name.clone(),
            active: active.clone(),
            panic_below: config.health.panic.fraction(),
            endpoints,
            panicking,
            clock,
            host: match &config.host {
                model::HostRewrite::Name(host) => Some(header_value(host)),
                model::HostRewrite::Keep | model::HostRewrite::Endpoint => None,
            },
        }
    }

    /// Which set of endpoints there is now: another number when they have changed.
    pub fn generation(&self) -> usize {
        std::ptr::from_ref::<EndpointSet>(&self.endpoints.load()).addr()
    }

    /// The endpoints to probe, those without a weight left out.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let set = self.endpoints.load();
        set.endpoints().iter().filter(|endpoint| endpoint.weight > 0).cloned().collect()
    }

    /// What a probe says as Host: the configured one, or the endpoint's address.
    pub fn host(&self, endpoint: &Endpoint) -> HeaderValue {
        self.host.clone().unwrap_or_else(|| endpoint.host.clone())
    }

    /// Notes what came of a probe; `failure` is why it failed, for the log. Logs a change.
    pub fn note(&self, endpoint: &Endpoint, failure: Option<&str>) {
        let (rise, fall) = (self.active.healthy_after, self.active.unhealthy_after);
        match endpoint.state.note(failure.is_none(), rise, fall) {
            Some(true) => {
                endpoint.state.since.store(self.clock.now(), Ordering::Relaxed);
                log::info!("endpoint healthy upstream={} endpoint={}", self.name, endpoint.label);
            }
            Some(false) => log::warn!(
                "endpoint unhealthy upstream={} endpoint={} cause={:?}",
                self.name,
                endpoint.label,
                failure.unwrap_or_default()
            ),
            None => {}
        }
        self.judge();
    }

    /// Decides anew whether too few are healthy for health to count. Logs a change.
    pub fn judge(&self) {
        let count = count(&self.endpoints.load());
        let few = is_panic(count, self.panic_below);
        if self.panicking.swap(few, Ordering::Relaxed) != few {
            let Count { endpoints, healthy } = count;
            match few {
                true => log::error!(
                    "too few healthy endpoints, all are used upstream={} healthy={healthy} endpoints={endpoints}",
                    self.name
                ),
                false => log::info!(
                    "enough healthy endpoints again upstream={} healthy={healthy} endpoints={endpoints}",
                    self.name
                ),
            }
        }
    }
}

/// Counts the endpoints of a set. One that drains is out for another reason than its health.
pub(super) fn count(set: &EndpointSet) -> Count {
    let open = set.endpoints().iter().filter(|it| it.weight > 0 && !it.state.draining());
    open.fold(Count::default(), |count, endpoint| Count {
        endpoints: count.endpoints + 1,
        healthy: count.healthy + usize::from(!endpoint.state.is(UNHEALTHY)),
    })
}

/// If nearly all seem dead, it is more likely that the probes are wrong, and in any case the few
/// that are left would die of the load of all.
fn is_panic(Count { endpoints, healthy }: Count, below: f64) -> bool {
    (healthy as f64) < below * endpoints as f64
}

impl EndpointState {
    /// True unless its probes fail.
    pub fn healthy(&self) -> bool {
        !self.is(UNHEALTHY)
    }

    /// Notes what came of a probe. `Some` if that changed what the endpoint is: healthy, or not.
    fn note(&self, ok: bool, rise: u8, fall: u8) -> Option<bool> {
        let streak = step(self.streak.load(Ordering::Relaxed), ok);
        self.streak.store(streak, Ordering::Relaxed);
        let is = judge(streak, rise, fall)?;
        self.set(UNHEALTHY, !is).then_some(is)
    }
}

/// How many times in a row a probe went well (positive) or failed (negative).
fn step(streak: i32, ok: bool) -> i32 {
    match ok {
        true => streak.max(0).saturating_add(1),
        false => streak.min(0).saturating_sub(1),
    }
}

/// What so many in a row mean; none if they are not enough to mean anything.
fn judge(streak: i32, rise: u8, fall: u8) -> Option<bool> {
    if streak >= i32::from(rise) {
        return Some(true);
    }
    (streak <= -i32::from(fall)).then_some(false)
}

/// The time to the next probe, between 90 and 110 % of what is configured, so that many gateways and
/// many endpoints do not beat in time. `random` is any number.
pub fn jittered(every: Duration, random: u64) -> Duration {
    let tenth = every / 10;
    let micros = u64::try_from(tenth.as_micros()).unwrap_or(u64::MAX).max(1);
    every - tenth + Duration::from_micros(random % micros.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn so_many_in_a_row_change_what_an_endpoint_is() {
        let outcomes = [
            (true, None),
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(false)),
            (false, None),
            (true, None),
            (false, None),
            (true, None),
            (true, Some(true)),
            (true, None),
            (false, None),
        ];
        let state = EndpointState::default();
        for (at, (ok, expected)) in outcomes.into_iter().enumerate() {
            assert_eq!(state.note(ok, 2, 3), expected, "{at}");
        }
        assert!(state.healthy());
    }

    #[test]
    fn when_health_no_longer_counts() {
        for (endpoints, healthy, below, expected) in [
            (4, 2, 0.5, false),
            (4, 1, 0.5, true),
            (1, 0, 0.5, true),
            (1, 1, 0.5, false),
            (0, 0, 0.5, false),
            (4, 0, 0.0, false),
            (4, 3, 1.0, true),
            (4, 4, 1.0, false),
        ] {
            assert_eq!(
                is_panic(Count { endpoints, healthy }, below),
                expected,
                "{healthy}/{endpoints} {below}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_endpoint_is_what_its_last_long_streak_says(
            outcomes in proptest::collection::vec(any::<bool>(), 1..60),
            rise in 1u8..5,
            fall in 1u8..5,
        ) {
            let state = EndpointState::default();
            let mut expected = true;
            let mut run = (true, 0);
            for ok in outcomes {
                run = if run.0 == ok { (ok, run.1 + 1) } else { (ok, 1) };
                if run.1 >= if ok { rise } else { fall } {
                    expected = ok;
                }
                state.note(ok, rise, fall);
                prop_assert_eq!(state.healthy(), expected);
            }
        }

        #[test]
        fn probes_are_a_tenth_early_or_late(ms in 1u64..100_000, random in any::<u64>()) {
            let wait = jittered(Duration::from_millis(ms), random);
            prop_assert!(wait >= Duration::from_millis(ms) * 9 / 10);
            prop_assert!(wait <= Duration::from_millis(ms) * 11 / 10 + Duration::from_micros(2));
        }
    }
}
