use crate::values::{Duration, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;

/// How many requests an upstream has at once, and how many wait. What is beyond is answered with 503 at once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most in flight, all endpoints together: a number, or `auto` for as many as it answers without
    /// getting slower, found by how long answers take. Default `auto`.
    pub requests: MostRequests,
    /// The least and the most that `auto` comes to, such as `4..1000`. Default `4..1000`.
    pub between: Between,
    /// How many may wait for their turn, 0 to 100000. Default 128.
    #[schemars(range(max = 100_000))]
    pub waiting: u32,
    /// How long one may wait, 1ms to 1m. Once some have waited for so long without a break, there is more to do
    /// than can be done: then it is a twentieth, and who came last has the first turn. Default 100ms.
    pub wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: MostRequests::Auto,
            between: Between { least: 4, most: 1000 },
            waiting: 128,
            wait: Duration::from_millis(100),
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.requests {
            MostRequests::Fixed(count) => write!(f, "{count} requests at once")?,
            MostRequests::Auto => {
                let Between { least, most } = self.between;
                write!(f, "{least} to {most} requests at once, by how long its answers take")?;
            }
        }
        write!(f, "; {} more wait for up to {}", self.waiting, self.wait)
    }
}

/// The most requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MostRequests {
    /// As many as are answered without getting slower.
    Auto,
    /// So many.
    Fixed(u32),
}

impl<'de> Deserialize<'de> for MostRequests {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = MostRequests;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a number of requests from 1 to 1000000")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<MostRequests, E> {
                // A number from the environment comes as text.
                match (text, text.parse()) {
                    ("auto", _) => Ok(MostRequests::Auto),
                    (_, Ok(count)) => self.visit_u64(count),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<MostRequests, E> {
                match u32::try_from(count) {
                    Ok(count @ 1..=1_000_000) => Ok(MostRequests::Fixed(count)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(count), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for MostRequests {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Fixed(count) => serializer.serialize_u32(*count),
        }
    }
}

impl JsonSchema for MostRequests {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MostRequests".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1_000_000 }],
        })
    }
}

/// From a number to another, as `4..1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// The least.
    pub least: u32,
    /// The most.
    pub most: u32,
}

impl<'de> Deserialize<'de> for Between {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts =
            text.split_once("..").and_then(|(least, most)| Some((least.parse().ok()?, most.parse().ok()?)));
        match parts {
            Some((least, most)) if 1 <= least && least <= most && most <= 1_000_000 => {
                Ok(Self { least, most })
            }
            _ => Err(de::Error::custom(
                Problem::new(format!("`{text}` is no span of requests"))
                    .remedy("write two numbers from 1 to 1000000, the lesser one first, such as `4..1000`"),
            )),
        }
    }
}

impl Serialize for Between {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}..{}", self.least, self.most))
    }
}

impl JsonSchema for Between {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Between".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+\\.\\.[0-9]+$", "examples": ["4..1000"] })
    }
}
