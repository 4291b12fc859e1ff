//! How old an answer is, and how long it is fresh (RFC 9111 section 4.2).

use super::date;
use super::directives::ResponseDirectives;
use crate::policy::cache::Settings;
use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// When an answer was asked for, and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When the request was sent.
    pub asked: Duration,
    /// When the head of the answer was there.
    pub answered: Duration,
}

/// How old an answer was when it came (RFC 9111 section 4.2.3).
pub fn initial_age(headers: &HeaderMap, exchange: Exchange) -> Duration {
    let apparent = match date::field(headers, &DATE) {
        Some(date) => Duration::from_secs(exchange.answered.as_secs().saturating_sub(date.as_secs())),
        None => Duration::ZERO,
    };
    let delay = exchange.answered.saturating_sub(exchange.asked);
    apparent.max(age(headers).saturating_add(delay))
}

/// The Age field: of several members the first; what is no age is none (RFC 9111 section 5.1).
pub fn age(headers: &HeaderMap) -> Duration {
    let first =
        headers.get(AGE).and_then(|value| value.to_str().ok()).and_then(|text| text.split(',').next());
    first.and_then(super::directives::seconds).unwrap_or_default()
}

/// Where a lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `s-maxage`.
    SharedMaxAge,
    /// `max-age`.
    MaxAge,
    /// Expires against Date.
    Expires,
    /// The route's configuration.
    Configured,
    /// A tenth of the time since it was last modified (RFC 9111 section 4.2.2).
    Heuristic,
    /// Nothing says how long: it is stale from the beginning.
    Nothing,
}

impl Source {
    /// Its word in `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SharedMaxAge => "s-maxage",
            Self::MaxAge => "max-age",
            Self::Expires => "Expires",
            Self::Configured => "the route's ttl",
            Self::Heuristic => "Last-Modified",
            Self::Nothing => "nothing",
        }
    }

    /// True if the answer itself says it.
    pub const fn is_explicit(self) -> bool {
        matches!(self, Self::SharedMaxAge | Self::MaxAge | Self::Expires)
    }
}

/// How long an answer is fresh, counted from when it was made (RFC 9111 section 4.2.1), within the
/// route's bounds.
pub fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    (settings, exchange): (&Settings, Exchange),
) -> (Duration, Source) {
    let (lifetime, source) = told(status, headers, directives, (settings, exchange));
    let least = if lifetime.is_zero() { Duration::ZERO } else { settings.min_ttl };
    (lifetime.max(least).min(settings.max_ttl), source)
}

fn told(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    (settings, exchange): (&Settings, Exchange),
) -> (Duration, Source) {
    if let Some(lifetime) = directives.s_maxage {
        return (lifetime, Source::SharedMaxAge);
    }
    if let Some(lifetime) = directives.max_age {
        return (lifetime, Source::MaxAge);
    }
    let date = date::field(headers, &DATE).unwrap_or(Duration::from_secs(exchange.answered.as_secs()));
    if !directives.targeted && headers.contains_key(EXPIRES) {
        // One that is no date is in the past (RFC 9111 section 5.3).
        let expires = date::field(headers, &EXPIRES).unwrap_or_default();
        return (expires.saturating_sub(date), Source::Expires);
    }
    let configured = settings.ttl_of(status);
    if let Some(lifetime) = configured.or(settings.default_ttl.filter(|_| is_heuristically_cacheable(status)))
    {
        return (lifetime, Source::Configured);
    }
    if is_heuristically_cacheable(status) || directives.public {
        let modified = date::field(headers, &LAST_MODIFIED).map(|modified| date.saturating_sub(modified));
        let tenth = modified.map_or(Duration::ZERO, |age| age / 10).min(settings.heuristic);
        if !tenth.is_zero() {
            return (tenth, Source::Heuristic);
        }
    }
    (Duration::ZERO, Source::Nothing)
}

/// The statuses that a cache may keep by itself (RFC 9110 section 15.1), 206 aside.
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}
