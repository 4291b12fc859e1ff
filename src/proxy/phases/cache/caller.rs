//! Who a request is made for, where callers have answers of their own.

use crate::identity::{Method, Principal};
use crate::values::Sha256;
use http::header::AUTHORIZATION;
use pingora_http::RequestHeader;

/// The caller as keys have it: the one that the gateway knows, and whoever it is that credentials name which only
/// the upstream looks at. None if nobody is named.
pub(super) fn of(request: &RequestHeader, principal: Option<&Principal>) -> Option<String> {
    let known = principal.map(|principal| match (&principal.consumer, &principal.provider) {
        (Some(consumer), _) => format!("consumer {}", consumer.name),
        // A subject is one provider's word.
        (None, Some(provider)) => format!("provider {provider} {}", principal.subject),
        (None, None) => format!("{} {}", principal.method.as_str(), principal.subject),
    });
    // What proved the caller is another one after an hour, and its answers are the same.
    let is_proof = |principal: &Principal| {
        matches!(principal.method, Method::Jwt | Method::Introspection | Method::Basic)
    };
    let unread = request.headers.get(AUTHORIZATION).filter(|_| !principal.is_some_and(is_proof));
    let credentials = unread.map(|value| format!("authorization {}", Sha256::of(value.as_bytes())));
    match (known, credentials) {
        (Some(known), Some(credentials)) => Some(format!("{known}, {credentials}")),
        (known, credentials) => known.or(credentials),
    }
}
