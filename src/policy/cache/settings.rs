//! What a route says about caching, compiled: plain data that the rules in `cache::rules` read.

use http::{HeaderName, StatusCode};
use std::time::Duration;

/// What holds where an answer does not say, and what a key is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an answer is fresh that says nothing of it, by status; a hundred stands for its class
    /// (`5` for all of 5xx). An exact status goes before its class.
    pub ttl: Box<[(u16, Duration)]>,
    /// The same for statuses that RFC 9110 section 15.1 lets a cache keep by itself, if any.
    pub default_ttl: Option<Duration>,
    /// The shortest time that an answer with a lifetime is kept for, against what it says.
    pub min_ttl: Duration,
    /// The longest time that any answer is fresh.
    pub max_ttl: Duration,
    /// The most that is guessed from Last-Modified; nothing is guessed if it is zero.
    pub heuristic: Duration,
    /// How long a stale answer is served while a new one is fetched, where the answer does not say.
    pub grace: Duration,
    /// How long a stale answer stands in for an error, where the answer does not say.
    pub stale_if_error: Duration,
    /// What becomes of answers with Set-Cookie.
    pub set_cookie: SetCookie,
    /// The largest body that is kept, in bytes.
    pub largest: u64,
    /// Whether clients may ask for fresher answers, or for none from the cache.
    pub obeys_requests: bool,
    /// Whether callers have keys of their own.
    pub by_caller: bool,
    /// Fields of the request that are part of the key.
    pub vary_on: Box<[HeaderName]>,
    /// Cookies that are part of the key.
    pub cookies: Box<[Box<str>]>,
    /// What of the query is part of the key.
    pub query: Query,
    /// The field of an answer with its tags.
    pub tags_from: Option<HeaderName>,
}

/// What becomes of an answer with Set-Cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetCookie {
    /// It is not kept.
    Refuse,
    /// It is kept without the cookies, which nobody gets then.
    Strip,
}

/// What of the query is part of the key, and so goes upstream for a fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// All of it, as it is written.
    All,
    /// All of it, sorted by name; values of one name keep their order.
    Sorted,
    /// These parameters alone, sorted.
    Keep(Box<[Box<str>]>),
    /// All but these, sorted.
    Drop(Box<[Box<str>]>),
}

impl Settings {
    /// The lifetime that is configured for a status, if one is. A class does not stand for what a request can
    /// bring about by what is in no key, such as a field that the upstream finds too large: one client would
    /// spoil the answer for all (Nguyen et al., "Your Cache Has Fallen", 2019).
    pub fn ttl_of(&self, status: StatusCode) -> Option<Duration> {
        let of = |wanted: u16| self.ttl.iter().find(|(known, _)| *known == wanted).map(|(_, ttl)| *ttl);
        let is_of_requests = matches!(status.as_u16(), 400 | 405 | 406 | 411..=417 | 422 | 431 | 501);
        of(status.as_u16()).or_else(|| of(status.as_u16() / 100).filter(|_| !is_of_requests))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Box::default(),
            default_ttl: None,
            min_ttl: Duration::ZERO,
            max_ttl: Duration::from_secs(365 * 86_400),
            heuristic: Duration::from_secs(3600),
            grace: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            set_cookie: SetCookie::Refuse,
            largest: 16 << 20,
            obeys_requests: true,
            by_caller: false,
            vary_on: Box::default(),
            cookies: Box::default(),
            query: Query::All,
            tags_from: None,
        }
    }
}
