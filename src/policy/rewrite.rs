//! Another path or host for the upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Another path or host for the upstream. What is not given stays; the query always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RewriteConfig {
    /// The path, with the route's parameters as `{name}`: `/v2/orders/{rest}`.
    pub path: Option<String>,
    /// The Host, with `{…}` variables.
    pub host: Option<String>,
}
