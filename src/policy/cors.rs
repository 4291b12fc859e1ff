//! Cross-origin requests from browsers (the Fetch standard's CORS protocol).

use crate::values::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Cross-origin requests from browsers. A preflight is answered here and never goes upstream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// Origins that may read answers: `https://app.example.com`, `https://*.example.com` (one
    /// label), or `*` for any.
    #[schemars(length(min = 1))]
    pub origins: Vec<String>,
    /// Methods that may be used. Default: GET, HEAD, POST.
    #[serde(default = "simple_methods")]
    pub methods: Vec<String>,
    /// Request header fields that may be sent, or `*`. Default: none beyond the simple ones.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Response header fields that a page may read. Default: none beyond the simple ones.
    #[serde(default)]
    pub expose: Vec<String>,
    /// Whether cookies and credentials may go along; not with the origin `*`. Default false.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember a preflight's answer. Default 10m.
    #[serde(default = "ten_minutes")]
    pub max_age: Duration,
}

fn simple_methods() -> Vec<String> {
    ["GET", "HEAD", "POST"].map(String::from).to_vec()
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}
