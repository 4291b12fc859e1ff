//! A configuration as requests use it: immutable, names resolved to indices.

use super::body_memory::BodyMemory;
use super::fallback::Fallback;
use super::pages::Pages;
use crate::cache::store::Store;
use crate::compose::Local;
use crate::config::Config;
use crate::config::model::listener as model;
use crate::config::model::route::{RouteTimeouts, Sticky, Upgrade};
use crate::config::model::upstream::RouteRetry;
use crate::identity::Identity;
use crate::listen::tls::TlsSetup;
use crate::message::normalize;
use crate::outbound::redis::Stores;
use crate::policy::chain::Chain;
use crate::retained::Carried;
use crate::routing::Router;
use crate::telemetry::metrics::{ListenerMetrics, RouteMetrics, SnapshotGuard, UpstreamMetrics};
use crate::upstream::Upstream;
use crate::values::{Importance, ListenerId, Name, RouteId};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A configuration, compiled. A request holds one from its beginning to its end.
pub struct Snapshot {
    /// What it was compiled from.
    pub config: Arc<Config>,
    /// Which route a request is for.
    pub router: Router,
    /// The routes, by [`RouteId`].
    pub routes: Box<[Route]>,
    /// The upstreams, by the indices in [`Target`].
    pub upstreams: Box<[(Upstream, Arc<UpstreamMetrics>)]>,
    /// The listeners, by [`ListenerId`]; a place is empty where a listener has gone.
    pub listeners: Box<[Option<Listener>]>,
    /// What several gateways share.
    pub stores: Arc<Stores>,
    /// Stores of answers, by name.
    pub caches: BTreeMap<Box<str>, Arc<Store>>,
    /// Who calls, and who vouches for them.
    pub identity: Arc<Identity>,
    /// Hosts that differ from the defaults.
    pub hosts: Hosts,
    /// Memory for request bodies that are held.
    pub body_memory: BodyMemory,
    /// Counts what has no route.
    pub unrouted: Arc<RouteMetrics>,
    /// Counts it as living.
    pub counted: SnapshotGuard,
}

/// A route, compiled.
pub struct Route {
    /// Its name.
    pub name: Name,
    /// Its policies.
    pub chains: Chains,
    /// Where its requests go.
    pub target: Target,
    /// Its own times.
    pub timeouts: RouteTimeouts,
    /// Its own say in further attempts.
    pub retry: RouteRetry,
    /// What its requests get when the upstream fails.
    pub fallback: Option<Fallback>,
    /// How much its requests matter.
    pub importance: Option<Importance>,
    /// What its clients may upgrade to.
    pub upgrades: Box<[Upgrade]>,
    /// Its own error pages.
    pub pages: Arc<Pages>,
    /// Counts its requests.
    pub metrics: Arc<RouteMetrics>,
    /// Whether an operator has switched it off.
    pub switch: Arc<Switch>,
}

/// A switch of an operator's that outlives a configuration.
#[derive(Debug, Default)]
pub struct Switch(AtomicBool);

impl Switch {
    /// True while it is off.
    pub fn is_off(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Switches.
    pub fn set_off(&self, off: bool) {
        self.0.store(off, Ordering::Relaxed);
    }
}

/// What an operator has switched off stays off over an upgrade.
impl Carried for Switch {
    const VERSION: u32 = 1;

    fn export(&self, _room: usize) -> Option<Value> {
        self.is_off().then_some(Value::from("off"))
    }

    fn import(&self, _version: u32, data: Value) -> Result<(), String> {
        if data != "off" {
            return Err("a position that is not known".to_owned());
        }
        self.set_off(true);
        Ok(())
    }
}

/// Where a route's requests go.
#[derive(Debug)]
pub enum Target {
    /// To this upstream.
    Upstream(usize),
    /// To one of several, by weight.
    Split(Split),
    /// Nowhere: the gateway answers.
    Local(Local),
}

/// Upstreams with the upper ends of their shares.
#[derive(Debug)]
pub struct Split {
    /// Upstream and the sum of the weights up to its own.
    pub shares: Box<[(usize, u32)]>,
    /// What keeps a caller on one side.
    pub sticky: Option<Sticky>,
}

impl Split {
    /// The upstream at a point of the whole; `point` may be any number.
    pub fn at(&self, point: u64) -> usize {
        let total = self.shares.last().map_or(1, |(_, end)| u64::from((*end).max(1)));
        let point = (point % total) as u32;
        self.shares.iter().find(|(_, end)| point < *end).map_or(0, |(upstream, _)| *upstream)
    }
}

/// A route's chain by listener, since each listener has a layer of its own.
#[derive(Debug)]
pub struct Chains {
    /// For listeners without a layer.
    pub plain: Arc<Chain>,
    /// For those with one.
    pub by_listener: Box<[(ListenerId, Arc<Chain>)]>,
}

impl Chains {
    /// The chain for requests that came in here.
    pub fn on(&self, listener: ListenerId) -> &Arc<Chain> {
        self.by_listener.iter().find(|(id, _)| *id == listener).map_or(&self.plain, |(_, chain)| chain)
    }
}

/// A listener, compiled.
pub struct Listener {
    /// Its number.
    pub id: ListenerId,
    /// Its name.
    pub name: Name,
    /// What it was compiled from.
    pub config: Arc<model::Listener>,
    /// Its TLS.
    pub tls: Option<Arc<TlsSetup>>,
    /// The layer for answers without a route.
    pub chain: Arc<Chain>,
    /// Its own error pages.
    pub pages: Arc<Pages>,
    /// Counts what has no route yet.
    pub metrics: Arc<ListenerMetrics>,
}

/// Hosts that differ from the defaults.
#[derive(Debug, Default)]
pub struct Hosts {
    /// By lower-case name.
    pub exact: HashMap<Box<str>, Host>,
    /// By what follows the first label, with its dot.
    pub wildcard: HashMap<Box<str>, Host>,
}

/// How a host's paths are read, and its error pages.
#[derive(Clone, Debug)]
pub struct Host {
    /// How its paths are normalised.
    pub options: normalize::Options,
    /// Its own error pages.
    pub pages: Arc<Pages>,
}

impl Hosts {
    /// True if no host differs.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// What holds for a host, given without its port, if it differs.
    pub fn get(&self, host: &str) -> Option<&Host> {
        if self.is_empty() {
            return None;
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || name.find('.').and_then(|dot| self.wildcard.get(&name[dot..]));
        self.exact.get(name.as_str()).or_else(wildcard)
    }
}

impl Snapshot {
    /// A route of this snapshot.
    pub fn route(&self, id: RouteId) -> &Route {
        &self.routes[id.index()]
    }

    /// A listener, unless it has gone.
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(id.index()).and_then(Option::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_split() {
        let split = Split { shares: Box::new([(7, 95), (8, 100), (9, 100)]), sticky: None };
        let picks: Vec<usize> = (0..200).map(|point| split.at(point)).collect();
        let count = |upstream| picks.iter().filter(|pick| **pick == upstream).count();
        assert_eq!((count(7), count(8), count(9)), (190, 10, 0));
    }
}
