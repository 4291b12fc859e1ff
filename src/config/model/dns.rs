//! How names are resolved.

use crate::values::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// How names are resolved: in the background, never while a request waits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Name servers, as addresses with ports, such as `192.0.2.53:53`. Default: those of the operating
    /// system, with its search domains and its hosts file.
    #[schemars(with = "Vec<String>")]
    pub nameservers: Vec<SocketAddr>,
    /// How long one question to one server may take; it is asked twice. Default 2s.
    pub timeout: Duration,
    /// The shortest time until a name is asked for again, whatever its time to live. Default 1s.
    pub min_ttl: Duration,
    /// The longest time until a name is asked for again. Default 5m.
    pub max_ttl: Duration,
    /// Which addresses of a name count: `any` (the default), `ipv4` or `ipv6`.
    pub family: Family,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            timeout: Duration::from_secs(2),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            family: Family::Any,
        }
    }
}

/// Which addresses of a name count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// All of them.
    #[default]
    Any,
    /// Those of IPv4 (A).
    Ipv4,
    /// Those of IPv6 (AAAA).
    Ipv6,
}
