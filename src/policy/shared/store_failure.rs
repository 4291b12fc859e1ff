//! What becomes of requests while a store that gateways share does not answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of requests while a store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The gateway decides by itself.
    #[default]
    Local,
    /// They pass.
    Allow,
    /// They are answered with 503.
    Deny,
}

/// The store that a limit is decided in does not answer.
pub const LIMIT_UNAVAILABLE: &str = "limit_unavailable";
