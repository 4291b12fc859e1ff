//! Header fields set, added and removed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Header fields set, added and removed: first `remove`, then `set`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeadersConfig {
    /// On the request as the upstream gets it.
    pub request: Edits,
    /// On the answer as the client gets it.
    pub response: Edits,
}

/// What is done to header fields. Values may hold `{…}` variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Edits {
    /// Fields that have this value afterwards, and no other.
    pub set: BTreeMap<String, String>,
    /// Values that are added to what is there.
    pub add: BTreeMap<String, String>,
    /// Fields that are taken away.
    pub remove: Vec<String>,
}
