//! `RateLimit` and `RateLimit-Policy`, as draft-ietf-httpapi-ratelimit-headers-10 has them: lists of
//! structured fields (RFC 9651), an item for each limit.

use http::HeaderName;
use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Which answers say what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldsConfig {
    /// Those that refuse.
    #[default]
    Refused,
    /// All.
    Always,
    /// None; `Retry-After` alone is there.
    Never,
}

impl FieldsConfig {
    /// Whether an answer says what is left, if it `refused` the request.
    pub const fn tells(self, refused: bool) -> bool {
        match self {
            Self::Refused => refused,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// The two fields of an answer.
#[derive(Debug, Default)]
pub struct Fields {
    policies: String,
    limits: String,
}

/// What an answer says of a limit. Seconds are rounded up.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The most units.
    pub quota: u64,
    /// In how many seconds.
    pub window: u64,
    /// Units that could be had at once.
    pub left: u64,
    /// Seconds until there is more; none if all is there.
    pub more_in: Option<u64>,
}

impl Fields {
    /// Adds an item for the limit of this name.
    pub fn add(&mut self, name: &str, told: Told) {
        let Self { policies, limits } = self;
        if !policies.is_empty() {
            policies.push_str(", ");
            limits.push_str(", ");
        }
        // Names hold nothing that would have to be escaped (RFC 9651 section 3.3.3), and writing to a
        // text cannot fail.
        let _ = write!(policies, "\"{name}\";q={};w={}", told.quota, told.window);
        let _ = write!(limits, "\"{name}\";r={}", told.left);
        if let Some(seconds) = told.more_in {
            let _ = write!(limits, ";t={seconds}");
        }
    }

    /// Writes them, besides those that are there.
    pub fn write(self, answer: &mut ResponseHeader) {
        if !self.policies.is_empty() {
            // It fails for no text that is written above.
            let _ = answer.append_header(RATELIMIT_POLICY, self.policies);
            let _ = answer.append_header(RATELIMIT, self.limits);
        }
    }
}
