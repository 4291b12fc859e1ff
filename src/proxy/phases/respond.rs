//! The answer on its way to the client.

use crate::message::hop_by_hop::{self, Keep};
use crate::proxy::RequestContext;
use http::{StatusCode, Version, header};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

/// The head came from the upstream.
///
/// # Errors
/// It took longer than it may.
pub fn from_upstream(session: &Session, answer: &mut ResponseHeader, cx: &mut RequestContext) -> Result<()> {
    if cx.left().is_zero() {
        return Err(Error::explain(ErrorType::ReadTimedout, "the exchange took longer than it may").into_up());
    }
    let upgrade = answer.status == StatusCode::SWITCHING_PROTOCOLS;
    let trailers = session.is_http2();
    hop_by_hop::strip_response(answer, Keep { trailers, upgrade });
    Ok(())
}

/// The head goes to the client.
pub fn to_client(session: &mut Session, answer: &mut ResponseHeader, cx: &mut RequestContext) {
    if answer.status.is_informational() {
        return;
    }
    policies(session.req_header(), answer, cx);
    // HTTP/1.0 knows no chunks (RFC 9112 section 6.1): there, the end of the connection ends the body.
    if session.req_header().version == Version::HTTP_10
        && answer.remove_header(&header::TRANSFER_ENCODING).is_some()
    {
        session.set_keepalive(None);
    }
    // Pingora decides about the connection when a request begins; a shutdown that began since must
    // not promise a connection that is about to be closed.
    if session.is_process_shutting_down() {
        session.set_keepalive(None);
    }
}

/// The response pass of THE LIST: the route's or, without a route, the listener's layer.
pub fn policies(request: &RequestHeader, answer: &mut ResponseHeader, cx: &mut RequestContext) {
    let listener = cx.listener_id();
    let RequestContext { snapshot, route, policy, .. } = cx;
    let chain = match *route {
        Some(id) => Some(snapshot.route(id).chains.on(listener)),
        None => snapshot.listener(listener).map(|listener| &listener.chain),
    };
    if let Some(chain) = chain {
        chain.on_response(request, answer, policy);
    }
}
