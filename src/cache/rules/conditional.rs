//! Conditional requests (RFC 9110 section 13), answered from what is kept (RFC 9111 section 4.3.2).

use super::date;
use http::header::{
    ETAG, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
};
use http::{HeaderMap, Method};

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It gets the answer.
    Proceed,
    /// It has the answer already: 304.
    NotModified,
    /// 412.
    Failed,
}

/// An entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Reads one tag, and nothing else (RFC 9110 section 8.8.3).
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::take(text.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// Reads the tag at the beginning, and gives what is left.
    fn take(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, text) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let text = text.strip_prefix(b"\"")?;
        let end = text.iter().position(|c| *c == b'"')?;
        let (opaque, rest) = (text.get(..end)?, text.get(end + 1..)?);
        let is_sound = opaque.iter().all(|c| *c == 0x21 || (0x23..=0x7e).contains(c) || *c >= 0x80);
        is_sound.then_some((Self { weak, opaque }, rest))
    }

    /// The strong comparison (RFC 9110 section 8.8.3.2).
    pub fn is_strongly(self, other: Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// The weak comparison.
    pub fn is_weakly(self, other: Self) -> bool {
        self.opaque == other.opaque
    }
}

/// The entity tag of a head.
pub fn entity_tag(headers: &HeaderMap) -> Option<EntityTag<'_>> {
    EntityTag::parse(headers.get(ETAG)?.as_bytes())
}

/// Whether `*` or one of the tags listed in a field matches. A list that is none matches nothing.
fn any_tag(headers: &HeaderMap, name: &HeaderName, matches: impl Fn(EntityTag<'_>) -> bool) -> bool {
    headers.get_all(name).iter().any(|line| {
        let mut rest = line.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        let mut found = false;
        while !rest.is_empty() {
            let Some((tag, more)) = EntityTag::take(rest) else {
                return false;
            };
            found |= matches(tag);
            rest = more.trim_ascii_start();
            match rest.split_first() {
                Some((b',', more)) => rest = more.trim_ascii_start(),
                Some(_) => return false,
                None => {}
            }
        }
        found
    })
}

/// What the conditions of a GET or HEAD come to, in the order of RFC 9110 section 13.2.2, against the
/// fields of a 200 answer that is kept.
pub fn evaluate(method: &Method, request: &HeaderMap, stored: &HeaderMap) -> Outcome {
    if method != Method::GET && method != Method::HEAD {
        return Outcome::Proceed;
    }
    let tag = entity_tag(stored);
    let modified = date::field(stored, &LAST_MODIFIED);
    let since = |name: &HeaderName| {
        // A field that is repeated, or no date, is ignored (RFC 9110 sections 13.1.3 and 13.1.4).
        let one = request.get_all(name).iter().count() == 1;
        date::field(request, name).filter(|_| one)
    };
    if request.contains_key(IF_MATCH) {
        let is_star = request.get(IF_MATCH).is_some_and(|value| value.as_bytes().trim_ascii() == b"*");
        if !is_star && !any_tag(request, &IF_MATCH, |asked| tag.is_some_and(|tag| tag.is_strongly(asked))) {
            return Outcome::Failed;
        }
    } else if let (Some(limit), Some(modified)) = (since(&IF_UNMODIFIED_SINCE), modified)
        && modified > limit
    {
        return Outcome::Failed;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let has = any_tag(request, &IF_NONE_MATCH, |asked| tag.is_some_and(|tag| tag.is_weakly(asked)));
        return if has { Outcome::NotModified } else { Outcome::Proceed };
    }
    match (since(&IF_MODIFIED_SINCE), modified.or_else(|| date::field(stored, &http::header::DATE))) {
        (Some(limit), Some(modified)) if modified <= limit => Outcome::NotModified,
        _ => Outcome::Proceed,
    }
}

/// Whether a range of what is kept is what the client means (RFC 9110 section 13.1.5): no If-Range, or one
/// that is exactly the strong validator of what is kept.
pub fn range_applies(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(value) = request.get(IF_RANGE) else {
        return true;
    };
    if let Some(asked) = EntityTag::parse(value.as_bytes()) {
        return entity_tag(stored).is_some_and(|tag| tag.is_strongly(asked));
    }
    let (Some(asked), Some(modified)) = (date::parse(value), date::field(stored, &LAST_MODIFIED)) else {
        return false;
    };
    // A date is a strong validator if it was a second old at least (RFC 9110 section 8.8.2.2).
    let is_strong = date::field(stored, &http::header::DATE).is_some_and(|date| date > modified);
    asked == modified && is_strong
}
