//! Who asks so often that nothing should be spent on it: clients that flood, by their address.
//!
//! ```yaml
//! flood: { rate: 500/s, in_flight: 200 }
//! ```
//!
//! It is the coarse brother of `rate_limit`, in front of all that costs anything. What it counts it only
//! estimates, in memory that does not grow with the number of clients (a count-min sketch: Cormode and
//! Muthukrishnan, An Improved Data Stream Summary, 2005). The estimate is never too low. It is too high by
//! more than `e / SLOTS` of all requests of the window with a probability below `exp(-HASHES)`, 2 in 100: of
//! 100,000 requests by 17. So a bound belongs far above what an honest client does. And what is refused
//! counts on: who floods is let in again only once it has slowed down.

use super::context::PolicyContext;
use super::shared::key::Prefixes;
use super::{CompileEnv, Policy, Step, at};
use crate::rejection::Rejection;
use crate::retained::StableId;
use crate::telemetry::metrics::LimitMetrics;
use crate::values::{Finding, Problem, Rate};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use pingora_http::RequestHeader;
use pingora_limits::estimator::Estimator;
use pingora_limits::inflight::Inflight;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Rows of a sketch.
const HASHES: usize = 4;
/// Counters of a row: 512 KiB for a window.
const SLOTS: usize = 16_384;
/// The shortest and the longest window, in seconds.
const WINDOWS: (u64, u64) = (1, 60);

/// Clients that flood are refused before anything is done for them. By the address, and by estimates: bounds belong
/// far above what an honest client does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FloodConfig {
    /// How often an address may ask, such as `500/s`: in a second up to a minute. What is refused counts on.
    /// Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How many requests an address may have in flight. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<NonZeroU32>,
    /// How much of an address counts. Default: all of IPv4, the first 64 bits of IPv6.
    pub client_ip: Prefixes,
    /// Whether it only counts whom it would refuse. Default false.
    pub shadow: bool,
}

/// [`FloodConfig`], compiled.
#[derive(Debug)]
pub struct Flood {
    rate: Option<(f64, Arc<Windows>)>,
    in_flight: Option<(isize, Arc<Flights>)>,
    client_ip: Prefixes,
    shadow: bool,
    metrics: Arc<LimitMetrics>,
}

/// A client floods.
pub const FLOODING: &str = "flooding";

impl Policy for Flood {
    const NAME: &'static str = "flood";
    const LIMITS: bool = true;
    type Config = FloodConfig;

    fn compile(config: &FloodConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let mut found = Vec::new();
        if config.rate.is_none() && config.in_flight.is_none() {
            let problem = Problem::new("neither `rate` nor `in_flight` is bounded")
                .remedy("write `{ rate: 500/s }`, or take the policy out with `flood: off`");
            found.push(at("rate", problem));
        }
        let window = config.rate.map(|rate| rate.per().as_secs());
        if window.is_some_and(|seconds| !(WINDOWS.0..=WINDOWS.1).contains(&seconds)) {
            let problem = Problem::new("a flood is seen within a second to a minute").remedy(
                "write a rate such as `500/s` or `10000/m`; longer ones are for `rate_limit` and `quota`",
            );
            found.push(at("rate", problem));
        }
        if let Some(problem) = config.client_ip.problem() {
            found.push(at("client_ip", problem));
        }
        if !found.is_empty() {
            return Err(found);
        }
        let place = env.place.borrow().to_string();
        let metrics = match &env.metrics {
            Some(metrics) => metrics.limit(&place, "flood"),
            None => Arc::new(LimitMetrics::unseen()),
        };
        let rate = config.rate.map(|rate| {
            // Another window counts anew.
            let id = StableId::new("flood", format!("{place}/{:?}", rate.per()));
            (f64::from(rate.count()), env.retained.get_or(id, || Windows::new(rate.per())))
        });
        let in_flight = config.in_flight.map(|most| {
            let flights = env.retained.get_or(StableId::new("flights", &place), Flights::default);
            (most.get() as isize, flights)
        });
        Ok(Self { rate, in_flight, client_ip: config.client_ip, shadow: config.shadow, metrics })
    }

    fn on_request<'a>(&'a self, _: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        let client = self.client_ip.of(cx.client);
        let seen = self.rate.as_ref().map_or(0.0, |(_, windows)| windows.count(client, windows.now()));
        let too_often = self.rate.as_ref().is_some_and(|(most, _)| seen > *most);
        let too_many = !too_often
            && self.in_flight.as_ref().is_some_and(|(most, flights)| {
                let (guard, count) = flights.0.incr(client, 1);
                let beyond = count > *most;
                if !beyond || self.shadow {
                    cx.flight = Some(guard);
                }
                beyond
            });
        match (too_often || too_many, self.shadow) {
            (false, _) => self.metrics.admitted(),
            (true, true) => self.metrics.would_refuse(),
            (true, false) => {
                self.metrics.refused();
                return Step::reject(self.refusal(too_often.then_some(seen)));
            }
        }
        Step::Continue
    }
}

impl Flood {
    fn refusal(&self, seen: Option<f64>) -> Rejection {
        let window =
            self.rate.as_ref().filter(|_| seen.is_some()).map_or(1, |(_, windows)| windows.seconds());
        let why = seen.map_or_else(|| "in_flight".to_owned(), |seen| format!("rate seen={seen:.0}"));
        Rejection::new(StatusCode::TOO_MANY_REQUESTS, FLOODING, "There were far too many requests")
            .header(RETRY_AFTER, HeaderValue::from(window))
            .detail(why)
    }

    /// In words, for who explains it: `500 in 1s, 200 in flight`.
    pub fn explain(&self) -> String {
        let rate = self.rate.as_ref().map(|(most, windows)| format!("{most:.0} in {}s", windows.seconds()));
        let in_flight = self.in_flight.as_ref().map(|(most, _)| format!("{most} in flight"));
        let shadow = self.shadow.then(|| "only counted".to_owned());
        let said: Vec<String> = [rate, in_flight, shadow].into_iter().flatten().collect();
        format!("flood: about {}", said.join(", "))
    }
}

/// Requests in flight, estimated.
struct Flights(Inflight);

impl Default for Flights {
    fn default() -> Self {
        Self(Inflight::new())
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

/// What was seen of each client in this window and in the one before.
///
/// Not `pingora_limits::rate::Rate`: it reads its clock before it reads when it was reset, so that a thread that
/// another one overtakes takes the difference of the two for ages and forgets all.
struct Windows {
    estimates: [Estimator; 2],
    /// The window that counts now, by its number since `began`.
    current: AtomicU64,
    length: Duration,
    began: Instant,
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Windows {
    fn new(length: Duration) -> Self {
        let estimates = std::array::from_fn(|_| Estimator::new(HASHES, SLOTS));
        Self { estimates, current: AtomicU64::new(0), length, began: Instant::now() }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn seconds(&self) -> u64 {
        self.length.as_secs()
    }

    /// One request more. Answers how many the client has had in the length of a window: those of this window,
    /// and of the one before as large a share as of it lies within that length.
    fn count(&self, client: u128, now: Duration) -> f64 {
        let windows = now.as_secs_f64() / self.length.as_secs_f64();
        let (number, passed) = (windows as u64, windows.fract());
        self.turn_to(number);
        let [even, odd] = &self.estimates;
        let (this, before) = if number.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        // An overflow is negative, and takes centuries.
        let seen = |count: isize| count.max(0) as f64;
        seen(this.incr(client, 1)) + seen(before.get(client)) * (1.0 - passed)
    }

    /// Begins a window. Who counts in it while it is made empty may be forgotten: it is an estimate.
    fn turn_to(&self, number: u64) {
        let current = self.current.load(Ordering::Acquire);
        // Whoever looked at the clock earlier and comes later counts where the others do by now.
        if number <= current
            || self.current.compare_exchange(current, number, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return;
        }
        let [even, odd] = &self.estimates;
        if number.is_multiple_of(2) || number > current + 1 {
            even.reset();
        }
        if !number.is_multiple_of(2) || number > current + 1 {
            odd.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn compile(yaml: &str) -> Result<Flood, Vec<Finding>> {
        Flood::compile(&serde_saphyr::from_str(yaml).unwrap(), &CompileEnv::default())
    }

    fn refused(flood: &Flood, address: &str, cx: &mut PolicyContext) -> Option<String> {
        let head = RequestHeader::build("GET", b"/", None).unwrap();
        cx.client = address.parse().unwrap();
        match flood.on_request(&head, cx) {
            Step::Reject(rejection) => Some(rejection.code.to_owned()),
            _ => None,
        }
    }

    #[test]
    fn windows_slide() {
        let windows = Windows::new(SECOND);
        let at = |millis| windows.count(7, Duration::from_millis(millis));
        for n in 1..=10 {
            assert!((at(500) - f64::from(n)).abs() < 1e-9);
        }
        assert!((at(1250) - 8.5).abs() < 1e-9, "three quarters of ten, and this one");
        assert!((at(1900) - 3.0).abs() < 1e-9, "a tenth of ten, and two");
        assert!((at(2000) - 3.0).abs() < 1e-9, "the two of before, and this one");
        assert!((at(5000) - 1.0).abs() < 1e-9, "what is long ago is gone, of both windows");
        assert!((at(4999) - 1.0).abs() < 2.1, "a clock that was read earlier does no harm");
    }

    #[test]
    fn who_floods_is_refused_until_it_slows_down_and_others_are_not() {
        let flood = compile("{ rate: 20/m }").unwrap();
        let mut cx = PolicyContext::new();
        for _ in 0..20 {
            assert_eq!(refused(&flood, "192.0.2.1", &mut cx), None);
        }
        for _ in 0..20 {
            assert_eq!(refused(&flood, "192.0.2.1", &mut cx).as_deref(), Some(FLOODING));
        }
        assert_eq!(refused(&flood, "192.0.2.2", &mut cx), None);
        let network = compile("{ rate: 2/m, client_ip: { v6: 48 } }").unwrap();
        for address in ["2001:db8:1::1", "2001:db8:1:2::1"] {
            assert_eq!(refused(&network, address, &mut cx), None);
        }
        assert!(refused(&network, "2001:db8:1:3::1", &mut cx).is_some(), "they are one network");
    }

    #[test]
    fn what_is_in_flight_is_given_back() {
        let flood = compile("{ in_flight: 2 }").unwrap();
        let [mut one, mut two, mut three] = [(); 3].map(|()| PolicyContext::new());
        assert_eq!(refused(&flood, "192.0.2.1", &mut one), None);
        assert_eq!(refused(&flood, "192.0.2.1", &mut two), None);
        assert!(refused(&flood, "192.0.2.1", &mut three).is_some());
        assert!(refused(&flood, "192.0.2.1", &mut three).is_some(), "what is refused is not in flight");
        drop(one);
        assert_eq!(refused(&flood, "192.0.2.1", &mut three), None);
        let shadow = compile("{ in_flight: 1, rate: 1/s, shadow: true }").unwrap();
        for _ in 0..3 {
            assert_eq!(refused(&shadow, "192.0.2.1", &mut two), None);
        }
        assert_eq!(shadow.explain(), "flood: about 1 in 1s, 1 in flight, only counted");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (yaml, path) in [
            ("{}", "rate"),
            ("{ rate: 100/h }", "rate"),
            ("{ rate: 1000/100ms }", "rate"),
            ("{ rate: 10/s, client_ip: { v6: 8 } }", "client_ip"),
        ] {
            let found = compile(yaml).unwrap_err();
            assert_eq!(found.iter().map(|one| one.path.to_string()).collect::<Vec<_>>(), [path], "{yaml}");
        }
    }

    proptest! {
        /// Against a plain count: never too low, and seldom too high.
        #[test]
        fn nothing_is_overlooked(steps in prop::collection::vec((0u128..40, 0u64..40), 1..600)) {
            let windows = Windows::new(SECOND);
            let mut now = Duration::ZERO;
            let mut seen: Vec<(u128, Duration)> = Vec::new();
            for (client, pause) in steps {
                now += Duration::from_millis(pause);
                seen.push((client, now));
                let estimate = windows.count(client, now);
                let number = |time: Duration| time.as_millis() / 1000;
                let of = |window: u128| seen.iter().filter(|(who, at)| *who == client && number(*at) == window).count();
                let passed = now.as_secs_f64().fract();
                let before = number(now).checked_sub(1).map_or(0, of);
                let exact = of(number(now)) as f64 + before as f64 * (1.0 - passed);
                // So few clients share a counter in all rows with none.
                prop_assert!((estimate - exact).abs() < 1e-6, "{} for {}", estimate, exact);
            }
        }
    }
}
