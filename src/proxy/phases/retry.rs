//! Whether a request that failed is tried again. What is safe is judged here, before an error is
//! given to Pingora: once an answer of the upstream is thrown away there is no way back to it.

use super::fallback;
use crate::config::model::upstream::Condition;
use crate::proxy::RequestContext;
use crate::telemetry::random;
use crate::upstream::retry::{Traffic, retry_after};
use http::StatusCode;
use pingora_error::{Error, ErrorType, RetryType};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::time::{Duration, Instant, SystemTime};

/// The upstream could not be reached, or broke off.
pub const FAILED: &str = "upstream_failed";
/// It took too long.
pub const TIMED_OUT: &str = "upstream_timeout";
/// It answered with a status that something else is to stand in for.
pub const ANSWERED_SO: &str = "upstream_status";

/// Plans another attempt on another endpoint, if the route or its upstream wants one after this
/// failure, the endpoint did not ask for more time (`asked`) than is waited for, and there is budget
/// and time. Asks the budget last: what it gives is spent.
pub fn plan(cx: &mut RequestContext, failure: Condition, asked: Option<Duration>) -> bool {
    let (Some(at), Some(route)) = (cx.exchange.upstream, cx.route()) else { return false };
    let (upstream, metrics) = &cx.snapshot.upstreams[at];
    let rules = upstream.retries.with(&route.retry);
    let attempts = attempts(cx);
    if attempts >= rules.attempts() || !rules.wants(failure) {
        return false;
    }
    let now = Instant::now();
    let Some(wait) = rules.wait(attempts, random::next_u64(), asked) else { return false };
    if wait >= cx.left_at(now) {
        return false;
    }
    let load = Traffic { requests: metrics.requests(), active: upstream.in_flight() };
    let held = cx.exchange.further.take();
    let Some(further) = upstream.retries.spend(held, load, now) else {
        metrics.barred();
        return false;
    };
    cx.exchange.further = Some(further);
    let failed = cx.exchange.choice.take();
    cx.exchange.tried.extend(failed.map(|choice| choice.endpoint().clone()));
    cx.exchange.wait = wait;
    true
}

/// Attempts at this upstream, without those that only replaced a connection of the pool.
pub const fn attempts(cx: &RequestContext) -> u8 {
    cx.exchange.attempts.saturating_sub(cx.exchange.before.saturating_add(cx.exchange.renewals))
}

/// Plans another attempt at once, if there is an endpoint that has not been tried, after a failure that is of one
/// endpoint alone. None has more than one such failure of a request, and nothing waits for long:
///
/// - one that refuses the connection (`connect`) has done no work, so that nothing is multiplied: that costs no budget;
/// - one whose connection breaks (`reset`) may have: that costs the budget over time. What is under way does not bound
///   it, for all that an endpoint has in hand breaks with it, and of that a share would not be enough.
///
/// Without this, one of two endpoints that restarts would cost requests.
pub fn plan_elsewhere(cx: &mut RequestContext, failure: Condition) -> bool {
    let (Some(at), Some(route)) = (cx.exchange.upstream, cx.route()) else { return false };
    let (upstream, metrics) = &cx.snapshot.upstreams[at];
    let rules = upstream.retries.with(&route.retry);
    if attempts(cx) >= rules.attempts() || !rules.wants(failure) || cx.left().is_zero() {
        return false;
    }
    let failed = cx.exchange.choice.take();
    cx.exchange.tried.extend(failed.map(|choice| choice.endpoint().clone()));
    let untried = upstream.choose_untried(cx.exchange.hint, &cx.exchange.tried);
    cx.exchange.choice = untried.filter(|_| {
        failure == Condition::Connect || upstream.retries.spend_over_time(metrics.requests(), Instant::now())
    });
    cx.exchange.choice.is_some()
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
    let is_safe = is_safe(session, cx) && !cx.left().is_zero();
    match (&error.retry, error.etype()) {
        // `from_upstream` has decided it.
        (RetryType::Decided(again), ErrorType::HTTPStatus(_)) => is_safe && *again,
        (RetryType::ReusedOnly, _) if reused && is_safe => {
            cx.exchange.renewals += 1;
            true
        }
        _ if !matches!(error.esource(), pingora_error::ErrorSource::Upstream) => false,
        (_, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            broke_off(cx, Condition::Timeout, TIMED_OUT, is_safe)
        }
        _ => broke_off(cx, Condition::Reset, FAILED, is_safe),
    }
}

fn broke_off(cx: &mut RequestContext, failure: Condition, code: &'static str, is_safe: bool) -> bool {
    cx.exchange.failure = Some(failure);
    let elsewhere = is_safe && failure == Condition::Reset && plan_elsewhere(cx, failure);
    elsewhere || is_safe && (plan(cx, failure, None) || fallback::switch(cx, failure, code).is_some())
}

/// An answer that is thrown away, as the error that begins another attempt; none if it is the
/// client's. One that refuses an upgrade always is.
pub fn after_answer(
    session: &Session,
    answer: &ResponseHeader,
    cx: &mut RequestContext,
) -> Option<Box<Error>> {
    let status = answer.status;
    if status < StatusCode::BAD_REQUEST || cx.upgrade {
        return None;
    }
    let failure = Condition::Status(status.as_u16());
    let asked = retry_after(&answer.headers, SystemTime::now());
    let again = is_safe(session, cx)
        && (plan(cx, failure, asked) || fallback::switch(cx, failure, ANSWERED_SO).is_some());
    let has_nothing = || session.response_written().is_none_or(|head| head.status.is_informational());
    let ours = again || (fallback::answers(cx, failure) && has_nothing() && cx.refused.is_none());
    if !ours {
        return None;
    }
    cx.exchange.failure = Some(failure);
    let mut error = Error::explain(ErrorType::HTTPStatus(status.as_u16()), "another answer follows");
    error.set_retry(again);
    Some(error.into_up())
}
