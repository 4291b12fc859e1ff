//! What went wrong on the way, whose fault it is, and what the client is told.

use super::{body, fallback, retry};
use crate::cache::store::flight::Failure;
use crate::config::model::upstream::Condition;
use crate::proxy::{Gateway, RequestContext, hedge, reply};
use crate::rejection::Rejection;
use http::StatusCode;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, RetryType};
use pingora_proxy::{FailToProxy, Session};
use std::sync::Arc;

/// The client went away. No status of the standard; the log's word for it, as nginx has it.
const CLIENT_GONE: &str = "client_gone";
/// What should not happen.
const INTERNAL_ERROR: &str = "internal_error";

/// An exchange broke off after the connection was there.
pub fn while_proxying(
    peer: &HttpPeer,
    session: &mut Session,
    error: Box<Error>,
    cx: &mut RequestContext,
    reused: bool,
) -> Box<Error> {
    let mut error = error.more_context(format!("peer: {peer}"));
    hedge::settle(cx);
    note(session, &error, cx, reused);
    let again = retry::after_error(session, &error, cx, reused);
    error.set_retry(again);
    error
}

/// Notes a failure of the upstream's. One that comes of the client, or of a connection that had ended in the
/// pool, is none.
fn note(session: &mut Session, error: &Error, cx: &mut RequestContext, reused: bool) {
    let of_pool = reused && matches!(error.retry, RetryType::ReusedOnly);
    let of_client = *error.etype() == ErrorType::ReadTimedout && !session.as_downstream_mut().is_body_done();
    let of_upstream = matches!(error.esource(), ErrorSource::Upstream);
    // An answer that is thrown away for another attempt has been noted.
    if of_upstream && !of_pool && !of_client && cx.refused.is_none() {
        cx.note_attempt(true);
    }
}

/// Tells the client, if it is still there and has not been told anything yet.
pub async fn run(
    gateway: &Gateway,
    session: &mut Session,
    error: &Error,
    cx: &mut RequestContext,
) -> FailToProxy {
    let has_whole_request = session.as_downstream_mut().is_body_done();
    let is_refused = cx.refused.is_some();
    let rejection = cx.refused.take().or_else(|| verdict(error, has_whole_request).map(Box::new));
    if rejection.as_ref().is_some_and(|rejection| rejection.code == INTERNAL_ERROR) {
        log::error!("internal error request_id={} error={error}", cx.policy.request_id());
    }
    if let Some(fill) = cx.fill.as_ref().map(Arc::clone) {
        fill.note(cx);
        let is_broken = rejection.is_none() || reply::answered(session).is_some();
        let outage = rejection.as_ref().filter(|rejection| !is_refused && is_upstreams(rejection.status));
        let outage = outage.map(|rejection| Failure {
            status: Some(rejection.status.as_u16()),
            condition: cx.exchange.failure,
            is_outage: true,
        });
        fill.fail(rejection.as_ref().map_or(CLIENT_GONE, |rejection| rejection.code), is_broken, outage);
    }
    let Some(rejection) = rejection else {
        cx.cause = Some(CLIENT_GONE);
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    let status = rejection.status.as_u16();
    if reply::answered(session).is_some() {
        // Too late to say so in words: the connection is cut, so that nobody takes half for all. What
        // is written and not yet sent goes first, or a client may take the loss for one of a request
        // that was not begun, and repeat it.
        cx.cause = Some(rejection.code);
        let is_fill = cx.fill.is_some();
        if !is_fill && !reply::end_call(session, &rejection).await && !session.is_http2() {
            session.as_downstream_mut().shutdown().await;
        }
        return FailToProxy { error_code: status, can_reuse_downstream: false };
    }
    // What a policy or the client made of it is no failure of the upstream's.
    if !is_refused && is_upstreams(rejection.status) {
        let code = why(cx, rejection.code);
        session.set_keepalive(None);
        match fallback::answer(session, cx, code).await {
            Ok(Some(error_code)) => return FailToProxy { error_code, can_reuse_downstream: false },
            Ok(None) => {}
            Err(error) => {
                log::debug!("the client of {} was gone before it was told: {error}", cx.policy.request_id());
                return FailToProxy { error_code: status, can_reuse_downstream: false };
            }
        }
    }
    let closing = (*rejection).closing();
    if let Err(error) = reply::reject(gateway, session, cx, &closing).await {
        log::debug!("the client of {} was gone before it was told: {error}", cx.policy.request_id());
    }
    FailToProxy { error_code: status, can_reuse_downstream: false }
}

/// What says that the upstream failed.
fn is_upstreams(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// The code of what failed, for the log.
fn why(cx: &RequestContext, code: &'static str) -> &'static str {
    match cx.exchange.failure {
        Some(Condition::Status(_)) => retry::ANSWERED_SO,
        _ => code,
    }
}

/// None: the client is gone and nobody is there to be told.
fn verdict(error: &Error, has_whole_request: bool) -> Option<Rejection> {
    use ErrorType::{ConnectTimedout, HTTPStatus, ReadTimedout, TLSHandshakeTimedout, WriteTimedout};
    let timed_out =
        Rejection::new(StatusCode::GATEWAY_TIMEOUT, retry::TIMED_OUT, "The server took too long to answer");
    let failed = Rejection::new(
        StatusCode::BAD_GATEWAY,
        retry::FAILED,
        "The server could not be reached or broke off",
    );
    let unavailable =
        Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "no_endpoint", "Nobody can answer this now");
    match (error.esource(), error.etype()) {
        (_, HTTPStatus(503)) => Some(unavailable),
        (_, HTTPStatus(504)) => Some(timed_out),
        // An upstream says nothing before it has the request. Pingora bounds the pauses of an HTTP/1
        // body, but not those of HTTP/2: there it is this clock that runs out.
        (ErrorSource::Upstream, ReadTimedout) if !has_whole_request => Some(body::too_slow()),
        (ErrorSource::Upstream, ConnectTimedout | ReadTimedout | WriteTimedout | TLSHandshakeTimedout) => {
            Some(timed_out)
        }
        (ErrorSource::Upstream, _) => Some(failed),
        (ErrorSource::Downstream, ReadTimedout) => Some(body::too_slow()),
        (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader) => Some(malformed()),
        // Pingora does not name its types for bad chunks.
        (ErrorSource::Downstream, kind) if kind.as_str().starts_with("Invalid") => Some(malformed()),
        (ErrorSource::Downstream, _) => None,
        _ => {
            let title = "Something is wrong in the gateway";
            Some(Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL_ERROR, title))
        }
    }
}

fn malformed() -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, "malformed_request", "The request is malformed")
}

/// What clients and upstreams do all day is in the access log; the error log is for what an
/// operator must see.
pub fn is_everyday(error: &Error) -> bool {
    matches!(error.esource(), ErrorSource::Downstream | ErrorSource::Upstream)
        || matches!(error.etype(), ErrorType::HTTPStatus(_))
}
