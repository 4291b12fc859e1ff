//! One way to prove who calls: which there are, and what each has to say.

use super::api_key::{self, ApiKey, ApiKeyConfig};
use super::basic::{Basic, BasicConfig};
use super::certificate::{self, Certificate, CertificateConfig};
use super::oidc::{self, Login};
use super::signature::{HmacConfig, Signature, SignatureConfig};
use super::{Attempt, bearer, forward, introspection, jwt};
use crate::identity::introspection::Introspection;
use crate::identity::jwt::Jwt;
use crate::identity::{Identity, Provider};
use crate::policy::context::PolicyContext;
use crate::policy::shared::strip;
use crate::telemetry::metrics::AuthMetrics;
use crate::values::{ConfigPath, Finding, Name, Problem};
use http::HeaderValue;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One way to prove who calls.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WayConfig {
    /// A consumer's API key.
    ApiKey(ApiKeyConfig),
    /// A signed token of this provider in `identity.providers`.
    Jwt(Name),
    /// A token that this provider in `identity.providers` is asked about.
    Introspection(Name),
    /// A login with this provider in `identity.providers`. A person who opens a page without one is
    /// sent there; programs get a 401.
    Oidc(Name),
    /// A client certificate that the listener has verified.
    Certificate(CertificateConfig),
    /// A user name with a password.
    Basic(BasicConfig),
    /// A signed request (RFC 9421).
    Signature(SignatureConfig),
    /// A request that is signed with a shared secret in a simple way.
    Hmac(HmacConfig),
    /// What this provider in `identity.providers`, another service, says of the request.
    Forward(Name),
}

/// A way, compiled. A new one is a file beside this one, a variant here and one in [`WayConfig`].
#[derive(Debug)]
pub(super) enum Way {
    ApiKey(ApiKey),
    Jwt(Arc<Jwt>),
    Introspection(Introspection),
    Oidc(Login),
    Certificate(Certificate),
    Basic(Basic),
    Signature(Signature),
    Forward(forward::Asked),
}

impl Way {
    /// Compiles one, with what it counts on.
    pub(super) fn compile(
        config: &WayConfig,
        identity: &Identity,
    ) -> Result<(Self, Arc<AuthMetrics>), Vec<Finding>> {
        match config {
            WayConfig::ApiKey(config) => {
                let way = ApiKey::compile(config, identity).map_err(|found| under("api_key", found))?;
                Ok((Self::ApiKey(way), identity.counters("api_key", None)))
            }
            WayConfig::Jwt(name) => match identity.provider(name) {
                Some(Provider::Jwt(jwt)) => {
                    Ok((Self::Jwt(Arc::clone(jwt)), identity.counters("jwt", Some(name.as_str()))))
                }
                _ => Err(unknown("jwt", name, identity)),
            },
            WayConfig::Introspection(name) => match identity.provider(name) {
                Some(Provider::Introspection(asked)) => {
                    let counters = identity.counters("introspection", Some(name.as_str()));
                    Ok((Self::Introspection(asked.clone()), counters))
                }
                _ => Err(unknown("introspection", name, identity)),
            },
            WayConfig::Oidc(name) => match identity.provider(name) {
                Some(Provider::Oidc(provider)) => {
                    let login = Login::new(Arc::clone(provider), identity);
                    Ok((Self::Oidc(login), identity.counters("oidc", Some(name.as_str()))))
                }
                _ => Err(unknown("oidc", name, identity)),
            },
            WayConfig::Forward(name) => match identity.provider(name) {
                Some(Provider::Forward(provider)) => {
                    let counters = identity.counters("forward", Some(name.as_str()));
                    Ok((Self::Forward(forward::Asked::new(provider, identity)), counters))
                }
                _ => Err(unknown("forward", name, identity)),
            },
            WayConfig::Signature(config) => {
                let way = Signature::compile(config, identity).map_err(|found| under("signature", found))?;
                Ok((Self::Signature(way), identity.counters("signature", None)))
            }
            WayConfig::Hmac(config) => {
                let way =
                    Signature::compile_simple(config, identity).map_err(|found| under("hmac", found))?;
                Ok((Self::Signature(way), identity.counters("hmac", None)))
            }
            WayConfig::Basic(config) => {
                let way = Basic::compile(config, identity).map_err(|found| under("basic", found))?;
                Ok((Self::Basic(way), identity.counters("basic", None)))
            }
            WayConfig::Certificate(config) => {
                let way = Certificate::compile(config, identity);
                Ok((Self::Certificate(way), identity.counters("certificate", None)))
            }
        }
    }

    /// True if it may know more of a caller than the configuration does: claims, scopes.
    pub(super) const fn has_claims(&self) -> bool {
        match self {
            Self::ApiKey(_) | Self::Certificate(_) | Self::Basic(_) | Self::Signature(_) => false,
            Self::Jwt(_) | Self::Introspection(_) | Self::Oidc(_) | Self::Forward(_) => true,
        }
    }

    pub(super) fn attempt<'a>(&'a self, head: &'a RequestHeader, cx: &PolicyContext) -> Attempt<'a> {
        match self {
            Self::ApiKey(way) => way.attempt(head, cx),
            Self::Jwt(provider) => jwt::attempt(provider, head, cx),
            Self::Introspection(provider) => introspection::attempt(provider, head, cx),
            Self::Oidc(login) => login.attempt(head, cx),
            Self::Certificate(way) => way.attempt(cx),
            Self::Basic(way) => way.attempt(head, cx),
            Self::Signature(way) => way.attempt(head, cx),
            Self::Forward(asked) => forward::attempt(asked, head, cx),
        }
    }

    /// What this way has for somebody who came with no credential at all.
    pub(super) fn invite<'a>(&'a self, head: &RequestHeader, cx: &PolicyContext) -> Option<Attempt<'a>> {
        match self {
            Self::Oidc(login) => login.invite(head, cx),
            Self::ApiKey(_)
            | Self::Jwt(_)
            | Self::Introspection(_)
            | Self::Certificate(_)
            | Self::Basic(_)
            | Self::Signature(_)
            | Self::Forward(_) => None,
        }
    }

    /// What a 401 says of this way (RFC 9110 section 11.6.1), given the error of a bearer token that was
    /// refused.
    pub(super) fn challenge(&self, error: Option<&'static str>) -> Option<HeaderValue> {
        match self {
            Self::ApiKey(_) => Some(api_key::CHALLENGE),
            Self::Jwt(_) | Self::Introspection(_) => Some(bearer::challenge(error)),
            Self::Oidc(_) => Some(oidc::CHALLENGE),
            Self::Certificate(_) => Some(certificate::CHALLENGE),
            Self::Basic(way) => Some(way.challenge()),
            Self::Signature(way) => Some(way.challenge()),
            Self::Forward(_) => Some(forward::CHALLENGE),
        }
    }

    /// Keeps its credential from the upstream, where asked to.
    pub(super) fn strip(&self, head: &RequestHeader, cx: &mut PolicyContext) {
        match self {
            Self::ApiKey(way) => way.strip(head, cx),
            Self::Basic(way) => way.strip(head, cx),
            Self::Signature(way) => way.strip(head, cx),
            Self::Forward(asked) => forward::strip(asked, cx),
            Self::Jwt(provider) if !provider.forward() => strip::token(provider.places(), head, cx),
            Self::Introspection(provider) if !provider.forward() => {
                strip::token(provider.places(), head, cx);
            }
            // What a login keeps with the browser goes upstream on no route at all.
            // A certificate is the connection's and goes nowhere.
            Self::Jwt(_) | Self::Introspection(_) | Self::Oidc(_) | Self::Certificate(_) => {}
        }
    }
}

fn under(key: &str, found: Vec<Finding>) -> Vec<Finding> {
    let path = ConfigPath::root().key(key);
    found.into_iter().map(|finding| finding.under(&path)).collect()
}

/// A provider that is not there, or is of another kind; nothing if it has mistakes of its own.
fn unknown(kind: &'static str, name: &Name, identity: &Identity) -> Vec<Finding> {
    let problem = match identity.provider(name) {
        None if identity.has_mistakes(name) => return Vec::new(),
        None => Problem::unknown("provider", name.as_str(), identity.provider_names()),
        Some(other) => Problem::new(format!("the provider `{name}` is not of the kind `{kind}`"))
            .remedy(format!("write `{{ {}: {name} }}`", other.kind())),
    };
    vec![Finding::error(ConfigPath::root().key(kind), problem)]
}
