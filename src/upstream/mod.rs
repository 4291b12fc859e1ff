//! Where to: upstreams, their endpoints, and which of them gets the next request.

pub mod balance;
pub mod peer;

use crate::config::model::upstream as model;
use crate::retained::{Retained, StableId};
use crate::values::Name;
use balance::RoundRobin;
use http::HeaderValue;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// An upstream, compiled.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// Its endpoints, in the order of the configuration.
    pub endpoints: Box<[Endpoint]>,
    /// What the upstream sees as Host.
    pub host: Host,
    /// How long things may take.
    pub timeouts: model::Timeouts,
    /// Attempts in all.
    pub attempts: u8,
    turns: RoundRobin,
    cursor: Arc<AtomicUsize>,
}

/// The Host that an upstream sees.
#[derive(Debug)]
pub enum Host {
    /// The client's.
    Keep,
    /// The endpoint's address.
    Endpoint,
    /// This one.
    Name(HeaderValue),
}

/// One endpoint, compiled.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// The address as a Host value and a log field.
    pub label: HeaderValue,
    /// Its weight.
    pub weight: u16,
    /// What outlives the configuration.
    pub state: Arc<EndpointState>,
    peer: peer::Peer,
}

/// What is known of an endpoint across configurations.
#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicU64,
    draining: AtomicBool,
}

impl EndpointState {
    /// Requests that are on their way to it now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// True if it gets no new requests because an operator said so.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Starts or ends a drain.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
    }
}

/// A request that counts as in flight at an endpoint until this is dropped, whatever happens to it.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl InFlight {
    fn new(state: &Arc<EndpointState>) -> Self {
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An endpoint that was chosen for a request.
#[derive(Debug)]
pub struct Choice {
    /// Its place among the upstream's endpoints.
    pub endpoint: usize,
    /// Counts the request as long as it lives.
    pub in_flight: InFlight,
}

impl Upstream {
    /// Makes of the text what requests are sent by. The text was checked: it has endpoints, not
    /// all of weight zero, and its host is one.
    pub fn compile(name: &Name, config: &model::Upstream, retained: &Retained) -> Self {
        let endpoints: Box<[Endpoint]> = config
            .endpoints
            .iter()
            .map(|endpoint| Endpoint {
                address: endpoint.address,
                label: header_value(&endpoint.address.to_string()),
                weight: endpoint.weight,
                state: retained.get_or(
                    StableId::new("endpoint", format_args!("{name}/{}", endpoint.address)),
                    EndpointState::default,
                ),
                peer: peer::plain(endpoint.address, config),
            })
            .collect();
        let weights: Vec<u16> = endpoints.iter().map(|endpoint| endpoint.weight).collect();
        Self {
            name: name.clone(),
            endpoints,
            host: match &config.host {
                model::HostRewrite::Keep => Host::Keep,
                model::HostRewrite::Endpoint => Host::Endpoint,
                model::HostRewrite::Name(host) => Host::Name(header_value(host)),
            },
            timeouts: config.timeouts.clone(),
            attempts: config.retry.attempts,
            turns: RoundRobin::new(&weights),
            cursor: retained.get_or(StableId::new("cursor", name), AtomicUsize::default),
        }
    }

    /// The endpoint whose turn it is, leaving out those that drain and those in `tried`. None if
    /// that leaves none. If only tried ones are left, one of them gets another chance.
    pub fn choose(&self, tried: &[usize]) -> Option<Choice> {
        let open = |at: &usize| !self.endpoints[*at].state.draining();
        let fresh = |at: &usize| open(at) && !tried.contains(at);
        let at = self
            .turns
            .next(&self.cursor, self.endpoints.len(), fresh)
            .or_else(|| self.turns.next(&self.cursor, self.endpoints.len(), open))?;
        Some(Choice { endpoint: at, in_flight: InFlight::new(&self.endpoints[at].state) })
    }
}

/// An address or a checked host is always a header value; were it not, an empty Host would be
/// refused by the upstream rather than misunderstood.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(yaml: &str, retained: &Retained) -> Upstream {
        let config: model::Upstream = serde_saphyr::from_str(yaml).unwrap();
        Upstream::compile(&"u".parse().unwrap(), &config, retained)
    }

    fn picks(upstream: &Upstream, n: usize) -> Vec<usize> {
        (0..n).map(|_| upstream.choose(&[]).unwrap().endpoint).collect()
    }

    #[test]
    fn weights_are_kept_and_spread() {
        let retained = Retained::default();
        let upstream = upstream(
            "endpoints: [{ address: '127.0.0.1:1', weight: 3 }, '127.0.0.1:2', { address: '127.0.0.1:3', weight: 0 }]",
            &retained,
        );
        assert_eq!(picks(&upstream, 8), [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn a_draining_endpoint_gets_nothing_and_a_tried_one_only_as_a_last_resort() {
        let retained = Retained::default();
        let upstream = upstream("endpoints: ['127.0.0.1:1', '127.0.0.1:2']", &retained);
        upstream.endpoints[0].state.set_draining(true);
        assert_eq!(picks(&upstream, 3), [1, 1, 1]);
        assert_eq!(upstream.choose(&[1]).unwrap().endpoint, 1);
        upstream.endpoints[1].state.set_draining(true);
        assert!(upstream.choose(&[]).is_none());
    }

    #[test]
    fn state_survives_a_reload_and_in_flight_returns_to_zero() {
        let retained = Retained::default();
        let old = upstream("endpoints: ['127.0.0.1:1', '127.0.0.1:2']", &retained);
        old.endpoints[0].state.set_draining(true);
        let choice = old.choose(&[]).unwrap();
        let new = upstream("endpoints: ['127.0.0.1:2', '127.0.0.1:1']", &retained);
        assert!(new.endpoints[1].state.draining());
        assert_eq!(new.endpoints[0].state.in_flight(), 1);
        drop(choice);
        assert_eq!(new.endpoints[0].state.in_flight(), 0);
    }
}
