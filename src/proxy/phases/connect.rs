//! Which endpoint gets the request, and what happens when it does not answer the door.

use super::{fallback, respond, retry};
use crate::config::model::route::Sticky;
use crate::config::model::upstream::Condition;
use crate::message::{hop_by_hop, websocket};
use crate::policy::shared::template::cookie_value;
use crate::proxy::{Gateway, RequestContext, hedge, reply, stream, tunnel};
use crate::rejection::Rejection;
use crate::runtime::Target;
use crate::runtime::snapshot::Split;
use crate::upstream::shed::Entry;
use crate::upstream::{Asking, peer};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// Chooses the upstream and the first endpoint, while a refusal still keeps the connection. A request
/// that is upgraded is served here, to the end of its tunnel.
pub async fn choose(gateway: &Gateway, session: &mut Session, cx: &mut RequestContext) -> Result<bool> {
    let Some(route) = cx.route() else { return Ok(false) };
    let upstream = match &route.target {
        Target::Upstream(upstream) => *upstream,
        Target::Split(split) => side(split, session.req_header()),
        Target::Local(_) => return Ok(false),
    };
    let total = peer::total(&cx.snapshot.upstreams[upstream].0, &route.timeouts);
    // Nobody waits longer than the caller: the call is over for it.
    cx.exchange.total = cx.call_time.map_or(total, |time| time.min(total));
    let mut at = upstream;
    while let Err(rejection) = enter(session.req_header(), cx, at).await {
        cx.exchange.failure = Some(Condition::Connect);
        match fallback::switch(cx, Condition::Connect, rejection.code) {
            Some(next) => at = next,
            None => {
                Box::pin(refuse(gateway, session, cx, &rejection)).await?;
                return Ok(false);
            }
        }
    }
    stream::begin(session, cx, &gateway.access_log);
    if !cx.upgrade {
        return Ok(true);
    }
    let Some(protocol) = upgrade(session.req_header(), cx) else { return Ok(true) };
    Box::pin(tunnel::run(gateway, session, cx, &protocol)).await?;
    Ok(false)
}

/// Lets the request in at an upstream: past its breaker, into its room, to an endpoint.
///
/// # Errors
/// It is not let in.
async fn enter(
    request: &RequestHeader,
    cx: &mut RequestContext,
    at: usize,
) -> std::result::Result<(), Box<Rejection>> {
    let (upstream, _) = &cx.snapshot.upstreams[at];
    let path = cx.policy.path(request);
    let hint = upstream.hint(&Asking { head: request, client: cx.policy.client, path });
    let call = upstream.call().map_err(open)?;
    // A tunnel is in flight for hours, and says nothing of how long answers take.
    let entry = if cx.upgrade { Entry::Unlimited } else { upstream.enter() };
    let turn = match entry {
        Entry::Unlimited => None,
        Entry::Room(turn) => Some(turn),
        Entry::Full => {
            cx.exchange.waited.get_or_insert_with(Instant::now);
            Some(Box::pin(upstream.wait(cx.importance(), cx.left())).await.ok_or_else(shed)?)
        }
    };
    let choice = upstream.choose(hint, &[]);
    let closed_for = if choice.is_some() { None } else { upstream.closed_for() };
    let is_chosen = choice.is_some();
    let exchange = &mut cx.exchange;
    exchange.is_due = false;
    exchange.upstream = Some(at);
    exchange.hint = hint;
    exchange.call = call;
    exchange.turn = turn;
    exchange.choice = choice;
    if is_chosen { Ok(()) } else { Err(closed_for.map_or_else(nobody, open)) }
}

/// Nobody can be asked: the gateway answers itself, with what the route has for that or with an error.
async fn refuse(
    gateway: &Gateway,
    session: &mut Session,
    cx: &mut RequestContext,
    rejection: &Rejection,
) -> Result<()> {
    if fallback::answer(session, cx, rejection.code).await?.is_some() {
        return Ok(());
    }
    if rejection.code == OVERLOADED {
        // Nobody was asked: it costs nothing at the limits either.
        respond::give_back(cx);
    }
    reply::reject(gateway, session, cx, rejection).await
}

/// The upstream has no room for another request.
const OVERLOADED: &str = "upstream_overloaded";

/// No endpoint can be asked.
fn nobody() -> Box<Rejection> {
    let title = "Nobody can answer this now";
    Box::new(Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "no_endpoint", title))
}

/// The upstream has as many requests as it can have.
fn shed() -> Box<Rejection> {
    let title = "There is too much to do for now";
    let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, OVERLOADED, title);
    Box::new(rejection.header(RETRY_AFTER, HeaderValue::from_static("1")))
}

/// The breaker is open: nobody is asked.
fn open(wait: Duration) -> Box<Rejection> {
    let title = "This is not answered for now";
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "breaker_open", title);
    Box::new(rejection.header(RETRY_AFTER, HeaderValue::from(seconds.max(1))))
}

/// The protocol that the request asks for, if its route lets it.
fn upgrade(request: &RequestHeader, cx: &RequestContext) -> Option<String> {
    let protocol = websocket::requested(request)?;
    let upgrades = &cx.route()?.upgrades;
    upgrades.iter().any(|upgrade| upgrade.is(protocol)).then(|| protocol.to_owned())
}

fn side(split: &Split, request: &RequestHeader) -> usize {
    let value = match &split.sticky {
        Some(Sticky::Header(name)) => request.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes),
        Some(Sticky::Cookie(name)) => cookie_value(request, name).as_bytes(),
        None => b"",
    };
    if value.is_empty() {
        return split.at(crate::telemetry::random::next_u64());
    }
    split.at(fnv1a(value))
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo; RFC 9923): the same on every machine and in every version, so
/// that every gateway, and this one after a restart, sends a caller to the same side.
fn fnv1a(value: &[u8]) -> u64 {
    value
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The peer of an attempt of Pingora's, which goes to a second endpoint as well if it may be hedged.
pub async fn exchange(session: &mut Session, cx: &mut RequestContext) -> Result<Box<HttpPeer>> {
    let mut peer = peer(session.req_header(), cx).await?;
    cx.exchange.hedge = hedge::plan(session, cx, &mut peer);
    Ok(peer)
}

/// The peer of an attempt: the endpoint that was chosen or, on a retry, another one after a while.
pub async fn peer(client: &RequestHeader, cx: &mut RequestContext) -> Result<Box<HttpPeer>> {
    if !cx.exchange.wait.is_zero() {
        tokio::time::sleep(std::mem::take(&mut cx.exchange.wait)).await;
    }
    if cx.exchange.is_due {
        Box::pin(enter_next(client, cx)).await?;
    }
    let now = Instant::now();
    cx.exchange.began.get_or_insert(now);
    cx.exchange.attempt_began = Some(now);
    cx.exchange.attempts += 1;
    cx.exchange.noted = false;
    let left = cx.left_at(now);
    if left.is_zero() {
        cx.exchange.failure = Some(Condition::Timeout);
        return Error::e_explain(ErrorType::HTTPStatus(504), "no time left for another attempt");
    }
    let (upstream, metrics) = &cx.snapshot.upstreams[cx.exchange.upstream.ok_or_else(gone)?];
    if cx.exchange.choice.is_none() {
        cx.exchange.choice = upstream.choose(cx.exchange.hint, &cx.exchange.tried);
    }
    if let Some(further) = &mut cx.exchange.further {
        further.begin();
    }
    if cx.exchange.attempts - cx.exchange.before > 1 {
        metrics.retried();
    }
    // What goes wrong from here on, as long as nobody says otherwise.
    cx.exchange.failure = Some(Condition::Connect);
    let choice = cx.exchange.choice.as_ref().ok_or_else(gone)?;
    let route = cx.route().ok_or_else(gone)?;
    let is_free = hop_by_hop::is_free(&client.headers);
    let mut peer = peer::for_attempt(choice.endpoint(), &route.timeouts, left, is_free);
    if cx.held.is_some() {
        // Such a body goes out as one piece, so that the time of a piece says nothing about a pause.
        peer.options.write_timeout = Some(left);
    }
    Ok(peer)
}

fn gone() -> Box<Error> {
    Error::explain(ErrorType::HTTPStatus(503), "no endpoint left to try")
}

/// Lets the request in at the upstream of its route's fallback, or at the next one that will have it.
async fn enter_next(request: &RequestHeader, cx: &mut RequestContext) -> Result<()> {
    let mut at = cx.exchange.upstream.ok_or_else(gone)?;
    while let Err(rejection) = enter(request, cx, at).await {
        cx.exchange.failure = Some(Condition::Connect);
        at = fallback::switch(cx, Condition::Connect, rejection.code).ok_or_else(gone)?;
    }
    Ok(())
}

/// Nobody was connected to, so nothing was sent: another endpoint may have the request, whatever
/// its method.
pub fn failed(cx: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    note_connecting(cx);
    cx.note_attempt(true);
    cx.exchange.failure = Some(Condition::Connect);
    let is_refused = *error.etype() == ErrorType::ConnectRefused;
    let more = (is_refused && retry::plan_elsewhere(cx, Condition::Connect))
        || retry::plan(cx, Condition::Connect, None)
        || fallback::switch(cx, Condition::Connect, retry::FAILED).is_some();
    error.set_retry(more);
    error
}

/// A connection is there, new or from the pool.
pub fn connected(cx: &mut RequestContext, reused: bool) {
    // One from the pool took no time worth a look at the clock.
    if !reused {
        note_connecting(cx);
    }
    if let Some(at) = cx.exchange.upstream {
        cx.snapshot.upstreams[at].1.connected(reused);
    }
}

fn note_connecting(cx: &mut RequestContext) {
    if let Some(began) = cx.exchange.attempt_began {
        cx.exchange.connecting += began.elapsed();
    }
}
