use crate::values::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::path::PathBuf;
use std::{fmt, str::FromStr};

/// Where endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discover {
    /// The addresses of this name, all with this port: `orders.internal:8080`.
    Dns(DnsTarget),
    /// The services of this name (RFC 2782), with ports and weights of their own:
    /// `_http._tcp.orders.internal`. Of several priorities the most preferred one counts.
    Srv(String),
    /// A file with a list, each item as in `endpoints`, in YAML or JSON. It is watched.
    File(PathBuf),
}

/// A name with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsTarget {
    /// The name.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl FromStr for DnsTarget {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let is_name = |name: &str| {
            (1..=254).contains(&name.len())
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
                && name.trim_end_matches('.').split('.').all(|label| (1..=63).contains(&label.len()))
        };
        let parts = text.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
        match parts {
            Some((name, port)) if is_name(name) && port > 0 => Ok(Self { name: name.to_owned(), port }),
            _ => Err(Problem::new(format!("`{text}` is not a name with a port"))
                .remedy("write it as `orders.internal:8080`")),
        }
    }
}

impl fmt::Display for DnsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

impl<'de> Deserialize<'de> for DnsTarget {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for DnsTarget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for DnsTarget {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DnsTarget".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^.+:[0-9]+$", "examples": ["orders.internal:8080"] })
    }
}
