//! Purges by the method PURGE, and what answers to unsafe methods make invalid.

use super::Visit;
use crate::cache::rules::{key, update};
use crate::cache::store::Store;
use crate::cache::store::purge::{Purge, Target};
use crate::policy::Reply;
use crate::policy::cache::Cache;
use crate::proxy::{Gateway, RequestContext, reply};
use crate::rejection::Rejection;
use bytes::Bytes;
use http::{Method, StatusCode};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

/// Purges the URL that a request by the method PURGE names, if its client may. `x-purge: soft` leaves it to
/// be served in its grace.
pub(super) async fn by_method(
    gateway: &Gateway,
    session: &mut Session,
    cx: &mut RequestContext,
    (cache, store): (&Cache, &Store),
) -> Result<bool> {
    if !cache.may_purge(cx.policy.client) {
        let title = "You may not purge this";
        let rejection = Rejection::new(StatusCode::FORBIDDEN, "purge_refused", title);
        Box::pin(reply::reject(gateway, session, cx, &rejection)).await?;
        return Ok(true);
    }
    let request = session.req_header();
    let soft = request.headers.get("x-purge").is_some_and(|how| how.as_bytes().eq_ignore_ascii_case(b"soft"));
    let query = key::query(request.uri.query(), &cache.settings.query);
    let url = key::url(cx.policy.scheme(), &cx.authority, cx.policy.path(request), query.as_deref());
    store.purge(&Purge { target: Target::Url(url.into()), soft });
    let head = ResponseHeader::build_no_case(StatusCode::OK, Some(2))?;
    Box::pin(reply::send(session, cx, Reply { head, body: Bytes::from_static(b"purged\n") })).await?;
    Ok(true)
}

/// Makes invalid what an answer to an unsafe method leaves of no use: its target, and what it names of the
/// same origin (RFC 9111 section 4.4).
pub fn invalidate(request: &RequestHeader, answer: &ResponseHeader, visit: &Visit) {
    if !update::invalidates(&request.method, answer.status) || visit.store.keys() == 0 {
        return;
    }
    let target = visit.key.url();
    let purge = |url: &str| visit.store.purge(&Purge { target: Target::Url(url.into()), soft: false });
    purge(target);
    let Some(origin) = target.find("://").and_then(|at| {
        let rest = target.get(at + 3..)?;
        target.get(..at + 3 + rest.find(['/', '?']).unwrap_or(rest.len()))
    }) else {
        return;
    };
    let Ok(base) = url::Url::parse(target) else { return };
    for named in update::named_urls(&answer.headers) {
        let Ok(mut named) = base.join(named) else { continue };
        named.set_fragment(None);
        if named
            .as_str()
            .strip_prefix(origin)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        {
            purge(named.as_str());
        }
    }
    debug_assert!(request.method != Method::GET, "GET is safe");
}
