use crate::values::{Duration, Percent, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;

/// Whether endpoints are healthy, and what follows from it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Probes that the gateway sends. Default: none.
    pub active: Option<ActiveHealth>,
    /// What requests tell of an endpoint. Default: nothing.
    pub passive: Option<PassiveHealth>,
    /// If fewer than this share of the endpoints are healthy, health no longer counts and all of them
    /// get requests. Default 50%; `0%` for never.
    pub panic: Percent,
}

impl Default for Health {
    fn default() -> Self {
        Self { active: None, passive: None, panic: Percent::from_basis_points(5_000) }
    }
}

/// When an endpoint is left out for a while because its requests fail: they get no answer, or a 5xx.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PassiveHealth {
    /// After so many failures in a row. Default 5; 0 for never.
    pub consecutive_failures: u32,
    /// For so long the first time, each further time for as much longer. Default 30s.
    pub eject: Duration,
    /// The longest. Default 5m.
    pub longest: Duration,
    /// The greatest share of the endpoints that are left out; one always can be, and the last one never.
    /// Default 50%.
    pub max_ejected: Percent,
    /// Whether an endpoint that fails far more than the others do is left out as well. Default: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            eject: Duration::from_secs(30),
            longest: Duration::from_secs(300),
            max_ejected: Percent::from_basis_points(5_000),
            success_rate: None,
        }
    }
}

/// Endpoints are compared by the share of requests that went well.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SuccessRate {
    /// How often. Default 10s.
    pub every: Duration,
    /// With fewer requests in that time an endpoint is not judged. Default 100.
    pub of_at_least: u32,
    /// So many standard deviations below the mean of all are too much. Default 1.9.
    #[schemars(range(min = 0.5, max = 10))]
    pub deviations: f64,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), of_at_least: 100, deviations: 1.9 }
    }
}

/// Probes. An endpoint is taken for healthy until they say otherwise.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActiveHealth {
    /// What is asked: `tcp`, `{ http: { path: /healthz } }` or `{ grpc: {} }`.
    pub probe: Probe,
    /// The time between two probes of an endpoint, a tenth more or less. Default 5s.
    #[serde(default = "every")]
    pub every: Duration,
    /// How long a probe may take, connecting included. Default 1s.
    #[serde(default = "timeout")]
    pub timeout: Duration,
    /// So many probes in a row that went well make an endpoint healthy, 1 to 100. Default 2.
    #[serde(default = "healthy_after")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_after: u8,
    /// So many that failed make it unhealthy, 1 to 100. Default 3.
    #[serde(default = "unhealthy_after")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_after: u8,
}

/// What is asked of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Whether it accepts a connection.
    Tcp,
    /// A GET, over the protocol and TLS that requests use.
    Http(HttpProbe),
    /// The gRPC health protocol (grpc.health.v1), over HTTP/2.
    Grpc(GrpcProbe),
}

/// A GET and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The path, with a query if need be.
    pub path: String,
    /// The Host. Default: the upstream's where that is a name, else the endpoint's address.
    pub host: Option<String>,
    /// Statuses that are well, each a number or a range. Default `[200..299]`.
    #[serde(default = "success")]
    pub statuses: Vec<StatusRange>,
    /// What the first 64 KiB of the body must hold. Default: anything.
    pub body: Option<String>,
}

/// Which service is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcProbe {
    /// The service's name. Default: empty, the server as a whole.
    pub service: String,
}

/// Statuses from one to another: `200` or `200..299`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

impl StatusRange {
    /// True if the status is one of them.
    pub const fn contains(self, status: u16) -> bool {
        self.from <= status && status <= self.to
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        match (from.trim().parse(), to.trim().parse()) {
            (Ok(from @ 200..=599), Ok(to @ 200..=599)) if from <= to => Ok(Self { from, to }),
            _ => {
                let shown: String = text.chars().take(40).collect();
                Err(Problem::new(format!("`{shown}` are no statuses"))
                    .remedy("write a number from 200 to 599, or a range such as `200..299`"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = StatusRange;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, or a range such as `200..299`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusRange, E> {
                StatusRange::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, status: u64) -> Result<StatusRange, E> {
                self.visit_str(&status.to_string())
            }
            fn visit_i64<E: de::Error>(self, status: i64) -> Result<StatusRange, E> {
                self.visit_str(&status.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for StatusRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.from == self.to {
            return serializer.serialize_u16(self.from);
        }
        serializer.collect_str(&format_args!("{}..{}", self.from, self.to))
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusRange".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 200, "maximum": 599 },
                { "type": "string", "pattern": "^[2-5][0-9]{2}\\.\\.[2-5][0-9]{2}$" },
            ],
        })
    }
}

fn every() -> Duration {
    Duration::from_secs(5)
}

fn timeout() -> Duration {
    Duration::from_secs(1)
}

fn healthy_after() -> u8 {
    2
}

fn unhealthy_after() -> u8 {
    3
}

fn success() -> Vec<StatusRange> {
    vec![StatusRange { from: 200, to: 299 }]
}
