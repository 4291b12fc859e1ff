//! The process as a whole, and its admin listener.

use crate::values::{ByteSize, Duration, Percent, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The process as a whole. A change of `workers`, `upstream_connections`, `limit_keys`, `quota_keys`,
/// `state` and `control` needs an upgrade;
/// a reload reports it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// Worker threads: a number from 1 to 1024, or `auto` for one for each core. Default `auto`.
    pub workers: Workers,
    /// How long requests may go on after a shutdown began. Default 30s.
    pub drain: Duration,
    /// Idle upstream connections kept, all upstreams together. Default 4096.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub upstream_connections: u32,
    /// Memory for request bodies that a policy has to see whole, all requests together; a request that
    /// finds it used up is answered with 503. Default 256MiB.
    pub body_memory: ByteSize,
    /// How many keys (clients, consumers …) limits remember at a time, all limits together. They take 26
    /// bytes each, and only as many as there are. Default 1000000.
    #[schemars(range(min = 1000, max = 100_000_000))]
    pub limit_keys: u32,
    /// How many keys (consumers, clients …) quotas remember at a time, all quotas together. They take about
    /// 200 bytes each, rolling ones 500, and only as many as there are. Default 100000.
    #[schemars(range(min = 1000, max = 10_000_000))]
    pub quota_keys: u32,
    /// The folder for what is kept over a restart: what quotas have used. It is made when there is something to
    /// keep. Default: what systemd says (`STATE_DIRECTORY`), or `state` beside the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// The control socket, by which another process takes over (`tollgate upgrade`). It is this user's
    /// alone. Default: none, and no upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<PathBuf>,
    /// How long a process that takes over may take until it is ready. Default 60s.
    pub upgrade_time: Duration,
    /// What is too much for the gateway itself.
    pub overload: Overload,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            workers: Workers::Auto,
            drain: Duration::from_secs(30),
            upstream_connections: 4096,
            body_memory: ByteSize::mib(256),
            limit_keys: 1_000_000,
            quota_keys: 100_000,
            state: None,
            control: None,
            upgrade_time: Duration::from_secs(60),
            overload: Overload::default(),
        }
    }
}

/// What is too much for the gateway itself. At a threshold new connections are refused, and requests of low
/// importance; far beyond it (at twice the delay, half-way from the share to all there is) all but those of high
/// importance. Answers of the gateway's own, the admin listener, and listeners with `limits.spare` go on.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overload {
    /// How long a worker takes to come to a new task, at least, for a second. Default 250ms; `0s` for no bound.
    pub delay: Duration,
    /// Of the memory that the process may have: the least of what its control groups and the machine allow.
    /// Default 90%; `100%` for no bound.
    pub memory: Percent,
    /// Of the client connections that there are file descriptors for. Default 95%; `100%` for no bound but
    /// that one.
    pub descriptors: Percent,
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(250),
            memory: Percent::from_basis_points(9000),
            descriptors: Percent::from_basis_points(9500),
        }
    }
}

/// How many worker threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for each core that the process may use.
    Auto,
    /// This many.
    Count(u16),
}

impl Workers {
    /// The number of threads, at least one.
    pub fn count(self) -> usize {
        match self {
            Self::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Self::Count(n) => usize::from(n),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Workers;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`auto` or a number of workers from 1 to 1024")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Workers, E> {
                // A number from the environment comes as text.
                match (text, text.parse()) {
                    ("auto", _) => Ok(Workers::Auto),
                    (_, Ok(n)) => self.visit_u64(n),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Workers, E> {
                match u16::try_from(n) {
                    Ok(count @ 1..=1024) => Ok(Workers::Count(count)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(n), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Workers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(n) => serializer.serialize_u16(*n),
        }
    }
}

impl JsonSchema for Workers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Workers".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }],
        })
    }
}

/// The admin listener: health, metrics and what is in force.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where it listens. Default 127.0.0.1:9901.
    pub address: SocketAddr,
    /// The bearer token that whatever writes, and `/config`, asks for. Empty (the default) means
    /// that nothing can be written and that the configuration is not shown.
    pub token: Secret,
}

impl Default for Admin {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9901)), token: Secret::new("") }
    }
}
