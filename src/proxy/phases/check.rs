//! What the request wants, and whether it may: form, route, policies.

use super::admit::{self, Survey};
use super::{cache, forward, hold, overload, respond};
use crate::message::grpc;
use crate::policy::{Reply, Verdict, cors};
use crate::proxy::{Gateway, RequestContext, reply};
use crate::rejection::Rejection;
use crate::routing::{Found, Query};
use crate::runtime::Target;
use crate::runtime::pressure::Level;
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW};
use http::{Method, StatusCode};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

/// Answers true if the request has its answer: a refusal, or what a policy or a local target says.
pub async fn run(gateway: &Gateway, session: &mut Session, cx: &mut RequestContext) -> Result<bool> {
    if cx.fill.is_some() {
        // Its policies have run, for the request that it is made of.
        return Ok(false);
    }
    // Boxed: the state of writing an answer is large, and a request that goes on needs none of it.
    match decide(gateway, session, cx).await? {
        Verdict::Continue => {
            let keeps = cache::policy(&cx.snapshot, cx).is_some();
            if keeps && Box::pin(cache::run(gateway, session, cx)).await? {
                return Ok(true);
            }
            forward::lighten(session);
            return Ok(false);
        }
        Verdict::Answer(answer) => Box::pin(reply::send(session, cx, *answer)).await?,
        Verdict::Reject(rejection) => Box::pin(reply::reject(gateway, session, cx, &rejection)).await?,
    }
    Ok(true)
}

async fn decide(gateway: &Gateway, session: &mut Session, cx: &mut RequestContext) -> Result<Verdict> {
    let request = session.req_header();
    let survey = Survey::of(request);
    cx.upgrade = survey.has_upgrade;
    cx.call_time = survey.call_time.filter(|_| grpc::dialect(&request.headers).is_some());
    let passed = admit::head(session, &survey, cx);
    let passed = passed.and_then(|()| if survey.has_via { no_loop(gateway, request) } else { Ok(()) });
    if let Err(rejection) = passed {
        return Ok(Verdict::Reject(Box::new(rejection)));
    }
    if request.method == Method::OPTIONS && request.raw_path() == b"*" {
        return Ok(options_of_the_server());
    }
    if let Err(rejection) = find_route(request, cx) {
        return Ok(Verdict::Reject(Box::new(rejection)));
    }
    let listener = cx.listener_id();
    let RequestContext { snapshot, route, policy, .. } = cx;
    let Some(route) = route.map(|id| snapshot.route(id)) else { return Ok(Verdict::Continue) };
    let pressure = gateway.pressure.level();
    if pressure != Level::Calm && overload::sheds_any(pressure, route, snapshot, listener) {
        return Ok(overload::refuse());
    }
    let verdict = route.chains.on(listener).on_request(request, policy).await;
    if !matches!(verdict, Verdict::Continue) {
        return Ok(verdict);
    }
    if pressure != Level::Calm && overload::sheds(pressure, cx) {
        respond::give_back(cx);
        return Ok(overload::refuse());
    }
    let length = survey.content_length();
    if length.is_some_and(|length| length > cx.policy.body_limit) {
        // A body that says how long it is need not come to be refused.
        return Ok(Verdict::Reject(Box::new(super::body::too_long())));
    }
    if cx.policy.body_need.is_some() {
        let verdict = Box::pin(hold::run(session, cx, length)).await?;
        if !matches!(verdict, Verdict::Continue) {
            return Ok(verdict);
        }
    }
    Ok(match cx.route().map(|route| &route.target) {
        Some(Target::Local(local)) => local.answer(session.req_header(), &cx.policy),
        Some(Target::Upstream(_) | Target::Split(_)) | None => Verdict::Continue,
    })
}

fn find_route(request: &RequestHeader, cx: &mut RequestContext) -> std::result::Result<(), Rejection> {
    // A preflight is for the route of the method that it asks about, which may not take OPTIONS.
    let asked =
        cors::is_preflight(request).then(|| request.headers.get(ACCESS_CONTROL_REQUEST_METHOD)).flatten();
    let query = Query {
        listener: cx.listener_id(),
        host: &cx.authority,
        path: cx.policy.path(request),
        method: asked.and_then(|method| method.to_str().ok()).unwrap_or(request.method.as_str()),
        head: request,
        client: cx.policy.client,
    };
    match cx.snapshot.router.find(&query) {
        Found::Route { id, params } if !cx.snapshot.route(id).switch.is_off() => {
            cx.route = Some(id);
            cx.policy.params = params;
            Ok(())
        }
        Found::Route { id, .. } => {
            cx.route = Some(id);
            let title = "This is switched off for now";
            Err(Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "route_off", title))
        }
        Found::MethodNotAllowed(allowed) => {
            let title = "This method is not allowed here";
            let rejection = Rejection::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title);
            Err(rejection.header(ALLOW, allowed.header_value()))
        }
        Found::NotFound => {
            Err(Rejection::new(StatusCode::NOT_FOUND, "route_not_found", "There is nothing here"))
        }
    }
}

/// A request that has been here before goes round in circles (RFC 9110 section 7.6.3).
fn no_loop(gateway: &Gateway, request: &RequestHeader) -> std::result::Result<(), Rejection> {
    let us = gateway.via.as_bytes();
    let seen =
        |value: &http::HeaderValue| value.as_bytes().split(|c| *c == b',').any(|hop| hop.trim_ascii() == us);
    if !request.headers.get_all(http::header::VIA).iter().any(seen) {
        return Ok(());
    }
    Err(Rejection::new(StatusCode::LOOP_DETECTED, "loop_detected", "The request goes round in circles"))
}

/// `OPTIONS *` asks about the server as a whole (RFC 9110 section 9.3.7).
fn options_of_the_server() -> Verdict {
    match ResponseHeader::build_no_case(StatusCode::NO_CONTENT, Some(2)) {
        Ok(head) => Verdict::Answer(Box::new(Reply { head, body: Bytes::new() })),
        Err(_) => Verdict::Continue,
    }
}
