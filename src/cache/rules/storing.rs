//! Whether an answer may be kept, and what of it (RFC 9111 section 3).

use super::date;
use super::directives::{Reach, RequestDirectives, ResponseDirectives};
use super::freshness::{self, Exchange, Source};
use super::vary::{self, Vary};
use crate::policy::cache::{SetCookie, Settings};
use http::header::{
    AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, DATE, HeaderName, PROXY_AUTHENTICATE,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, StatusCode};
use std::time::Duration;

/// The largest head that is kept, in bytes of names and values.
pub const LARGEST_HEAD: usize = 32 << 10;

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Only answers to GET are.
    Method,
    /// The client said `no-store`.
    RequestNoStore,
    /// The answer says `no-store`.
    NoStore,
    /// The answer says `private`.
    Private,
    /// It answers a caller, and does not say that it is for others as well (RFC 9111 section 3.5).
    Authorization,
    /// Its status is not one that is kept.
    Status,
    /// It is a part of something.
    Partial,
    /// It varies on everything, or on too much.
    Vary,
    /// It sets cookies.
    SetCookie,
    /// Nothing says that it may be, and it could not be used again.
    NotFresh,
    /// Its body is larger than the route or the store allows.
    TooLarge,
    /// Its head is larger than [`LARGEST_HEAD`].
    HeadTooLarge,
}

impl Refusal {
    /// Its word in logs, in `Cache-Status` and in `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::Vary => "vary",
            Self::SetCookie => "set-cookie",
            Self::NotFresh => "not-fresh",
            Self::TooLarge => "too-large",
            Self::HeadTooLarge => "head-too-large",
        }
    }
}

/// A request, as far as it decides about what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// What it says of caches.
    pub directives: &'a RequestDirectives,
    /// Whether it was made for somebody: it has credentials, or a policy knows its caller.
    pub is_personal: bool,
}

/// An answer's head that may be kept, with what decides about its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storable {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, less those that must not be kept.
    pub headers: HeaderMap,
    /// What it varies on.
    pub vary: Vary,
    /// How it ages.
    pub terms: Terms,
}

/// How an answer ages, and what may be done with it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When it came.
    pub answered: Duration,
    /// How old it was then.
    pub initial_age: Duration,
    /// How long it is fresh, counted from when it was made.
    pub lifetime: Duration,
    /// How long after that it may be served while another one is fetched.
    pub grace: Duration,
    /// How long after that it may stand in for an error.
    pub stale_if_error: Duration,
    /// It is validated before each use.
    pub no_cache: bool,
    /// It is never served stale, unless by what itself says.
    pub must_revalidate: bool,
}

/// Statuses whose meaning for caches is known here (RFC 9111 section 3); 206 and 304 are not stored
/// by themselves.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 400 | 402..=407 | 409..=411)
        || matches!(status.as_u16(), 413..=415 | 421 | 422 | 451 | 500..=505)
}

/// What a shared cache may keep of an answer.
///
/// # Errors
/// Why it keeps nothing.
pub fn storable(
    asked: Asked<'_>,
    (status, headers): (StatusCode, &HeaderMap),
    exchange: Exchange,
    settings: &Settings,
) -> Result<(Storable, Source), Refusal> {
    let directives = ResponseDirectives::of(headers);
    allowed(asked, (status, headers), &directives, settings)?;
    let vary = Vary::of(headers).ok_or(Refusal::Vary)?;
    let (lifetime, source) = freshness::lifetime(status, headers, &directives, (settings, exchange));
    let is_named = source.is_explicit() || directives.public || settings.ttl_of(status).is_some();
    if !is_named && !freshness::is_heuristically_cacheable(status) {
        return Err(Refusal::Status);
    }
    if is_blamed_on_requests(status) && !is_named {
        return Err(Refusal::Status);
    }
    let headers = kept(headers, &directives, (settings, exchange));
    if lifetime.is_zero() && !super::update::has_validator(&headers) {
        // Nobody could ever use it.
        return Err(Refusal::NotFresh);
    }
    if vary::size(&headers) > LARGEST_HEAD {
        return Err(Refusal::HeadTooLarge);
    }
    let terms = terms(&headers, &directives, lifetime, (settings, exchange));
    Ok((Storable { status, headers, vary, terms }, source))
}

/// What forbids it, whatever its lifetime.
fn allowed(
    asked: Asked<'_>,
    (status, headers): (StatusCode, &HeaderMap),
    directives: &ResponseDirectives,
    settings: &Settings,
) -> Result<(), Refusal> {
    if asked.method != Method::GET {
        return Err(Refusal::Method);
    }
    if asked.directives.no_store && settings.obeys_requests {
        return Err(Refusal::RequestNoStore);
    }
    if status == StatusCode::PARTIAL_CONTENT || headers.contains_key(CONTENT_RANGE) {
        return Err(Refusal::Partial);
    }
    if !is_understood(status) {
        return Err(Refusal::Status);
    }
    // Who understands the status goes by that instead (RFC 9111 section 5.2.2.3).
    if directives.no_store && !directives.must_understand {
        return Err(Refusal::NoStore);
    }
    if directives.private == Reach::All {
        return Err(Refusal::Private);
    }
    let for_others = directives.public || directives.must_revalidate || directives.s_maxage.is_some();
    if asked.is_personal && !for_others && !settings.by_caller {
        return Err(Refusal::Authorization);
    }
    let names_cookies = |reach: &Reach| reach.fields().contains(&SET_COOKIE);
    let cookies_stay_out = settings.set_cookie == SetCookie::Strip
        || names_cookies(&directives.no_cache)
        || names_cookies(&directives.private);
    if headers.contains_key(SET_COOKIE) && !cookies_stay_out {
        return Err(Refusal::SetCookie);
    }
    if content_length(headers).is_some_and(|length| length > settings.largest) {
        return Err(Refusal::TooLarge);
    }
    Ok(())
}

/// Statuses that a request may bring about by what is in no key, such as a field that the upstream finds
/// too large: one client would spoil the answer for all (Nguyen et al., "Your Cache Has Fallen", 2019).
/// They are kept only if something names them.
fn is_blamed_on_requests(status: StatusCode) -> bool {
    matches!(status.as_u16(), 405 | 414 | 501)
}

fn terms(
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    lifetime: Duration,
    (settings, exchange): (&Settings, Exchange),
) -> Terms {
    let is_strict = directives.must_revalidate || directives.proxy_revalidate;
    let no_cache = directives.no_cache == Reach::All;
    // What is configured holds where nothing is said; what is said goes before the `proxy-revalidate` that
    // `s-maxage` brings along, since the origin says both.
    let span = |said: Option<Duration>, configured: Duration| match said {
        _ if is_strict || no_cache => Duration::ZERO,
        Some(said) => said,
        None if directives.forbids_stale() => Duration::ZERO,
        None => configured,
    };
    Terms {
        answered: exchange.answered,
        initial_age: freshness::initial_age(headers, exchange),
        lifetime,
        grace: span(directives.stale_while_revalidate, settings.grace),
        stale_if_error: span(directives.stale_if_error, settings.stale_if_error),
        no_cache,
        must_revalidate: directives.forbids_stale(),
    }
}

/// The fields that are kept: none of the connection (RFC 9111 section 3.1), none that the answer keeps
/// from shared caches, and a Date.
fn kept(
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    (settings, exchange): (&Settings, Exchange),
) -> HeaderMap {
    let mut kept = headers.clone();
    strip(&mut kept);
    for name in directives.no_cache.fields().iter().chain(directives.private.fields()) {
        kept.remove(name);
    }
    if settings.set_cookie == SetCookie::Strip {
        kept.remove(SET_COOKIE);
    }
    // RFC 9110 section 6.6.1.
    if date::field(&kept, &DATE).is_none()
        && let Some(date) = date::value(exchange.answered)
    {
        kept.insert(DATE, date);
    }
    kept
}

/// Takes out what belongs to one connection or one hop (RFC 9111 section 3.1, RFC 9110 section 7.6.1).
pub fn strip(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [CONNECTION, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    let more = [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATION_INFO];
    for name in named.iter().chain(&always).chain(&more) {
        headers.remove(name);
    }
}

/// The length that a head declares; none if it is no number.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Whether a request is made for somebody by its own fields.
pub fn has_credentials(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
}

/// Sets the age that an answer has now (RFC 9111 section 5.1), in whole seconds.
pub fn set_age(headers: &mut HeaderMap, age: Duration) {
    headers.insert(AGE, age.as_secs().into());
}
