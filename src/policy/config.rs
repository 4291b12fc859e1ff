//! The text side of the policies: what a layer may say of each, and how layers are laid over
//! each other.

use super::{
    authenticate, authorize, body_limit, cache, compress, concurrency, content_digest, cors, fault, flood,
    grpc_web, headers, ip_access, quota, rate_limit, rewrite, upstream_auth,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;
use std::marker::PhantomData;

/// A section that is either given or switched off by the word `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting<T> {
    /// Given.
    On(T),
    /// Switched off.
    Off,
}

impl<T> Setting<T> {
    /// What is given, if it is not switched off.
    pub const fn on(&self) -> Option<&T> {
        match self {
            Self::On(value) => Some(value),
            Self::Off => None,
        }
    }
}

impl<T: Default> Default for Setting<T> {
    fn default() -> Self {
        Self::On(T::default())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Setting<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Setting<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map, or the word `off`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Setting<T>, E> {
                match text {
                    "off" => Ok(Setting::Off),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Setting<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Setting::On)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Setting<T>, A::Error> {
                T::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Setting::On)
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for Setting<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::On(value) => value.serialize(serializer),
            Self::Off => serializer.serialize_str("off"),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Setting<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let on = generator.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [on, { "const": "off" }] })
    }
}

/// One layer of policies. A later layer replaces a policy of the same name as a whole; `off`
/// removes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// Which client addresses are let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_access: Option<Setting<ip_access::IpAccessConfig>>,
    /// Clients that flood are refused before anything is done for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood: Option<Setting<flood::FloodConfig>>,
    /// Cross-origin requests from browsers; preflights are answered here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Setting<cors::CorsConfig>>,
    /// Requests are delayed or refused on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Setting<fault::FaultConfig>>,
    /// Calls of gRPC-Web become gRPC on their way upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_web: Option<Setting<grpc_web::GrpcWebConfig>>,
    /// How often requests may come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<Setting<rate_limit::RateLimitConfig>>,
    /// How many requests may come in a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Setting<quota::QuotasConfig>>,
    /// How many requests may be in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Setting<concurrency::ConcurrencyConfig>>,
    /// How large a request's body may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<Setting<body_limit::BodyLimitConfig>>,
    /// Who calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authenticate: Option<Setting<authenticate::AuthenticateConfig>>,
    /// What callers may do: scopes, groups, roles, permissions, a condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorize: Option<Setting<authorize::AuthorizeConfig>>,
    /// Bodies have to be what their `content-digest` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_digest: Option<Setting<content_digest::ContentDigestConfig>>,
    /// What the upstream is shown to know the gateway, or the caller, by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_auth: Option<Setting<upstream_auth::UpstreamAuthConfig>>,
    /// Header fields set, added and removed, on requests and on answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Setting<headers::HeadersConfig>>,
    /// Another path or host for the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Setting<rewrite::RewriteConfig>>,
    /// Answers are kept and served again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Setting<cache::CacheConfig>>,
    /// Answers compressed for clients that accept it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<Setting<compress::CompressConfig>>,
}

/// What every route has and none can switch off.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnforcedPolicies {
    /// Which client addresses are let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_access: Option<ip_access::IpAccessConfig>,
    /// Clients that flood are refused before anything is done for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood: Option<flood::FloodConfig>,
    /// How often requests may come. A route's own have to admit them as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<rate_limit::RateLimitConfig>,
    /// How many requests may come in a period. A route's own have to admit them as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<quota::QuotasConfig>,
    /// How many requests may be in flight. A route's own bounds hold as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<concurrency::ConcurrencyConfig>,
    /// Who calls. A route's own must come to the same caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authenticate: Option<authenticate::AuthenticateConfig>,
    /// What callers may do. A route's own has to hold as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorize: Option<authorize::AuthorizeConfig>,
    /// Header fields set, added and removed; on answers they are the last to do so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<headers::HeadersConfig>,
}
