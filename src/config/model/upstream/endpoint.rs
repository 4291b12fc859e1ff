use crate::values::{EndpointAddress, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;

/// One endpoint of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Its share of the requests relative to the others, 0 to 1000; 0 gets none.
    pub weight: u16,
    /// Its group: requests go to the lowest one in which an endpoint is open, 0 to 9.
    pub priority: u8,
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            address: EndpointAddress,
            #[serde(default = "one")]
            weight: u16,
            #[serde(default)]
            priority: u8,
        }
        fn one() -> u16 {
            1
        }
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Endpoint;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with a port, `unix:` and a path, or `{ address, weight, priority }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                text.parse().map(|address| Endpoint { address, weight: 1, priority: 0 }).map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                let long = Long::deserialize(de::value::MapAccessDeserializer::new(map))?;
                if long.weight > 1000 {
                    return Err(de::Error::custom(
                        Problem::new(format!("weight {} is too large", long.weight))
                            .remedy("a weight is 0 to 1000"),
                    ));
                }
                if long.priority > 9 {
                    return Err(de::Error::custom(
                        Problem::new(format!("priority {} is too large", long.priority))
                            .remedy("a priority is 0 to 9, and 0 goes first"),
                    ));
                }
                Ok(Endpoint { address: long.address, weight: long.weight, priority: long.priority })
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
                { "type": "string", "description": "address and port, or unix: and a path", "examples": ["127.0.0.1:8080"] },
                {
                    "type": "object",
                    "properties": {
                        "address": { "type": "string" },
                        "weight": { "type": "integer", "minimum": 0, "maximum": 1000, "default": 1 },
                        "priority": { "type": "integer", "minimum": 0, "maximum": 9, "default": 0 },
                    },
                    "required": ["address"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
