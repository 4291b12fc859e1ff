//! Answers out of the cache: conditions, ranges and heads of what is kept.

use crate::cache::rules::conditional::{self, Outcome};
use crate::cache::rules::date;
use crate::cache::rules::range::{self, Ranges};
use crate::cache::rules::status::CACHE_STATUS;
use crate::cache::store::body::{Follower, Whole};
use crate::cache::store::object::{self, Body, Object};
use crate::proxy::RequestContext;
use crate::proxy::reply::{self, Content, Part};
use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::{Method, StatusCode};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Serves what is kept, or comes, to one of those that it is for. False if its beginning is gone.
pub(super) async fn shared(
    session: &mut Session,
    cx: &mut RequestContext,
    object: &Arc<Object>,
    place: Option<Follower>,
) -> Result<bool> {
    let now = date::now();
    let request = session.req_header();
    let terms = &object.head.terms;
    let ours = cx.visit.as_mut().and_then(|visit| {
        let left = terms.left(now);
        visit.report.ttl =
            Some(left.and_then(|left| if object.is_aged() { Err(Duration::ZERO) } else { Ok(left) }));
        visit.report.value()
    });
    let mut headers = HeaderMap::clone(&object.head.headers);
    object::fill_in(&mut headers, terms.age(now), ours);
    let mut status = object.head.status;
    let is_plain = status != StatusCode::OK || is_plain(&request.headers);
    let outcome = match is_plain {
        true => Outcome::Proceed,
        false => conditional::evaluate(&request.method, &request.headers, &headers),
    };
    let content = match (outcome, &object.body) {
        (Outcome::NotModified, _) => {
            status = StatusCode::NOT_MODIFIED;
            not_modified(&mut headers);
            Content::None
        }
        (Outcome::Failed, _) => {
            status = StatusCode::PRECONDITION_FAILED;
            headers.remove(CONTENT_LENGTH);
            headers.remove(CONTENT_TYPE);
            Content::Pieces(Vec::new().into_iter())
        }
        (Outcome::Proceed, Body::Whole(whole)) if is_plain => Content::Whole(Arc::clone(whole), 0),
        (Outcome::Proceed, Body::Whole(whole)) => {
            let ranges = ranges(request, (status, &headers), Some(whole.length()));
            parts(whole, ranges, (&mut status, &mut headers))
        }
        (Outcome::Proceed, Body::Filling(filling)) => {
            let Some(follower) = place.or_else(|| filling.follow()) else { return Ok(false) };
            let ranges = ranges(request, (status, &headers), filling.declared());
            part(follower, (filling.declared(), ranges), (&mut status, &mut headers))
        }
    };
    Box::pin(reply::send_kept(session, cx, head(status, headers), content)).await?;
    Ok(true)
}

/// Passes an answer on that is for this client alone.
pub(super) async fn private(
    session: &mut Session,
    cx: &mut RequestContext,
    came: ResponseHeader,
    events: mpsc::Receiver<super::fill::Event>,
) -> Result<()> {
    let status = came.status;
    let mut headers = came.headers.clone();
    headers.remove(TRANSFER_ENCODING);
    if let Some(visit) = &mut cx.visit {
        visit.report.stored = Some(false);
    }
    // Each cache appends its own (RFC 9211 section 2).
    let ours = cx.visit.as_ref().and_then(|visit| visit.report.value());
    headers.extend(ours.map(|ours| (CACHE_STATUS, ours)));
    Box::pin(reply::send_kept(session, cx, head(status, headers), Content::Private(events))).await
}

fn head(status: StatusCode, headers: HeaderMap) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, headers);
    parts.into()
}

/// True if a request has neither conditions nor a range, as most.
fn is_plain(request: &HeaderMap) -> bool {
    !request.keys().map(HeaderName::as_str).any(|name| name.starts_with("if-") || name == "range")
}

/// What a 304 says (RFC 9110 section 15.4.5): nothing of the body.
fn not_modified(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, CONTENT_TYPE, http::header::CONTENT_ENCODING, http::header::CONTENT_LANGUAGE]
    {
        headers.remove(name);
    }
}

/// What of the body a request is for.
fn ranges(
    request: &RequestHeader,
    (status, stored): (StatusCode, &HeaderMap),
    length: Option<u64>,
) -> Ranges {
    let is_asked = status == StatusCode::OK
        && request.method == Method::GET
        && conditional::range_applies(&request.headers, stored);
    match length {
        Some(length) if is_asked => range::parse(&request.headers, length),
        _ => Ranges::Whole,
    }
}

/// A body on its way, or one part of it; for several parts it would have to be held as a whole.
fn part(
    follower: Follower,
    (length, ranges): (Option<u64>, Ranges),
    (status, headers): (&mut StatusCode, &mut HeaderMap),
) -> Content {
    match (length, ranges) {
        (Some(length), Ranges::Unsatisfiable) => unsatisfiable(length, (status, headers)),
        (Some(length), Ranges::Parts(spans)) if spans.len() == 1 => {
            let Some(span) = spans.first() else { return Content::Following(follower) };
            *status = StatusCode::PARTIAL_CONTENT;
            headers.extend(span.content_range(length).map(|range| (CONTENT_RANGE, range)));
            headers.insert(CONTENT_LENGTH, span.count().into());
            Content::Part(Part::new(follower, span.first, span.count()))
        }
        _ => Content::Following(follower),
    }
}

fn unsatisfiable(length: u64, (status, headers): (&mut StatusCode, &mut HeaderMap)) -> Content {
    *status = StatusCode::RANGE_NOT_SATISFIABLE;
    headers.insert(CONTENT_LENGTH, 0.into());
    headers.remove(CONTENT_TYPE);
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{length}")) {
        headers.insert(CONTENT_RANGE, range);
    }
    Content::Pieces(Vec::new().into_iter())
}

fn parts(
    whole: &Arc<Whole>,
    ranges: Ranges,
    (status, headers): (&mut StatusCode, &mut HeaderMap),
) -> Content {
    let length = whole.length();
    match ranges {
        Ranges::Whole => Content::Whole(Arc::clone(whole), 0),
        Ranges::Unsatisfiable => unsatisfiable(length, (status, headers)),
        Ranges::Parts(spans) => {
            *status = StatusCode::PARTIAL_CONTENT;
            if let [span] = *spans {
                headers.extend(span.content_range(length).map(|range| (CONTENT_RANGE, range)));
                headers.insert(CONTENT_LENGTH, span.count().into());
                return Content::Pieces(whole.part(span.first, span.count()).collect::<Vec<_>>().into_iter());
            }
            let boundary = format!(
                "{:016x}{:016x}",
                crate::telemetry::random::next_u64(),
                crate::telemetry::random::next_u64()
            );
            let mut pieces = Vec::new();
            for span in spans {
                pieces.push(range::part_head(&boundary, span, length, headers.get(CONTENT_TYPE)));
                pieces.extend(whole.part(span.first, span.count()));
            }
            pieces.push(range::end(&boundary));
            let sum: usize = pieces.iter().map(Bytes::len).sum();
            headers.insert(CONTENT_LENGTH, sum.into());
            if let Ok(kind) = HeaderValue::from_str(&format!("multipart/byteranges; boundary={boundary}")) {
                headers.insert(CONTENT_TYPE, kind);
            }
            Content::Pieces(pieces.into_iter())
        }
    }
}
