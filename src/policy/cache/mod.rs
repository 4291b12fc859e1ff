//! Answers are kept and served again (RFC 9111). What a route says of it is here; the rules are in
//! `cache::rules`, which read the [`Settings`], and requests come to them in `proxy/phases/cache`, after the
//! head pass: whoever may not ask gets nothing from the cache either.
//!
//! ```yaml
//! caches: { default: { memory: 256MiB } }
//! routes:
//!   shop: { policies: { cache: { default_ttl: 60s, grace: 30s, tags_from: surrogate-key } }, to: shop }
//! ```

mod config;
mod settings;

pub use config::{CacheConfig, ClientDirectives, KeyConfig, OnSetCookie};
pub use settings::{Query, SetCookie, Settings};

use super::shared::cel::{Condition, Facts};
use super::{CompileEnv, Policy};
use crate::values::{Finding, Network};
use std::net::IpAddr;

/// A route's caching.
#[derive(Debug)]
pub struct Cache {
    /// What it is done by.
    pub settings: Settings,
    store: Box<str>,
    bypass: Option<Condition>,
    purge_from: Box<[Network]>,
}

impl Policy for Cache {
    const NAME: &'static str = "cache";
    type Config = CacheConfig;

    fn compile(config: &CacheConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        config.compile(env)
    }
}

impl Cache {
    /// The name of the store.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// True if a request goes past the cache. One that cannot be judged does.
    pub fn is_bypassed<'a>(&'a self, facts: &'a Facts<'a>) -> bool {
        self.bypass.as_ref().is_some_and(|condition| condition.holds(facts).unwrap_or(true))
    }

    /// True if it has a condition to look at.
    pub const fn has_condition(&self) -> bool {
        self.bypass.is_some()
    }

    /// True if this client may purge.
    pub fn may_purge(&self, client: IpAddr) -> bool {
        self.purge_from.iter().any(|network| network.contains(client))
    }
}
