use crate::identity::introspection::BreakerConfig;
use crate::outbound::CallConfig;
use crate::values::{ByteSize, Duration, ServiceUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU16;

/// A service that is asked about each request: 2xx lets it in, whatever else refuses it. It gets the fields
/// in `send`, and as `x-forwarded-method`, `-proto`, `-host`, `-uri` and `-for` what the gateway knows of
/// the request.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardConfig {
    /// Where the service is asked, by a GET without a body.
    pub url: ServiceUrl,
    /// The fields of the request that it gets, as they came. Default: `[authorization, cookie]`.
    #[serde(default = "credentials")]
    pub send: Vec<String>,
    /// The fields that hold the credential: a request with none of them is left to the next way. Default:
    /// none, and every request is asked about.
    #[serde(default)]
    pub credentials: Vec<String>,
    /// The fields of its answer that the upstream gets. A client's own are never believed: they are taken
    /// away, whoever lets the request in. Conditions see them as claims. Default: none.
    #[serde(default)]
    pub take: Vec<String>,
    /// The field of its answer that names the caller, who may be a consumer by a credential
    /// `{ jwt: { provider: …, subject: … } }`; without it in the answer nobody is let in. Default: nobody
    /// is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What of its refusals the client sees. Default: nothing; it gets 403 for a 403, and else 401.
    #[serde(default)]
    pub refusals: RefusalsConfig,
    /// How long it counts that somebody was let in. Default: not at all, each request is asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<ForwardCacheConfig>,
    /// When the service is left alone, because it is down anyway. Meanwhile nobody gets in: 503.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// How many requests may be asked about at a time; beyond, 503. Default 256.
    #[serde(default = "two_hundred_fifty_six")]
    pub in_flight: NonZeroU16,
    /// The call itself. Its time is 2s here unless given, its largest answer 64KiB.
    #[serde(default = "quick")]
    pub call: CallConfig,
}

/// What of a service's refusals the client sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefusalsConfig {
    /// The statuses that are passed on, 300 to 499, such as `[302, 401]`. Default: none.
    pub statuses: Vec<u16>,
    /// The fields that go with them, such as `[location, www-authenticate, set-cookie]`. Default: none.
    pub headers: Vec<String>,
    /// Whether the body goes with them, and its `content-type`. Default false.
    pub body: bool,
}

/// How long it counts that somebody was let in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardCacheConfig {
    /// For so long, for a request about which the service would be told the very same. `Cache-Control` in
    /// the answer may shorten it.
    pub time: Duration,
    /// The memory for it. Default 16MiB.
    #[serde(default = "sixteen_mib")]
    pub memory: ByteSize,
}

fn credentials() -> Vec<String> {
    ["authorization", "cookie"].map(str::to_owned).into()
}

fn two_hundred_fifty_six() -> NonZeroU16 {
    NonZeroU16::new(256).unwrap_or(NonZeroU16::MIN)
}

const fn sixteen_mib() -> ByteSize {
    ByteSize::mib(16)
}

fn quick() -> CallConfig {
    CallConfig { timeout: Duration::from_secs(2), max_answer: ByteSize::kib(64), ca: None }
}
