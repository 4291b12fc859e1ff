//! Rate limits, as they are written.

use super::ClientLimits;
use crate::policy::Policy as _;
use crate::policy::shared::cost::CostConfig;
use crate::policy::shared::fields::FieldsConfig;
use crate::policy::shared::key::KeyConfig;
use crate::policy::shared::list::{Listed, OneOrMany};
use crate::policy::shared::store_failure::OnFailure;
use crate::values::{Name, Percent, Rate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// How often requests may come: limits that all have to admit a request.
pub type RateLimitConfig = OneOrMany<LimitConfig>;

impl Listed for LimitConfig {
    const EXPECTED: &'static str = "a limit such as `{ key: client_ip, rate: 100/s }`";
    const DESCRIPTION: &'static str =
        "How often requests may come: a limit, or a list of limits, all of which have to admit a request.";
    const NAME: &'static str = "RateLimits";
    const MOST: usize = 8;
    const SEVERAL: &'static str = "limits";
    const POLICY: &'static str = ClientLimits::NAME;
}

/// One limit. Who goes beyond it is answered with 429 and when to come again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitConfig {
    /// Its name: in its header fields, in metrics and in the log; and what its counts are found by after a
    /// reload. Default: its key, such as `client_ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// By what requests are told apart. Default `client_ip`.
    pub key: KeyConfig,
    /// How many come back in what time, such as `100/s`. It is needed unless there is `plan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The most at once. Default: the number of `rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// Whether the caller's plan says rate and burst. `rate` is then for callers whose plan says none;
    /// without it they are not limited. Default false.
    pub plan: bool,
    /// What a request costs. Default 1.
    pub cost: CostConfig,
    /// Whether it only counts whom it would refuse. Default false.
    pub shadow: bool,
    /// The name of a store in `stores`, where all gateways that have this limit decide together. Default:
    /// each gateway decides by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<Name>,
    /// The most units that a gateway takes from the store at once, to decide that many requests by itself. With G
    /// gateways up to G times as many may be admitted beyond rate and burst. Default: it asks for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<NonZeroU32>,
    /// What becomes of requests while the store does not answer in time. Default `local`.
    pub on_failure: OnFailure,
    /// What share of rate and burst this gateway has by itself with `on_failure: local`: with three gateways,
    /// about `33%` keeps the sum. Default `100%`.
    pub local_share: Percent,
    /// Which answers have `RateLimit` and `RateLimit-Policy`. Default `refused`.
    pub fields: FieldsConfig,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            name: None,
            key: KeyConfig::default(),
            rate: None,
            burst: None,
            plan: false,
            cost: CostConfig::default(),
            shadow: false,
            shared: None,
            lease: None,
            on_failure: OnFailure::default(),
            local_share: Percent::ALL,
            fields: FieldsConfig::default(),
        }
    }
}
