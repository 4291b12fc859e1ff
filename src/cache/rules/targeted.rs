//! Targeted cache control (RFC 9213): `CDN-Cache-Control` is for caches like this one, and goes before
//! Cache-Control and Expires.

use super::directives::ResponseDirectives;
use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, ListEntry, Parser};

/// For caches that work on behalf of the origin (RFC 9213 section 3.1).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What the targeted field says; none if it is absent, empty, or no dictionary (RFC 9213 section 2.1).
pub fn directives(headers: &HeaderMap) -> Option<ResponseDirectives> {
    let mut lines = headers.get_all(&CDN_CACHE_CONTROL).iter();
    let mut text = lines.next()?.as_bytes().to_vec();
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    let dictionary = Parser::parse_dictionary(&text).ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives { targeted: true, ..ResponseDirectives::default() };
    for (name, entry) in &dictionary {
        // A value of another type than the directive's makes it none (RFC 9213 section 2.1).
        let ListEntry::Item(item) = entry else {
            continue;
        };
        match (name.as_str(), &item.bare_item) {
            (name @ ("no-cache" | "private"), BareItem::String(fields)) => {
                directives.add(name, Some(fields.as_str()));
            }
            ("max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error", BareItem::Integer(n)) => {
                directives.add(name.as_str(), Some(&n.to_string()));
            }
            ("max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error", _) => {}
            (name, BareItem::Boolean(true)) => directives.add(name, None),
            _ => {}
        }
    }
    Some(directives)
}
