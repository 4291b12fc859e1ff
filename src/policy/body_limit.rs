//! How large a request's body may be.

use super::context::PolicyContext;
use super::{CompileEnv, Policy, Step};
use crate::values::{ByteSize, Finding};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How large a request's body may be, over the listener's `limits.body`. More is answered with 413.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyLimitConfig {
    /// The largest body, such as `1MiB`.
    pub max: ByteSize,
}

/// [`BodyLimitConfig`], compiled.
#[derive(Debug)]
pub struct BodyLimit {
    max: u64,
}

impl Policy for BodyLimit {
    const NAME: &'static str = "body_limit";
    type Config = BodyLimitConfig;

    fn compile(config: &BodyLimitConfig, _: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        Ok(Self { max: config.max.bytes() })
    }

    fn on_request<'a>(&'a self, _: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        cx.body_limit = self.max;
        Step::Continue
    }
}
