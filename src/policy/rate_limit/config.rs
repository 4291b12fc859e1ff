//! Rate limits, as they are written.

use crate::policy::shared::key::KeyConfig;
use crate::policy::shared::list::{Listed, OneOrMany};
use crate::values::{Name, Percent, Rate};
use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;
use std::num::NonZeroU32;

/// How often requests may come: limits that all have to admit a request.
pub type RateLimitConfig = OneOrMany<LimitConfig>;

impl Listed for LimitConfig {
    const EXPECTED: &'static str = "a limit such as `{ key: client_ip, rate: 100/s }`";
    const DESCRIPTION: &'static str =
        "How often requests may come: a limit, or a list of limits, all of which have to admit a request.";
    const NAME: &'static str = "RateLimits";
    const MOST: usize = 8;
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
    /// What becomes of requests while the store does not answer in time. Default `local`.
    pub on_failure: OnFailure,
    /// What share of rate and burst this gateway has by itself with `on_failure: local`: with three gateways,
    /// about `33%` keeps the sum. Default `100%`.
    pub local_share: Percent,
    /// Which answers have `RateLimit` and `RateLimit-Policy`. Default `refused`.
    pub fields: FieldsConfig,
}

/// What becomes of requests while a store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The gateway decides by itself.
    #[default]
    Local,
    /// They pass.
    Allow,
    /// They are answered with 503.
    Deny,
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
            on_failure: OnFailure::default(),
            local_share: Percent::ALL,
            fields: FieldsConfig::default(),
        }
    }
}

/// What a request costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CostConfig {
    /// As many units.
    Units(u32),
    /// As many units as this field of the upstream's answer says. Until then it costs one.
    Answer(HeaderName),
    /// As many units as this expression in CEL says. What has no value costs as much as the burst.
    Cel(String),
}

/// Which answers say what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldsConfig {
    /// Those that refuse.
    #[default]
    Refused,
    /// All.
    Always,
    /// None; `Retry-After` alone is there.
    Never,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self::Units(1)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Choice {
    Answer(String),
    Cel(String),
}

impl<'de> Deserialize<'de> for CostConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = CostConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of units, `{ answer: NAME }` of a field, or `{ cel: EXPRESSION }`")
            }
            fn visit_u64<E: de::Error>(self, units: u64) -> Result<CostConfig, E> {
                let wrong = |_| E::invalid_value(de::Unexpected::Unsigned(units), &self);
                u32::try_from(units).map(CostConfig::Units).map_err(wrong)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<CostConfig, A::Error> {
                match Choice::deserialize(de::value::MapAccessDeserializer::new(map))? {
                    Choice::Cel(text) => Ok(CostConfig::Cel(text)),
                    Choice::Answer(name) => name.parse().map(CostConfig::Answer).map_err(|_| {
                        de::Error::invalid_value(de::Unexpected::Str(&name), &"a header field's name")
                    }),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for CostConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of =
            |key: &str, value: &str| std::collections::BTreeMap::from([(key.to_owned(), value.to_owned())]);
        match self {
            Self::Units(units) => units.serialize(serializer),
            Self::Answer(name) => of("answer", name.as_str()).serialize(serializer),
            Self::Cel(text) => of("cel", text).serialize(serializer),
        }
    }
}

impl JsonSchema for CostConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cost".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let choice = |key: &str| {
            serde_json::json!({
                "type": "object", "properties": { key: { "type": "string", "minLength": 1 } },
                "required": [key], "additionalProperties": false,
            })
        };
        schemars::json_schema!({
            "description": "A number of units; or what the field `answer` of the upstream's answer says; or what an expression in CEL says.",
            "anyOf": [{ "type": "integer", "minimum": 0, "maximum": u32::MAX }, choice("answer"), choice("cel")],
        })
    }
}
