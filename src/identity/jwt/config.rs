use super::Algorithm;
use crate::identity::AdmitConfig;
use crate::identity::audiences::Audiences;
use crate::identity::presented::TokenPlace;
use crate::outbound::CallConfig;
use crate::values::{ByteSize, Duration, Secret, ServiceUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU16;
use std::path::PathBuf;

/// Signed tokens (RFC 7519) of one issuer. The smallest one that is useful:
/// `{ issuer: "https://id.example.com", audiences: [api], algorithms: [ES256] }`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// Who issues the tokens, to the byte as they have it in `iss`.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// For whom they have to be issued: one of these stands in `aud`. The word `any` asks for none,
    /// and lets in what the issuer meant for somebody else.
    pub audiences: Audiences,
    /// How they may be signed. There is no default. `HS…` needs the key `secret`, and nothing else
    /// beside it.
    #[schemars(length(min = 1))]
    pub algorithms: Vec<Algorithm>,
    /// Where the keys are: `discover` (as OpenID Connect Discovery has it, from the issuer), or one of
    /// `{ url: … }`, `{ file: … }`, `{ inline: [ … ] }`, `{ secret: … }`. Default `discover`.
    #[serde(default)]
    pub keys: KeysConfig,
    /// How keys are fetched from `discover` or `url`.
    #[serde(default)]
    pub fetch: FetchConfig,
    /// Claims that have to be there. Default: `[exp]`.
    #[serde(default = "expiry")]
    pub required: Vec<String>,
    /// How far clocks may be apart. At most 10m. Default 30s.
    #[serde(default = "half_a_minute")]
    pub leeway: Duration,
    /// How long ago a token may have been issued (`iat`), whatever its `exp` says. Default: any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// What its header says it is (`typ`), such as `at+jwt` (RFC 9068). Default: anything.
    #[serde(rename = "type")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
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
}

fn expiry() -> Vec<String> {
    vec!["exp".to_owned()]
}

const fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

const fn eight_kib() -> ByteSize {
    ByteSize::kib(8)
}

const fn yes() -> bool {
    true
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeysConfig {
    /// Where the issuer says: `ISSUER/.well-known/openid-configuration` names the address.
    #[default]
    Discover,
    /// At this address, as a JSON Web Key Set.
    Url(ServiceUrl),
    /// In this file: a JSON Web Key Set, or public keys in PEM.
    File(PathBuf),
    /// Here, as JSON Web Keys.
    Inline(Vec<serde_json::Value>),
    /// A secret that the issuer has as well, as long as its hash at least: 32 bytes for HS256, 48 for
    /// HS384, 64 for HS512.
    Secret(Secret),
}

/// How keys are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// How often, where the answer's `Cache-Control` does not say; what it says holds between 30s and
    /// 1h. From 1s to 1d. Default 5m.
    pub every: Duration,
    /// How long the last good keys count while no better ones come. Default 1d.
    pub keep: Duration,
    /// The most keys of a set; a larger one is refused. Default 100.
    pub max_keys: NonZeroU16,
    /// How long a token with a key that is not known yet waits for a fetch. Default 5s.
    pub wait: Duration,
    /// How many tokens may wait. Default 1000.
    pub waiting: NonZeroU16,
    /// The call itself.
    pub call: CallConfig,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(300),
            keep: Duration::from_secs(86_400),
            max_keys: NonZeroU16::new(100).unwrap_or(NonZeroU16::MIN),
            wait: Duration::from_secs(5),
            waiting: NonZeroU16::new(1000).unwrap_or(NonZeroU16::MIN),
            call: CallConfig::default(),
        }
    }
}
