//! What a request gets when the upstream of its route fails: the steps of the route's `fallback`, in order. What the
//! cache keeps is there or not; an upstream is asked only while the request can safely be sent again; an answer of the
//! gateway's own can always be given, as long as the client has got nothing.

use super::cache;
use crate::config::model::upstream::Condition;
use crate::policy::Reply;
use crate::proxy::{RequestContext, reply};
use crate::runtime::{Fallback, Step};
use crate::telemetry::metrics::Substitute;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::time::Duration;

/// Says in an answer that the route's upstream did not give it.
const MARK: HeaderName = HeaderName::from_static("tollgate-fallback");

/// Goes on to another upstream after this failure, if that is the next step. The request leaves the one that failed,
/// whose room it gives back; `code` says in the log why. It has to be let in by the other one.
pub fn switch(cx: &mut RequestContext, failure: Condition, code: &'static str) -> Option<usize> {
    let steps = steps(cx, failure)?;
    // Where nothing is kept there is no such step.
    let at = steps.iter().position(|step| !matches!(step, Step::Stale(_)) || has_answer(cx, step))?;
    let Step::Upstream(next) = *steps.get(at)? else { return None };
    if cx.left().is_zero() {
        return None;
    }
    cx.exchange.leave(next, at + 1);
    note(cx, Substitute::Upstream, code);
    Some(next)
}

/// True if the gateway has an answer by itself for this failure.
pub fn answers(cx: &RequestContext, failure: Condition) -> bool {
    steps(cx, failure).is_some_and(|steps| steps.iter().any(|step| has_answer(cx, step)))
}

/// Answers what failed last by what the gateway has itself, if the route says so and it has something; the status. `code`
/// says in the log why.
///
/// # Errors
/// The client is gone, or what it was sent broke off.
pub async fn answer(
    session: &mut Session,
    cx: &mut RequestContext,
    code: &'static str,
) -> Result<Option<u16>> {
    if let Some(step) = next(cx, cx.exchange.steps, session.req_header()) {
        match step {
            Own::Reply(reply) => return respond(session, cx, *reply, code).await.map(Some),
            Own::Stale(_) if cx.fill.is_some() => return leave_to_clients(session, cx, code).await.map(Some),
            Own::Stale(at) => {
                if let Some(status) = cache::stand_in(session, cx, code).await? {
                    return Ok(Some(status));
                }
                // The beginning of it has gone by.
                if let Some(Own::Reply(reply)) = next(cx, at + 1, session.req_header()) {
                    return respond(session, cx, *reply, code).await.map(Some);
                }
            }
        }
    }
    Ok(None)
}

/// What the gateway answers with.
enum Own {
    Reply(Box<Reply>),
    /// What is kept, and which step that is.
    Stale(u8),
}

/// The first thing that the gateway can answer with, after so many steps.
fn next(cx: &RequestContext, gone: u8, request: &RequestHeader) -> Option<Own> {
    let fallback =
        cx.route()?.fallback.as_ref().filter(|fallback| fallback.is_for_any(cx.exchange.failure))?;
    let mut steps = fallback.steps(gone.into()).iter().zip(gone..);
    steps.find_map(|(step, at)| match step {
        Step::Respond(respond) => Some(Own::Reply(Box::new(respond.reply(request, &cx.policy)))),
        Step::Stale(_) => has_answer(cx, step).then_some(Own::Stale(at)),
        Step::Upstream(_) => None,
    })
}

fn has_answer(cx: &RequestContext, step: &Step) -> bool {
    match step {
        Step::Respond(_) => true,
        Step::Stale(most) => cache::can_stand_in(cx, *most),
        Step::Upstream(_) => false,
    }
}

async fn respond(
    session: &mut Session,
    cx: &mut RequestContext,
    answer: Reply,
    code: &'static str,
) -> Result<u16> {
    note(cx, Substitute::Respond, code);
    let status = answer.head.status.as_u16();
    reply::send(session, cx, answer).await?;
    Ok(status)
}

/// A fetch has no client: each that waits for it has what is kept.
async fn leave_to_clients(session: &mut Session, cx: &mut RequestContext, code: &'static str) -> Result<u16> {
    (cx.exchange.substitute, cx.cause) = (Some(Substitute::Stale), Some(code));
    let status = StatusCode::GATEWAY_TIMEOUT;
    let head = ResponseHeader::build_no_case(status, Some(2))?;
    reply::send(session, cx, Reply { head, body: Bytes::new() }).await?;
    Ok(status.as_u16())
}

/// Notes who answers, for the answer, the log and the counts.
pub fn note(cx: &mut RequestContext, by: Substitute, code: &'static str) {
    cx.exchange.substitute = Some(by);
    cx.cause = Some(code);
    if let Some(route) = cx.route() {
        route.metrics.substituted(by);
    }
}

/// Says in the answer who gives it, if that is not the route's upstream.
pub fn mark(answer: &mut ResponseHeader, cx: &RequestContext) {
    if let Some(substitute) = cx.exchange.substitute {
        // A constant name and value cannot be refused.
        let _ = answer.insert_header(MARK, HeaderValue::from_static(substitute.as_str()));
    }
}

/// The steps that are left for this failure.
fn steps(cx: &RequestContext, failure: Condition) -> Option<&[Step]> {
    let fallback: &Fallback = cx.route()?.fallback.as_ref()?;
    fallback.is_for(failure).then(|| fallback.steps(cx.exchange.steps.into()))
}

impl crate::proxy::context::Exchange {
    /// Leaves the upstream that failed for another one, so many steps on.
    fn leave(&mut self, next: usize, steps: usize) {
        // What is dropped here gives back what it held there.
        self.choice = None;
        self.call = None;
        self.turn = None;
        self.further = None;
        self.tried.clear();
        self.hint = None;
        self.wait = Duration::ZERO;
        self.upstream = Some(next);
        self.before = self.attempts;
        self.renewals = 0;
        self.steps = self.steps.saturating_add(u8::try_from(steps).unwrap_or(u8::MAX));
        self.is_due = true;
    }
}
