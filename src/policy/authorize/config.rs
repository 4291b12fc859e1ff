//! What is asked of a caller, as it is written.

use crate::values::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;

/// What a caller must have. Everything that is given has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorizeConfig {
    /// Scopes of its token: a list of which it needs all, or `{ any: [a, b] }`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Wanted>,
    /// Groups of which it must be in one. Default: none.
    pub groups: Vec<String>,
    /// Roles of which it must hold one; `{ reader: [GET, HEAD] }` counts for these methods only.
    /// Default: none.
    pub roles: Vec<RoleConfig>,
    /// Permissions by name that its roles must give: a list of which it needs all, or
    /// `{ any: [a, b] }`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Wanted>,
    /// Whether one of its roles must permit the method and the path of the request. Default: false.
    pub rbac: bool,
    /// A condition in CEL over `request`, `principal` and `client`, such as
    /// `principal.claims.tier == "gold"`. What has no value denies. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Where its token says more of its groups and roles. Default: nowhere; only the consumer counts.
    #[serde(skip_serializing_if = "ClaimsConfig::is_empty")]
    pub claims: ClaimsConfig,
}

/// Where in the claims of a token groups and roles stand: a list of texts, or one text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimsConfig {
    /// A JSON pointer (RFC 6901) to groups, such as `/groups`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<String>,
    /// A JSON pointer to the names of roles, such as `/realm_access/roles`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<String>,
}

impl ClaimsConfig {
    const fn is_empty(&self) -> bool {
        self.groups.is_none() && self.roles.is_none()
    }
}

/// Names of which all or one is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All(Vec<String>),
    /// One of them.
    Any(Vec<String>),
}

impl Wanted {
    /// The names.
    pub fn names(&self) -> &[String] {
        match self {
            Self::All(names) | Self::Any(names) => names,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Choice {
    All(Vec<String>),
    Any(Vec<String>),
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Wanted;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names, `{ all: [a, b] }` or `{ any: [a, b] }`")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Wanted, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Wanted::All)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Wanted, A::Error> {
                Ok(match Choice::deserialize(de::value::MapAccessDeserializer::new(map))? {
                    Choice::All(names) => Wanted::All(names),
                    Choice::Any(names) => Wanted::Any(names),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Wanted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All(names) => names.serialize(serializer),
            Self::Any(names) => std::collections::BTreeMap::from([("any", names)]).serialize(serializer),
        }
    }
}

impl JsonSchema for Wanted {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WantedNames".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names = schemars::json_schema!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
        let choice = |key: &str| {
            schemars::json_schema!({
                "type": "object", "properties": { key: names }, "required": [key], "additionalProperties": false,
            })
        };
        schemars::json_schema!({
            "description": "Names of which all are needed; or `{ any: [a, b] }`, of which one is enough.",
            "anyOf": [names, choice("all"), choice("any")],
        })
    }
}

/// A role that is enough, perhaps only for some methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleConfig {
    /// The role's name in `roles`.
    pub name: Name,
    /// The methods that it is enough for; none is all.
    pub methods: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for RoleConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RoleConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a role, or `{ reader: [GET, HEAD] }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RoleConfig, E> {
                Ok(RoleConfig { name: text.parse().map_err(E::custom)?, methods: None })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<RoleConfig, A::Error> {
                let Some((name, methods)) = map.next_entry()? else {
                    return Err(de::Error::invalid_length(0, &self));
                };
                if map.next_key::<String>()?.is_some() {
                    return Err(de::Error::invalid_length(2, &self));
                }
                Ok(RoleConfig { name, methods: Some(methods) })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for RoleConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.methods {
            None => self.name.serialize(serializer),
            Some(methods) => std::collections::BTreeMap::from([(&self.name, methods)]).serialize(serializer),
        }
    }
}

impl JsonSchema for RoleConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WantedRole".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let name = generator.subschema_for::<Name>();
        schemars::json_schema!({
            "description": "The name of a role; or `{ reader: [GET, HEAD] }`, which is enough for these methods.",
            "anyOf": [
                name,
                {
                    "type": "object", "minProperties": 1, "maxProperties": 1,
                    "additionalProperties": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                },
            ],
        })
    }
}
