//! From addresses to endpoints.

use super::balance::{Balancer, Sticky};
use super::discovery::Found;
use super::endpoint::{Endpoint, EndpointState};
use super::guard::Clock;
use super::set::EndpointSet;
use super::tls::UpstreamTls;
use super::{header_value, peer};
use crate::config::model::upstream as model;
use crate::message::authority;
use crate::retained::{Retained, StableId};
use crate::values::{Name, Problem};
use http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Makes an upstream's sets of endpoints. The state of an endpoint is found again by its address.
#[derive(Debug)]
pub(super) struct Maker {
    name: Name,
    config: Arc<model::Upstream>,
    template: peer::Template,
    cursor: Arc<AtomicUsize>,
    clock: Arc<Clock>,
    pub sticky: Option<Arc<Sticky>>,
    retained: Arc<Retained>,
}

impl Maker {
    pub fn new(
        name: &Name,
        config: &Arc<model::Upstream>,
        tls: Option<&UpstreamTls>,
        retained: &Arc<Retained>,
    ) -> Self {
        let sticky = match &config.balance {
            model::Balance::Sticky(model::StickyCookie { secret: Some(key), .. }) => {
                Some(Arc::new(Sticky::new(key.expose().as_bytes())))
            }
            // Drawn once, so that a reload keeps clients where they are.
            model::Balance::Sticky(_) => Some(retained.get_or(StableId::new("sticky", name), Sticky::random)),
            _ => None,
        };
        Self {
            name: name.clone(),
            config: Arc::clone(config),
            template: peer::Template::new(config, tls),
            cursor: retained.get_or(StableId::new("cursor", name), AtomicUsize::default),
            clock: Clock::of(name, retained),
            sticky,
            retained: Arc::clone(retained),
        }
    }

    /// The set of these endpoints.
    ///
    /// # Errors
    /// An address that cannot be connected to, with its place.
    pub fn set(&self, endpoints: &[model::Endpoint]) -> Result<EndpointSet, (usize, Problem)> {
        let endpoints = endpoints
            .iter()
            .enumerate()
            .map(|(index, endpoint)| self.endpoint(endpoint, None).map_err(|problem| (index, problem)));
        Ok(self.balanced(endpoints.collect::<Result<Vec<_>, _>>()?))
    }

    /// The set of what was found. What cannot be connected to is left out, and logged.
    pub fn found(&self, found: &[Found]) -> EndpointSet {
        let endpoints = found.iter().filter_map(|found| {
            self.endpoint(&found.endpoint, found.name.as_deref())
                .inspect_err(|problem| log::warn!("endpoint left out upstream={} cause={problem}", self.name))
                .ok()
        });
        self.balanced(endpoints.collect())
    }

    fn balanced(&self, endpoints: Vec<Arc<Endpoint>>) -> EndpointSet {
        let balancer = Balancer::new(&self.config.balance, &endpoints, &self.cursor);
        EndpointSet::new(endpoints, balancer)
    }

    /// `name` is what it was found by.
    fn endpoint(&self, endpoint: &model::Endpoint, name: Option<&str>) -> Result<Arc<Endpoint>, Problem> {
        let model::Endpoint { address, weight, priority } = endpoint;
        let label = address.to_string();
        let state = StableId::new("endpoint", format_args!("{}/{label}", self.name));
        let host = match &self.config.host {
            model::HostRewrite::Name(host) => Some(authority::host(host)),
            model::HostRewrite::Keep | model::HostRewrite::Endpoint => name,
        };
        let shown = match (name, address.inet()) {
            (Some(name), Some(address)) => {
                header_value(&format!("{}:{}", name.trim_end_matches('.'), address.port()))
            }
            (None, Some(_)) => header_value(&label),
            // What curl says to a Unix socket: it has no host.
            (_, None) => HeaderValue::from_static("localhost"),
        };
        Ok(Arc::new(Endpoint {
            address: address.clone(),
            host: shown,
            sticky_id: self.sticky.as_ref().map(|sticky| sticky.id(&label)),
            label: label.into(),
            weight: *weight,
            priority: *priority,
            state: self.retained.get_or_carried(state, || EndpointState::new(&self.clock)),
            peer: self.template.peer(address, host)?,
        }))
    }
}
