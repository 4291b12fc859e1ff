use crate::values::{Duration, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which endpoint gets a request. All of them respect weights.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Each in turn, spread smoothly.
    #[default]
    RoundRobin,
    /// Of two drawn at random the one with fewer requests in flight for its weight.
    LeastRequest,
    /// Of two drawn at random the one that is expected to answer sooner: by how long its answers took lately,
    /// a slow one counting at once, and by its requests in flight.
    PeakEwma,
    /// Drawn at random.
    Random,
    /// The same value goes to the same endpoint, also by other gateways and after a restart; when
    /// endpoints come and go, only the values of those move. A request without the value is drawn at
    /// random.
    Hash(HashKey),
    /// A cookie keeps a client at the endpoint that it was given first, as long as that one is there
    /// and healthy; others get the one with the fewest requests of two drawn.
    Sticky(StickyCookie),
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// The value of this header field.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The client's address, as `trusted_proxies` tells it.
    ClientIp,
    /// The normalised path, without the query.
    Path,
}

/// The cookie that keeps a client at its endpoint. What is in it says nothing of the endpoint's
/// address, and nobody without the secret can make one.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickyCookie {
    /// Its name.
    pub cookie: String,
    /// What the endpoints' ids in it are derived with; give the same to every gateway. Default: drawn
    /// at the start, so that a restart spreads clients anew.
    pub secret: Option<Secret>,
    /// How long the client keeps it. Default: until its browser is closed.
    pub max_age: Option<Duration>,
    /// Its `Path`. Default `/`.
    #[serde(default = "root")]
    pub path: String,
    /// Its `Domain`. Default: none, the host that was asked alone.
    pub domain: Option<String>,
    /// Whether it is sent over TLS alone. Default: as the request came.
    pub secure: Option<bool>,
    /// Whether scripts cannot read it. Default true.
    #[serde(default = "yes")]
    pub http_only: bool,
    /// Which requests of other sites carry it: `lax` (the default), `strict` or `none`.
    #[serde(default)]
    pub same_site: SameSite,
}

/// Which requests of other sites carry a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Links to here.
    #[default]
    Lax,
    /// None.
    Strict,
    /// All; browsers want `secure` with it.
    None,
}

fn root() -> String {
    "/".to_owned()
}

fn yes() -> bool {
    true
}
