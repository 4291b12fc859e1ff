use crate::identity::AdmitConfig;
use crate::identity::audiences::Audiences;
use crate::identity::client_auth::ClientAuth;
use crate::identity::presented::TokenPlace;
use crate::outbound::CallConfig;
use crate::values::{ByteSize, Duration, Secret, ServiceUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU16;

/// Tokens whose meaning a server tells (RFC 7662).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionConfig {
    /// Where the server is asked.
    pub url: ServiceUrl,
    /// Who the gateway is there.
    pub client_id: String,
    /// The gateway's secret there.
    pub client_secret: Secret,
    /// How the gateway says so: `basic` or `post`. Default `basic`.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// Who must have issued the token (`iss`). Default: whoever the server vouches for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// For whom tokens have to be issued: one of these stands in `aud`. Default `any`.
    #[serde(default = "any")]
    pub audiences: Audiences,
    /// What has to be told of a token, such as `sub`. Default: nothing.
    #[serde(default)]
    pub required: Vec<String>,
    /// How long an answer counts at most; a token's `exp` may end it earlier. A token that is revoked at
    /// the server counts here for so long. `0s` asks each time. Default 30s.
    #[serde(default = "half_a_minute")]
    pub cache: Duration,
    /// How long the answer counts that a token is not valid. Default 5s.
    #[serde(default = "five_seconds")]
    pub negative: Duration,
    /// The memory for answers. Default 16MiB.
    #[serde(default = "sixteen_mib")]
    pub memory: ByteSize,
    /// What happens while the server is down: `deny`, or `{ allow_stale: 5m }`, by which answers that it
    /// gave before count for so much longer. Default `deny`.
    #[serde(default)]
    pub when_down: WhenDown,
    /// When the server is left alone, because it is down anyway.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// How many tokens may be asked about at a time. Default 256.
    #[serde(default = "two_hundred_fifty_six")]
    pub in_flight: NonZeroU16,
    /// The largest token; a larger one is refused unread. At most 64KiB. Default 8KiB.
    #[serde(default = "eight_kib")]
    pub max_size: ByteSize,
    /// Where the token is looked for: `bearer` (the field `authorization`), `{ header: … }`,
    /// `{ cookie: … }`, `{ query: … }`. In two places at once, it is refused. Default: `[bearer]`.
    #[serde(default = "crate::identity::presented::bearer")]
    pub from: Vec<TokenPlace>,
    /// Whether the upstream gets the token too. Default true.
    #[serde(default = "yes")]
    pub forward: bool,
    /// Makes consumers of subjects that `consumers` does not list. Default: they are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admit: Option<AdmitConfig>,
    /// The call itself. Its time is 2s here unless given.
    #[serde(default = "two_seconds")]
    pub call: CallConfig,
}

const fn any() -> Audiences {
    Audiences::Any
}

const fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

const fn sixteen_mib() -> ByteSize {
    ByteSize::mib(16)
}

const fn eight_kib() -> ByteSize {
    ByteSize::kib(8)
}

const fn yes() -> bool {
    true
}

fn two_hundred_fifty_six() -> NonZeroU16 {
    NonZeroU16::new(256).unwrap_or(NonZeroU16::MIN)
}

fn two_seconds() -> CallConfig {
    CallConfig { timeout: Duration::from_secs(2), ..CallConfig::default() }
}

/// What happens while a server is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenDown {
    /// Nobody gets in whom it would have to be asked about.
    #[default]
    Deny,
    /// What it said before counts for so much longer.
    AllowStale(Duration),
}

/// When a server is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// After so many failures in a row: it cannot be reached, is too slow, or says that it failed. What is
    /// about the question is none, since any client could ask it. Default 5.
    pub failures: NonZeroU16,
    /// For so long; then one call tries. Default 5s.
    pub open_for: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: NonZeroU16::new(5).unwrap_or(NonZeroU16::MIN), open_for: Duration::from_secs(5) }
    }
}
