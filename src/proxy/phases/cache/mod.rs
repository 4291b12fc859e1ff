//! The cache on a request's way: after the policies have let it pass, before an endpoint is chosen.
//!
//! What is kept and fresh is served here. What is not is fetched by a flight (`fill`): a request of its own
//! through the same hooks, so that upstream, retries, breaker and times are the route's, and no client's
//! leaving ends it. The client that began it, and all that come meanwhile, follow it from its first byte.
//! Answers that turn out to be for one client alone let the others go on at once, by themselves.

mod caller;
mod failed;
mod fill;
mod follow;
mod kept;
mod purge;
mod serve;
mod told;

pub use fill::{Event, adopt};
pub use kept::{Kept, can_stand_in, stand_in};
pub use purge::{hear_of, invalidate};
pub use told::Fill;

use crate::cache::rules::date;
use crate::cache::rules::directives::RequestDirectives;
use crate::cache::rules::key::{Key, Parts};
use crate::cache::rules::reuse::Use;
use crate::cache::rules::status::{Forward, Report};
use crate::cache::rules::storing;
use crate::cache::store::body::Follower;
use crate::cache::store::flight::{Boarding, Flight};
use crate::cache::store::object::Object;
use crate::cache::store::{Below, Found, Store};
use crate::message::hop_by_hop;
use crate::policy::cache::Cache;
use crate::policy::context::HeaderEdit;
use crate::policy::shared::cel::Facts;
use crate::proxy::{Gateway, RequestContext, reply};
use crate::rejection::Rejection;
use crate::runtime::{Snapshot, Target};
use crate::telemetry::metrics::CacheOutcome;
use crate::values::Sha256;
use fill::Arrival;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use pingora_error::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// How often a request looks again, after an answer that it waited for was for others.
const LOOKS: usize = 3;

/// What has a longer URL goes past: what is purged is remembered by its URL, whoever makes it up.
const LONGEST_URL: usize = 4096;

/// What the cache knows of a request.
#[derive(Debug)]
pub struct Visit {
    /// The store.
    pub store: Arc<Store>,
    /// The key.
    pub key: Arc<Key>,
    /// What has become of it.
    pub report: Report,
    /// The flight that it began and waits for.
    pub fill: Option<Arc<Fill>>,
    /// What may stand in, while it asks its upstream by itself.
    pub kept: Option<Kept>,
}

impl Visit {
    /// What the request is counted as.
    pub const fn outcome(&self) -> CacheOutcome {
        match (self.report.hit, self.report.forward) {
            (true, _) if matches!(self.report.ttl, Some(Err(_))) => CacheOutcome::Stale,
            (true, _) => CacheOutcome::Hit,
            (false, Some(Forward::Bypass | Forward::Method) | None) => CacheOutcome::Bypass,
            (false, _) if self.report.collapsed => CacheOutcome::Coalesced,
            (false, _) if matches!(self.report.forward_status, Some(304)) => CacheOutcome::Revalidated,
            (false, _) => CacheOutcome::Miss,
        }
    }
}

/// A request that may be answered from the cache.
struct Guest {
    store: Arc<Store>,
    key: Arc<Key>,
    directives: RequestDirectives,
    personal: bool,
    /// How long an answer may be waited for.
    patience: Duration,
}

/// The route's caching, if it has any.
pub fn policy<'s>(snapshot: &'s Snapshot, cx: &RequestContext) -> Option<&'s Cache> {
    let route = snapshot.route(cx.route?);
    if matches!(route.target, Target::Local(_)) {
        return None;
    }
    route.chains.on(cx.listener_id()).cache()
}

/// Answers from the cache, if it can. False if the request goes on to its upstream by itself.
///
/// # Errors
/// The client is gone, or what it was sent broke off.
pub async fn run(gateway: &Gateway, session: &mut Session, cx: &mut RequestContext) -> Result<bool> {
    let snapshot = Arc::clone(&cx.snapshot);
    let Some(cache) = policy(&snapshot, cx) else { return Ok(false) };
    let Some(store) = snapshot.caches.get(cache.store()).map(Arc::clone) else { return Ok(false) };
    if session.req_header().method.as_str() == "PURGE" {
        return purge::by_method(gateway, session, cx, (cache, &store)).await;
    }
    // HTTP/2 needs no field to say that a body comes.
    let comes = session.is_http2() && !session.as_downstream_mut().is_body_done();
    let key = Arc::new(key_of(session.req_header(), cx, cache));
    let request = session.req_header();
    let directives = RequestDirectives::of(&request.headers);
    let forward = passes(request, cx, (cache, &directives), comes)
        .or_else(|| (key.url().len() > LONGEST_URL).then_some(Forward::Bypass));
    let report = Report { forward, ..Report::default() };
    let visit = Visit { store: Arc::clone(&store), key: Arc::clone(&key), report, fill: None, kept: None };
    cx.visit = Some(Box::new(visit));
    if forward.is_some() {
        return Ok(false);
    }
    let personal = storing::has_credentials(&request.headers) || cx.policy.principal.is_some();
    let patience = patience(cx);
    let directives = if cache.settings.obeys_requests { directives } else { RequestDirectives::default() };
    let guest = Guest { store, key, directives, personal, patience };
    let mut kept = None;
    let is_answered = look(gateway, session, cx, (&guest, &mut kept)).await?;
    if let (false, Some(visit)) = (is_answered, &mut cx.visit) {
        visit.kept = kept;
    }
    Ok(is_answered)
}

/// Why a request has nothing to do with the cache.
fn passes(
    request: &RequestHeader,
    cx: &RequestContext,
    (cache, directives): (&Cache, &RequestDirectives),
    body_comes: bool,
) -> Option<Forward> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return Some(Forward::Method);
    }
    let no_store = directives.no_store && cache.settings.obeys_requests;
    let is_odd = cx.upgrade
        || body_comes
        || cx.held.is_some()
        || is_odd(&request.headers)
        // The key would have what the upstream does not get to see.
        || hop_by_hop::takes_more_away(&request.headers);
    let is_bypassed = || cache.has_condition() && cache.is_bypassed(&Facts::new(request, &cx.policy));
    (no_store || is_odd || is_bypassed()).then_some(Forward::Bypass)
}

/// Whether a request has what is part of no key, so that what comes of it is for nobody else: a body (RFC 9110
/// section 9.3.1), or fields by which frameworks take it for another one than it says.
fn is_odd(headers: &HeaderMap) -> bool {
    const NAMES: [&str; 6] = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-original-host",
    ];
    headers.iter().any(|(name, value)| match name {
        name if *name == CONTENT_LENGTH => value.as_bytes() != b"0",
        name if *name == TRANSFER_ENCODING => true,
        name => name.as_str().starts_with("x-") && NAMES.contains(&name.as_str()),
    })
}

/// The key: the URL, the route, and all that policies set on the request for the upstream to see.
fn key_of(request: &RequestHeader, cx: &RequestContext, cache: &Cache) -> Key {
    let route = cx.route().map_or("", |route| route.name.as_str());
    let principal = cx.policy.principal.as_deref();
    let consumer = principal.and_then(|principal| principal.consumer.as_deref());
    let tenant = consumer.and_then(|consumer| consumer.tenant.as_deref()).unwrap_or_default();
    let caller = cache.settings.by_caller.then(|| caller::of(request, principal)).flatten();
    let parts = Parts {
        scheme: cx.policy.scheme(),
        authority: &cx.authority,
        path: cx.policy.path(request),
        query: request.uri.query(),
        headers: &request.headers,
        realm: [tenant, route],
        caller: caller.as_deref(),
    };
    let edits = &cx.policy.edits;
    let mut seen: Vec<(&str, Cow<'_, [u8]>)> = Vec::new();
    for edit in &edits.headers {
        if let HeaderEdit::Set(name, value) | HeaderEdit::Add(name, value) = edit {
            // Keys are kept for long, and go to disk: no secret is in them.
            let value = match value.is_sensitive() {
                true => Cow::Owned(Sha256::of(value.as_bytes()).to_string().into_bytes()),
                false => Cow::Borrowed(value.as_bytes()),
            };
            seen.push((name.as_str(), value));
        }
    }
    let path = edits.path.as_ref().map(|path| (":path", path.as_bytes()));
    let query = edits.query.as_ref().map(|query| (":query", query.as_bytes()));
    let host = edits.host.as_ref().map(|host| (":host", host.as_bytes()));
    let seen = seen.iter().map(|(name, value)| (*name, value.as_ref()));
    let seen = seen.chain(path).chain(query).chain(host).chain(told(&request.headers));
    Key::new(&parts, seen, &cache.settings)
}

/// Fields by which an upstream may be told of another host, scheme or path than the key has: those that the
/// peer is trusted to send, and those that upstreams trust without asking anybody. They are part of the
/// key, so that what comes of them is for nobody else.
fn told(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    const NAMES: [&str; 16] = [
        "forwarded",
        "front-end-https",
        "x-forwarded-host",
        "x-forwarded-path",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-protocol",
        "x-forwarded-scheme",
        "x-forwarded-server",
        "x-forwarded-ssl",
        "x-forwarded-uri",
        "x-host",
        "x-http-destinationurl",
        "x-http-host-override",
        "x-scheme",
        "x-url-scheme",
    ];
    let fields = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    fields.filter(|(name, _)| name.starts_with(['x', 'f']) && NAMES.contains(name))
}

/// As long as the exchange may take: a flight takes no longer.
fn patience(cx: &RequestContext) -> Duration {
    let Some(route) = cx.route() else { return Duration::ZERO };
    let upstream = match &route.target {
        Target::Upstream(upstream) => *upstream,
        Target::Split(split) => split.at(0),
        Target::Local(_) => return Duration::ZERO,
    };
    let (compiled, _) = &cx.snapshot.upstreams[upstream];
    crate::upstream::peer::total(compiled, &route.timeouts)
}

/// Looks into the store, and waits or fetches if that does not do.
async fn look(
    gateway: &Gateway,
    session: &mut Session,
    cx: &mut RequestContext,
    (guest, kept): (&Guest, &mut Option<Kept>),
) -> Result<bool> {
    let (mut failures, mut before) = (0, None::<Arc<Flight>>);
    for _ in 0..LOOKS {
        let now = date::now();
        let mut flight_key = Vec::new();
        *kept = None;
        let (found, place) = find(guest, &session.req_header().headers, now).await;
        match found {
            Found::Object { object, aged } => match object.head.terms.usable(&guest.directives, now, aged) {
                Use::Fresh | Use::Stale => return hit(session, cx, &object, place).await,
                Use::Meanwhile => {
                    flight_key_of(guest, &mut flight_key);
                    if let Boarding::Fetch(seat) = guest.store.flights.board(&flight_key, now) {
                        let mut flight = fill::Order::new(guest, session.req_header(), flight_key);
                        (flight.seat, flight.known) = (Some(seat), Some(Arc::clone(&object)));
                        fill::start(session, cx, flight);
                    }
                    return hit(session, cx, &object, place).await;
                }
                Use::Validate { or_stale } => {
                    note(
                        cx,
                        if object.head.terms.left(now).is_ok() { Forward::Request } else { Forward::Stale },
                    );
                    flight_key_of(guest, &mut flight_key);
                    flight_key.extend_from_slice(&object.variant);
                    *kept = Some(Kept { object, place, or_stale });
                }
            },
            Found::OtherVariants(vary) => {
                note(cx, Forward::VaryMiss);
                flight_key_of(guest, &mut flight_key);
                flight_key.extend_from_slice(&vary.of_request(&session.req_header().headers));
            }
            Found::Nothing => {
                note(cx, Forward::UriMiss);
                flight_key_of(guest, &mut flight_key);
            }
        }
        if guest.directives.only_if_cached {
            return not_cached(gateway, session, cx).await;
        }
        if session.req_header().method == Method::HEAD {
            return go_on(cx, kept);
        }
        // Who wants to have it asked about now does not wait for what was asked before.
        let is_reload = guest.directives.no_cache || guest.directives.max_age.is_some();
        let boarding = match before.take() {
            _ if is_reload => Boarding::Probe,
            Some(before) => guest.store.flights.board_after(&before, &flight_key, now),
            None => guest.store.flights.board(&flight_key, now),
        };
        let seat = match boarding {
            Boarding::Fetch(seat) => Some(seat),
            Boarding::Probe => None,
            Boarding::Alone if kept.as_ref().is_some_and(|kept| kept.object.has_validator()) => None,
            Boarding::Alone => return go_on(cx, kept),
            Boarding::Follow(flight) => {
                let following = (flight, flight_key.as_slice(), &mut failures);
                match follow::follow(gateway, session, cx, (guest, kept), following).await? {
                    ControlFlow::Break(is_served) => return Ok(is_served),
                    ControlFlow::Continue(failed) => before = failed,
                }
                continue;
            }
        };
        let mut order = fill::Order::new(guest, session.req_header(), flight_key);
        (order.seat, order.known) = (seat, kept.as_ref().map(|kept| Arc::clone(&kept.object)));
        return fetch(session, cx, guest, order, kept).await;
    }
    go_on(cx, kept)
}

/// Lets the request go on by itself. What is kept is held on to only where it may be wanted: its body may be on its
/// way.
fn go_on(cx: &RequestContext, kept: &mut Option<Kept>) -> Result<bool> {
    if !kept::is_wanted(cx) {
        *kept = None;
    }
    Ok(false)
}

/// Fetches, and serves what comes; or what is stale, if nothing does and it may stand in.
async fn fetch(
    session: &mut Session,
    cx: &mut RequestContext,
    guest: &Guest,
    order: fill::Order,
    kept: &mut Option<Kept>,
) -> Result<bool> {
    let Some((fill, mut events)) = fill::start(session, cx, order) else { return go_on(cx, kept) };
    if let Some(visit) = &mut cx.visit {
        visit.fill = Some(Arc::clone(&fill));
    }
    match fill::arrival(session, &mut events, guest.patience).await? {
        Arrival::Shared(object, place) => {
            if let Some(visit) = &mut cx.visit {
                visit.report.stored = Some(true);
                // Its body was there already: it was asked about, and is still good.
                visit.report.forward_status = place.is_none().then_some(304);
            }
            // What was asked about may still be coming from disk, to this place in it.
            let place = place.or(kept.take().and_then(|kept| kept.place));
            serve::shared(session, cx, &object, place).await
        }
        Arrival::Private(head) => {
            if let Some(code) = fill.stands_in_by_kept()
                && let Some(kept) = kept.take()
            {
                return kept::serve(session, cx, kept, code).await;
            }
            match kept.take_if(|kept| kept.or_stale && failed::is_failure(head.status.as_u16())) {
                Some(kept) => hit(session, cx, &kept.object, kept.place).await,
                None => serve::private(session, cx, *head, events).await.map(|()| true),
            }
        }
        Arrival::Lost => match kept.take_if(|kept| kept.or_stale) {
            Some(kept) => hit(session, cx, &kept.object, kept.place).await,
            // Nothing came, not even a refusal: the request goes on by itself.
            None => go_on(cx, kept),
        },
    }
}

fn flight_key_of(guest: &Guest, text: &mut Vec<u8>) {
    text.extend_from_slice(guest.key.as_str().as_bytes());
    if guest.personal {
        // What is only for those with credentials says nothing of the others.
        text.extend_from_slice(b"\n*personal");
    }
}

fn is_for(object: &Object, request: &RequestHeader) -> bool {
    let vary = &object.head.vary;
    object.head.terms.is_shared() && (vary.is_empty() || vary.of_request(&request.headers) == object.variant)
}

fn note(cx: &mut RequestContext, forward: Forward) {
    if let Some(visit) = &mut cx.visit {
        visit.report.forward = Some(forward);
    }
}

/// What is kept for a request, in memory or on disk, and its place in a body that is on its way from there.
async fn find(guest: &Guest, request: &HeaderMap, now: Duration) -> (Found, Option<Follower>) {
    let found = guest.store.find(guest.key.as_str(), request);
    if matches!(found, Found::Object { .. }) {
        return (found, None);
    }
    match guest.store.find_below(&guest.key, request, now).await {
        Some(Below { object, aged, place }) => (Found::Object { object, aged }, place),
        None => (found, None),
    }
}

async fn hit(
    session: &mut Session,
    cx: &mut RequestContext,
    object: &Arc<Object>,
    place: Option<Follower>,
) -> Result<bool> {
    let before = cx
        .visit
        .as_mut()
        .map(|visit| std::mem::replace(&mut visit.report, Report { hit: true, ..Report::default() }));
    let is_served = serve::shared(session, cx, object, place).await?;
    if let (false, Some(visit), Some(before)) = (is_served, &mut cx.visit, before) {
        // The upstream answers it after all.
        visit.report = Report { forward: before.forward.or(Some(Forward::UriMiss)), ..before };
    }
    Ok(is_served)
}

/// RFC 9111 section 5.2.1.7.
async fn not_cached(gateway: &Gateway, session: &mut Session, cx: &mut RequestContext) -> Result<bool> {
    let title = "This is not in the cache";
    let rejection = Rejection::new(StatusCode::GATEWAY_TIMEOUT, "not_cached", title);
    Box::pin(reply::reject(gateway, session, cx, &rejection)).await?;
    Ok(true)
}
