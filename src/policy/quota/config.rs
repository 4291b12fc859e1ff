//! Quotas, as they are written.

use super::Quotas;
use crate::policy::Policy as _;
use crate::policy::shared::cost::CostConfig;
use crate::policy::shared::fields::FieldsConfig;
use crate::policy::shared::key::{KeyConfig, PartConfig};
use crate::policy::shared::list::{Listed, OneOrMany};
use crate::policy::shared::store_failure::OnFailure;
use crate::values::{Name, Quota, Zone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many requests may come in a period: quotas that all have to admit a request.
pub type QuotasConfig = OneOrMany<QuotaConfig>;

impl Listed for QuotaConfig {
    const EXPECTED: &'static str = "a quota such as `{ key: consumer, max: 10000/day }`";
    const DESCRIPTION: &'static str = "How many requests may come in a period: a quota, or a list of quotas, all of which have to admit a request.";
    const NAME: &'static str = "Quotas";
    const MOST: usize = 8;
    const SEVERAL: &'static str = "quotas";
    const POLICY: &'static str = Quotas::NAME;
}

/// A quota. Who has used it up is answered with 429 and when there is more. What is used is kept over a
/// restart, in `process.state`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaConfig {
    /// Its name: in its header fields, in metrics, in the admin's list; and what its counts are found by.
    /// Default: its key, such as `consumer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// By what requests are told apart. Default `consumer`.
    pub key: KeyConfig,
    /// How many in what period, such as `10000/day`. It is needed unless there is `plan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Quota>,
    /// Whether the caller's plan says how many. `max` is then for callers whose plan says none; without it
    /// they have no quota. Default false.
    pub plan: bool,
    /// Whether a period is one of the calendar, or the last one at any moment. Default `calendar`.
    pub window: WindowConfig,
    /// Where the calendar's days, weeks and months begin. Default `UTC`.
    pub zone: Zone,
    /// What a request costs. Default 1.
    pub cost: CostConfig,
    /// Whether it only counts whom it would refuse. Default false.
    pub shadow: bool,
    /// The name of a store in `stores`, where all gateways that have this quota count together. Default: each
    /// gateway counts by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<Name>,
    /// What becomes of requests while the store does not answer in time. With `local`, the default, a gateway goes on
    /// from what it knew to be used.
    pub on_failure: OnFailure,
    /// Which answers have `RateLimit` and `RateLimit-Policy`. Default `refused`.
    pub fields: FieldsConfig,
}

/// Which period counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WindowConfig {
    /// One of the calendar: a day begins at midnight, a week on Monday, a month on its first day.
    #[default]
    Calendar,
    /// The last one at any moment, a month as 30 days. A unit comes back one period later, and up to a
    /// thirtieth of it.
    Rolling,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self {
            name: None,
            key: KeyConfig(vec![PartConfig::Consumer]),
            max: None,
            plan: false,
            window: WindowConfig::default(),
            zone: Zone::default(),
            cost: CostConfig::default(),
            shadow: false,
            shared: None,
            on_failure: OnFailure::default(),
            fields: FieldsConfig::default(),
        }
    }
}
