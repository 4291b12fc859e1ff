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
    pub(super) fn new(config: &Retry, budget: Arc<Budget>) -> Self {
        Self { config: config.clone(), budget }
    }

    /// The rules for a request of this route.
    pub fn with<'a>(&'a self, route: &'a RouteRetry) -> RetryRules<'a> {
        RetryRules { upstream: self, route }
    }

    /// Takes a further attempt from the budget, where `requests` is how many the upstream has had so
    /// far. False if nothing is left.
    pub fn spend(&self, requests: u64, now: Instant) -> bool {
        self.budget.take(self.config.budget.fraction(), requests, now)
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

/// Further attempts that are saved up at most.
const SAVED: f64 = 100.0;
/// Those that are there each second in any case.
const EACH_SECOND: f64 = 1.0;

/// How many further attempts there may be: a bucket of tokens into which each request pays a share.
/// Requests pay when a token is asked for, all since the last time at once, so that a request that
/// goes well costs nothing here.
#[derive(Debug, Default)]
pub struct Budget(Mutex<Option<Bucket>>);

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    requests: u64,
    at: Instant,
}

impl Budget {
    fn take(&self, share: f64, requests: u64, now: Instant) -> bool {
        let mut bucket = self.0.lock();
        let bucket = bucket.get_or_insert(Bucket { tokens: SAVED, requests, at: now });
        let seconds = now.saturating_duration_since(bucket.at).as_secs_f64();
        let paid = requests.saturating_sub(bucket.requests) as f64 * share + seconds * EACH_SECOND;
        bucket.tokens = (bucket.tokens + paid).min(SAVED);
        bucket.requests = requests;
        bucket.at = now;
        let has = bucket.tokens >= 1.0;
        if has {
            bucket.tokens -= 1.0;
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

    proptest! {
        #[test]
        fn never_more_than_saved_and_the_share(
            share in 0u32..=100,
            steps in proptest::collection::vec((0u64..50, 0u64..2000), 1..400),
        ) {
            let budget = Budget::default();
            let start = Instant::now();
            let (mut requests, mut elapsed, mut taken) = (0, Duration::ZERO, 0.0);
            for (more, ms) in steps {
                requests += more;
                elapsed += Duration::from_millis(ms);
                taken += f64::from(u8::from(budget.take(f64::from(share) / 100.0, requests, start + elapsed)));
            }
            let most = SAVED + requests as f64 * f64::from(share) / 100.0 + elapsed.as_secs_f64();
            prop_assert!(taken <= most + 1e-6, "{taken} of {most}");
        }
    }

    #[test]
    fn what_is_spent_comes_back_with_requests_and_time() {
        let budget = Budget::default();
        let now = Instant::now();
        assert_eq!((0..200).filter(|_| budget.take(0.2, 0, now)).count(), 100);
        assert_eq!((0..200).filter(|_| budget.take(0.2, 50, now)).count(), 10);
        let later = now + Duration::from_secs(3);
        assert_eq!((0..200).filter(|_| budget.take(0.2, 50, later)).count(), 3);
    }
}
