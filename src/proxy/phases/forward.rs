//! The request as the upstream gets it: the one path, the edits, and who we are.

use super::admit::X_REQUEST_ID;
use super::hold::Held;
use crate::message::cookies;
use crate::message::forwarded::{self, tells_of_hops};
use crate::message::hop_by_hop;
use crate::policy::context::HeaderEdit;
use crate::proxy::{Gateway, RequestContext};
use crate::upstream::{Choice, Host};
use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts as ReqParts;
use pingora_error::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// How many fields a request gets on its way: three of forwarding, id, trace, via, and some edits.
const ADDED: usize = 8;

/// Readies the client's head for being copied and edited. HTTP/1 keeps a second map for how the
/// client wrote the names, which would be copied and edited as well; names have no case (RFC 9110
/// section 5.1), so upstreams get them as everyone writes them.
pub fn lighten(session: &mut Session) {
    let head = session.req_header_mut();
    if head.version == Version::HTTP_2 {
        return;
    }
    let parts: ReqParts = std::mem::replace(head, placeholder()).into();
    *head = parts.into();
}

/// A head that stands where another one was taken out; it costs no allocation.
fn placeholder() -> RequestHeader {
    http::Request::new(()).into_parts().0.into()
}

/// Edits the upstream's copy of the request. Pingora took the hop-by-hop fields out of it, but for a usual
/// `connection` ([`hop_by_hop::is_free`]).
pub fn request(
    gateway: &Gateway,
    session: &Session,
    request: &mut RequestHeader,
    cx: &mut RequestContext,
) -> Result<()> {
    let client = session.req_header();
    if let Some(call) = &mut cx.policy.web_call {
        call.restart();
    }
    if client.version == Version::HTTP_2 && request.version == Version::HTTP_2 {
        // Pingora leaves such a request as it came. The one `te` of HTTP/2 is `trailers` (RFC 9113 section
        // 8.2.2), which gRPC asks for.
        let te = request.headers.get(header::TE).cloned();
        hop_by_hop::strip_request(request);
        if let Some(te) = te {
            request.insert_header(header::TE, te)?;
        }
    }
    // Pingora puts it there, but not on the way of requests that may be hedged.
    let names_authority = cx.exchange.hedge.is_some() && client.version == Version::HTTP_2;
    edit(request, |headers| {
        let seen = Seen::of(headers, cx.believed);
        seen.unwelcome.iter().for_each(|name| drop(headers.remove(name)));
        forwarding(headers, seen.forwarded, cx);
        host(headers, seen.host && !names_authority, cx);
        headers.append(header::VIA, gateway.via.clone());
        if matches!(cx.held.as_deref(), Some(Held::Whole { .. })) {
            // The client has been told to go on, and has.
            headers.remove(header::EXPECT);
        }
        if seen.cookies > 1 {
            join_cookies(headers);
        }
        if seen.cookies > 0 && cx.snapshot.identity.has_cookies() {
            // Sessions are between the browser and the gateway: an upstream could use them as its own.
            remove_cookies(headers, |name| cx.snapshot.identity.owns_cookie(name));
        }
        for edit in &cx.policy.edits.headers {
            match edit {
                HeaderEdit::Remove(name) => drop(headers.remove(name)),
                HeaderEdit::Set(name, value) => drop(headers.insert(name, value.clone())),
                HeaderEdit::Add(name, value) => drop(headers.append(name, value.clone())),
                HeaderEdit::RemoveCookie(name) => remove_cookies(headers, |known| known == name.as_bytes()),
            }
        }
    });
    target(client, request, cx)?;
    if let Some(plan) = &cx.exchange.hedge {
        request.extensions_mut().insert(plan.clone());
    }
    Ok(())
}

/// Lends the fields of a head as the `http` crate has them. Pingora's own way to change one costs
/// three times as much, and a request gets half a dozen. What is lost is the target as it was
/// written, which [`target`] sets after this.
fn edit(request: &mut RequestHeader, change: impl FnOnce(&mut HeaderMap)) {
    let ends = request.send_end_stream();
    let mut parts: ReqParts = std::mem::replace(request, placeholder()).into();
    parts.headers.reserve(ADDED);
    change(&mut parts.headers);
    *request = parts.into();
    if let Some(ends) = ends {
        request.set_send_end_stream(ends);
    }
}

/// What a look at all fields tells. One look: a head is small, and looking fields up by name costs more
/// than passing by them.
#[derive(Default)]
struct Seen {
    host: bool,
    forwarded: bool,
    cookies: usize,
    /// Fields that stay behind.
    unwelcome: Vec<HeaderName>,
}

impl Seen {
    fn of(headers: &HeaderMap, believed: bool) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            if *name == header::HOST {
                seen.host = true;
            } else if *name == header::COOKIE {
                seen.cookies = headers.get_all(name).iter().count();
            } else if *name == header::CONNECTION
                || is_ambiguous(name)
                || (!believed && (*name == TRACESTATE || tells_of_hops(name)))
            {
                seen.unwelcome.push(name.clone());
            } else if *name == header::FORWARDED {
                seen.forwarded = true;
            }
        }
        seen
    }
}

/// Servers that speak CGI's language make one variable of `X-Id` and `X_Id` (RFC 3875 section
/// 4.1.18), so that a client could say what only we may say. Such fields stay behind, as in nginx.
fn is_ambiguous(name: &HeaderName) -> bool {
    name.as_str().as_bytes().contains(&b'_')
}

/// HTTP/2 may split `cookie` into several fields, which make one again on HTTP/1 (RFC 9113 section
/// 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Values joined by what a value may hold are one.
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookie);
    }
}

fn remove_cookies(headers: &mut HeaderMap, goes: impl Fn(&[u8]) -> bool) {
    match cookies::without(headers, goes) {
        Some(Some(rest)) => drop(headers.insert(header::COOKIE, rest)),
        Some(None) => drop(headers.remove(header::COOKIE)),
        None => {}
    }
}

/// Origin form, with the path that was matched or what a policy made of it, and the client's query.
fn target(client: &RequestHeader, request: &mut RequestHeader, cx: &RequestContext) -> Result<()> {
    let path = cx.policy.edits.path.as_deref().unwrap_or_else(|| cx.policy.path(client));
    let edits = &cx.policy.edits;
    let unchanged = edits.path.is_none() && edits.query.is_none() && cx.policy.normalised.is_none();
    if unchanged && request.uri.authority().is_none() && request.raw_path().first() == Some(&b'/') {
        return Ok(());
    }
    let query = edits.query.as_deref().or(client.uri.query());
    // An empty query that the client wrote stays; one that a policy emptied goes.
    match query.filter(|query| !query.is_empty() || edits.query.is_none()) {
        Some(query) => request.set_raw_path(format!("{path}?{query}").as_bytes()),
        None => request.set_raw_path(path.as_bytes()),
    }
}

fn forwarding(headers: &mut HeaderMap, standard: bool, cx: &RequestContext) {
    let Some(conn) = &cx.conn else { return };
    let hop = forwarded::Hop {
        peer: conn.peer_addr().ip(),
        tls: conn.tls().is_some(),
        host: cx.authority.as_bytes(),
        believed: cx.believed,
    };
    forwarded::apply(headers, &hop, standard);
    if let Some(id) = &cx.policy.request_id {
        headers.insert(X_REQUEST_ID, id.header_value());
    }
    if let Some(trace) = &cx.trace {
        headers.insert(TRACEPARENT, trace.header_value());
    }
}

fn host(headers: &mut HeaderMap, is_there: bool, cx: &RequestContext) {
    let upstream = cx.exchange.upstream.map(|at| &cx.snapshot.upstreams[at].0);
    let endpoint = || cx.exchange.choice.as_ref().map(Choice::endpoint);
    let value = match (&cx.policy.edits.host, upstream.map(|upstream| &upstream.host)) {
        (Some(host), _) | (None, Some(Host::Name(host))) => Some(host.clone()),
        (None, Some(Host::Endpoint)) => endpoint().map(|endpoint| endpoint.host.clone()),
        (None, _) if is_there => None,
        // HTTP/1.0 without Host: the authority that the client meant, if any.
        (None, _) => HeaderValue::from_str(&cx.authority).ok(),
    };
    if let Some(value) = value {
        headers.insert(header::HOST, value);
    }
}
