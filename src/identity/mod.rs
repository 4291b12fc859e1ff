//! Who calls: principals, consumers, and who vouches for them.

pub mod accounts;
mod admission;
mod audiences;
pub mod cause;
pub mod certificate;
mod claimed;
mod claims;
mod client_auth;
pub mod config;
mod consumers;
mod flights;
pub mod forward;
pub mod introspection;
mod json;
pub mod jwt;
pub mod keys;
pub mod oidc;
pub mod passwords;
mod pointer;
pub mod presented;
mod principal;
pub mod revocations;
mod roles;
mod scopes;
pub mod signatures;
mod tokens;
mod upkeep;
mod waiting;

pub use admission::AdmitConfig;
pub use audiences::Audiences;
pub use client_auth::ClientAuth;
pub use consumers::{Consumers, Several};
pub use pointer::Pointer;
pub use principal::{Consumer, Method, Principal};
pub use roles::{PermissionConfig, RequestsConfig, Role, RoleConfig, Roles, RolesConfig};
pub use tokens::TokenCache;
pub use upkeep::Upkeep;

use crate::outbound::Outbound;
use crate::outbound::redis::Stores;
use crate::retained::{Retained, StableId};
use crate::telemetry::metrics::{AuthMetrics, Metrics};
use crate::values::{ConfigPath, Finding, Name};
use accounts::Account;
use config::{ConsumersConfig, IdentityConfig, PlanConfig, ProviderConfig};
use forward::Forward;
use introspection::Introspection;
use jwt::Jwt;
use oidc::{Jar, Oidc};
use passwords::{Passwords, PasswordsConfig};
use revocations::Revocations;
use signatures::Signatures;
use signatures::config::SignaturesConfig;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// What a configuration says of callers.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Who vouches for them.
    pub identity: &'a IdentityConfig,
    /// Who they are.
    pub consumers: &'a ConsumersConfig,
    /// What plans they may have.
    pub plans: &'a BTreeMap<Name, Arc<PlanConfig>>,
    /// What roles they may hold.
    pub roles: &'a RolesConfig,
    /// What gateways share.
    pub stores: &'a Stores,
}

/// [`Sources`], compiled: part of a snapshot, lent to policies while they are compiled.
#[derive(Default)]
pub struct Identity {
    consumers: Arc<Consumers>,
    plans: BTreeMap<Name, Arc<PlanConfig>>,
    providers: HashMap<Name, Provider>,
    accounts: HashMap<Name, Account>,
    passwords: Option<Passwords>,
    signatures: Option<Signatures>,
    upkeep: Vec<Upkeep>,
    /// Names of cookies that are the gateway's own.
    jars: Vec<Jar>,
    revocations: Arc<Revocations>,
    /// Providers and accounts that could not be compiled.
    mistaken: HashSet<Name>,
    roles: Roles,
    metrics: Option<Arc<Metrics>>,
}

/// Somebody who vouches for callers, compiled.
#[derive(Clone, Debug)]
pub enum Provider {
    /// By signed tokens.
    Jwt(Arc<Jwt>),
    /// When asked.
    Introspection(Introspection),
    /// By a login.
    Oidc(Arc<Oidc>),
    /// By what another service says of the request.
    Forward(Arc<Forward>),
}

impl Provider {
    /// Its key in the configuration.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Jwt(_) => "jwt",
            Self::Introspection(_) => "introspection",
            Self::Oidc(_) => "oidc",
            Self::Forward(_) => "forward",
        }
    }
}

/// What identities are compiled with.
#[derive(Clone, Copy, Debug)]
pub struct Building<'a> {
    /// State that outlives a configuration.
    pub retained: &'a Retained,
    /// What calls other services.
    pub outbound: &'a Outbound,
    /// Where verified tokens are kept.
    pub tokens: &'a Arc<TokenCache>,
    /// The known callers.
    pub consumers: &'a Arc<Consumers>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("consumers", &self.consumers.len()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Compiles what can be, and tells all that is wrong with the rest, with paths from the root.
    pub fn compile(
        sources: Sources<'_>,
        (retained, outbound): (&Retained, &Outbound),
        metrics: &Arc<Metrics>,
    ) -> (Self, Vec<Finding>) {
        let mut found = Vec::new();
        let known = consumers::Known { plans: sources.plans, providers: &sources.identity.providers };
        let consumers = Consumers::compile(sources.consumers, known, retained, &mut found);
        let (roles, wrong) = Roles::compile(sources.roles);
        found.extend(wrong);
        found.extend(roles::unknown_consumers(sources.roles, &consumers));
        let consumers = Arc::new(consumers);
        let replay = retained.get_or_carried(StableId::new("signatures", ""), Signatures::room);
        let signatures = Signatures::new(&sources.identity.signatures, &consumers, &replay);
        let mut identity = Self {
            consumers: Arc::clone(&consumers),
            plans: sources.plans.clone(),
            roles,
            passwords: Some(Passwords::new(&sources.identity.passwords, &consumers, retained)),
            signatures: Some(signatures),
            metrics: Some(Arc::clone(metrics)),
            ..Self::default()
        };
        let room = sources.identity.token_cache.bytes();
        let tokens = retained.get_or(StableId::new("tokens", ""), || TokenCache::new(room));
        tokens.resize(room);
        let building = Building { retained, outbound, tokens: &tokens, consumers: &consumers };
        let section = |name: &str| ConfigPath::root().key("identity").key(name);
        for (name, config) in &sources.identity.providers {
            if let Err(wrong) = identity.add_provider(name, config, &building) {
                found.extend(under(&section("providers").key(name), wrong));
                identity.mistaken.insert(name.clone());
            }
        }
        match Revocations::compile(&sources.identity.revocations, retained, sources.stores) {
            Ok((revocations, upkeep)) => {
                identity.revocations = revocations;
                identity.upkeep.push(upkeep);
            }
            Err(wrong) => found.extend(under(&section("revocations"), wrong)),
        }
        for (name, config) in &sources.identity.accounts {
            match Account::compile(name.as_str(), config, &building) {
                Ok((account, upkeep)) => {
                    identity.accounts.insert(name.clone(), account);
                    identity.upkeep.extend(upkeep);
                }
                Err(wrong) => {
                    found.extend(under(&section("accounts").key(name), wrong));
                    identity.mistaken.insert(name.clone());
                }
            }
        }
        (identity, found)
    }

    fn add_provider(
        &mut self,
        name: &Name,
        config: &ProviderConfig,
        building: &Building<'_>,
    ) -> Result<(), Vec<Finding>> {
        let at = |key: &str| ConfigPath::root().key(key);
        let provider = match config {
            ProviderConfig::Jwt(config) => {
                let compiled = Jwt::compile(name.as_str(), config, building);
                let (jwt, upkeep) = compiled.map_err(|found| under(&at("jwt"), found))?;
                self.upkeep.extend(upkeep);
                Provider::Jwt(Arc::new(jwt))
            }
            ProviderConfig::Oidc(config) => {
                let compiled = Oidc::compile(name.as_str(), config, building);
                let (oidc, upkeep) = compiled.map_err(|found| under(&at("oidc"), found))?;
                self.upkeep.extend(upkeep);
                self.jars.push(oidc.jar().clone());
                Provider::Oidc(Arc::new(oidc))
            }
            ProviderConfig::Forward(config) => {
                let compiled = Forward::compile(name.as_str(), config, building);
                Provider::Forward(Arc::new(compiled.map_err(|found| under(&at("forward"), found))?))
            }
            ProviderConfig::Introspection(config) => {
                let compiled = Introspection::compile(name.as_str(), config, building);
                Provider::Introspection(compiled.map_err(|found| under(&at("introspection"), found))?)
            }
        };
        self.providers.insert(name.clone(), provider);
        Ok(())
    }

    /// The provider of this name.
    pub fn provider(&self, name: &Name) -> Option<&Provider> {
        self.providers.get(name)
    }

    /// The providers, by name.
    pub const fn providers(&self) -> &HashMap<Name, Provider> {
        &self.providers
    }

    /// True if a provider or account of this name could not be compiled.
    pub fn has_mistakes(&self, name: &Name) -> bool {
        self.mistaken.contains(name)
    }

    /// The names of the providers.
    pub fn provider_names(&self) -> impl Iterator<Item = &str> {
        self.providers.keys().map(Name::as_str)
    }

    /// The account of this name.
    pub fn account(&self, name: &Name) -> Option<&Account> {
        self.accounts.get(name)
    }

    /// The names of the accounts.
    pub fn account_names(&self) -> impl Iterator<Item = &str> {
        self.accounts.keys().map(Name::as_str)
    }

    /// True for the name of a cookie that is the gateway's own; no upstream gets it.
    pub fn owns_cookie(&self, name: &[u8]) -> bool {
        self.jars.iter().any(|jar| jar.owns(name))
    }

    /// Whose cookies are the gateway's own.
    pub fn jars(&self) -> &[Jar] {
        &self.jars
    }

    /// True if the gateway has cookies of its own.
    pub fn has_cookies(&self) -> bool {
        !self.jars.is_empty()
    }

    /// What has to be done beside requests.
    pub fn upkeep(&self) -> &[Upkeep] {
        &self.upkeep
    }

    /// What does not count any more.
    pub const fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// The known callers.
    pub fn consumers(&self) -> &Arc<Consumers> {
        &self.consumers
    }

    /// Who has which password.
    pub fn passwords(&self) -> Passwords {
        let none = || Passwords::new(&PasswordsConfig::default(), &self.consumers, &Retained::default());
        self.passwords.clone().unwrap_or_else(none)
    }

    /// Whose keys sign requests, and which were let in.
    pub fn signatures(&self) -> Signatures {
        let none = || {
            let replay = Arc::new(Signatures::room());
            Signatures::new(&SignaturesConfig::default(), &self.consumers, &replay)
        };
        self.signatures.clone().unwrap_or_else(none).without(&self.revocations)
    }

    /// What callers may do, by roles.
    pub const fn roles(&self) -> &Roles {
        &self.roles
    }

    /// What consumers' plans say.
    pub const fn plans(&self) -> &BTreeMap<Name, Arc<PlanConfig>> {
        &self.plans
    }

    /// Counts a caller that may not do what it asked for, by the cause.
    pub fn denied(&self, cause: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.denied(cause);
        }
    }

    /// What a way to authenticate counts on; `provider` is the name of a provider, if it has one.
    pub fn counters(&self, method: &'static str, provider: Option<&str>) -> Arc<AuthMetrics> {
        match &self.metrics {
            Some(metrics) => metrics.authentication(method, provider),
            None => Arc::new(AuthMetrics::unseen(method)),
        }
    }

    /// One that knows these roles and nobody: for policies by themselves.
    pub fn with_roles(roles: Roles) -> Self {
        Self { roles, ..Self::default() }
    }
}

fn under(path: &ConfigPath, found: Vec<Finding>) -> Vec<Finding> {
    found.into_iter().map(|finding| finding.under(path)).collect()
}
