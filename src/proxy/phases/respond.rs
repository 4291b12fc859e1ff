//! The answer on its way to the client.

use super::{cache, fallback, hold, retry};
use crate::cache::rules::status::CACHE_STATUS;
use crate::message::hop_by_hop::{self, Keep};
use crate::policy::chain::Chain;
use crate::policy::context::PolicyContext;
use crate::proxy::{RequestContext, hedge};
use crate::rejection::Rejection;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The head came from the upstream.
///
/// # Errors
/// It took longer than it may, it switches protocols that nobody asked it to, or another attempt
/// follows.
pub fn from_upstream(session: &Session, answer: &mut ResponseHeader, cx: &mut RequestContext) -> Result<()> {
    hedge::settle(cx);
    let now = Instant::now();
    if cx.left_at(now).is_zero() {
        return Err(Error::explain(ErrorType::ReadTimedout, "the exchange took longer than it may").into_up());
    }
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        // Who may switch goes by a tunnel; Pingora would let a client switch alone.
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, "101 to no upgrade").into_up());
    }
    if !answer.status.is_informational() {
        cx.note_attempt_at(now, answer.status.is_server_error());
    }
    if let Some(error) = retry::after_answer(session, answer, cx) {
        return Err(error);
    }
    if let Some(visit) = &cx.visit {
        cache::invalidate(session.req_header(), answer, visit);
        cache::hear_of(session.req_header(), answer, (cx, visit));
    }
    let trailers = session.is_http2();
    hop_by_hop::strip_response(answer, Keep { trailers, upgrade: false });
    Ok(())
}

/// The head goes to the client.
pub fn to_client(session: &mut Session, answer: &mut ResponseHeader, cx: &mut RequestContext) {
    // Pingora takes an interim answer (RFC 9110 section 15.2) for an early one, after which it would
    // close.
    let is_interim = answer.status.is_informational();
    session.as_downstream_mut().set_close_on_response_before_downstream_finish(!is_interim);
    if is_interim {
        return;
    }
    if let Some(watched) = &cx.watched {
        watched.watch().answering(answer.status.as_u16());
    }
    hold::release(cx);
    if let Some(fill) = &cx.fill {
        // What is each client's comes when each is served.
        fill.note(cx);
        fallback::mark(answer, cx);
        return;
    }
    if let Some(value) = cx.visit.as_ref().and_then(|visit| visit.report.value()) {
        // A value of our own cannot be refused.
        let _ = answer.append_header(CACHE_STATUS, value);
    }
    keep_at_endpoint(answer, cx);
    policies(session.req_header(), answer, cx);
    if cx.policy.watches_answer {
        // Pingora has settled the framing before: a body that a policy makes anew has no length to declare.
        frame_anew(session.req_header(), answer);
    }
    // HTTP/1.0 knows no chunks (RFC 9112 section 6.1): there, the end of the connection ends the body.
    if session.req_header().version == Version::HTTP_10
        && answer.remove_header(&header::TRANSFER_ENCODING).is_some()
    {
        session.set_keepalive(None);
    }
    // Pingora decides about the connection when a request begins; a shutdown that began since, or the
    // end of its listener, must not promise a connection that is about to be closed.
    if cx.conn.as_ref().is_some_and(|conn| conn.is_leaving()) {
        session.set_keepalive(None);
    }
}

pub fn frame_anew(request: &RequestHeader, answer: &mut ResponseHeader) {
    answer.remove_header(&header::CONTENT_LENGTH);
    let has_body = request.method != Method::HEAD && !matches!(answer.status.as_u16(), 204 | 304);
    if has_body {
        answer.set_version(Version::HTTP_11);
        // A constant name and value cannot be refused.
        let _ = answer.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Sets the cookie that brings a client to its endpoint again, where the upstream is sticky.
fn keep_at_endpoint(answer: &mut ResponseHeader, cx: &RequestContext) {
    let (Some(at), Some(choice)) = (cx.exchange.upstream, &cx.exchange.choice) else { return };
    let over_tls = cx.conn.as_ref().is_some_and(|conn| conn.tls().is_some());
    let (upstream, _) = &cx.snapshot.upstreams[at];
    if let Some(cookie) = upstream.set_cookie(choice.endpoint(), cx.exchange.hint, over_tls) {
        // It fails for no value that `SetCookie` makes.
        let _ = answer.append_header(header::SET_COOKIE, cookie);
    }
}

/// The response pass of THE LIST: the route's or, without a route, the listener's layer.
pub fn policies(request: &RequestHeader, answer: &mut ResponseHeader, cx: &mut RequestContext) {
    fallback::mark(answer, cx);
    if cx.fill.is_some() {
        return;
    }
    let (chain, policy) = chain(cx);
    // An answer may have come to nothing, and this one stands in its place.
    policy.forget_answer();
    if let Some(chain) = chain {
        chain.on_response(request, answer, policy);
    }
}

/// A piece of the body goes to the client, if a policy looks at it through the policies.
///
/// # Errors
/// A policy cannot go on; why waits in the context.
pub fn body(body: &mut Option<Bytes>, end: bool, cx: &mut RequestContext) -> Result<Option<Duration>> {
    if cx.policy.watches_answer
        && let Err(rejection) = pass_body(body, end, cx)
    {
        cx.refused = Some(rejection);
        return Err(Error::explain(ErrorType::InternalError, "a policy broke the answer off").into_in());
    }
    if let Some(watched) = &cx.watched {
        watched.watch().answered(Instant::now(), body.as_ref().map_or(0, Bytes::len), end);
    }
    Ok(None)
}

/// The body has ended with trailers. What policies still hold of it goes out in their place (RFC 9110
/// section 6.5.1 lets trailers be dropped).
///
/// # Errors
/// As [`body`].
pub fn trailers(trailers: &HeaderMap, cx: &mut RequestContext) -> Result<Option<Bytes>> {
    if cx.policy.watches_answer {
        let (chain, policy) = chain(cx);
        if let Some(chain) = chain {
            chain.on_response_trailers(trailers, policy);
        }
    }
    let mut rest = None;
    body(&mut rest, true, cx)?;
    Ok(rest)
}

/// A piece of an answer's body through the policies.
///
/// # Errors
/// A policy cannot go on.
pub fn pass_body(
    body: &mut Option<Bytes>,
    end: bool,
    cx: &mut RequestContext,
) -> std::result::Result<(), Box<Rejection>> {
    let (chain, policy) = chain(cx);
    chain.map_or(Ok(()), |chain| chain.on_response_body(body, end, policy))
}

/// What limits took of what they count, they give back: the request is refused for want of room.
pub fn give_back(cx: &mut RequestContext) {
    let (chain, policy) = chain(cx);
    if let Some(chain) = chain {
        chain.give_back(policy);
    }
}

/// The policies that see the answer: the route's or, without a route, the listener's layer.
fn chain(cx: &mut RequestContext) -> (Option<&Chain>, &mut PolicyContext) {
    let listener = cx.listener_id();
    let RequestContext { snapshot, route, policy, .. } = cx;
    let chain = match *route {
        Some(id) => Some(snapshot.route(id).chains.on(listener)),
        None => snapshot.listener(listener).map(|listener| &listener.chain),
    };
    (chain.map(Arc::as_ref), policy)
}
