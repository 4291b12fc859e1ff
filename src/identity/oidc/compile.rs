//! From what a configuration says of a login to an [`Oidc`].

use super::config::{LogoutConfig, OidcConfig};
use super::cookies::Jar;
use super::issuer::Issuer;
use super::provider::{Logout, Memory, Oidc};
use super::seal::Sealer;
use super::session::Lifetimes;
use crate::identity::audiences::Audiences;
use crate::identity::jwt::{FetchConfig, Jwt, JwtConfig, KeysConfig};
use crate::identity::presented::bearer;
use crate::identity::{Building, Upkeep};
use crate::retained::StableId;
use crate::values::{ByteSize, ConfigPath, Duration, Finding, Problem, ServiceUrl};
use std::sync::Arc;

impl Oidc {
    /// Compiles a provider, with what has to be done beside requests.
    ///
    /// # Errors
    /// All that is wrong with it, with paths from its own key.
    pub(in crate::identity) fn compile(
        name: &str,
        config: &OidcConfig,
        building: &Building<'_>,
    ) -> Result<(Self, Vec<Upkeep>), Vec<Finding>> {
        let found = config.findings();
        if !found.is_empty() {
            return Err(found);
        }
        let root = ConfigPath::root();
        let (jwt, keys) = Jwt::compile(name, &id_tokens(config), building)?;
        let client = building
            .outbound
            .client(&config.call)
            .map_err(|problem| vec![Finding::error(root.key("call").key("ca"), problem)])?;
        let issuer = config.issuer.as_str();
        // Another client, or another place to come back to, is another thing altogether.
        let id = format!("{name} {issuer} {} {}", config.client_id, config.redirect_uri);
        let memory = building.retained.get_or(StableId::new("oidc", &id), Memory::default);
        let sealer = Sealer::new(&config.cookies.keys, &id).map_err(|_| {
            let problem =
                Problem::new("the keys cannot be used").remedy("make one with `openssl rand -base64 32`");
            vec![Finding::error(root.key("cookies").key("keys"), problem)]
        })?;
        let issuer = Arc::new(Issuer {
            name: issuer.into(),
            client_id: config.client_id.as_str().into(),
            credentials: config.credentials(),
            userinfo: config.userinfo,
            jwt,
            client,
            known: Arc::clone(&memory.issuer),
        });
        let redirect = config.redirect_uri.get();
        let base = config.cookies.name.clone().unwrap_or_else(|| format!("tollgate-{name}"));
        let parameters = config.parameters.iter();
        let oidc = Self {
            name: name.into(),
            issuer: Arc::clone(&issuer),
            callback: redirect.path().into(),
            origin: redirect.origin().ascii_serialization().into(),
            host: redirect.host_str().unwrap_or_default().into(),
            scope: config.scope().into(),
            parameters: parameters.map(|(n, v)| (n.as_str().into(), v.as_str().into())).collect(),
            claims: config.claims.as_ref().map(|list| list.iter().map(|n| n.as_str().into()).collect()),
            jar: Jar::new(&base, redirect.scheme() == "https"),
            sealer,
            lifetimes: lifetimes(config),
            login_time: config.session.login.get().as_secs(),
            logout: config
                .logout
                .as_ref()
                .map(|logout| self::logout(logout, &config.redirect_uri))
                .transpose()?,
            redirect_uri: config.redirect_uri.clone(),
            memory,
        };
        let settings = format!("{:?}", config.call);
        let metadata = Upkeep::new(format!("issuer {id}"), settings, move || {
            let issuer = Arc::clone(&issuer);
            Box::pin(async move { issuer.keep_known().await })
        });
        Ok((oidc, keys.into_iter().chain([metadata]).collect()))
    }
}

/// What an ID token has to be, as any token.
fn id_tokens(config: &OidcConfig) -> JwtConfig {
    JwtConfig {
        admit: None,
        issuer: config.issuer.clone(),
        audiences: Audiences::Of(vec![config.client_id.clone()]),
        algorithms: config.algorithms.clone(),
        keys: KeysConfig::Discover,
        fetch: FetchConfig { call: config.call.clone(), ..FetchConfig::default() },
        required: ["exp", "iat", "sub"].map(String::from).to_vec(),
        leeway: Duration::from_secs(30),
        max_age: None,
        kind: None,
        max_size: ByteSize::kib(16),
        from: bearer(),
        forward: false,
    }
}

fn lifetimes(config: &OidcConfig) -> Lifetimes {
    let seconds = |time: Duration| time.get().as_secs();
    Lifetimes {
        absolute: seconds(config.session.max_age),
        idle: seconds(config.session.idle),
        refresh_before: seconds(config.session.refresh_before),
    }
}

fn logout(config: &LogoutConfig, redirect_uri: &ServiceUrl) -> Result<Logout, Vec<Finding>> {
    let root = || redirect_uri.get().join("/").ok().and_then(|url| url.as_str().parse().ok());
    let return_to = config.return_to.clone().or_else(root).ok_or_else(Vec::new)?;
    Ok(Logout { path: config.path.as_str().into(), return_to, provider: config.provider })
}
