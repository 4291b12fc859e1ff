//! Ranges (RFC 9110 section 14), cut out of a whole that is kept.

use bytes::Bytes;
use http::header::RANGE;
use http::{HeaderMap, HeaderValue};

/// The most ranges that one request gets. One that asks for more gets the whole.
pub const MOST_RANGES: usize = 16;

/// From the first byte to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

impl Span {
    /// How many bytes; never zero.
    pub const fn count(self) -> u64 {
        self.last - self.first + 1
    }

    /// `content-range` of a part (RFC 9110 section 14.4).
    pub fn content_range(self, length: u64) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("bytes {}-{}/{length}", self.first, self.last)).ok()
    }
}

/// What a Range field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// Nothing that is served: the whole goes out.
    Whole,
    /// These parts.
    Parts(Vec<Span>),
    /// Nothing of it is there: 416.
    Unsatisfiable,
}

/// What is asked of a body of `length` bytes. A field that is repeated, in another unit, malformed, or that
/// asks for too many parts or for overlapping ones is ignored (RFC 9110 section 14.2).
pub fn parse(request: &HeaderMap, length: u64) -> Ranges {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Ranges::Whole;
    };
    let text = line.to_str().unwrap_or_default().trim();
    let Some((unit, set)) = text.split_once('=') else {
        return Ranges::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Ranges::Whole;
    }
    let mut parts: Vec<Span> = Vec::new();
    let mut asked = 0;
    for one in set.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        asked += 1;
        let Some(span) = span(one, length) else {
            return Ranges::Whole;
        };
        parts.extend(span);
        if asked > MOST_RANGES {
            return Ranges::Whole;
        }
    }
    if asked == 0 || is_greedy(&parts) {
        return Ranges::Whole;
    }
    if parts.is_empty() { Ranges::Unsatisfiable } else { Ranges::Parts(parts) }
}

/// `first-last`, `first-` or `-suffix`. The outer none is malformed, the inner one not there.
fn span(text: &str, length: u64) -> Option<Option<Span>> {
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let suffix = number(last)?.min(length);
        return Some((suffix > 0).then(|| Span { first: length - suffix, last: length - 1 }));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some((first < length).then(|| Span { first, last: last.min(length - 1) }))
}

/// Two parts that overlap: a way to ask for more than there is (RFC 9110 section 17.15).
fn is_greedy(parts: &[Span]) -> bool {
    let mut sorted: Vec<Span> = parts.to_vec();
    sorted.sort_by_key(|span| span.first);
    sorted.windows(2).any(|pair| matches!(pair, [one, next] if next.first <= one.last))
}

/// What stands before each part of `multipart/byteranges` (RFC 9110 section 14.6).
pub fn part_head(boundary: &str, span: Span, length: u64, content_type: Option<&HeaderValue>) -> Bytes {
    let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
    if let Some(content_type) = content_type {
        head.extend_from_slice(b"content-type: ");
        head.extend_from_slice(content_type.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(
        format!("content-range: bytes {}-{}/{length}\r\n\r\n", span.first, span.last).as_bytes(),
    );
    head.into()
}

/// What stands behind the last part.
pub fn end(boundary: &str) -> Bytes {
    format!("\r\n--{boundary}--\r\n").into()
}
