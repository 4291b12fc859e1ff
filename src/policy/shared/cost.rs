//! What a request costs at a limit.

use super::cel::{Amount, Facts};
use super::template::Scope;
use crate::policy::context::PolicyContext;
use crate::values::{ConfigPath, Finding};
use http::HeaderName;
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;

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

/// [`CostConfig`], compiled.
#[derive(Debug)]
pub enum Cost {
    /// As many units.
    Units(u32),
    /// What this field of the answer says.
    Answer(HeaderName),
    /// What this expression says.
    Cel(Amount),
}

impl Cost {
    /// Compiles it.
    ///
    /// # Errors
    /// The expression is none, with its path from the limit.
    pub fn compile(config: &CostConfig, scope: &Scope<'_>) -> Result<Self, Finding> {
        match config {
            CostConfig::Units(units) => Ok(Self::Units(*units)),
            CostConfig::Answer(name) => Ok(Self::Answer(name.clone())),
            CostConfig::Cel(text) => Amount::compile(text, scope)
                .map(Self::Cel)
                .map_err(|problem| Finding::error(ConfigPath::root().key("cost").key("cel"), problem)),
        }
    }

    /// In units, before there is an answer. What has no value costs as much as can be. `limit` is for the log.
    pub fn of(&self, limit: &str, head: &RequestHeader, cx: &PolicyContext) -> u64 {
        match self {
            Self::Units(units) => u64::from(*units),
            Self::Answer(_) => 1,
            Self::Cel(amount) => amount.of(&Facts::new(head, cx)).unwrap_or_else(|fault| {
                log::debug!("cost of limit={limit} has no value: {} {}", fault.name, fault.what);
                u64::MAX
            }),
        }
    }

    /// What the answer says that the request cost; `None` where it says nothing, or is not asked.
    pub fn told(&self, answer: &ResponseHeader) -> Option<u64> {
        let Self::Answer(name) = self else { return None };
        answer.headers.get(name)?.to_str().ok()?.trim().parse().ok()
    }

    /// True if the answer is to say it.
    pub const fn is_told(&self) -> bool {
        matches!(self, Self::Answer(_))
    }

    /// True if it is decided by who calls.
    pub fn needs_caller(&self) -> bool {
        matches!(self, Self::Cel(amount) if amount.as_str().contains("principal"))
    }
}
