//! Stores of answers, for the policy `cache`.

use crate::values::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A store of answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheStore {
    /// How much it may hold in memory, what is being fetched aside, for which there is half as much again.
    /// At least 1MiB. Default 256MiB.
    pub memory: ByteSize,
}

impl Default for CacheStore {
    fn default() -> Self {
        Self { memory: ByteSize::mib(256) }
    }
}
