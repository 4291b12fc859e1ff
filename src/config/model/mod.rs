//! The typed configuration: plain data, one file a section. Unknown fields are refused and every
//! default is finite and stands in its field's description.

pub mod cache;
pub mod dns;
pub mod fallback;
pub mod host;
pub mod listener;
pub mod process;
pub mod route;
pub mod telemetry;
pub mod upstream;

use crate::identity::RolesConfig;
use crate::identity::config::{ConsumersConfig, IdentityConfig, PlanConfig};
use crate::outbound::redis::StoreConfig;
use crate::policy::config::{EnforcedPolicies, Policies};
use crate::values::{Name, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One configuration file as it is written. Several of them in a folder are merged by name.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tollgate configuration")]
pub struct Document {
    /// The version of the configuration language: 1. Required, once.
    pub version: Option<Version>,
    /// Workers and the process as a whole. What changes here needs an upgrade.
    pub process: Option<process::Process>,
    /// The admin listener: health, metrics, what is in force. `off` switches it off.
    pub admin: Option<crate::policy::config::Setting<process::Admin>>,
    /// Access log, error log, metrics.
    pub telemetry: Option<telemetry::Telemetry>,
    /// How names are resolved.
    pub dns: Option<dns::Dns>,
    /// What several gateways share, by name.
    #[serde(default)]
    pub stores: BTreeMap<Name, Arc<StoreConfig>>,
    /// Stores of answers, by name: for the policy `cache`.
    #[serde(default)]
    pub caches: BTreeMap<Name, Arc<cache::CacheStore>>,
    /// Where clients connect, by name.
    #[serde(default)]
    pub listeners: BTreeMap<Name, Arc<listener::Listener>>,
    /// Where requests go, by name.
    #[serde(default)]
    pub upstreams: BTreeMap<Name, Arc<upstream::Upstream>>,
    /// Who vouches for callers.
    pub identity: Option<IdentityConfig>,
    /// Known callers, by name, or in a file: `{ file: consumers.jsonl }`.
    #[serde(default)]
    pub consumers: ConsumersConfig,
    /// Plans that consumers may have, by name.
    #[serde(default)]
    pub plans: BTreeMap<Name, Arc<PlanConfig>>,
    /// What callers may do and who may do it, by name: for the policy `authorize`.
    #[serde(default)]
    pub roles: RolesConfig,
    /// Policies of the whole gateway.
    pub policies: Option<GatewayPolicies>,
    /// Hosts that differ from the defaults, by host name (`cdn.example.com` or `*.example.com`).
    #[serde(default)]
    pub hosts: BTreeMap<String, Arc<host::Host>>,
    /// Which request goes where and under which policies, by name.
    #[serde(default)]
    pub routes: BTreeMap<Name, Arc<route::Route>>,
}

/// The version of the configuration language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(serde::de::Error::custom(
                Problem::new(format!("version {other} is not known")).remedy("this build reads version 1"),
            )),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(1)
    }
}

impl JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "const": 1 })
    }
}

/// Policies of the whole gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayPolicies {
    /// What each route has unless its listener or the route itself says otherwise.
    pub defaults: Policies,
    /// What every route has and none can switch off. Runs before the route's own in the same stage.
    pub enforced: EnforcedPolicies,
}
