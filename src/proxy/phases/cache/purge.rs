//! Purges by the method PURGE, and what answers to unsafe methods make invalid.

use super::{Visit, policy};
use crate::cache::rules::directives::RequestDirectives;
use crate::cache::rules::freshness::Exchange;
use crate::cache::rules::status::Forward;
use crate::cache::rules::storing::{self, Asked, storable};
use crate::cache::rules::{date, key, update};
use crate::cache::store::Found;
use crate::cache::store::Store;
use crate::cache::store::object::Body;
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
    let purge = Purge { target: Target::Url(url.into()), soft };
    let (recorded, passed_on) = (store.purge(&purge), store.pass_on(&purge));
    if let Err(error) = recorded.done().await {
        // It is in force, and is tried again until it is written.
        log::warn!("cache_disk: a purge is not written yet error={error}");
    }
    if !passed_on.done().await {
        log::warn!("cache: other gateways have not heard of a purge yet");
    }
    let head = ResponseHeader::build_no_case(StatusCode::OK, Some(2))?;
    Box::pin(reply::send(session, cx, Reply { head, body: Bytes::from_static(b"purged\n") })).await?;
    Ok(true)
}

/// Makes invalid what an answer to an unsafe method leaves of no use: its target, and what it names of the
/// same origin (RFC 9111 section 4.4).
pub fn invalidate(request: &RequestHeader, answer: &ResponseHeader, visit: &Visit) {
    if !update::invalidates(&request.method, answer.status) || visit.key.url().len() > super::LONGEST_URL {
        return;
    }
    let target = visit.key.url();
    let purge = |url: &str| {
        if !visit.store.may_have(url) {
            return;
        }
        // In force at once; it is written while the answer is on its way.
        drop(visit.store.purge(&Purge { target: Target::Url(url.into()), soft: false }));
    };
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
            && named.as_str().len() <= super::LONGEST_URL
        {
            purge(named.as_str());
        }
    }
    debug_assert!(request.method != Method::GET, "GET is safe");
}

/// What an answer to HEAD says of the kept answer to GET (RFC 9111 section 4.3.5): if it speaks of the same
/// body it renews it, and if of another one, what is kept is of no use.
pub fn hear_of(request: &RequestHeader, answer: &ResponseHeader, (cx, visit): (&RequestContext, &Visit)) {
    let is_past = matches!(visit.report.forward, Some(Forward::Bypass | Forward::Method) | None);
    if request.method != Method::HEAD || answer.status != StatusCode::OK || is_past {
        return;
    }
    let Some(cache) = policy(&cx.snapshot, cx) else { return };
    let asked = request.uri.query();
    let is_as_keyed = key::query(asked, &cache.settings.query).as_deref() == asked
        && *super::fill::authority(cx) == *cx.authority;
    if !is_as_keyed {
        // What is in no key has been seen by the upstream: its answer is nobody else's.
        return;
    }
    let Found::Object { object, .. } = visit.store.find(visit.key.as_str(), &request.headers) else { return };
    let Body::Whole(whole) = &object.body else { return };
    let stored = &object.head.headers;
    if object.head.status != StatusCode::OK || !update::head_agrees(&answer.headers, stored, whole.length()) {
        visit.store.replace(&visit.key, &object, None);
        return;
    }
    let mut headers = http::HeaderMap::clone(stored);
    // An Age that it does not have is not the old one's.
    headers.remove(http::header::AGE);
    update::merge(&mut headers, &answer.headers);
    let asked = Asked {
        method: &Method::GET,
        directives: &RequestDirectives::of(&request.headers),
        is_personal: storing::has_credentials(&request.headers) || cx.policy.principal.is_some(),
    };
    let now = date::now();
    let exchange = Exchange { asked: now, answered: now };
    let renewed = storable(asked, (object.head.status, &headers), exchange, &cache.settings).ok();
    // As old as it was for purges: its body is no newer.
    let renewed = renewed.map(|(kept, _)| object.renewed(kept.headers, kept.terms, object.born));
    visit.store.replace(&visit.key, &object, renewed.map(std::sync::Arc::new));
}
