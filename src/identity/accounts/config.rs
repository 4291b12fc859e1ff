use crate::identity::client_auth::ClientAuth;
use crate::outbound::CallConfig;
use crate::values::{ConfigPath, Duration, Secret, ServiceUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::path::PathBuf;

/// What the gateway proves itself by at upstreams.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountConfig {
    /// A header field, always the same.
    Header(HeaderConfig),
    /// A token that an authorisation server grants to the gateway (RFC 6749, section 4.4). It is there
    /// before requests need it, and replaced before it ends.
    ClientCredentials(ClientConfig),
    /// A token that an authorisation server gives in exchange for the caller's (RFC 8693). The caller's
    /// has to be a `jwt` or `introspection` one.
    TokenExchange(ClientConfig),
}

impl AccountConfig {
    /// What of it is secret, with its path from the account's name.
    pub(in crate::identity) fn secret(&mut self) -> (ConfigPath, &mut Secret) {
        let path = ConfigPath::root();
        match self {
            Self::Header(config) => (path.key("header").key("value"), &mut config.value),
            Self::ClientCredentials(config) => {
                (path.key("client_credentials").key("client_secret"), &mut config.client_secret)
            }
            Self::TokenExchange(config) => {
                (path.key("token_exchange").key("client_secret"), &mut config.client_secret)
            }
        }
    }

    /// The paths of files that it names, but for those of secrets.
    pub(in crate::identity) fn files(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Header(_) => Vec::new(),
            Self::ClientCredentials(config) | Self::TokenExchange(config) => {
                config.call.ca.iter_mut().collect()
            }
        }
    }
}

/// A header field, always the same.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderConfig {
    /// Its name, such as `authorization`.
    pub name: String,
    /// Its value, such as `Bearer ${TOKEN}`.
    pub value: Secret,
}

/// The gateway as a client of an authorisation server (RFC 6749), for tokens that upstreams want.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// The server's token endpoint.
    pub token_url: ServiceUrl,
    /// Who the gateway is there.
    pub client_id: String,
    /// The gateway's secret there.
    pub client_secret: Secret,
    /// How the gateway says so: `basic` or `post`. Default `basic`.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// What the tokens are for (`scope`). Default: what the server gives.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// For whom they are (`audience`). Default: not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What they are used at (`resource`, RFC 8707). Default: not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// How long a token counts if the server does not say. Default 5m.
    #[serde(default = "five_minutes")]
    pub lifetime: Duration,
    /// How long a request waits for a token, where there is none yet. Default 5s.
    #[serde(default = "five_seconds")]
    pub wait: Duration,
    /// How many callers' exchanged tokens are kept. Default 10000.
    #[serde(default = "ten_thousand")]
    pub callers: NonZeroU32,
    /// The call itself.
    #[serde(default)]
    pub call: CallConfig,
}

const fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn ten_thousand() -> NonZeroU32 {
    NonZeroU32::new(10_000).unwrap_or(NonZeroU32::MIN)
}
