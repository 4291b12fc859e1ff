//! `RateLimit` and `RateLimit-Policy`, as draft-ietf-httpapi-ratelimit-headers-10 has them: lists of
//! structured fields (RFC 9651), an item for each limit.
//!
//! A policy's `q` is the burst and its `w` the seconds in which all of it comes back. A limit's `r` is what
//! could be had at once, and its `t` the seconds until there is more: a whole unit, or what a refused
//! request asked for, so that `t` never is beyond `Retry-After`. Seconds are rounded up.

use super::{Mark, seconds};
use crate::policy::shared::gcra::Ticks;
use http::HeaderName;
use pingora_http::ResponseHeader;
use std::fmt::Write as _;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The two fields of an answer.
#[derive(Default)]
pub(super) struct Fields {
    policies: String,
    limits: String,
}

impl Fields {
    pub(super) fn add(&mut self, name: &str, mark: &Mark, (full, now): (Ticks, Ticks)) {
        let Self { policies, limits } = self;
        if !policies.is_empty() {
            policies.push_str(", ");
            limits.push_str(", ");
        }
        // Names hold nothing that would have to be escaped (RFC 9651 section 3.3.3), and writing to a
        // text cannot fail.
        let pace = mark.pace;
        let _ = write!(policies, "\"{name}\";q={};w={}", pace.burst(), seconds(pace.whole()));
        let _ = write!(limits, "\"{name}\";r={}", pace.left(full, now));
        let wait = match pace.take(full, now, mark.cost) {
            Err(wait) if mark.refused => Some(wait),
            _ => pace.until_more(full, now),
        };
        if let Some(wait) = wait {
            let _ = write!(limits, ";t={}", seconds(wait));
        }
    }

    pub(super) fn write(self, answer: &mut ResponseHeader) {
        if !self.policies.is_empty() {
            // It fails for no text that is written above.
            let _ = answer.append_header(RATELIMIT_POLICY, self.policies);
            let _ = answer.append_header(RATELIMIT, self.limits);
        }
    }
}
