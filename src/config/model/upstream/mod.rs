//! Where requests go.

mod balance;
mod breaker;
mod discover;
mod endpoint;
mod health;
mod hedge;
mod limits;
mod retry;
mod tls;

pub use balance::{Balance, HashKey, SameSite, StickyCookie};
pub use breaker::{Breaker, Slow};
pub use discover::{Discover, DnsTarget};
pub use endpoint::Endpoint;
pub use health::{
    ActiveHealth, GrpcProbe, Health, HttpProbe, PassiveHealth, Probe, StatusRange, SuccessRate,
};
pub use hedge::Hedge;
pub use limits::{Between, Limits, MostRequests};
pub use retry::{Backoff, Condition, Retry, RouteRetry};
pub use tls::{ClientCertificate, Tls, Verify};

use crate::values::{Duration, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};

/// Where requests go: endpoints that are alike.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The endpoints, each an address (`127.0.0.1:8080`, `unix:/run/app.sock`) or `{ address, weight }`.
    /// Needed unless they are found by `discover`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub endpoints: Vec<Endpoint>,
    /// Where endpoints are found, in the place of `endpoints`: `{ dns: "orders.internal:8080" }`,
    /// `{ srv: _http._tcp.orders.internal }` or `{ file: endpoints.yaml }`. They are looked for in the
    /// background, and what was found last is kept while the source fails.
    pub discover: Option<Discover>,
    /// What is spoken to the endpoints: `http1` (the default), `http2` (under `tls` by ALPN, in the
    /// clear with prior knowledge), or `auto` (under `tls` what ALPN chooses, in the clear HTTP/1.1).
    #[serde(default)]
    pub protocol: Protocol,
    /// TLS to the endpoints. Default: none, in the clear.
    pub tls: Option<Tls>,
    /// Which endpoint gets a request: `round_robin` (the default), `least_request`, `peak_ewma`,
    /// `random`, `{ hash: … }` or `{ sticky: { cookie: … } }`.
    #[serde(default)]
    pub balance: Balance,
    /// The Host that the upstream sees: `keep` (the client's, the default), `endpoint` (the
    /// endpoint's address), or a name.
    #[serde(default)]
    pub host: HostRewrite,
    /// Whether endpoints are healthy, and what follows from it.
    #[serde(default)]
    pub health: Health,
    /// How long an endpoint that is new, or healthy again, takes until it has its whole share of requests.
    /// It does not hold for `hash` and `sticky`. Default 0s: it has it at once.
    #[serde(default = "no_time")]
    pub slow_start: Duration,
    /// When requests are refused at once, because too many before them failed or were slow. Default: never.
    pub breaker: Option<Breaker>,
    /// When an endpoint gets no requests, because too many of its own failed or were slow; others get them. While
    /// too few are healthy (`health.active.panic`) it does not count. Default: never.
    pub endpoint_breaker: Option<Breaker>,
    /// How many requests it has at once, and how many wait; others are answered with 503 at once. `{}` finds out
    /// how many. Default: no limit.
    pub limits: Option<Limits>,
    /// How long things may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What happens when an endpoint fails.
    #[serde(default)]
    pub retry: Retry,
    /// When a request goes to a second endpoint as well, because the first one is silent. Default: never.
    pub hedge: Option<Hedge>,
    /// How long a pooled connection may be idle; keep it below the upstream's own. Default 55s.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Duration,
}

const fn no_time() -> Duration {
    Duration::from_secs(0)
}

fn idle_timeout() -> Duration {
    Duration::from_secs(55)
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, many requests on one connection.
    Http2,
    /// Under TLS what ALPN chooses; in the clear HTTP/1.1. An endpoint that asks for HTTP/1.1
    /// (`HTTP_1_1_REQUIRED`) or breaks HTTP/2's rules gets HTTP/1.1 from then on, until its settings
    /// change or a restart.
    Auto,
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
