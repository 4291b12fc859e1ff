//! What must be true of every request before anyone looks at what it wants: the connection's
//! settings, the head's form and size, who the client is, and the one path.

use super::cache;
use crate::listen::ConnInfo;
use crate::message::{authority, client_ip, grpc, normalize};
use crate::proxy::RequestContext;
use crate::rejection::Rejection;
use crate::telemetry::request_id::RequestId;
use crate::telemetry::trace::TraceContext;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use pingora_core::protocols::http::v1::server::HttpSession as Http1;
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Sets up the connection for this request. Pingora lets a body take for ever, on its way in and on
/// its way out, unless told otherwise each time. (Idle time and the header's are the listener's.)
pub fn connection(session: &mut Session, cx: &mut RequestContext) {
    if cache::adopt(session, cx) {
        return;
    }
    let Some(conn) = session.digest().and_then(ConnInfo::of).map(Arc::clone) else { return };
    conn.header_complete();
    let limits = conn.limits();
    session.set_read_timeout(Some(limits.body_time.get()));
    if session.is_http2() {
        // A stream may be stuck where its connection is not; the listener holds HTTP/1 to it.
        session.set_write_timeout(Some(limits.write_time.get()));
    }
    // Lets a request that comes early wait instead of ending the one before it (RFC 9112 section
    // 9.3.2). `finish` takes it back.
    session.as_downstream_mut().set_pipelining_enabled(true);
    cx.conn = Some(conn);
    cx.in_flight = cx.listener().map(|listener| listener.metrics.begin());
}

/// Checks the head and fills what the policies see.
///
/// # Errors
/// The refusal that the client gets.
pub fn head(session: &Session, survey: &Survey<'_>, cx: &mut RequestContext) -> Result<(), Rejection> {
    let request = session.req_header();
    identify(request, cx);
    let authority = survey.authority(request);
    framing(session, authority, survey)?;
    cx.authority = authority.into();
    if let Some(conn) = cx.conn.as_deref() {
        if !conn.request_line_is_sound() {
            return Err(malformed("bytes that a request line cannot have"));
        }
        sizes(request, survey, conn)?;
        misdirected(conn, cx)?;
        cx.policy.body_limit = conn.limits().body.bytes();
    }
    method(request)?;
    path(request, cx)
}

/// Who is at the other end, and what this request is called.
fn identify(request: &RequestHeader, cx: &mut RequestContext) {
    let Some(conn) = cx.conn.as_deref() else { return };
    let peer = conn.peer_addr().ip();
    // A listener that a reload took away goes by what it had when the connection came.
    let trusted = cx.listener().map_or(conn.config(), |listener| &listener.config).trusted_proxies.as_slice();
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    let believed = is_trusted(peer);
    let mut client = peer.to_canonical();
    let mut secure = conn.tls().is_some();
    if believed {
        let lines: Vec<&[u8]> =
            request.headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
        client = client_ip::client_address(peer, lines.into_iter(), is_trusted);
        secure = match request.headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => true,
            Some(proto) if proto.eq_ignore_ascii_case(b"http") => false,
            _ => secure,
        };
    }
    let id = if believed { request.headers.get(X_REQUEST_ID) } else { None };
    let id = id.and_then(|id| RequestId::take_over(id.as_bytes()));
    let parent = if believed { TraceContext::of(&request.headers) } else { None };
    cx.trace = Some(parent.map_or_else(|| TraceContext::begin(false), |parent| parent.child()));
    cx.believed = believed;
    cx.policy.client = client;
    cx.policy.secure = secure;
    cx.policy.tls = conn.tls().map(Arc::clone);
    cx.policy.request_id = id.or_else(|| Some(RequestId::new(cx.time)));
}

/// What a look at all fields of a head tells. One look: a head is small, and looking fields up by
/// name costs more than passing by them.
#[derive(Default)]
pub struct Survey<'a> {
    /// Whether somebody has passed it on before us.
    pub has_via: bool,
    /// Whether it may ask for another protocol.
    pub has_upgrade: bool,
    /// How long a gRPC caller waits.
    pub call_time: Option<Duration>,
    host: Option<&'a HeaderValue>,
    hosts: usize,
    coding: Option<&'a HeaderValue>,
    codings: usize,
    length: Option<&'a HeaderValue>,
    lengths: usize,
    has_control: bool,
    /// As on the wire of HTTP/1: name, colon, space, value, line break.
    bytes: usize,
}

impl<'a> Survey<'a> {
    /// Looks.
    pub fn of(request: &'a RequestHeader) -> Self {
        let mut survey = Self::default();
        for (name, value) in &request.headers {
            survey.bytes += name.as_str().len() + value.len() + 4;
            survey.has_control |= has_control(value.as_bytes());
            if *name == header::HOST {
                survey.host.get_or_insert(value);
                survey.hosts += 1;
            } else if *name == header::CONTENT_LENGTH {
                survey.length = Some(value);
                survey.lengths += 1;
            } else if *name == header::TRANSFER_ENCODING {
                survey.coding = Some(value);
                survey.codings += 1;
            } else if *name == header::VIA {
                survey.has_via = true;
            } else if *name == header::UPGRADE {
                survey.has_upgrade = true;
            } else if *name == grpc::TIMEOUT {
                survey.call_time = grpc::timeout(value);
            }
        }
        survey
    }

    /// What [`authority::authority`] says, without looking for Host again.
    fn authority(&self, request: &'a RequestHeader) -> &'a str {
        match request.uri.authority() {
            Some(authority) => authority.as_str(),
            None => self.host.and_then(|host| host.to_str().ok()).unwrap_or_default(),
        }
    }

    /// The declared length of the body.
    pub fn content_length(&self) -> Option<u64> {
        self.length?.to_str().ok()?.parse().ok()
    }
}

/// Control characters, obsolete line folding among them. Without a way out, so that the compiler
/// looks at many bytes at once.
fn has_control(value: &[u8]) -> bool {
    value.iter().fold(false, |found, c| found | ((*c < 0x20 && *c != b'\t') || *c == 0x7f))
}

/// What Pingora lets through and a gateway must not, since a server behind might read it otherwise
/// (request smuggling; RFC 9112 sections 3.2 and 6.3).
fn framing(session: &Session, authority: &str, survey: &Survey<'_>) -> Result<(), Rejection> {
    let request = session.req_header();
    let http2 = request.version == Version::HTTP_2;
    if !http2 && !matches!(request.version, Version::HTTP_10 | Version::HTTP_11) {
        return Err(malformed("an HTTP version that is not served"));
    }
    if request.version == Version::HTTP_11 && survey.hosts == 0 {
        return Err(malformed("no Host"));
    }
    if survey.hosts > 1 {
        return Err(malformed("several Hosts"));
    }
    // HTTP/1.0 alone may name no host.
    let named = survey.hosts > 0 || request.uri.authority().is_some();
    if (named || http2) && !authority::is_valid(authority) {
        return Err(malformed("Host or :authority is not one"));
    }
    // What came, to the byte: Pingora mends some of it.
    let raw = session.as_http1().map(Http1::get_headers_raw_bytes).unwrap_or_default();
    if has_bare_line_feed(&raw) {
        return Err(malformed("a line that ends without CR"));
    }
    if let Some(coding) = survey.coding {
        let only_chunked = survey.codings == 1 && coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if http2 || !only_chunked {
            return Err(malformed("a transfer coding other than chunked"));
        }
        // Pingora takes Content-Length out of the head.
        if has_field(&raw, b"content-length") {
            return Err(malformed("Content-Length with Transfer-Encoding"));
        }
    }
    if let Some(length) = survey.length {
        let is_number = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
        if survey.lengths > 1 || !is_number {
            return Err(malformed("Content-Length is not one number"));
        }
    }
    if survey.has_control && !http2 {
        return Err(malformed("a control character in a header field"));
    }
    Ok(())
}

/// A lone LF may be taken for the end of a line (RFC 9112 section 2.2), or may not, so that two
/// servers see two different messages.
fn has_bare_line_feed(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r')
}

fn has_field(raw: &[u8], name: &[u8]) -> bool {
    raw.split(|c| *c == b'\n').skip(1).any(|line| {
        line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && line.get(name.len()).is_some_and(|c| matches!(c, b':' | b' ' | b'\t'))
    })
}

fn sizes(request: &RequestHeader, survey: &Survey<'_>, conn: &ConnInfo) -> Result<(), Rejection> {
    let limits = conn.limits();
    if request.raw_path().len() as u64 > limits.uri.bytes() {
        let title = "The request target is too long";
        return Err(Rejection::new(StatusCode::URI_TOO_LONG, "uri_too_long", title));
    }
    let too_many = request.headers.len() > usize::from(limits.header_count);
    if too_many || survey.bytes as u64 > limits.headers.bytes() {
        let title = "The request has too many or too large header fields";
        return Err(Rejection::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", title));
    }
    Ok(())
}

/// A host that the certificate which this connection was opened with does not stand for: the client
/// is at the wrong door (RFC 9110 section 7.4).
fn misdirected(conn: &ConnInfo, cx: &RequestContext) -> Result<(), Rejection> {
    let Some(sni) = conn.tls().and_then(|tls| tls.sni.as_deref()) else { return Ok(()) };
    let host = authority::host(&cx.authority).trim_end_matches('.');
    if host.eq_ignore_ascii_case(sni) || host.is_empty() {
        return Ok(());
    }
    let tls = cx.listener().and_then(|listener| listener.tls.as_ref());
    if tls.is_none_or(|tls| tls.is_for_both(sni, host)) {
        return Ok(());
    }
    let title = "This connection is not for that host";
    Err(Rejection::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", title))
}

fn method(request: &RequestHeader) -> Result<(), Rejection> {
    if request.method == Method::CONNECT {
        let title = "This is no tunnel";
        let rejection = Rejection::new(StatusCode::METHOD_NOT_ALLOWED, "connect_refused", title);
        return Err(rejection
            .header(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
            .closing());
    }
    if request.method == Method::TRACE {
        // It would show a page the credentials that a proxy added (RFC 9110 section 9.3.8).
        let title = "TRACE is not served";
        let rejection = Rejection::new(StatusCode::METHOD_NOT_ALLOWED, "trace_refused", title);
        return Err(rejection.header(
            header::ALLOW,
            HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ));
    }
    Ok(())
}

fn path(request: &RequestHeader, cx: &mut RequestContext) -> Result<(), Rejection> {
    if request.method == Method::OPTIONS && request.raw_path() == b"*" {
        return Ok(());
    }
    if !request.raw_path_is_utf8() {
        return Err(bad_path("bytes that are not UTF-8"));
    }
    if !is_path_or_url(request.raw_path()) {
        return Err(bad_path("neither a path nor an http or https URL"));
    }
    let hosts = &cx.snapshot.hosts;
    let host = if hosts.is_empty() { None } else { hosts.get(authority::host(&cx.authority)) };
    let options = host.map(|host| host.options).unwrap_or_default();
    match normalize::normalize(request.uri.path(), options) {
        Ok(Cow::Borrowed(_)) => {}
        Ok(Cow::Owned(path)) => cx.policy.normalised = Some(path.into()),
        Err(problem) => {
            log::debug!("refused path of {}: {problem}", cx.policy.request_id());
            return Err(bad_path("the path cannot be normalised"));
        }
    }
    Ok(())
}

/// Origin form or absolute form (RFC 9112 section 3.2).
fn is_path_or_url(target: &[u8]) -> bool {
    let begins_with =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    target.first() == Some(&b'/') || begins_with(b"http://") || begins_with(b"https://")
}

fn bad_path(detail: &'static str) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, "bad_path", "The path is not one").detail(detail)
}

fn malformed(detail: &'static str) -> Rejection {
    let title = "The request is malformed";
    Rejection::new(StatusCode::BAD_REQUEST, "malformed_request", title).detail(detail).closing()
}
