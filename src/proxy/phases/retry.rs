//! Whether a request that failed is tried again. What is safe is judged here, before an error is
//! given to Pingora: once an answer of the upstream is thrown away there is no way back to it.

use crate::config::model::upstream::Condition;
use crate::proxy::RequestContext;
use crate::telemetry::random;
use crate::upstream::retry::retry_after;
use http::StatusCode;
use pingora_error::{Error, ErrorType, RetryType};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::time::{Duration, Instant, SystemTime};

/// Plans another attempt on another endpoint, if the route or its upstream wants one after this
/// failure, the endpoint did not ask for more time (`asked`) than is waited for, and there is budget
/// and time. Asks the budget last: what it gives is spent.
pub fn plan(cx: &mut RequestContext, failure: Condition, asked: Option<Duration>) -> bool {
    let (Some(at), Some(route)) = (cx.exchange.upstream, cx.route()) else { return false };
    let (upstream, metrics) = &cx.snapshot.upstreams[at];
    let rules = upstream.retries.with(&route.retry);
    let attempts = cx.exchange.attempts.saturating_sub(cx.exchange.renewals);
    if attempts >= rules.attempts() || !rules.wants(failure) {
        return false;
    }
    let now = Instant::now();
    let Some(wait) = rules.wait(attempts, random::next_u64(), asked) else { return false };
    if wait >= cx.left_at(now) {
        return false;
    }
    if !upstream.retries.spend(metrics.requests(), now) {
        metrics.barred();
        return false;
    }
    let failed = cx.exchange.choice.take();
    cx.exchange.tried.extend(failed.map(|choice| choice.endpoint().clone()));
    cx.exchange.wait = wait;
    true
}

/// True if a request that may have reached an upstream may be sent once more: its method is
/// idempotent, its body is still in hand, and its client has got nothing yet.
pub fn is_safe(session: &Session, cx: &RequestContext) -> bool {
    session.req_header().method.is_idempotent()
        && !session.as_ref().retry_buffer_truncated()
        && session.response_written().is_none_or(|head| head.status.is_informational())
        && cx.refused.is_none()
}

/// Whether an exchange that broke off begins anew. A connection from the pool may have been closed
/// by the upstream just then, which is nobody's failure: such a request goes to the same endpoint by
/// another connection, at once and at nobody's expense.
pub fn after_error(session: &Session, error: &Error, cx: &mut RequestContext, reused: bool) -> bool {
    if !is_safe(session, cx) || cx.left().is_zero() {
        return false;
    }
    match (&error.retry, error.etype()) {
        // `from_upstream` has planned it.
        (RetryType::Decided(true), ErrorType::HTTPStatus(_)) => true,
        (RetryType::ReusedOnly, _) if reused => {
            cx.exchange.renewals += 1;
            true
        }
        _ if !matches!(error.esource(), pingora_error::ErrorSource::Upstream) => false,
        (_, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => plan(cx, Condition::Timeout, None),
        _ => plan(cx, Condition::Reset, None),
    }
}

/// An answer that is thrown away, as the error that begins another attempt; none if it is the
/// client's. One that refuses an upgrade always is.
pub fn after_answer(
    session: &Session,
    answer: &ResponseHeader,
    cx: &mut RequestContext,
) -> Option<Box<Error>> {
    let status = answer.status;
    if status < StatusCode::BAD_REQUEST || cx.upgrade || !is_safe(session, cx) {
        return None;
    }
    let asked = retry_after(&answer.headers, SystemTime::now());
    if !plan(cx, Condition::Status(status.as_u16()), asked) {
        return None;
    }
    let mut error = Error::explain(ErrorType::HTTPStatus(status.as_u16()), "another attempt follows");
    error.set_retry(true);
    Some(error.into_up())
}
