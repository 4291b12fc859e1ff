//! When a request that failed is tried again, after how long, and how often for all together.

use crate::config::model::upstream::{Backoff, Condition, Retry, RouteRetry};
use http::HeaderMap;
use http::header::RETRY_AFTER;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// What an upstream says about further attempts, with its budget for them.
#[derive(Debug)]
pub struct Retries {
    config: Retry,
    budget: Arc<Budget>,
}

/// The same with a route's own say.
#[derive(Clone, Copy, Debug)]
pub struct RetryRules<'a> {
    upstream: &'a Retries,
    route: &'a RouteRetry,
}

impl Retries {
    /// What a configuration says, with what is spent already.
    pub fn new(config: &Retry, budget: Arc<Budget>) -> Self {
        Self { config: config.clone(), budget }
    }

    /// The rules for a request of this route.
    pub fn with<'a>(&'a self, route: &'a RouteRetry) -> RetryRules<'a> {
        RetryRules { upstream: self, route }
    }

    /// Takes a further attempt from the budget, for a request that has had one before if it holds `held`. None if
    /// there is none to be had.
    pub fn spend(&self, held: Option<Further>, load: Traffic, now: Instant) -> Option<Further> {
        let share = self.config.budget.fraction();
        let is_new = held.is_none();
        if !self.budget.spend(share, is_new.then_some(self.config.at_once), load, now) {
            return None;
        }
        let mut further = held.unwrap_or_else(|| Further { budget: Arc::clone(&self.budget), waits: true });
        if !is_new && !std::mem::replace(&mut further.waits, true) {
            self.budget.0.lock().waiting += 1;
        }
        Some(further)
    }

    /// Takes a further attempt from what there is over time alone, however many are under way; none where the share is
    /// nothing. `requests` are all that the upstream has had.
    pub fn spend_over_time(&self, requests: u64, now: Instant) -> bool {
        let share = self.config.budget.fraction();
        share > 0.0 && self.budget.0.lock().take(share, requests, now)
    }
}

impl RetryRules<'_> {
    /// Attempts in all.
    pub fn attempts(&self) -> u8 {
        self.route.attempts.unwrap_or(self.upstream.config.attempts)
    }

    /// True if this is tried again.
    pub fn wants(&self, failure: Condition) -> bool {
        self.route.on.as_ref().unwrap_or(&self.upstream.config.on).contains(&failure)
    }

    /// How long to wait after this many attempts. `random` is any number; `asked` is what the endpoint
    /// asked for by `Retry-After`. None if that is longer than is waited for.
    pub fn wait(&self, attempts: u8, random: u64, asked: Option<Duration>) -> Option<Duration> {
        let longest = self.route.retry_after.unwrap_or(self.upstream.config.retry_after).get();
        let own = jitter(self.route.backoff.unwrap_or(self.upstream.config.backoff), attempts, random);
        match asked {
            Some(asked) if asked > longest => None,
            asked => Some(own.max(asked.unwrap_or_default())),
        }
    }
}

/// Full jitter (Brooker, "Exponential Backoff and Jitter", 2015): anything between nothing and a
/// bound that doubles, so that those who failed together do not come again together.
fn jitter(backoff: Backoff, attempts: u8, random: u64) -> Duration {
    let doublings = u32::from(attempts.saturating_sub(1)).min(31);
    let bound = backoff.from.get().saturating_mul(1 << doublings).min(backoff.to.get());
    let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random % micros.saturating_add(1))
}

/// How long an answer asks to wait: seconds, or a date (RFC 9110 section 10.2.3). What is neither
/// counts as nothing said.
pub fn retry_after(answer: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = answer.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let seconds = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().as_second();
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?);
    Some(date.duration_since(now).unwrap_or_default())
}

/// What an upstream has to do, as far as a budget goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that it has had so far.
    pub requests: u64,
    /// Requests that are under way at its endpoints now.
    pub active: u64,
}

/// A request that is tried again: one of the further attempts that are under way, until it ends.
#[derive(Debug)]
pub struct Further {
    budget: Arc<Budget>,
    /// Whether it is between two attempts, where no endpoint counts it.
    waits: bool,
}

impl Further {
    /// One that is begun at once, beside the attempt that is under way; none if the budget has none.
    pub(super) fn beside(
        budget: &Arc<Budget>,
        (share, at_once): (f64, u16),
        load: Traffic,
        now: Instant,
    ) -> Option<Self> {
        budget.spend(share, Some(at_once), load, now).then(|| {
            let mut further = Self { budget: Arc::clone(budget), waits: true };
            further.begin();
            further
        })
    }

    /// The next attempt begins.
    pub fn begin(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.budget.0.lock().waiting -= 1;
        }
    }
}

impl Drop for Further {
    fn drop(&mut self) {
        self.begin();
        self.budget.0.lock().under_way -= 1;
    }
}

/// Further attempts that are saved up at most.
const SAVED: f64 = 100.0;
/// Those that are there each second in any case.
const EACH_SECOND: f64 = 1.0;

/// How many further attempts there may be. Two bounds, both of which have to allow one:
///
/// - a share of the requests that are under way, further attempts among them (as Envoy's `retry_budget`, there
///   `budget_percent` and `min_retry_concurrency`): when everything fails at once, this keeps a storm small at any
///   moment;
/// - a bucket of tokens into which each request pays a share (Finagle's `RetryBudget`): attempts that fail sooner than
///   those before them make up a small share of what is under way and can yet be many; this bounds them over time.
///
/// Requests pay when a token is asked for, all since the last time at once, so that a request that goes well costs
/// nothing here.
#[derive(Debug, Default)]
pub struct Budget(Mutex<Spent>);

#[derive(Debug, Default)]
struct Spent {
    bucket: Option<Bucket>,
    /// Requests that are tried again.
    under_way: u64,
    /// Those of them that wait for their next attempt.
    waiting: u64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    requests: u64,
    at: Instant,
}

impl Budget {
    /// Counts a further attempt, if there may be one. `at_once` is given for a request that has had none before: how
    /// many may be under way in any case.
    fn spend(&self, share: f64, at_once: Option<u16>, load: Traffic, now: Instant) -> bool {
        let spent = &mut *self.0.lock();
        if let Some(least) = at_once {
            // A request that fails is under way until it knows whether it is tried again.
            let most = (share * (load.active + spent.waiting) as f64).max(f64::from(least));
            if (spent.under_way + 1) as f64 > most {
                return false;
            }
        }
        if !spent.take(share, load.requests, now) {
            return false;
        }
        if at_once.is_some() {
            spent.under_way += 1;
            spent.waiting += 1;
        }
        true
    }
}

impl Spent {
    /// Takes a token, if there is one.
    fn take(&mut self, share: f64, requests: u64, now: Instant) -> bool {
        self.bucket.get_or_insert(Bucket { tokens: SAVED, requests, at: now }).take(share, requests, now)
    }
}

impl Bucket {
    fn take(&mut self, share: f64, requests: u64, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        let paid = requests.saturating_sub(self.requests) as f64 * share + seconds * EACH_SECOND;
        self.tokens = (self.tokens + paid).min(SAVED);
        self.requests = requests;
        self.at = now;
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(yaml: &str) -> Retries {
        Retries::new(&serde_saphyr::from_str(yaml).unwrap(), Arc::default())
    }

    #[test]
    fn a_route_says_what_it_wants_to() {
        let upstream = rules("{ attempts: 3, on: [503, timeout] }");
        let route = RouteRetry { attempts: Some(5), ..RouteRetry::default() };
        let rules = upstream.with(&route);
        assert_eq!(rules.attempts(), 5);
        assert!(rules.wants(Condition::Status(503)) && rules.wants(Condition::Timeout));
        assert!(!rules.wants(Condition::Connect) && !rules.wants(Condition::Status(502)));
        let route = RouteRetry { on: Some(vec![Condition::Connect]), ..RouteRetry::default() };
        assert!(upstream.with(&route).wants(Condition::Connect));
        assert_eq!(upstream.with(&route).attempts(), 3);
    }

    #[test]
    fn waiting_doubles_up_to_its_end() {
        let upstream = rules("{ backoff: 10ms..50ms, retry_after: 2s }");
        let route = RouteRetry::default();
        let rules = upstream.with(&route);
        let longest = |attempts| {
            (0..100_000).step_by(7).filter_map(|random| rules.wait(attempts, random, None)).max().unwrap()
        };
        let ms = Duration::from_millis;
        let near = |wait: Duration, bound: u64| wait <= ms(bound) && wait > ms(bound) * 9 / 10;
        assert!(near(longest(1), 10) && near(longest(2), 20) && near(longest(3), 40));
        assert!(near(longest(4), 50) && near(longest(200), 50));
        assert_eq!(rules.wait(1, 0, None), Some(Duration::ZERO));
        assert_eq!(rules.wait(1, 0, Some(ms(2000))), Some(ms(2000)));
        assert_eq!(rules.wait(1, 0, Some(ms(2001))), None);
    }

    #[test]
    fn what_an_answer_asks_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), expected, "{value}");
        }
    }

    fn bucket(now: Instant) -> Bucket {
        Bucket { tokens: SAVED, requests: 0, at: now }
    }

    proptest! {
        #[test]
        fn never_more_than_saved_and_the_share(
            share in 0u32..=100,
            steps in proptest::collection::vec((0u64..50, 0u64..2000), 1..400),
        ) {
            let start = Instant::now();
            let mut bucket = bucket(start);
            let (mut requests, mut elapsed, mut taken) = (0, Duration::ZERO, 0.0);
            for (more, ms) in steps {
                requests += more;
                elapsed += Duration::from_millis(ms);
                taken += f64::from(u8::from(bucket.take(f64::from(share) / 100.0, requests, start + elapsed)));
            }
            let most = SAVED + requests as f64 * f64::from(share) / 100.0 + elapsed.as_secs_f64();
            prop_assert!(taken <= most + 1e-6, "{taken} of {most}");
        }

        /// Requests come, fail, are tried again and end in any order: of those under way, those that are tried again
        /// are never more than the share of what there was when the last one was let, or than may be in any case.
        #[test]
        fn what_is_under_way_is_never_more_than_its_share(
            percent in 0u64..=100,
            least in 0u16..5,
            steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..400),
        ) {
            let upstream = rules(&format!("{{ budget: {percent}%, at_once: {least} }}"));
            let (mut active, mut further) = (Vec::<()>::new(), Vec::<(Further, bool)>::new());
            let now = Instant::now();
            for (step, index) in steps {
                let attempts = further.iter().filter(|(_, begun)| *begun).count();
                match step {
                    0 => active.push(()),
                    // One that fails for the first time.
                    1 if !active.is_empty() => {
                        let under_way = (active.len() + further.len()) as u64;
                        let load = Traffic { requests: 1_000_000, active: (active.len() + attempts) as u64 };
                        active.pop();
                        if let Some(one) = upstream.spend(None, load, now) {
                            further.push((one, false));
                            let (count, least) = (further.len() as u64, u64::from(least));
                            prop_assert!(count <= least || count * 100 <= percent * under_way, "{count} of {under_way}");
                        }
                    }
                    2 if !further.is_empty() => {
                        let at = index.index(further.len());
                        further[at].0.begin();
                        further[at].1 = true;
                    }
                    3 if !further.is_empty() => drop(further.swap_remove(index.index(further.len()))),
                    _ => {}
                }
                let spent = upstream.budget.0.lock();
                let waiting = further.iter().filter(|(_, begun)| !*begun).count();
                prop_assert_eq!((spent.under_way, spent.waiting), (further.len() as u64, waiting as u64));
            }
            drop(further);
            let spent = upstream.budget.0.lock();
            prop_assert_eq!((spent.under_way, spent.waiting), (0, 0), "all is given back");
        }
    }

    #[test]
    fn what_is_spent_over_time_is_not_bounded_by_what_is_under_way() {
        let now = Instant::now();
        let taken = |upstream: &Retries| (0..200).filter(|_| upstream.spend_over_time(1000, now)).count();
        let upstream = rules("{ budget: 20%, at_once: 0 }");
        assert_eq!(taken(&upstream), 100);
        assert!(
            upstream.spend(None, Traffic { requests: 1000, active: 1000 }, now).is_none(),
            "it is one bucket"
        );
        assert_eq!(taken(&rules("{ budget: 0%, at_once: 3 }")), 0);
    }

    #[test]
    fn what_is_spent_comes_back_with_requests_and_time() {
        let now = Instant::now();
        let mut bucket = bucket(now);
        let mut taken = |requests, now| (0..200).filter(|_| bucket.take(0.2, requests, now)).count();
        assert_eq!(taken(0, now), 100);
        assert_eq!(taken(50, now), 10);
        assert_eq!(taken(50, now + Duration::from_secs(3)), 3);
    }

    /// In virtual time: a thousand requests are under way, all fail, and the next ones come as quickly, for a minute.
    #[test]
    fn a_storm_stays_within_the_share() {
        let upstream = rules("{ budget: 20% }");
        let start = Instant::now();
        let (mut requests, mut tried_again, mut most) = (1000, 0_u64, 0);
        let mut under_way = Vec::new();
        for tick in 0..6000 {
            let now = start + Duration::from_millis(tick * 10);
            // Further attempts of the tick before have failed as well.
            under_way.clear();
            for _ in 0..1000 {
                requests += 1;
                // What waits for its next attempt is at no endpoint.
                let load = Traffic { requests, active: 1000 - under_way.len() as u64 };
                under_way.extend(upstream.spend(None, load, now));
            }
            tried_again += under_way.len() as u64;
            most = most.max(under_way.len());
        }
        assert!(most <= 200, "{most} at once");
        assert!(tried_again as f64 <= 0.2 * requests as f64 + 100.0 + 60.0, "{tried_again} of {requests}");
        assert!(tried_again as f64 >= 0.15 * requests as f64, "{tried_again} of {requests}");
    }
}
