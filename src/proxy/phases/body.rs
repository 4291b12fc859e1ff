//! Bodies on their way: the bound on a request's, the deadline of an answer's.

use super::hold;
use crate::proxy::RequestContext;
use crate::rejection::Rejection;
use bytes::Bytes;
use http::StatusCode;
use pingora_error::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// The request's body is larger than it may be.
pub fn too_long() -> Rejection {
    Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large").closing()
}

/// The request's body took longer than the whole exchange may, or than the client may pause.
pub fn too_slow() -> Rejection {
    let title = "The request took too long to come";
    Rejection::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", title).closing()
}

/// A call whose body is not in the coding that it says.
fn not_base64() -> Rejection {
    let title = "The body is not base64";
    Rejection::new(StatusCode::BAD_REQUEST, "body_not_base64", title).closing()
}

/// A chunk of the request's body, or its end.
///
/// # Errors
/// The body is larger than it may be, or takes longer; the refusal waits in the context.
pub fn request(
    session: &mut Session,
    body: &mut Option<Bytes>,
    end: bool,
    cx: &mut RequestContext,
) -> Result<()> {
    if let Some(watched) = &cx.watched {
        watched.watch().piece(Instant::now(), session.body_bytes_read() as u64, end);
    }
    // What was read, not what passed here: a retry brings the same bytes again.
    if session.body_bytes_read() as u64 > cx.policy.body_limit {
        cx.refused = Some(Box::new(too_long()));
        return Err(Error::explain(ErrorType::HTTPStatus(413), "the request's body is too large").into_down());
    }
    if !end && !session.was_upgraded() && is_too_slow(session, cx, Instant::now()) {
        cx.refused = Some(Box::new(too_slow()));
        return Err(Error::explain(ErrorType::HTTPStatus(408), "the request's body is too slow").into_down());
    }
    if cx.held.is_some() && !session.was_upgraded() {
        hold::pass(session, body, end, cx)?;
    }
    if let Some(call) = &mut cx.policy.web_call
        && call.request(body, end).is_err()
    {
        cx.refused = Some(Box::new(not_base64()));
        return Err(Error::explain(ErrorType::HTTPStatus(400), "a body that is no base64").into_down());
    }
    // An HTTP/2 client may end its body with an empty frame, which Pingora would write as a last
    // chunk besides the one that ends the body, into a connection that the next request uses.
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
    Ok(())
}

/// A client that always has one more byte would hold the upstream's connection for ever, or for longer
/// than it is worth: until the answer begins, a body keeps up with the least rate. What came early is to
/// its credit, so that an upstream that is slow to take the body is not held against the client.
fn is_too_slow(session: &Session, cx: &RequestContext, now: Instant) -> bool {
    if cx.left_at(now).is_zero() {
        return true;
    }
    let Some(conn) = cx.conn.as_deref() else { return false };
    let limits = conn.limits();
    let least = limits.body_rate.bytes();
    let began = cx.started + limits.body_time.get();
    least > 0
        && now > began
        && session.response_written().is_none()
        && (session.body_bytes_read() as u64) < least.saturating_mul((now - began).as_secs())
}

/// A chunk of the answer's body, or its end, which is no time to break off any more.
///
/// # Errors
/// The exchange took longer than it may as a whole.
pub fn answer(session: &Session, end: bool, cx: &RequestContext) -> Result<Option<Duration>> {
    // A tunnel lasts as long as both sides want it.
    if !end && cx.left().is_zero() && !session.was_upgraded() {
        return Err(Error::explain(ErrorType::ReadTimedout, "the exchange took longer than it may").into_up());
    }
    Ok(None)
}
