//! Answers out of the cache: conditions, ranges and heads of what is kept.

use crate::cache::rules::conditional::{self, Outcome};
use crate::cache::rules::range::{self, Ranges};
use crate::cache::rules::status::CACHE_STATUS;
use crate::cache::rules::{date, storing};
use crate::cache::store::body::{Follower, Whole};
use crate::cache::store::object::{Body, Object};
use crate::proxy::RequestContext;
use crate::proxy::reply::{self, Content};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::sync::Arc;
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
    let mut headers = HeaderMap::clone(&object.head.headers);
    storing::set_age(&mut headers, object.head.terms.age(now));
    let mut status = object.head.status;
    if status == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6: not even zero.
        headers.remove(CONTENT_LENGTH);
    }
    let outcome = match status {
        StatusCode::OK => conditional::evaluate(&request.method, &request.headers, &headers),
        _ => Outcome::Proceed,
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
        (Outcome::Proceed, Body::Whole(whole)) => {
            if status == StatusCode::OK
                && request.method == Method::GET
                && conditional::range_applies(&request.headers, &headers)
            {
                let ranges = range::parse(&request.headers, whole.length());
                parts(whole, ranges, (&mut status, &mut headers))
            } else if status == StatusCode::NO_CONTENT {
                Content::None
            } else {
                headers.insert(CONTENT_LENGTH, whole.length().into());
                all(whole)
            }
        }
        (Outcome::Proceed, Body::Filling(filling)) => match place.or_else(|| filling.follow()) {
            Some(follower) => Content::Following(follower),
            None => return Ok(false),
        },
    };
    if let Some(visit) = &mut cx.visit {
        visit.report.ttl = Some(object.head.terms.left(now));
    }
    let head = head(status, headers, cx);
    Box::pin(reply::send_kept(session, cx, head, content)).await?;
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
    let head = head(status, headers, cx);
    Box::pin(reply::send_kept(session, cx, head, Content::Private(events))).await
}

fn head(status: StatusCode, headers: HeaderMap, cx: &RequestContext) -> ResponseHeader {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, headers);
    // Each cache appends its own (RFC 9211 section 2).
    if let Some(value) = cx.visit.as_ref().and_then(|visit| visit.report.value()) {
        parts.headers.append(CACHE_STATUS, value);
    }
    parts.into()
}

/// What a 304 says (RFC 9110 section 15.4.5): nothing of the body.
fn not_modified(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, CONTENT_TYPE, http::header::CONTENT_ENCODING, http::header::CONTENT_LANGUAGE]
    {
        headers.remove(name);
    }
}

fn all(whole: &Whole) -> Content {
    Content::Pieces(whole.part(0, whole.length()).collect::<Vec<Bytes>>().into_iter())
}

fn parts(whole: &Whole, ranges: Ranges, (status, headers): (&mut StatusCode, &mut HeaderMap)) -> Content {
    let length = whole.length();
    match ranges {
        Ranges::Whole => {
            headers.insert(CONTENT_LENGTH, length.into());
            all(whole)
        }
        Ranges::Unsatisfiable => {
            *status = StatusCode::RANGE_NOT_SATISFIABLE;
            headers.insert(CONTENT_LENGTH, 0.into());
            headers.remove(CONTENT_TYPE);
            if let Ok(range) = HeaderValue::from_str(&format!("bytes */{length}")) {
                headers.insert(CONTENT_RANGE, range);
            }
            Content::Pieces(Vec::new().into_iter())
        }
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
