use crate::values::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU16;

/// How passwords are compared with their hashes, which takes some dozen milliseconds of a processor each
/// time and is therefore done beside the workers, bounded, and remembered for a while.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordsConfig {
    /// How many are compared at a time. Default: half of the processors, one at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<NonZeroU16>,
    /// How many requests wait for their turn; beyond, they are answered with 503. When all places are
    /// taken, the client address with the most of them loses one to whoever has fewer. Default 64.
    pub waiting: NonZeroU16,
    /// How long one waits for its turn. Default 5s.
    pub wait: Duration,
    /// How long a right password is remembered, by a keyed digest. Default 5m.
    pub keep: Duration,
    /// How long a wrong one is. Default 10s.
    pub keep_wrong: Duration,
}

impl Default for PasswordsConfig {
    fn default() -> Self {
        Self {
            at_once: None,
            waiting: NonZeroU16::new(64).unwrap_or(NonZeroU16::MIN),
            wait: Duration::from_secs(5),
            keep: Duration::from_secs(300),
            keep_wrong: Duration::from_secs(10),
        }
    }
}
