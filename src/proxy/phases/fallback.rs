//! What a request gets when the upstream of its route fails: the steps of the route's `fallback`, in order. An
//! upstream is asked only while the request can safely be sent again; an answer of the gateway's own can always be
//! given, as long as the client has got nothing.

use crate::config::model::upstream::Condition;
use crate::policy::Reply;
use crate::proxy::RequestContext;
use crate::runtime::{Fallback, Step};
use crate::telemetry::metrics::Substitute;
use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};
use std::time::Duration;

/// Says in an answer that the route's upstream did not give it.
const MARK: HeaderName = HeaderName::from_static("tollgate-fallback");

/// Goes on to another upstream after this failure, if that is the next step. The request leaves the one that failed,
/// whose room it gives back; `code` says in the log why. It has to be let in by the other one.
pub fn switch(cx: &mut RequestContext, failure: Condition, code: &'static str) -> Option<usize> {
    let Step::Upstream(next) = *steps(cx, failure)?.first()? else { return None };
    if cx.left().is_zero() {
        return None;
    }
    cx.exchange.leave(next);
    cx.exchange.substitute = Some(Substitute::Upstream);
    cx.cause = Some(code);
    if let Some(route) = cx.route() {
        route.metrics.substituted(Substitute::Upstream);
    }
    Some(next)
}

/// True if the gateway has an answer of its own for this failure.
pub fn answers(cx: &RequestContext, failure: Condition) -> bool {
    let is_answer = |step: &Step| matches!(step, Step::Respond(_));
    steps(cx, failure).is_some_and(|steps| steps.iter().any(is_answer))
}

/// The gateway's own answer to what failed last, if the route has one.
pub fn answer(request: &RequestHeader, cx: &mut RequestContext, code: &'static str) -> Option<Reply> {
    let failure = cx.exchange.failure?;
    let reply = steps(cx, failure)?.iter().find_map(|step| match step {
        Step::Respond(respond) => Some(respond.reply(request, &cx.policy)),
        Step::Upstream(_) => None,
    })?;
    cx.exchange.substitute = Some(Substitute::Respond);
    cx.cause = Some(code);
    if let Some(route) = cx.route() {
        route.metrics.substituted(Substitute::Respond);
    }
    Some(reply)
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
    /// Leaves the upstream that failed for another one.
    fn leave(&mut self, next: usize) {
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
        self.steps += 1;
        self.is_due = true;
    }
}
