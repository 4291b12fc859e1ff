//! What the gateway proves itself by at upstreams: a header field, tokens of its own (client credentials,
//! RFC 6749 section 4.4), and tokens in exchange for a caller's (RFC 8693).

mod config;
mod token;

pub use config::{AccountConfig, ClientConfig, HeaderConfig};
pub use token::{Denied, Token};

use super::client_auth::Credentials;
use super::flights::Flights;
use super::tokens::{Id, Prefix, Seed};
use super::{Building, Upkeep};
use crate::outbound::Client;
use crate::retained::StableId;
use crate::telemetry::random;
use crate::values::{ConfigPath, Finding, Problem, ServiceUrl, Sha256};
use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep_until, timeout};

/// The kind of token that is exchanged and asked for (RFC 8693, section 3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The grant of an exchange (RFC 8693, section 2.1).
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The most exchanges under way at a time.
const IN_FLIGHT: usize = 256;
/// How long the answer counts that a caller's token is not taken.
const NEGATIVE: Duration = Duration::from_secs(5);
/// The first of the waits after failures; each further one is twice as long, the last is the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// An account, compiled.
#[derive(Clone, Debug)]
pub enum Account {
    /// A header field.
    Header(HeaderName, HeaderValue),
    /// Tokens of the gateway's own.
    Own(TokenClient),
    /// Tokens in exchange for callers'.
    Exchange(TokenClient),
}

impl Account {
    /// Compiles an account, with what has to be done beside requests.
    ///
    /// # Errors
    /// All that is wrong with it, with paths from its name.
    pub(super) fn compile(
        name: &str,
        config: &AccountConfig,
        building: &Building<'_>,
    ) -> Result<(Self, Option<Upkeep>), Vec<Finding>> {
        let under = |key: &str, found| super::under(&ConfigPath::root().key(key), found);
        match config {
            AccountConfig::Header(config) => {
                let header = header(config).map_err(|finding| under("header", vec![finding]))?;
                Ok((Self::Header(header.0, header.1), None))
            }
            AccountConfig::ClientCredentials(config) => {
                let client = TokenClient::compile(name, config, building);
                let (client, upkeep) = client.map_err(|found| under("client_credentials", found))?;
                Ok((Self::Own(client), Some(upkeep)))
            }
            AccountConfig::TokenExchange(config) => {
                let client = TokenClient::compile(name, config, building);
                let (client, _) = client.map_err(|found| under("token_exchange", found))?;
                Ok((Self::Exchange(client), None))
            }
        }
    }
}

fn header(config: &HeaderConfig) -> Result<(HeaderName, HeaderValue), Finding> {
    let at = |key: &str, problem: Problem| Finding::error(ConfigPath::root().key(key), problem);
    let name = HeaderName::try_from(config.name.as_str()).map_err(|_| {
        let shown: String = config.name.chars().take(40).collect();
        let problem = Problem::new(format!("{shown:?} is not the name of a header field"));
        at("name", problem.remedy("write one such as `authorization`"))
    })?;
    let mut value = HeaderValue::try_from(config.value.expose()).map_err(|_| {
        let problem = Problem::new("this cannot be the value of a header field");
        at("value", problem.remedy("use visible ASCII characters and spaces"))
    })?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The gateway as a client of an authorisation server, compiled.
#[derive(Clone, Debug)]
pub struct TokenClient {
    grants: Arc<Grants>,
    state: Arc<State>,
    wait: Duration,
    prefix: Prefix,
}

/// How tokens are asked for.
#[derive(Debug)]
struct Grants {
    name: Box<str>,
    url: ServiceUrl,
    credentials: Credentials,
    client: Client,
    /// `scope`, `audience` and `resource`, as far as they are said.
    fields: Vec<(&'static str, String)>,
    lifetime: Duration,
}

/// Tokens that are there. Outlives configurations.
#[derive(Debug)]
struct State {
    own: ArcSwapOption<Token>,
    /// Counts attempts to get an own one.
    attempts: watch::Sender<u64>,
    wanted: Notify,
    seed: Seed,
    exchanged: Cache<Id, Exchanged>,
    flights: Arc<Flights<Id, Exchanged>>,
}

/// What came of an exchange; a refusal counts until then.
#[derive(Clone, Debug)]
enum Exchanged {
    Granted(Arc<Token>),
    Denied(Arc<Denied>, Instant),
}

impl TokenClient {
    fn compile(
        name: &str,
        config: &ClientConfig,
        building: &Building<'_>,
    ) -> Result<(Self, Upkeep), Vec<Finding>> {
        let at = |key: &str, problem| vec![Finding::error(ConfigPath::root().key(key), problem)];
        if config.client_id.is_empty() {
            let problem = Problem::new("the client has no name").remedy("write the one it has there");
            return Err(at("client_id", problem));
        }
        let client = building
            .outbound
            .client(&config.call)
            .map_err(|problem| vec![Finding::error(ConfigPath::root().key("call").key("ca"), problem)])?;
        let mut fields = Vec::new();
        if !config.scopes.is_empty() {
            fields.push(("scope", config.scopes.join(" ")));
        }
        fields.extend(config.audience.iter().map(|audience| ("audience", audience.clone())));
        fields.extend(config.resource.iter().map(|resource| ("resource", resource.clone())));
        let grants = Arc::new(Grants {
            name: name.into(),
            url: config.token_url.clone(),
            credentials: Credentials {
                id: config.client_id.clone(),
                secret: config.client_secret.clone(),
                auth: config.client_auth,
            },
            client,
            fields,
            lifetime: config.lifetime.get(),
        });
        // Tokens for something else, or of another client, are other tokens.
        let id = format!("{} {} {:?}", config.token_url, config.client_id, grants.fields);
        let callers = config.callers.get() as usize;
        let state = building.retained.get_or(StableId::new("account", &id), || State::new(callers));
        state.resize(config.callers.get().into());
        let secret = Sha256::of(config.client_secret.expose().as_bytes());
        let upkeep = {
            let (grants, state) = (Arc::clone(&grants), Arc::clone(&state));
            Upkeep::new(format!("account {id}"), format!("{config:?} {secret}"), move || {
                let (grants, state) = (Arc::clone(&grants), Arc::clone(&state));
                Box::pin(async move { state.keep_fresh(&grants).await })
            })
        };
        let prefix = state.seed.prefix(Sha256::of(id.as_bytes()).bytes());
        Ok((Self { grants, state, wait: config.wait.get(), prefix }, upkeep))
    }

    /// The gateway's own token, if there is one that counts.
    pub fn own(&self, now: Instant) -> Option<Arc<Token>> {
        self.state.own.load_full().filter(|token| now < token.until)
    }

    /// Waits for an own token.
    ///
    /// # Errors
    /// If there is none in time, for the log.
    pub async fn wait_for_own(&self) -> Result<Arc<Token>, Denied> {
        let mut attempts = self.state.attempts.subscribe();
        attempts.mark_unchanged();
        self.state.wanted.notify_one();
        let attempt = async {
            loop {
                if let Some(token) = self.own(Instant::now()) {
                    return Some(token);
                }
                attempts.changed().await.ok()?;
            }
        };
        let token = timeout(self.wait, attempt).await.ok().flatten();
        token.ok_or_else(|| Denied::Failed("there is no token yet".to_owned()))
    }

    /// The token that was exchanged for a caller's, if one is there that counts, or why there is none.
    pub fn exchanged(&self, subject: &str, now: Instant) -> Option<Result<Arc<Token>, Arc<Denied>>> {
        match self.state.exchanged.get(&self.prefix.id(subject))? {
            Exchanged::Granted(token) if now < token.until => Some(Ok(token)),
            Exchanged::Denied(denied, until) if now < until => Some(Err(denied)),
            _ => None,
        }
    }

    /// Exchanges a caller's token.
    ///
    /// # Errors
    /// Why there is none for it.
    pub async fn exchange(&self, subject: &str) -> Result<Arc<Token>, Arc<Denied>> {
        let id = self.prefix.id(subject);
        let call = || {
            let (grants, state, subject) =
                (Arc::clone(&self.grants), Arc::clone(&self.state), subject.to_owned());
            async move {
                let exchanged = grants.exchange(&subject).await;
                state.exchanged.insert(id, exchanged.clone());
                exchanged
            }
        };
        match self.state.flights.join(id, IN_FLIGHT, call).await {
            Some(Exchanged::Granted(token)) => Ok(token),
            Some(Exchanged::Denied(denied, _)) => Err(denied),
            None => Err(Arc::new(Denied::Failed("too many tokens are being exchanged".to_owned()))),
        }
    }
}

impl Grants {
    async fn ask(&self, grant: &[(&str, &str)]) -> Result<Token, Denied> {
        let said = self.fields.iter().map(|(name, value)| (*name, value.as_str()));
        let fields: Vec<(&str, &str)> = grant.iter().copied().chain(said).collect();
        let asked = Instant::now();
        let answer = self.client.call(self.credentials.form(&self.url, &fields)).await;
        Token::read(answer, asked, self.lifetime)
    }

    async fn exchange(&self, subject: &str) -> Exchanged {
        let grant = [
            ("grant_type", EXCHANGE),
            ("subject_token", subject),
            ("subject_token_type", ACCESS_TOKEN),
            ("requested_token_type", ACCESS_TOKEN),
        ];
        match self.ask(&grant).await {
            Ok(token) => Exchanged::Granted(Arc::new(token)),
            Err(denied) => {
                log::debug!("token not exchanged client={} cause={denied}", self.name);
                // A server that failed is asked again at once; one that refused has said something.
                let counts = if matches!(denied, Denied::Refused(_)) { NEGATIVE } else { Duration::ZERO };
                Exchanged::Denied(Arc::new(denied), Instant::now() + counts)
            }
        }
    }
}

impl State {
    fn new(callers: usize) -> Self {
        Self {
            own: ArcSwapOption::empty(),
            attempts: watch::Sender::default(),
            wanted: Notify::default(),
            seed: Seed::new(),
            exchanged: Cache::new(callers),
            flights: Arc::default(),
        }
    }

    fn resize(&self, callers: u64) {
        if self.exchanged.capacity() != callers {
            self.exchanged.set_capacity(callers);
        }
    }

    /// Gets an own token at once, and the next one before it ends. Never ends.
    async fn keep_fresh(&self, grants: &Grants) {
        let mut wait = RETRY.0;
        let mut due = self.own.load().as_ref().map_or_else(Instant::now, |token| token.refresh);
        let mut told = None;
        loop {
            tokio::select! {
                () = sleep_until(due.into()) => {}
                () = self.wanted.notified() => {
                    // Nobody waits while there is one. While there is none, no more often than this.
                    if self.own.load().as_ref().is_some_and(|token| Instant::now() < token.until) {
                        continue;
                    }
                    sleep_until(due.min(Instant::now() + RETRY.0).into()).await;
                }
            }
            match grants.ask(&[("grant_type", "client_credentials")]).await {
                Ok(token) => {
                    if told.take().is_some() {
                        log::info!("token granted again client={}", grants.name);
                    }
                    wait = RETRY.0;
                    due = token.refresh.max(Instant::now() + RETRY.0);
                    self.own.store(Some(Arc::new(token)));
                }
                Err(denied) => {
                    let denied = denied.to_string();
                    if told.as_ref() != Some(&denied) {
                        log::warn!("no token granted client={} cause={denied:?}", grants.name);
                    }
                    told = Some(denied);
                    let chance = (random::next_u64() % 1024) as f64 / 4096.0;
                    due = Instant::now() + wait.mul_f64(1.0 - chance);
                    wait = (wait * 2).min(RETRY.1);
                }
            }
            self.attempts.send_modify(|attempts| *attempts += 1);
        }
    }
}
