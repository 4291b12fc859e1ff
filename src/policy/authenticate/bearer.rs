//! What ways with bearer tokens have in common (RFC 6750).

use super::Refusal;
use crate::identity::cause::{Cause, Refused};
use http::HeaderValue;
use std::time::SystemTime;

/// Seconds since 1970, by the system's clock.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A refusal of a token. To the caller every fault of a token is the same.
pub(super) fn refusal(refused: Refused) -> Refusal {
    let Refused { cause, detail } = refused;
    let error = match cause {
        Cause::Ambiguous => "invalid_request",
        _ => "invalid_token",
    };
    Refusal {
        cause: cause.as_str(),
        detail,
        error: Some(error),
        unavailable: cause.is_unavailable(),
        forbidden: false,
    }
}

pub(super) fn ambiguous() -> Refusal {
    refusal(Cause::Ambiguous.with("several tokens"))
}

/// The challenge, with the error of a token that was refused (RFC 6750, section 3).
pub(super) fn challenge(error: Option<&'static str>) -> HeaderValue {
    match error {
        Some("invalid_token") => {
            HeaderValue::from_static("Bearer realm=\"tollgate\", error=\"invalid_token\"")
        }
        Some(_) => HeaderValue::from_static("Bearer realm=\"tollgate\", error=\"invalid_request\""),
        None => HeaderValue::from_static("Bearer realm=\"tollgate\""),
    }
}
