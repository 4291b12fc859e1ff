//! The end of a request: what is counted and what is logged.

use crate::message::authority;
use crate::proxy::{Gateway, RequestContext, reply};
use crate::telemetry::access_log::Record;
use crate::telemetry::metrics::{Answer, StatusClass};
use crate::telemetry::request_id::RequestId;
use crate::telemetry::trace::TraceContext;
use crate::upstream::Choice;
use pingora_error::Error;
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// Counts and logs. Waits for nothing.
pub fn run(gateway: &Gateway, session: &mut Session, _: Option<&Error>, cx: &mut RequestContext) {
    // The bytes of a request that came early are in Pingora's hands, where `listen` cannot look at
    // them: without pipelining Pingora closes, and the client sends that request again.
    session.as_downstream_mut().set_pipelining_enabled(false);
    let now = Instant::now();
    let duration = now.saturating_duration_since(cx.started);
    let upstream_duration = cx.exchange.began.map(|began| now.saturating_duration_since(began));
    let status = reply::answered(session).map(|head| head.status.as_u16());
    let upstream = cx.exchange.upstream.map(|at| &cx.snapshot.upstreams[at]);
    let metrics = cx.route().map_or(&cx.snapshot.unrouted, |route| &route.metrics);
    metrics.record(&Answer {
        listener: cx.listener_id(),
        upstream: upstream.map(|(_, metrics)| metrics),
        class: StatusClass::of(status),
        duration,
        upstream_duration,
    });
    if let Some(access_log) = &*gateway.access_log.load() {
        let trace_id = cx.trace.as_ref().map(TraceContext::trace_id);
        let mut record = record(session, cx, status, (duration, upstream_duration));
        record.trace_id = trace_id.as_ref().map_or(&[][..], |id| id.as_bytes());
        access_log.log(&record);
    }
    cx.in_flight = None;
}

fn record<'a>(
    session: &'a Session,
    cx: &'a RequestContext,
    status: Option<u16>,
    (duration, upstream_duration): (Duration, Option<Duration>),
) -> Record<'a> {
    let request = session.req_header();
    let upstream = cx.exchange.upstream.map(|at| &cx.snapshot.upstreams[at].0);
    let chosen = cx.exchange.choice.as_ref().map(Choice::endpoint);
    let conn = cx.conn.as_deref();
    let host = if cx.authority.is_empty() { authority::authority(request) } else { &*cx.authority };
    Record {
        time: cx.time,
        request_id: cx.policy.request_id.as_ref().map_or(&[][..], RequestId::as_bytes),
        trace_id: b"",
        listener: conn.map_or("", |conn| conn.listener_name().as_str()),
        route: cx.route().map(|route| route.name.as_str()),
        upstream: upstream.map(|upstream| upstream.name.as_str()),
        endpoint: chosen.or(cx.exchange.tried.last()).map(|endpoint| &*endpoint.label),
        client: conn.map(|_| cx.policy.client),
        method: request.method.as_str(),
        host: Some(host.as_bytes()),
        target: request.raw_path(),
        status,
        consumer: cx.policy.principal.as_ref().and_then(|p| Some(&*p.consumer.as_ref()?.name)),
        principal: cx.policy.principal.as_ref().map(|principal| &*principal.subject),
        auth: cx.policy.auth_cause.or_else(|| cx.policy.principal.as_ref().map(|p| p.method.as_str())),
        cause: cx.cause,
        bytes_received: session.body_bytes_read() as u64,
        bytes_sent: session.body_bytes_sent() as u64,
        duration,
        upstream_duration,
        connect_duration: cx.exchange.began.map(|_| cx.exchange.connecting),
        attempts: u32::from(cx.exchange.attempts),
        tls_version: conn.and_then(|conn| conn.tls()).map(|tls| tls.version),
        http_version: Some(request.version),
        request: Some(&request.headers),
        response: session.response_written().map(|head| &head.headers),
    }
}
