//! `Vary` (RFC 9111 section 4.1): which requests an answer is for.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, FORWARDED, HeaderName, VARY};

/// The most fields that an answer may vary on.
pub const MOST_FIELDS: usize = 16;

/// Fields that the gateway itself writes anew for each client or request: those that clients sent are not what the
/// upstream saw, so that an answer which varies on one is for nobody else.
const WRITTEN_ANEW: [HeaderName; 4] = [
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
];

/// The fields that an answer varies on, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vary(Box<[HeaderName]>);

impl Vary {
    /// What an answer varies on; none if that is everything (`*`), a field that is another one for each client, too
    /// much, or no list of names.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut names: Vec<HeaderName> = Vec::new();
        for line in headers.get_all(VARY) {
            for name in line.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                if name == "*" {
                    return None;
                }
                names.push(name.parse().ok()?);
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let is_for_others = !names.iter().any(|name| WRITTEN_ANEW.contains(name));
        (names.len() <= MOST_FIELDS && is_for_others).then(|| Self(names.into()))
    }

    /// The names.
    pub fn names(&self) -> &[HeaderName] {
        &self.0
    }

    /// True if one answer is for all requests.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of a request decides whether an answer that varies so is for it.
    pub fn of_request(&self, request: &HeaderMap) -> Box<[u8]> {
        let mut key = Vec::new();
        for name in &self.0 {
            key.extend_from_slice(name.as_str().as_bytes());
            // An absent field matches an absent one alone.
            if request.contains_key(name) {
                key.push(b':');
                normalised(name, request, &mut key);
            }
            key.push(b'\n');
        }
        key.into()
    }
}

/// The values of a field in a form in which those that mean the same are the same: lines joined, blanks at
/// commas gone; for the fields of negotiation also case, order and a weight of 1.
pub(super) fn normalised(name: &HeaderName, request: &HeaderMap, out: &mut Vec<u8>) {
    let is_list = [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name);
    let mut members: Vec<Vec<u8>> = Vec::new();
    for line in request.get_all(name) {
        if !is_list {
            members.push(line.as_bytes().trim_ascii().to_vec());
            continue;
        }
        let parts = line.as_bytes().split(|c| *c == b',').map(<[u8]>::trim_ascii);
        members.extend(parts.filter(|part| !part.is_empty()).map(member));
    }
    if is_list {
        members.sort_unstable();
        members.dedup();
    }
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(member);
    }
}

/// A member of a list without blanks, in lower case, without `;q=1`.
fn member(text: &[u8]) -> Vec<u8> {
    let mut member: Vec<u8> =
        text.iter().filter(|c| !matches!(c, b' ' | b'\t')).map(u8::to_ascii_lowercase).collect();
    for weight in [&b";q=1.000"[..], b";q=1.00", b";q=1.0", b";q=1."] {
        if member.ends_with(weight) {
            member.truncate(member.len() - weight.len());
            return member;
        }
    }
    if member.ends_with(b";q=1") {
        member.truncate(member.len() - 4);
    }
    member
}

/// The bytes of the names and values of a head.
pub(super) fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}
