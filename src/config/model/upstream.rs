//! Where requests go.

use crate::values::{Duration, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::{fmt, net::SocketAddr};

/// Where requests go: endpoints that are alike.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The endpoints, each an address or `{ address, weight }`.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<Endpoint>,
    /// The Host that the upstream sees: `keep` (the client's, the default), `endpoint` (the
    /// endpoint's address), or a name.
    #[serde(default)]
    pub host: HostRewrite,
    /// How long things may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What happens when an endpoint fails.
    #[serde(default)]
    pub retry: Retry,
    /// How long a pooled connection may be idle; keep it below the upstream's own. Default 55s.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Duration,
}

fn idle_timeout() -> Duration {
    Duration::from_secs(55)
}

/// One endpoint of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// Its share of the requests relative to the others, 0 to 1000; 0 gets none.
    pub weight: u16,
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            address: Address,
            #[serde(default = "one")]
            weight: u16,
        }
        struct Address(SocketAddr);
        impl<'de> Deserialize<'de> for Address {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                address(&text).map(Address).map_err(de::Error::custom)
            }
        }
        fn one() -> u16 {
            1
        }
        fn address(text: &str) -> Result<SocketAddr, Problem> {
            text.parse().map_err(|_| {
                Problem::new(format!("`{text}` is not an address with a port"))
                    .remedy("write it as `127.0.0.1:8080` or `[::1]:8080`")
            })
        }
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Endpoint;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with a port, or `{ address, weight }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                address(text).map(|address| Endpoint { address, weight: 1 }).map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                let long = Long::deserialize(de::value::MapAccessDeserializer::new(map))?;
                if long.weight > 1000 {
                    return Err(de::Error::custom(
                        Problem::new(format!("weight {} is too large", long.weight))
                            .remedy("a weight is 0 to 1000"),
                    ));
                }
                Ok(Endpoint { address: long.address.0, weight: long.weight })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoint".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string", "description": "address and port", "examples": ["127.0.0.1:8080"] },
                {
                    "type": "object",
                    "properties": {
                        "address": { "type": "string" },
                        "weight": { "type": "integer", "minimum": 0, "maximum": 1000, "default": 1 },
                    },
                    "required": ["address"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// The Host that an upstream sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRewrite {
    /// The client's.
    #[default]
    Keep,
    /// The endpoint's address.
    Endpoint,
    /// This name, with a port if it has one.
    Name(String),
}

impl<'de> Deserialize<'de> for HostRewrite {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "keep" => Ok(Self::Keep),
            "endpoint" => Ok(Self::Endpoint),
            name if name
                .parse::<http::uri::Authority>()
                .is_ok_and(|a| !a.host().is_empty() && !name.contains('@')) =>
            {
                Ok(Self::Name(text))
            }
            _ => Err(de::Error::custom(
                Problem::new(format!("`{text}` is not a host"))
                    .remedy("write `keep`, `endpoint`, or a host name"),
            )),
        }
    }
}

impl Serialize for HostRewrite {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Keep => "keep",
            Self::Endpoint => "endpoint",
            Self::Name(name) => name,
        })
    }
}

impl JsonSchema for HostRewrite {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HostRewrite".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["keep", "endpoint", "orders.internal"] })
    }
}

/// How long an upstream may take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To connect. Default 1s.
    pub connect: Duration,
    /// Between two reads of the answer, the first one included. Default 15s.
    pub read: Duration,
    /// For one write. Default 15s.
    pub write: Duration,
    /// For the whole exchange, retries included. Default 60s.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            read: Duration::from_secs(15),
            write: Duration::from_secs(15),
            total: Duration::from_secs(60),
        }
    }
}

/// What happens when an endpoint cannot be connected to: another one is tried.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all, 1 to 16. Default 2.
    #[schemars(range(min = 1, max = 16))]
    pub attempts: u8,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 2 }
    }
}
