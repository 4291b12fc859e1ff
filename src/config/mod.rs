//! Text to model: the one door is [`load`].
//!
//! A file becomes a tree that knows its places (`tree`), variables are replaced in it
//! (`environment`), it is read into the model (`de`, `read`), several files are put together
//! (`load`), and what the types alone cannot say is checked (`check`).

mod check;
mod de;
mod environment;
mod error;
mod load;
mod misfit;
pub mod model;
mod read;
mod secrets;
mod source;
mod syntax;
mod tree;
mod view;

pub use environment::{Environment, ProcessEnvironment};
pub use error::{ConfigError, ConfigErrors, Snippet, Spot};
pub use load::{Loaded, Loader, Reading, load};
pub use source::Sources;

use crate::identity::RolesConfig;
use crate::identity::config::{ConsumersConfig, IdentityConfig, PlanConfig};
use crate::outbound::redis::StoreConfig;
use crate::policy::config::Setting;
use crate::values::{ConfigPath, Name};
use model::{Document, GatewayPolicies, host::Host, listener::Listener, process, route::Route, telemetry};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A configuration: all files together, paths resolved, secrets read.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process as a whole.
    pub process: process::Process,
    /// The admin listener, unless it is off.
    pub admin: Option<process::Admin>,
    /// What the gateway says about itself.
    pub telemetry: telemetry::Telemetry,
    /// How names are resolved.
    pub dns: model::dns::Dns,
    /// What several gateways share.
    pub stores: BTreeMap<Name, Arc<StoreConfig>>,
    /// Stores of answers.
    pub caches: BTreeMap<Name, Arc<model::cache::CacheStore>>,
    /// Where clients connect.
    pub listeners: BTreeMap<Name, Arc<Listener>>,
    /// Where requests go.
    pub upstreams: BTreeMap<Name, Arc<model::upstream::Upstream>>,
    /// Who vouches for callers.
    pub identity: IdentityConfig,
    /// Known callers.
    pub consumers: ConsumersConfig,
    /// Plans that consumers may have.
    pub plans: BTreeMap<Name, Arc<PlanConfig>>,
    /// What callers may do and who may do it.
    pub roles: RolesConfig,
    /// Policies of the whole gateway.
    pub policies: GatewayPolicies,
    /// Hosts that differ from the defaults, as they are written.
    pub hosts: BTreeMap<String, Arc<Host>>,
    /// Which request goes where.
    pub routes: BTreeMap<Name, Arc<Route>>,
    /// The files that it was read from.
    pub sources: Arc<Sources>,
    secret_files: Vec<PathBuf>,
}

/// What is in force where nothing is said.
impl Default for Config {
    fn default() -> Self {
        let document = Document::default();
        Self {
            process: process::Process::default(),
            admin: Setting::<process::Admin>::default().on().cloned(),
            telemetry: telemetry::Telemetry::default(),
            dns: model::dns::Dns::default(),
            stores: document.stores,
            caches: document.caches,
            listeners: document.listeners,
            upstreams: document.upstreams,
            identity: IdentityConfig::default(),
            consumers: document.consumers,
            plans: document.plans,
            roles: document.roles,
            policies: GatewayPolicies::default(),
            hosts: document.hosts,
            routes: document.routes,
            sources: Arc::default(),
            secret_files: Vec::new(),
        }
    }
}

impl Config {
    /// Where something is written: of a scalar the value, of a map or list its key. `None` if it is
    /// in no file, such as a default.
    pub fn place(&self, path: &ConfigPath) -> Option<Spot> {
        let locator = source::Locator::new(&self.sources);
        locator.exact(path)
    }
}

/// The JSON Schema of a configuration file (draft 2020-12), for editors.
pub fn schema() -> serde_json::Value {
    let schema = schemars::schema_for!(Document);
    schema.to_value()
}

/// [`schema`] as text, as it stands in `conf/schema.json`.
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}
