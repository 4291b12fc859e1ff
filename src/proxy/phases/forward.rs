//! The request as the upstream gets it: the one path, the edits, and who we are.

use super::admit::X_REQUEST_ID;
use crate::message::{authority, forwarded};
use crate::policy::context::HeaderEdit;
use crate::proxy::{Gateway, RequestContext};
use crate::upstream::Host;
use http::header::{self, HeaderName, HeaderValue};
use pingora_error::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Edits the upstream's copy of the request. Pingora took the hop-by-hop fields out of it.
pub fn request(
    gateway: &Gateway,
    session: &Session,
    request: &mut RequestHeader,
    cx: &mut RequestContext,
) -> Result<()> {
    let client = session.req_header();
    target(client, request, cx)?;
    forwarding(client, request, cx)?;
    host(client, request, cx)?;
    request.append_header(header::VIA, gateway.via.clone())?;
    drop_ambiguous_names(request);
    join_cookies(request)?;
    for edit in &cx.policy.edits.headers {
        match edit {
            HeaderEdit::Remove(name) => drop(request.remove_header(name)),
            HeaderEdit::Set(name, value) => request.insert_header(name.clone(), value.clone())?,
            HeaderEdit::Add(name, value) => drop(request.append_header(name.clone(), value.clone())?),
        }
    }
    Ok(())
}

/// Servers that speak CGI's language make one variable of `X-Id` and `X_Id` (RFC 3875 section
/// 4.1.18), so that a client could say what only we may say. Such fields stay behind, as in nginx.
fn drop_ambiguous_names(request: &mut RequestHeader) {
    let ambiguous = |name: &&HeaderName| name.as_str().contains('_');
    let names: Vec<HeaderName> = request.headers.keys().filter(ambiguous).cloned().collect();
    for name in names {
        request.remove_header(&name);
    }
}

/// HTTP/2 may split `cookie` into several fields, which make one again on HTTP/1 (RFC 9113 section
/// 8.2.3).
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let crumbs: Vec<&[u8]> =
        request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return Ok(());
    }
    let cookie = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    request.insert_header(header::COOKIE, cookie.unwrap_or(HeaderValue::from_static("")))
}

/// Origin form, with the path that was matched or what a policy made of it, and the client's query.
fn target(client: &RequestHeader, request: &mut RequestHeader, cx: &RequestContext) -> Result<()> {
    let path = cx.policy.edits.path.as_deref().unwrap_or_else(|| cx.policy.path(client));
    let unchanged = cx.policy.edits.path.is_none() && cx.policy.normalised.is_none();
    if unchanged && request.uri.authority().is_none() && request.raw_path().first() == Some(&b'/') {
        return Ok(());
    }
    match client.uri.query() {
        Some(query) => request.set_raw_path(format!("{path}?{query}").as_bytes()),
        None => request.set_raw_path(path.as_bytes()),
    }
}

fn forwarding(client: &RequestHeader, request: &mut RequestHeader, cx: &RequestContext) -> Result<()> {
    let Some(conn) = &cx.conn else { return Ok(()) };
    let hop = forwarded::Hop {
        peer: conn.peer_addr().ip(),
        tls: conn.tls().is_some(),
        host: authority::authority(client).as_bytes(),
        believed: cx.believed,
    };
    let standard = cx.believed && client.headers.contains_key(header::FORWARDED);
    forwarded::apply(request, &hop, standard);
    if let Some(id) = &cx.policy.request_id {
        request.insert_header(X_REQUEST_ID, id.header_value())?;
    }
    if let Some(trace) = &cx.trace {
        request.insert_header(TRACEPARENT, trace.header_value())?;
    }
    if !cx.believed {
        request.remove_header(&TRACESTATE);
    }
    Ok(())
}

fn host(client: &RequestHeader, request: &mut RequestHeader, cx: &RequestContext) -> Result<()> {
    if let Some(host) = &cx.policy.edits.host {
        return request.insert_header(header::HOST, host.clone());
    }
    let Some((upstream, _)) = cx.exchange.upstream.map(|at| &cx.snapshot.upstreams[at]) else {
        return Ok(());
    };
    match &upstream.host {
        Host::Name(host) => request.insert_header(header::HOST, host.clone()),
        Host::Endpoint => match &cx.exchange.choice {
            Some(choice) => {
                request.insert_header(header::HOST, upstream.endpoints[choice.endpoint].label.clone())
            }
            None => Ok(()),
        },
        Host::Keep if request.headers.contains_key(header::HOST) => Ok(()),
        // HTTP/1.0 without Host, or absolute form: the authority that the client meant, if any.
        Host::Keep => request.insert_header(
            header::HOST,
            HeaderValue::from_str(authority::authority(client)).unwrap_or(HeaderValue::from_static("")),
        ),
    }
}
