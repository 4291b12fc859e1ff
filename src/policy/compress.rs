//! Answers in a content coding that the client accepts.
//!
//! ```yaml
//! policies:
//!   compress: { codings: [br, gzip], min_size: 2KiB }
//! ```
//!
//! An answer is left as it is if the upstream has coded it, if it is partial (206), if somebody said
//! `no-transform` (RFC 9111 section 5.2), if it carries a digest of its bytes (RFC 9530), if it
//! announces trailers, or if it is gRPC, which codes its own messages. Event streams are coded only
//! where `text/event-stream` is listed by its full name; what has no declared length is flushed piece
//! by piece, so that a stream stays one.

mod coder;
mod config;
mod media_type;
#[cfg(test)]
mod tests;

pub use coder::Coder;
pub use config::{CompressConfig, Levels};

use super::context::PolicyContext;
use super::{CompileEnv, Policy};
use crate::message::grpc;
use crate::message::negotiate::{AcceptEncoding, Choice, Coding};
use crate::rejection::Rejection;
use crate::values::Finding;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, TRAILER, VARY,
};
use http::{StatusCode, Version};
use media_type::Pattern;
use pingora_http::{RequestHeader, ResponseHeader};

/// [`CompressConfig`], compiled.
#[derive(Debug)]
pub struct Compress {
    codings: Box<[Coding]>,
    levels: Levels,
    min_size: u64,
    types: Box<[Pattern]>,
}

/// An answer could not be coded; it is cut off.
pub const COMPRESSION_FAILED: &str = "compression_failed";

/// Promises about the bytes of the content, which coding it would break (RFC 9530; RFC 2616 section
/// 14.15).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

impl Policy for Compress {
    const NAME: &'static str = "compress";
    const READS_ANSWERS: bool = true;
    type Config = CompressConfig;

    fn compile(config: &CompressConfig, _: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        config.compile()
    }

    fn on_response(&self, request: &RequestHeader, answer: &mut ResponseHeader, cx: &mut PolicyContext) {
        if answer.status == StatusCode::NOT_MODIFIED {
            match_validator(request, answer);
            return;
        }
        if !may_be_coded(request, answer) {
            return;
        }
        let length = content_length(&answer.headers);
        let is_worth_it = length.is_none_or(|length| length >= self.min_size) && self.is_listed(answer);
        if is_worth_it {
            vary(answer);
        }
        let lines = request.headers.get_all(ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes);
        let Choice::Coded { coding, identity } = AcceptEncoding::parse(lines).choose(&self.codings) else {
            return;
        };
        // For a client that refuses what is not coded, size and type do not matter. HTTP/1.0 has no way
        // to tell a stream that broke off from one that ended.
        if (!is_worth_it && identity) || request.version == Version::HTTP_10 {
            return;
        }
        if !is_worth_it {
            vary(answer);
        }
        label(answer, coding);
        cx.watches_answer = true;
        cx.coder = Some(Coder::new(coding, self.levels.of(coding), length.is_none()));
    }

    fn on_response_body(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        let Some(coder) = &mut cx.coder else { return Ok(()) };
        let piece = body.take().unwrap_or_default();
        let coded = coder.push(&piece, end).map_err(|error| {
            let title = "The answer could not be compressed";
            let failed = Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, COMPRESSION_FAILED, title);
            Box::new(failed.detail(error.to_string()))
        })?;
        *body = Some(coded).filter(|coded| !coded.is_empty());
        Ok(())
    }
}

impl Compress {
    fn is_listed(&self, answer: &ResponseHeader) -> bool {
        let essence = essence(&answer.headers);
        self.types.iter().any(|pattern| pattern.matches(essence))
    }
}

/// Whether anyone may change the coding of this answer, whatever its size and type.
fn may_be_coded(request: &RequestHeader, answer: &ResponseHeader) -> bool {
    let status = answer.status.as_u16();
    let headers = &answer.headers;
    let has = |name: &HeaderName| headers.contains_key(name);
    status >= 200
        && !matches!(status, 204 | 205 | 206 | 304)
        && !has(&CONTENT_ENCODING)
        && !has(&CONTENT_RANGE)
        && !has(&TRAILER)
        && !DIGESTS.iter().any(has)
        && content_length(headers) != Some(0)
        && grpc::dialect(headers).is_none()
        && !forbids_transforming(headers)
        && !forbids_transforming(&request.headers)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The type without its parameters; empty if there is none.
fn essence(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    value.split(|c| *c == b';').next().unwrap_or_default().trim_ascii()
}

fn forbids_transforming(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = lines.flat_map(|line| line.as_bytes().split(|c| *c == b','));
    directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// Says that the answer depends on what the client accepts (RFC 9110 section 12.5.5), once.
fn vary(answer: &mut ResponseHeader) {
    let mut names =
        answer.headers.get_all(VARY).iter().flat_map(|line| line.as_bytes().split(|c| *c == b','));
    let is_said = names.any(|name| {
        let name = name.trim_ascii();
        name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")
    });
    if !is_said {
        // A constant name and value cannot be refused.
        let _ = answer.append_header(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// The head of the coded answer: another length, no parts of it, other bytes than the validator
/// stands for.
fn label(answer: &mut ResponseHeader, coding: Coding) {
    answer.remove_header(&CONTENT_LENGTH);
    answer.remove_header(&ACCEPT_RANGES);
    // A constant name and value cannot be refused.
    let _ = answer.insert_header(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    weaken(answer);
}

/// A strong validator stands for these very bytes (RFC 9110 section 8.8.1); a weak one may stand for
/// the same in another coding.
fn weaken(answer: &mut ResponseHeader) {
    let Some(tag) = answer.headers.get(ETAG).map(HeaderValue::as_bytes) else { return };
    if tag.starts_with(b"W/") {
        return;
    }
    let weak = HeaderValue::from_bytes(&[b"W/", tag].concat()).ok().filter(|_| tag.starts_with(b"\""));
    // What is no validator at all cannot be made a weak one.
    let _ = match weak {
        Some(weak) => answer.insert_header(ETAG, weak),
        None => {
            answer.remove_header(&ETAG);
            Ok(())
        }
    };
}

/// A client that asks by a weakened validator has a coded answer, and finds it again only if a 304
/// carries the same one (RFC 9111 section 4.3.4).
fn match_validator(request: &RequestHeader, answer: &mut ResponseHeader) {
    let Some(tag) = answer.headers.get(ETAG).map(HeaderValue::as_bytes) else { return };
    if !tag.starts_with(b"\"") {
        return;
    }
    let weak = [b"W/", tag].concat();
    let mut lines = request.headers.get_all(IF_NONE_MATCH).iter();
    if lines.any(|line| memchr::memmem::find(line.as_bytes(), &weak).is_some()) {
        weaken(answer);
        vary(answer);
    }
}
