//! Asking whether what is kept is still good, and what the answer changes (RFC 9111 sections 3.2, 4.3).

use super::conditional::entity_tag;
use super::storing;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION, RANGE, VARY,
};
use http::{HeaderMap, Method, StatusCode};

/// True if a stored answer can be asked about.
pub fn has_validator(stored: &HeaderMap) -> bool {
    entity_tag(stored).is_some() || super::date::field(stored, &LAST_MODIFIED).is_some()
}

/// Makes of a client's request the one that fetches the whole for all: without its own conditions and
/// range, which are answered from what comes (RFC 9111 section 4.3.1).
pub fn fetch_whole(request: &mut HeaderMap) {
    for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
        request.remove(name);
    }
}

/// Adds the validators of what is kept (RFC 9111 section 4.3.1).
pub fn ask_about(request: &mut HeaderMap, stored: &HeaderMap) {
    if let Some(tag) = stored.get(ETAG).filter(|_| entity_tag(stored).is_some()) {
        request.insert(IF_NONE_MATCH, tag.clone());
    }
    if let Some(modified) = stored.get(LAST_MODIFIED).filter(|value| super::date::parse(value).is_some()) {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Whether a 304 speaks of what is kept (RFC 9111 section 4.3.4): by a strong tag that is the same, a weak
/// one that matches, or the date; one that says nothing speaks of the only answer that was asked about.
pub fn is_about(not_modified: &HeaderMap, stored: &HeaderMap) -> bool {
    match (entity_tag(not_modified), entity_tag(stored)) {
        (Some(new), Some(old)) => new.is_weakly(old),
        (Some(_), None) => false,
        (None, _) => match not_modified.get(LAST_MODIFIED) {
            Some(new) if !stored.contains_key(ETAG) => stored.get(LAST_MODIFIED) == Some(new),
            _ => true,
        },
    }
}

/// Updates the stored fields by those of a 304 or of an answer to HEAD (RFC 9111 section 3.2): each field
/// replaces all lines of its name, but for what describes the body that stays, and what must not be kept.
pub fn merge(stored: &mut HeaderMap, new: &HeaderMap) {
    let mut new = new.clone();
    storing::strip(&mut new);
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_TYPE, CONTENT_RANGE, VARY, ETAG] {
        new.remove(name);
    }
    for name in new.keys() {
        stored.remove(name);
    }
    for (name, value) in &new {
        stored.append(name.clone(), value.clone());
    }
}

/// Whether an answer to HEAD speaks of the stored answer to GET (RFC 9111 section 4.3.5): all validators and
/// the length that it has are the same.
pub fn head_agrees(head: &HeaderMap, stored: &HeaderMap, length: u64) -> bool {
    let agrees = |name| head.get(&name).is_none_or(|value| stored.get(&name) == Some(value));
    agrees(ETAG)
        && agrees(LAST_MODIFIED)
        && storing::content_length(head).is_none_or(|declared| declared == length)
}

/// Whether an answer to this method means that what is kept of its target is of no use (RFC 9111 section
/// 4.4): the method is not safe, or unknown, and it did not fail.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

/// The URLs of the same origin that such an answer names besides its target, as they are written.
pub fn named_urls(answer: &HeaderMap) -> impl Iterator<Item = &str> {
    [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name| answer.get(name)?.to_str().ok())
}
