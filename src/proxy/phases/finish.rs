//! The end of a request: what is counted and what is logged.

use crate::listen::ConnInfo;
use crate::message::authority;
use crate::proxy::{Gateway, RequestContext, reply};
use crate::telemetry::access_log::{AccessLog, Record};
use crate::telemetry::metrics::{Answer, StatusClass, Substitute};
use crate::telemetry::request_id::RequestId;
use crate::telemetry::trace::TraceContext;
use crate::upstream::Choice;
use arc_swap::ArcSwapOption;
use http::HeaderMap;
use pingora_error::Error;
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// What went over the client's connection.
pub struct Exchanged<'a> {
    /// The head of the request.
    pub request: &'a RequestHeader,
    /// Bytes of its body.
    pub received: u64,
    /// The fields of the answer, if they are known.
    pub response: Option<&'a HeaderMap>,
    /// Its status; none if there was no answer.
    pub status: Option<u16>,
    /// Bytes of its body.
    pub sent: u64,
    /// What went wrong, for the log.
    pub cause: Option<&'static str>,
}

/// Counts and logs. Waits for nothing.
pub fn run(gateway: &Gateway, session: &mut Session, _: Option<&Error>, cx: &mut RequestContext) {
    if cx.fill.is_some() {
        // It is a part of the request that it was made of.
        return;
    }
    if let Some(visit) = &cx.visit {
        let metrics = cx.route().map_or(&cx.snapshot.unrouted, |route| &route.metrics);
        metrics.cached(visit.outcome());
    }
    if let Some(fill) = cx.visit.as_mut().and_then(|visit| visit.fill.take()) {
        fill.tell(cx);
    }
    // The bytes of a request that came early are in Pingora's hands, where `listen` cannot look at
    // them: without pipelining Pingora closes, and the client sends that request again.
    session.as_downstream_mut().set_pipelining_enabled(false);
    let exchanged = Exchanged {
        request: session.req_header(),
        received: session.body_bytes_read() as u64,
        response: session.response_written().map(|head| &head.headers),
        status: reply::answered(session).map(|head| head.status.as_u16()),
        sent: session.body_bytes_sent() as u64,
        cause: cx.cause,
    };
    conclude(cx, &gateway.access_log, &exchanged);
    cx.in_flight = None;
}

/// Counts and logs what was exchanged.
pub fn conclude(cx: &RequestContext, access_log: &ArcSwapOption<AccessLog>, exchanged: &Exchanged<'_>) {
    let now = Instant::now();
    let duration = now.saturating_duration_since(cx.started);
    let upstream_duration = cx.exchange.began.map(|began| now.saturating_duration_since(began));
    let upstream = cx.exchange.upstream.map(|at| &cx.snapshot.upstreams[at]);
    let metrics = cx.route().map_or(&cx.snapshot.unrouted, |route| &route.metrics);
    metrics.record(&Answer {
        listener: cx.listener_id(),
        upstream: upstream.map(|(_, metrics)| metrics),
        class: StatusClass::of(exchanged.status),
        duration,
        upstream_duration,
    });
    if let Some(access_log) = &*access_log.load() {
        let trace_id = cx.trace.as_ref().map(TraceContext::trace_id);
        let mut record = record(cx, exchanged, (duration, upstream_duration));
        record.trace_id = trace_id.as_ref().map_or(&[][..], |id| id.as_bytes());
        access_log.log(&record);
    }
}

fn record<'a>(
    cx: &'a RequestContext,
    exchanged: &Exchanged<'a>,
    (duration, upstream_duration): (Duration, Option<Duration>),
) -> Record<'a> {
    let request = exchanged.request;
    let upstream = cx.exchange.upstream.map(|at| &cx.snapshot.upstreams[at].0);
    let chosen = cx.exchange.choice.as_ref().map(Choice::endpoint);
    let conn = cx.conn.as_deref();
    let host = if cx.authority.is_empty() { authority::authority(request) } else { &*cx.authority };
    Record {
        time: cx.time,
        request_id: cx.policy.request_id.as_ref().map_or(&[][..], RequestId::as_bytes),
        trace_id: b"",
        listener: conn.map(ConnInfo::listener_name),
        route: cx.route().map(|route| &route.name),
        upstream: upstream.map(|upstream| &upstream.name),
        endpoint: chosen.or(cx.exchange.tried.last()).map(|endpoint| &*endpoint.label),
        client: conn.map(|_| cx.policy.client),
        method: request.method.as_str(),
        host: Some(host.as_bytes()),
        target: request.raw_path(),
        status: exchanged.status,
        consumer: cx.policy.principal.as_ref().and_then(|p| Some(&*p.consumer.as_ref()?.name)),
        principal: cx.policy.principal.as_ref().map(|principal| &*principal.subject),
        auth: cx.policy.auth_cause.or_else(|| cx.policy.principal.as_ref().map(|p| p.method.as_str())),
        cause: exchanged.cause,
        fallback: cx.exchange.substitute.map(Substitute::as_str),
        bytes_received: exchanged.received,
        bytes_sent: exchanged.sent,
        duration,
        upstream_duration,
        connect_duration: cx.exchange.began.map(|_| cx.exchange.connecting),
        attempts: u32::from(cx.exchange.attempts),
        tls_version: conn.and_then(|conn| conn.tls()).map(|tls| tls.version),
        http_version: Some(request.version),
        request: Some(&request.headers),
        response: exchanged.response,
    }
}
