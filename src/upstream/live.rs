//! Endpoints that come and go without a reload.

use super::discovery::{Discovery, Found};
use super::maker::Maker;
use super::set::EndpointSet;
use arc_swap::{ArcSwap, Guard};
use std::ops::Deref;
use std::sync::Arc;

/// The endpoints of an upstream whose endpoints are found.
#[derive(Debug)]
pub(super) struct Live {
    maker: Maker,
    current: ArcSwap<EndpointSet>,
    discovery: Arc<Discovery>,
}

/// The endpoints of an upstream: those of the configuration, or those that are found.
#[derive(Clone, Debug)]
pub(super) enum Endpoints {
    Fixed(Arc<EndpointSet>),
    Live(Arc<Live>),
}

/// The endpoints of an upstream at this moment.
pub enum Now<'a> {
    /// Those of the configuration.
    Fixed(&'a EndpointSet),
    /// Those that were found last.
    Live(Guard<Arc<EndpointSet>>),
}

impl Live {
    /// Endpoints that are found by `discovery`, from now on.
    pub fn new(maker: Maker, discovery: Arc<Discovery>) -> Arc<Self> {
        let current = ArcSwap::from_pointee(maker.found(&[]));
        let live = Arc::new(Self { maker, current, discovery });
        live.discovery.tell(&live);
        live
    }

    /// Puts these endpoints in the place of those that were there. Requests that have begun end where
    /// they are.
    pub fn replace(&self, found: &[Found]) {
        self.current.store(Arc::new(self.maker.found(found)));
    }

    pub fn discovery(&self) -> &Arc<Discovery> {
        &self.discovery
    }
}

impl Endpoints {
    /// What they are now. The plain case costs nothing; the other one is not held over a wait.
    pub fn load(&self) -> Now<'_> {
        match self {
            Self::Fixed(set) => Now::Fixed(set),
            Self::Live(live) => Now::Live(live.current.load()),
        }
    }
}

impl Deref for Now<'_> {
    type Target = EndpointSet;

    fn deref(&self) -> &EndpointSet {
        match self {
            Self::Fixed(set) => set,
            Self::Live(set) => set,
        }
    }
}
