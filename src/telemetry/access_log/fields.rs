//! Which fields a line has: names in the configuration, compiled once to writers.

use super::clock::Clock;
use super::json;
use crate::values::{Name, Problem};
use http::{HeaderMap, HeaderName, Version, header};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// What is known of a request when it has ended, borrowed from whoever knows it. What is not known,
/// as for a request that the parser refused, is `None` or empty and prints as `null`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields of the log, whose meanings are in the documentation")]
pub struct Record<'a> {
    /// When the request began.
    pub time: SystemTime,
    /// Letters, digits and `-_.:+=/@~`, as [`RequestId`](crate::telemetry::request_id::RequestId) has it.
    pub request_id: &'a [u8],
    /// Hexadecimal digits.
    pub trace_id: &'a [u8],
    pub listener: Option<&'a Name>,
    pub route: Option<&'a Name>,
    pub upstream: Option<&'a Name>,
    /// The last endpoint that was tried.
    pub endpoint: Option<&'a str>,
    pub client: Option<IpAddr>,
    pub method: &'a str,
    pub host: Option<&'a [u8]>,
    /// The request target as the client sent it, with its query.
    pub target: &'a [u8],
    /// The status that was sent; `None` if the request ended without one.
    pub status: Option<u16>,
    /// The consumer that called.
    pub consumer: Option<&'a str>,
    /// What the caller is called by who proved it.
    pub principal: Option<&'a str>,
    /// How the caller was proved, or why its credential was refused.
    pub auth: Option<&'a str>,
    /// The code of the refusal or failure.
    pub cause: Option<&'a str>,
    /// Who answered in the place of the route's upstream.
    pub fallback: Option<&'a str>,
    /// Bytes of the body that the client sent.
    pub bytes_received: u64,
    /// Bytes of the body that the client got.
    pub bytes_sent: u64,
    pub duration: Duration,
    pub upstream_duration: Option<Duration>,
    pub connect_duration: Option<Duration>,
    /// How many endpoints were tried, one tried twice counting twice.
    pub attempts: u32,
    /// Such as `TLSv1.3`.
    pub tls_version: Option<&'a str>,
    pub http_version: Option<Version>,
    /// The fields of the request as the client sent it.
    pub request: Option<&'a HeaderMap>,
    /// The fields of the response as the client got it.
    pub response: Option<&'a HeaderMap>,
}

/// Names of fields, in the order in which a line has them by default.
const DEFAULT: [(&str, Field); 23] = [
    ("time", Field::Time),
    ("request_id", Field::RequestId),
    ("trace_id", Field::TraceId),
    ("listener", Field::Listener),
    ("route", Field::Route),
    ("upstream", Field::Upstream),
    ("endpoint", Field::Endpoint),
    ("client", Field::Client),
    ("consumer", Field::Consumer),
    ("method", Field::Method),
    ("host", Field::Host),
    ("path", Field::Path),
    ("status", Field::Status),
    ("cause", Field::Cause),
    ("fallback", Field::Fallback),
    ("bytes_received", Field::BytesReceived),
    ("bytes_sent", Field::BytesSent),
    ("duration_ms", Field::Duration),
    ("upstream_ms", Field::UpstreamDuration),
    ("connect_ms", Field::ConnectDuration),
    ("attempts", Field::Attempts),
    ("tls_version", Field::TlsVersion),
    ("http_version", Field::HttpVersion),
];

/// Names that a line has only where they are asked for, besides those of headers.
const ON_REQUEST: [&str; 4] = ["user_agent", "query", "principal", "auth"];

/// The names of all fields but headers, which are `request.NAME` and `response.NAME`.
pub fn field_names() -> impl Iterator<Item = &'static str> {
    DEFAULT.iter().map(|(name, _)| *name).chain(ON_REQUEST)
}

#[derive(Clone, Debug)]
enum Field {
    Time,
    RequestId,
    TraceId,
    Listener,
    Route,
    Upstream,
    Endpoint,
    Client,
    Consumer,
    Principal,
    Auth,
    Method,
    Host,
    Path,
    Query,
    Status,
    Cause,
    Fallback,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamDuration,
    ConnectDuration,
    Attempts,
    TlsVersion,
    HttpVersion,
    RequestHeader(Header),
    ResponseHeader(Header),
}

#[derive(Clone, Debug)]
struct Header {
    name: HeaderName,
    redacted: bool,
}

/// The fields of a line, each with the text before its value.
#[derive(Debug)]
pub(super) struct Fields(Vec<(Key, Field)>);

/// The text before a value. Short ones, which is nearly all, are copied by a fixed size and cut: a copy
/// whose size the compiler knows costs no call, and a line has two dozen.
#[derive(Debug)]
enum Key {
    Short([u8; SHORT_KEY], usize),
    Long(Box<str>),
}

const SHORT_KEY: usize = 32;

impl Key {
    fn new(text: &str) -> Self {
        let mut short = [0; SHORT_KEY];
        match short.get_mut(..text.len()) {
            Some(start) => {
                start.copy_from_slice(text.as_bytes());
                Self::Short(short, text.len())
            }
            None => Self::Long(text.into()),
        }
    }

    fn write(&self, line: &mut Vec<u8>) {
        match self {
            Self::Short(text, length) => {
                let end = line.len() + length;
                line.extend_from_slice(text);
                line.truncate(end);
            }
            Self::Long(text) => line.extend_from_slice(text.as_bytes()),
        }
    }
}

impl Fields {
    /// Finds the fields of these names; none are the default ones.
    pub(super) fn compile(names: &[String], redact: &[String]) -> Result<Self, Problem> {
        let redacted: Vec<HeaderName> =
            redact.iter().map(|name| header_name(name)).collect::<Result<_, _>>()?;
        let is_redacted = |name: &HeaderName| redacted.contains(name);
        if names.is_empty() {
            let agent = Header { name: header::USER_AGENT, redacted: is_redacted(&header::USER_AGENT) };
            let agent = ("user_agent", Field::RequestHeader(agent));
            return Ok(Self::with_keys(DEFAULT.iter().cloned().chain([agent])));
        }
        if let Some(twice) = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
            return Err(Problem::new(format!("the field `{}` stands twice", twice.1)).remedy("remove one"));
        }
        let fields = names.iter().map(|name| Ok((name.as_str(), Field::named(name, is_redacted)?)));
        Ok(Self::with_keys(fields.collect::<Result<Vec<_>, Problem>>()?))
    }

    fn with_keys<'a>(fields: impl IntoIterator<Item = (&'a str, Field)>) -> Self {
        let keyed = fields.into_iter().enumerate().map(|(place, (name, field))| {
            let before = if place == 0 { '{' } else { ',' };
            (Key::new(&format!("{before}\"{name}\":")), field)
        });
        Self(keyed.collect())
    }

    /// Writes a line, its end included.
    pub(super) fn write(&self, line: &mut Vec<u8>, record: &Record<'_>, clock: &mut Clock) {
        for (key, field) in &self.0 {
            key.write(line);
            field.write(line, record, clock);
        }
        line.extend_from_slice(b"}\n");
    }
}

impl Field {
    fn named(name: &str, is_redacted: impl Fn(&HeaderName) -> bool) -> Result<Self, Problem> {
        let header = |name: &str| {
            let name = header_name(name)?;
            Ok(Header { redacted: is_redacted(&name), name })
        };
        if let Some(name) = name.strip_prefix("request.") {
            return Ok(Self::RequestHeader(header(name)?));
        }
        if let Some(name) = name.strip_prefix("response.") {
            return Ok(Self::ResponseHeader(header(name)?));
        }
        match name {
            "user_agent" => return Ok(Self::RequestHeader(header("user-agent")?)),
            "query" => return Ok(Self::Query),
            "principal" => return Ok(Self::Principal),
            "auth" => return Ok(Self::Auth),
            _ => {}
        }
        let known = DEFAULT.iter().find(|(known, _)| *known == name);
        known.map(|(_, field)| field.clone()).ok_or_else(|| {
            let headers = ["request.NAME", "response.NAME"];
            Problem::unknown("access log field", name, field_names().chain(headers))
        })
    }

    fn write(&self, line: &mut Vec<u8>, record: &Record<'_>, clock: &mut Clock) {
        match self {
            Self::Time => {
                line.push(b'"');
                clock.write(line, record.time);
                line.push(b'"');
            }
            Self::RequestId => plain(line, record.request_id),
            Self::TraceId => plain(line, record.trace_id),
            Self::Listener => or_null(line, record.listener, name),
            Self::Route => or_null(line, record.route, name),
            Self::Upstream => or_null(line, record.upstream, name),
            Self::Endpoint => or_null(line, record.endpoint, text),
            Self::Client => or_null(line, record.client, json::ip),
            Self::Consumer => or_null(line, record.consumer, text),
            Self::Principal => or_null(line, record.principal, text),
            Self::Auth => or_null(line, record.auth, text),
            // A method is a token (RFC 9110 section 5.6.2), which holds nothing to escape.
            Self::Method => plain(line, record.method.as_bytes()),
            Self::Host => or_null(line, record.host, json::string),
            Self::Path => bytes(line, split_target(record.target).0),
            Self::Query => or_null(line, split_target(record.target).1, json::string),
            Self::Status => or_null(line, record.status, json::number),
            Self::Cause => or_null(line, record.cause, text),
            Self::Fallback => or_null(line, record.fallback, text),
            Self::BytesReceived => json::number(line, record.bytes_received),
            Self::BytesSent => json::number(line, record.bytes_sent),
            Self::Duration => json::milliseconds(line, record.duration),
            Self::UpstreamDuration => or_null(line, record.upstream_duration, json::milliseconds),
            Self::ConnectDuration => or_null(line, record.connect_duration, json::milliseconds),
            Self::Attempts => json::number(line, record.attempts),
            Self::TlsVersion => or_null(line, record.tls_version, text),
            Self::HttpVersion => or_null(line, record.http_version, http_version),
            Self::RequestHeader(header) => header.write(line, record.request),
            Self::ResponseHeader(header) => header.write(line, record.response),
        }
    }
}

impl Header {
    /// Several fields of one name are one value, joined by commas (RFC 9110 section 5.3).
    fn write(&self, line: &mut Vec<u8>, headers: Option<&HeaderMap>) {
        let Some(headers) = headers else { return null(line) };
        let mut values = headers.get_all(&self.name).into_iter();
        let Some(first) = values.next() else { return null(line) };
        if self.redacted {
            return line.extend_from_slice(b"\"***\"");
        }
        line.push(b'"');
        json::text(line, first.as_bytes());
        let mut left = json::MAX_VALUE.saturating_sub(first.len());
        for value in values {
            if value.len() > left {
                line.extend_from_slice("…".as_bytes());
                break;
            }
            left -= value.len();
            line.extend_from_slice(b", ");
            json::text(line, value.as_bytes());
        }
        line.push(b'"');
    }
}

fn header_name(name: &str) -> Result<HeaderName, Problem> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        let shown: String = name.chars().take(40).collect();
        Problem::new(format!("`{shown}` is not the name of a header"))
            .remedy("write it as in a request, such as `x-tenant`")
    })
}

/// The path and the query. The scheme and authority of an absolute target are left out: a client may
/// have put a password there.
fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (mut path, query) = match target.iter().position(|c| *c == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    };
    if !path.starts_with(b"/")
        && let Some(authority) = path.windows(3).position(|window| window == b"://")
    {
        let rest = &path[authority + 3..];
        path = rest.iter().position(|c| *c == b'/').map_or(b"/", |slash| &rest[slash..]);
    }
    (path, query)
}

fn null(line: &mut Vec<u8>) {
    line.extend_from_slice(b"null");
}

fn or_null<T>(line: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => write(line, value),
        None => null(line),
    }
}

/// A text, or `null` if it is empty.
fn text(line: &mut Vec<u8>, value: &str) {
    bytes(line, value.as_bytes());
}

fn bytes(line: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() { null(line) } else { json::string(line, value) }
}

/// What is known to hold nothing that has to be escaped, or `null` if it is empty.
fn plain(line: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() {
        return null(line);
    }
    line.push(b'"');
    line.extend_from_slice(value);
    line.push(b'"');
}

/// A name holds nothing to escape.
fn name(line: &mut Vec<u8>, value: &Name) {
    plain(line, value.as_str().as_bytes());
}

fn http_version(line: &mut Vec<u8>, version: Version) {
    let text: &[u8] = match version {
        Version::HTTP_09 => b"\"HTTP/0.9\"",
        Version::HTTP_10 => b"\"HTTP/1.0\"",
        Version::HTTP_11 => b"\"HTTP/1.1\"",
        Version::HTTP_2 => b"\"HTTP/2\"",
        Version::HTTP_3 => b"\"HTTP/3\"",
        _ => b"null",
    };
    line.extend_from_slice(text);
}
