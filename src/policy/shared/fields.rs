//! `RateLimit` and `RateLimit-Policy`, as draft-ietf-httpapi-ratelimit-headers-10 has them: lists of
//! structured fields (RFC 9651), an item for each limit.

use crate::values::digits;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Bytes for an item, in nearly all cases.
const ROOM: usize = 64;

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
    policies: Vec<u8>,
    limits: Vec<u8>,
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
        if policies.is_empty() {
            policies.reserve(ROOM);
            limits.reserve(ROOM);
        } else {
            policies.extend_from_slice(b", ");
            limits.extend_from_slice(b", ");
        }
        // Names hold nothing that would have to be escaped (RFC 9651 section 3.3.3).
        for list in [&mut *policies, &mut *limits] {
            list.push(b'"');
            list.extend_from_slice(name.as_bytes());
            list.push(b'"');
        }
        parameter(policies, b";q=", told.quota);
        parameter(policies, b";w=", told.window);
        parameter(limits, b";r=", told.left);
        if let Some(seconds) = told.more_in {
            parameter(limits, b";t=", seconds);
        }
    }

    /// Writes them, besides those that are there.
    pub fn write(self, answer: &mut ResponseHeader) {
        for (name, list) in [(RATELIMIT_POLICY, self.policies), (RATELIMIT, self.limits)] {
            if list.is_empty() {
                continue;
            }
            // Neither fails for what is written above.
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(list)) {
                let _ = answer.append_header(name, value);
            }
        }
    }
}

/// By hand: every refusal has them, and `core::fmt` takes four times as long.
fn parameter(list: &mut Vec<u8>, name: &[u8], value: u64) {
    list.extend_from_slice(name);
    list.extend_from_slice(digits::of(value, &mut digits::Room::default()));
}
