//! gRPC over HTTP/2, as far as a gateway has to know it: who speaks it, how long a call may take,
//! and how a refusal is said.

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// The code of how a call ended.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The same in words, percent-encoded.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How long the caller waits.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The dialects of gRPC that callers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, whose trailers are at the end of the body.
    Web,
    /// gRPC-Web whose body is in base64.
    WebText,
}

impl Dialect {
    /// What its messages are, where nothing is said of what is inside.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        }
    }
}

/// What a message of this content type is, if it is gRPC at all.
pub fn dialect(headers: &HeaderMap) -> Option<Dialect> {
    dialect_of(headers.get(header::CONTENT_TYPE)?.as_bytes())
}

/// As [`dialect`], of a content type.
pub fn dialect_of(content_type: &[u8]) -> Option<Dialect> {
    const GRPC: &[u8] = b"application/grpc";
    let (start, rest) = content_type.split_at_checked(GRPC.len())?;
    if !start.eq_ignore_ascii_case(GRPC) {
        return None;
    }
    let end = rest.iter().position(|c| matches!(c, b'+' | b';' | b' ')).unwrap_or(rest.len());
    match &rest[..end] {
        b"" => Some(Dialect::Grpc),
        web if web.eq_ignore_ascii_case(b"-web") => Some(Dialect::Web),
        text if text.eq_ignore_ascii_case(b"-web-text") => Some(Dialect::WebText),
        _ => None,
    }
}

/// How long a caller waits ("Timeout" in "gRPC over HTTP2"): up to eight digits and a unit. None for
/// what is no such time.
pub fn timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// The code for a refusal: gRPC's "HTTP to gRPC Status Code Mapping", and the codes' own meanings
/// where that has none.
pub fn code(status: StatusCode) -> u16 {
    match status.as_u16() {
        // INTERNAL
        400 | 500 => 13,
        // UNAUTHENTICATED
        401 => 16,
        // PERMISSION_DENIED
        403 => 7,
        // UNIMPLEMENTED
        404 => 12,
        // DEADLINE_EXCEEDED
        408 | 504 => 4,
        // RESOURCE_EXHAUSTED
        413 | 431 => 8,
        // UNAVAILABLE
        429 | 502 | 503 => 14,
        // UNKNOWN
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects() {
        for (content_type, expected) in [
            ("application/grpc", Some(Dialect::Grpc)),
            ("application/grpc+proto", Some(Dialect::Grpc)),
            ("Application/GRPC;charset=utf-8", Some(Dialect::Grpc)),
            ("application/grpc-web", Some(Dialect::Web)),
            ("application/grpc-web+thrift", Some(Dialect::Web)),
            ("application/grpc-web-text", Some(Dialect::WebText)),
            ("application/grpc-web-text+proto", Some(Dialect::WebText)),
            ("application/grpc-websocket", None),
            ("application/grpcx", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(dialect_of(content_type.as_bytes()), expected, "{content_type}");
        }
    }

    #[test]
    fn timeouts() {
        let parse = |text: &str| timeout(&HeaderValue::from_str(text).unwrap());
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("100m", Duration::from_millis(100)),
            ("5u", Duration::from_micros(5)),
            ("7n", Duration::from_nanos(7)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S", "+1S"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
