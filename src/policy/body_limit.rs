//! How large a request's body may be.

use crate::values::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How large a request's body may be, over the listener's `limits.body`. More is answered with 413.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyLimitConfig {
    /// The largest body, such as `1MiB`.
    pub max: ByteSize,
}
