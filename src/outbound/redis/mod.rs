//! What several gateways share, outside of them: a Redis server, asked within a few milliseconds.
//!
//! A store has one connection, on which calls do not wait for each other. Nothing waits for it either:
//! without a connection a call fails at once, and so do calls to a server that has gone silent. It is
//! connected to in the background. What a failure means is for the caller to say.

mod config;
mod connect;
mod link;
mod stores;
mod waiting;

pub use config::{RedisClientCertificate, RedisConfig, RedisTls, StoreAddress, StoreConfig};
pub use redis::{Cmd, FromRedisValue, Pipeline, Script, ScriptInvocation, cmd, pipe};
pub use stores::Stores;
pub use waiting::Waiting;

use super::Outbound;
use crate::values::{ConfigPath, Finding, Name, Problem, Secret, pem};
use connect::Target;
use link::Link;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The shortest and the longest time for a call and for connecting, in milliseconds.
const TIMEOUTS: ((u64, u64), (u64, u64)) = ((1, 10_000), (1, 60_000));

/// A store, with a configuration's own deadline and prefix. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    link: Arc<Link>,
    timeout: Duration,
    prefix: Arc<str>,
}

/// Why there is no answer. For the log: it may tell of the inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFailure {
    /// There is no connection.
    Down,
    /// More calls are under way than there may be.
    Busy,
    /// The time was over; whether the command was carried out is not known.
    Timeout(Duration),
    /// The server answered with this error, or with something else than was asked for.
    Refused(String),
    /// The connection broke; whether the command was carried out is not known.
    Broken(String),
}

impl StoreFailure {
    /// As metrics name it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Busy => "busy",
            Self::Timeout(_) => "timeout",
            Self::Refused(_) => "refused",
            Self::Broken(_) => "broken",
        }
    }
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("there is no connection to the store"),
            Self::Busy => f.write_str("too many calls to the store are under way"),
            Self::Timeout(time) => write!(f, "no answer within {}ms", time.as_millis()),
            Self::Refused(why) => write!(f, "the store refused: {why}"),
            Self::Broken(why) => write!(f, "the connection to the store broke: {why}"),
        }
    }
}

/// What a scrape shows of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCount {
    /// Whether there is a connection.
    pub connected: bool,
    /// How often there was none to be had.
    pub connect_failures: u64,
    /// Calls by what became of them.
    pub calls: Vec<(&'static str, u64)>,
}

/// A connection that is known, by all that it is made with.
pub(super) struct Known {
    name: Name,
    config: RedisConfig,
    /// What the files held.
    files: Vec<Vec<u8>>,
    link: Weak<Link>,
}

impl Store {
    /// The key of a piece of state in the store: the prefix, what kind of thing it is, its name.
    pub fn key(&self, kind: &str, name: impl fmt::Display) -> String {
        format!("{}:{kind}:{name}", self.prefix)
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.link.name
    }

    /// Sends a command. Dropping the future leaves it open whether it is carried out.
    ///
    /// # Errors
    /// Why there is no answer of this type.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreFailure> {
        self.link.call(self.timeout, async |mut link| command.query_async(&mut link).await).await
    }

    /// Sends several commands at once; their answers come together.
    ///
    /// # Errors
    /// Why there are no answers of this type.
    pub async fn query_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, StoreFailure> {
        self.link.call(self.timeout, async |mut link| commands.query_async(&mut link).await).await
    }

    /// Runs a script, by its hash; a server that does not know it yet is told, within the same time.
    ///
    /// # Errors
    /// Why there is no answer of this type.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StoreFailure> {
        self.link.call(self.timeout, async |mut link| script.invoke_async(&mut link).await).await
    }

    /// The same store with another deadline for each call: for work that no request waits for.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// True if there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// What a scrape shows.
    pub fn count(&self) -> StoreCount {
        self.link.count()
    }

    /// The connection alone, for who keeps it.
    pub fn keeping(&self) -> Keeping {
        Keeping(Arc::clone(&self.link))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.name()).finish()
    }
}

/// A store's connection, to be kept.
#[derive(Clone)]
pub struct Keeping(Arc<Link>);

impl Keeping {
    /// Connects, again and again. Dropped, it leaves the store without a connection.
    pub async fn keep(self) {
        self.0.keep().await;
    }

    /// Waits until connecting was tried once.
    pub async fn settled(&self) {
        self.0.settled().await;
    }

    /// True once connecting was tried.
    pub fn is_settled(&self) -> bool {
        self.0.is_settled()
    }

    /// The same number for the same connection.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keeping").field(&self.0.name).finish()
    }
}

impl Outbound {
    /// The store that a configuration describes. One that is described as before, but for its deadline
    /// and prefix, keeps its connection. Paths of findings count from the store's name.
    ///
    /// # Errors
    /// All findings, the warnings included, if one of them is an error.
    pub fn store(&self, name: &Name, config: &StoreConfig) -> Result<(Store, Vec<Finding>), Vec<Finding>> {
        let StoreConfig::Redis(redis) = config;
        let root = ConfigPath::root().key("redis");
        let mut found = check(redis);
        let target = Target::compile(redis).map_err(|wrong| found.extend(wrong)).ok();
        let files =
            config.clone().files().into_iter().map(|file| pem::read(file).unwrap_or_default()).collect();
        let found: Vec<Finding> = found.into_iter().map(|finding| finding.under(&root)).collect();
        let is_wrong = found.iter().any(|finding| finding.severity == crate::values::Severity::Error);
        let Some(target) = target.filter(|_| !is_wrong) else { return Err(found) };
        let link = self.link(name, redis, files, target);
        let store = Store { link, timeout: redis.timeout.get(), prefix: redis.prefix.as_str().into() };
        Ok((store, found))
    }

    fn link(&self, name: &Name, config: &RedisConfig, files: Vec<Vec<u8>>, target: Target) -> Arc<Link> {
        let mut links = self.links.lock();
        links.retain(|known| known.link.strong_count() > 0);
        // These two are no part of the connection.
        let config = RedisConfig {
            timeout: crate::values::Duration::from_millis(0),
            prefix: String::new(),
            ..config.clone()
        };
        let is_it = |known: &&Known| known.name == *name && known.config == config && known.files == files;
        if let Some(link) = links.iter().find(is_it).and_then(|known| known.link.upgrade()) {
            return link;
        }
        let link = Arc::new(Link::new(name.as_str(), target, config.connect_timeout.get()));
        links.push(Known { name: name.clone(), config, files, link: Arc::downgrade(&link) });
        link
    }
}

fn check(config: &RedisConfig) -> Vec<Finding> {
    let root = ConfigPath::root();
    let mut found = Vec::new();
    let (calls, connecting) = TIMEOUTS;
    for (field, time, (least, most)) in
        [("timeout", config.timeout, calls), ("connect_timeout", config.connect_timeout, connecting)]
    {
        if !(u128::from(least)..=u128::from(most)).contains(&time.get().as_millis()) {
            let span = crate::values::Duration::from_millis;
            let problem = Problem::new(format!("`{field}` cannot be {time}")).remedy(format!(
                "write a time from {} to {}",
                span(least),
                span(most)
            ));
            found.push(Finding::error(root.key(field), problem));
        }
    }
    let is_prefix = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'{' | b'}');
    if !(1..=64).contains(&config.prefix.len()) || !config.prefix.bytes().all(is_prefix) {
        let problem = Problem::new("it is not a prefix of keys")
            .remedy("write 1 to 64 letters, digits and `.`, `_`, `-`, such as `tollgate`");
        found.push(Finding::error(root.key("prefix"), problem));
    }
    if config.username.is_some() && config.password.is_none() {
        let problem = Problem::new("a user logs in with a password, and there is none")
            .remedy("write `password: ${REDIS_PASSWORD}`");
        found.push(Finding::error(root.key("username"), problem));
    }
    if config.password.as_ref().is_some_and(Secret::is_empty) {
        let problem =
            Problem::new("the password is empty").remedy("set the variable, or leave `password` out");
        found.push(Finding::error(root.key("password"), problem));
    }
    if config.tls.is_none() && config.address.is_remote() {
        let problem =
            Problem::new("what the store is told and asked, its password included, travels in the clear")
                .remedy("write `tls: {}`, or reach it on this machine or by a Unix socket");
        found.push(Finding::warning(root.key("address"), problem));
    }
    found
}
