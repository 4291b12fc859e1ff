//! From addresses to endpoints.

use super::balance::{Balancer, Sticky};
use super::endpoint::{Endpoint, EndpointState};
use super::set::EndpointSet;
use super::tls::UpstreamTls;
use super::{header_value, peer};
use crate::config::model::upstream as model;
use crate::message::authority;
use crate::retained::{Retained, StableId};
use crate::values::{EndpointAddress, Name, Problem};
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
    sticky: Option<Arc<Sticky>>,
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
            sticky,
            retained: Arc::clone(retained),
        }
    }

    /// The set of these endpoints.
    ///
    /// # Errors
    /// An address that cannot be connected to, with its place.
    pub fn set(&self, endpoints: &[model::Endpoint]) -> Result<EndpointSet, (usize, Problem)> {
        let endpoints = endpoints.iter().enumerate().map(|(index, endpoint)| {
            self.endpoint(&endpoint.address, endpoint.weight).map_err(|problem| (index, problem))
        });
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let balancer = Balancer::new(&self.config.balance, &endpoints, &self.cursor);
        Ok(EndpointSet::new(endpoints, balancer))
    }

    fn endpoint(&self, address: &EndpointAddress, weight: u16) -> Result<Arc<Endpoint>, Problem> {
        let label = address.to_string();
        let state = StableId::new("endpoint", format_args!("{}/{label}", self.name));
        let host = match &self.config.host {
            model::HostRewrite::Name(host) => Some(authority::host(host)),
            model::HostRewrite::Keep | model::HostRewrite::Endpoint => None,
        };
        Ok(Arc::new(Endpoint {
            address: address.clone(),
            // What curl says to a Unix socket: it has no host.
            host: address.inet().map_or(HeaderValue::from_static("localhost"), |_| header_value(&label)),
            sticky_id: self.sticky.as_ref().map(|sticky| sticky.id(&label)),
            label: label.into(),
            weight,
            state: self.retained.get_or(state, EndpointState::default),
            peer: self.template.peer(address, host)?,
        }))
    }
}
