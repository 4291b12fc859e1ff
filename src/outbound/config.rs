use crate::values::{ByteSize, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a service is called that the gateway needs for itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallConfig {
    /// For the whole call, from the name's look-up to the last byte of the answer. Default 5s.
    pub timeout: Duration,
    /// The largest answer that is read. Default 1MiB.
    pub max_answer: ByteSize,
    /// A PEM file of the authorities that are trusted instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), max_answer: ByteSize::mib(1), ca: None }
    }
}
