//! The text side of identity: providers, consumers, plans.

use super::accounts::AccountConfig;
use super::admission::AdmitConfig;
use super::certificate::CertificateConfig;
use super::forward::ForwardConfig;
use super::introspection::IntrospectionConfig;
use super::jwt::{JwtConfig, KeysConfig};
use super::oidc::OidcConfig;
use super::passwords::PasswordsConfig;
use super::revocations::RevocationsConfig;
use super::signatures::config::{SignaturesConfig, SigningKeyConfig};
use crate::values::{ByteSize, ConfigPath, Importance, Name, Problem, Quota, Rate, Secret, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, str::FromStr};

/// Who says who somebody is.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Who vouches for callers, by name.
    pub providers: BTreeMap<Name, ProviderConfig>,
    /// What the gateway proves itself by at upstreams, by name. The policy `upstream_auth` uses it.
    pub accounts: BTreeMap<Name, AccountConfig>,
    /// The memory for signed tokens that were verified, so that each is verified once. Default 64MiB.
    pub token_cache: ByteSize,
    /// How passwords are compared.
    pub passwords: PasswordsConfig,
    /// How signed requests are kept from being sent again.
    pub signatures: SignaturesConfig,
    /// What does not count any more before its time is over.
    pub revocations: RevocationsConfig,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        let token_cache = ByteSize::mib(64);
        Self {
            providers: BTreeMap::new(),
            accounts: BTreeMap::new(),
            token_cache,
            passwords: PasswordsConfig::default(),
            signatures: SignaturesConfig::default(),
            revocations: RevocationsConfig::default(),
        }
    }
}

/// Somebody who vouches for callers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderConfig {
    /// Signed tokens of an issuer.
    Jwt(JwtConfig),
    /// Tokens whose meaning a server tells.
    Introspection(IntrospectionConfig),
    /// Login of people with a browser.
    Oidc(Box<OidcConfig>),
    /// Another service, which is asked about each request.
    Forward(Box<ForwardConfig>),
}

/// What a consumer may use. Limits with `plan: true` go by it, and logs and headers can show its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// What it is, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How often a caller may come, such as `100/s`. Default: the plan says nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The most at once. Default: the number of `rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// How many requests may come in a period, such as `1000000/month`. Default: the plan says nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// How much it matters that its callers' requests are answered, where an upstream's `limits` leave no room for
    /// all. Default: `normal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<Importance>,
    /// How many requests may be in flight. Default: the plan says nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroU32>,
}

/// A known caller.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumerConfig {
    /// Its plan, by name. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Name>,
    /// The tenant that it belongs to: a customer with several consumers, whom limits and quotas may count
    /// together. 1 to 200 visible ASCII characters. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub tenant: Option<ConsumerName>,
    /// The groups that it belongs to. Default: none.
    pub groups: Vec<Name>,
    /// What it proves itself by; any of them. Default: none.
    pub credentials: Vec<CredentialConfig>,
}

/// What a consumer proves itself by.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialConfig {
    /// An API key: `{ sha256: … }`, its digest, or `{ key: … }`, the key itself, which is hashed when
    /// it is read. A key needs at least 16 characters; 32 random ones are better.
    ApiKey(ApiKeyConfig),
    /// A token of this provider with this subject.
    Jwt(SubjectConfig),
    /// A client certificate that the listener has verified: by its `subject`, by a `dns`, `uri` or
    /// `email` among its alternative names, or by its `fingerprint`.
    Certificate(CertificateConfig),
    /// A user name with a password.
    Basic(PasswordConfig),
    /// A key that it signs its requests with: `{ id: …, key: { hmac-sha256: … } }`, or a public key by
    /// `ed25519`, `ecdsa-p256-sha256` or `rsa-pss-sha512`.
    Signature(SigningKeyConfig),
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyConfig {
    /// The SHA-256 digest of the key, in hexadecimal.
    Sha256(Sha256),
    /// The key itself, 16 characters at least.
    Key(Secret),
}

/// A user name with the hash of a password.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordConfig {
    /// The user name: without colons and control characters.
    pub user: String,
    /// The hash of the password, by argon2 or bcrypt: `tollgate hash` reads a password and prints one.
    pub hash: Secret,
}

/// A subject of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectConfig {
    /// The provider's name in `identity.providers`.
    pub provider: Name,
    /// What the provider calls the caller: `sub`.
    pub subject: String,
}

/// A consumer's name: 1 to 200 visible ASCII characters, so that it is safe in a header, a log line
/// and a URL's query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ConsumerName(Box<str>);

impl ConsumerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConsumerName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if (1..=200).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic()) {
            return Ok(Self(text.into()));
        }
        let shown: String = text.chars().take(40).collect();
        Err(Problem::new(format!("{shown:?} is not a consumer's name"))
            .remedy("a consumer's name has 1 to 200 visible ASCII characters and no spaces"))
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ConsumerName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ConsumerName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a consumer's name")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConsumerName, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// Known callers: by name here, and those in a file of one JSON object a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumersConfig {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Those by name.
    pub named: BTreeMap<ConsumerName, Arc<ConsumerConfig>>,
}

/// The key that names the file, and therefore no consumer.
const FILE: &str = "file";

impl<'de> Deserialize<'de> for ConsumersConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = ConsumersConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("consumers by name, or `{ file: consumers.jsonl }`")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<ConsumersConfig, A::Error> {
                let mut consumers = ConsumersConfig::default();
                while let Some(name) = map.next_key::<ConsumerName>()? {
                    if name.as_str() == FILE {
                        consumers.file = Some(map.next_value()?);
                    } else {
                        consumers.named.insert(name, Arc::new(map.next_value()?));
                    }
                }
                Ok(consumers)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl Serialize for ConsumersConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        if let Some(file) = &self.file {
            map.serialize_entry(FILE, file)?;
        }
        for (name, consumer) in &self.named {
            map.serialize_entry(name, consumer)?;
        }
        map.end()
    }
}

impl JsonSchema for ConsumersConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Consumers".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let consumer = generator.subschema_for::<ConsumerConfig>();
        schemars::json_schema!({
            "description": "Known callers by name; the name `file` stands for a file of further ones, one JSON object a line, each with its `name` and what a consumer has here.",
            "type": "object",
            "properties": { "file": { "type": "string" } },
            "additionalProperties": consumer,
        })
    }
}

/// A secret in the configuration, with its place.
pub type SecretAt<'a> = (ConfigPath, &'a mut Secret);

impl IdentityConfig {
    /// The secrets in it, with their paths from the root, for who reads those that are in files.
    pub fn secrets(&mut self) -> Vec<SecretAt<'_>> {
        let section = |name: &str| ConfigPath::root().key("identity").key(name);
        let (providers, accounts) = (section("providers"), section("accounts"));
        let mut secrets = Vec::new();
        for (name, provider) in &mut self.providers {
            let path = providers.key(name);
            secrets.extend(provider.secrets().into_iter().map(|(rest, secret)| (path.join(&rest), secret)));
        }
        for (name, account) in &mut self.accounts {
            let (rest, secret) = account.secret();
            secrets.push((accounts.key(name).join(&rest), secret));
        }
        secrets
    }

    /// All paths of files in it, but for those of secrets: besides [`Self::files`], those that are
    /// followed or written without a reload.
    pub fn paths(&mut self) -> Vec<&mut PathBuf> {
        let of_providers = self.providers.values_mut().flat_map(ProviderConfig::files);
        let of_accounts = self.accounts.values_mut().flat_map(AccountConfig::files);
        of_providers.chain(of_accounts).chain(self.revocations.files()).collect()
    }

    /// The paths of files in it that are read when it is compiled, but for those of secrets.
    pub fn files(&mut self) -> Vec<&mut PathBuf> {
        let of_providers = self.providers.values_mut().flat_map(ProviderConfig::files);
        of_providers.chain(self.accounts.values_mut().flat_map(AccountConfig::files)).collect()
    }
}

impl ProviderConfig {
    /// How it makes consumers of subjects that are not listed, with the key of its kind.
    pub(super) fn admit(&self) -> Option<(&'static str, &AdmitConfig)> {
        match self {
            Self::Jwt(config) => config.admit.as_ref().map(|admit| ("jwt", admit)),
            Self::Introspection(config) => config.admit.as_ref().map(|admit| ("introspection", admit)),
            Self::Oidc(config) => config.admit.as_ref().map(|admit| ("oidc", admit)),
            Self::Forward(_) => None,
        }
    }

    /// The secrets of a provider, with their paths from its name.
    fn secrets(&mut self) -> Vec<SecretAt<'_>> {
        let path = ConfigPath::root();
        match self {
            Self::Jwt(JwtConfig { keys: KeysConfig::Secret(secret), .. }) => {
                vec![(path.key("jwt").key("keys").key("secret"), secret)]
            }
            Self::Jwt(_) | Self::Forward(_) => Vec::new(),
            Self::Introspection(config) => {
                vec![(path.key("introspection").key("client_secret"), &mut config.client_secret)]
            }
            Self::Oidc(config) => {
                let path = path.key("oidc");
                config.secrets().into_iter().map(|(rest, secret)| (path.join(&rest), secret)).collect()
            }
        }
    }

    /// The paths of files that it names, but for those of secrets.
    fn files(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Jwt(JwtConfig { keys: KeysConfig::File(file), fetch, .. }) => {
                fetch.call.ca.iter_mut().chain([file]).collect()
            }
            Self::Jwt(config) => config.fetch.call.ca.iter_mut().collect(),
            Self::Introspection(config) => config.call.ca.iter_mut().collect(),
            Self::Oidc(config) => config.call.ca.iter_mut().collect(),
            Self::Forward(config) => config.call.ca.iter_mut().collect(),
        }
    }
}

impl ConsumersConfig {
    /// The secrets in it, with their paths from the root, for who reads those that are in files.
    pub fn secrets(&mut self) -> Vec<SecretAt<'_>> {
        let mut secrets = Vec::new();
        let consumers = ConfigPath::root().key("consumers");
        for (name, consumer) in &mut self.named {
            let is_secret = |credential: &CredentialConfig| credential.secret().is_some();
            if !consumer.credentials.iter().any(is_secret) {
                continue;
            }
            let path = consumers.key(name).key("credentials");
            for (index, credential) in Arc::make_mut(consumer).credentials.iter_mut().enumerate() {
                secrets.extend(credential.secret_mut().map(|(keys, secret)| {
                    (keys.iter().fold(path.index(index), |path, key| path.key(key)), secret)
                }));
            }
        }
        secrets
    }
}

impl CredentialConfig {
    /// What of it is secret, if anything is.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::ApiKey(ApiKeyConfig::Key(key)) => Some(key),
            Self::Basic(password) => Some(&password.hash),
            Self::Signature(signing) => Some(signing.key.material()),
            Self::ApiKey(ApiKeyConfig::Sha256(_)) | Self::Jwt(_) | Self::Certificate(_) => None,
        }
    }

    fn secret_mut(&mut self) -> Option<(&'static [&'static str], &mut Secret)> {
        match self {
            Self::ApiKey(ApiKeyConfig::Key(key)) => Some((&["api_key", "key"], key)),
            Self::Basic(password) => Some((&["basic", "hash"], &mut password.hash)),
            Self::Signature(signing) => Some(signing.key.material_mut()),
            Self::ApiKey(ApiKeyConfig::Sha256(_)) | Self::Jwt(_) | Self::Certificate(_) => None,
        }
    }
}
