//! Which endpoint gets the request, and what happens when it does not answer the door.

use super::{respond, retry};
use crate::config::model::route::Sticky;
use crate::config::model::upstream::Condition;
use crate::message::{hop_by_hop, websocket};
use crate::policy::shared::template::cookie_value;
use crate::proxy::{Gateway, RequestContext, reply, stream, tunnel};
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
    let (compiled, _) = &cx.snapshot.upstreams[upstream];
    let total = peer::total(compiled, &route.timeouts);
    // Nobody waits longer than the caller: the call is over for it.
    let total = cx.call_time.map_or(total, |time| time.min(total));
    let path = cx.policy.path(session.req_header());
    let hint = compiled.hint(&Asking { head: session.req_header(), client: cx.policy.client, path });
    let call = match compiled.call() {
        Ok(call) => call,
        Err(wait) => {
            let rejection = open(wait);
            Box::pin(reply::reject(gateway, session, cx, &rejection)).await?;
            return Ok(false);
        }
    };
    // A tunnel is in flight for hours, and says nothing of how long answers take.
    let entry = if cx.upgrade { Entry::Unlimited } else { compiled.enter() };
    let turn = match entry {
        Entry::Unlimited => None,
        Entry::Room(turn) => Some(turn),
        Entry::Full => {
            let Some(turn) = Box::pin(compiled.wait(cx.importance())).await else {
                // Nobody was asked: it costs nothing at the limits either.
                respond::give_back(cx);
                Box::pin(reply::reject(gateway, session, cx, &shed())).await?;
                return Ok(false);
            };
            Some(turn)
        }
    };
    let choice = compiled.choose(hint, &[]);
    cx.exchange.turn = turn;
    cx.exchange.call = call;
    cx.exchange.upstream = Some(upstream);
    cx.exchange.total = total;
    cx.exchange.hint = hint;
    if choice.is_some() {
        cx.exchange.choice = choice;
        stream::begin(session, cx, &gateway.access_log);
        if !cx.upgrade {
            return Ok(true);
        }
        let Some(protocol) = upgrade(session.req_header(), cx) else { return Ok(true) };
        Box::pin(tunnel::run(gateway, session, cx, &protocol)).await?;
        return Ok(false);
    }
    let title = "Nobody can answer this now";
    let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "no_endpoint", title);
    Box::pin(reply::reject(gateway, session, cx, &rejection)).await?;
    Ok(false)
}

/// The upstream has as many requests as it can have.
fn shed() -> Rejection {
    let title = "There is too much to do for now";
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "upstream_overloaded", title)
        .header(RETRY_AFTER, HeaderValue::from_static("1"))
}

/// The breaker is open: nobody is asked.
fn open(wait: Duration) -> Rejection {
    let title = "This is not answered for now";
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "breaker_open", title)
        .header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
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

/// The peer of an attempt: the endpoint that was chosen or, on a retry, another one after a while.
pub async fn peer(client: &RequestHeader, cx: &mut RequestContext) -> Result<Box<HttpPeer>> {
    if !cx.exchange.wait.is_zero() {
        tokio::time::sleep(std::mem::take(&mut cx.exchange.wait)).await;
    }
    let now = Instant::now();
    cx.exchange.began.get_or_insert(now);
    cx.exchange.attempt_began = Some(now);
    cx.exchange.attempts += 1;
    cx.exchange.noted = false;
    let left = cx.left_at(now);
    if left.is_zero() {
        return Error::e_explain(ErrorType::HTTPStatus(504), "no time left for another attempt");
    }
    let gone = || Error::explain(ErrorType::HTTPStatus(503), "no endpoint left to try");
    let (upstream, metrics) = &cx.snapshot.upstreams[cx.exchange.upstream.ok_or_else(gone)?];
    if cx.exchange.choice.is_none() {
        cx.exchange.choice = upstream.choose(cx.exchange.hint, &cx.exchange.tried);
    }
    if cx.exchange.attempts > 1 {
        metrics.retried();
    }
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

/// Nobody was connected to, so nothing was sent: another endpoint may have the request, whatever
/// its method.
pub fn failed(cx: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    note_connecting(cx);
    cx.note_attempt(true);
    let more = retry::plan(cx, Condition::Connect, None);
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
