//! The one place that makes a Pingora peer: address, pool key, timeouts.

use super::{Endpoint, Upstream};
use crate::config::model::{route::RouteTimeouts, upstream as model};
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions, Scheme};
use std::net::SocketAddr;
use std::time::Duration;

/// An endpoint as Pingora connects to it.
pub(super) type Peer = HttpPeer;

/// A peer in the clear. `HttpPeer::new` resolves names and panics; this takes an address.
pub(super) fn plain(address: SocketAddr, config: &model::Upstream) -> HttpPeer {
    let mut options = PeerOptions::new();
    options.idle_timeout = Some(config.idle_timeout.get());
    options.connection_timeout = Some(config.timeouts.connect.get());
    options.total_connection_timeout = Some(config.timeouts.connect.get());
    options.read_timeout = Some(config.timeouts.read.get());
    options.write_timeout = Some(config.timeouts.write.get());
    // Upgrades do not come this way.
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    HttpPeer {
        _address: PeerAddress::Inet(address),
        scheme: Scheme::HTTP,
        sni: String::new(),
        proxy: None,
        client_cert_key: None,
        group_key: 0,
        options,
    }
}

/// The peer for one attempt: the endpoint's, with the route's own times, and none of them longer
/// than what is `left` of the exchange.
pub fn for_attempt(endpoint: &Endpoint, route: &RouteTimeouts, left: Duration) -> Box<HttpPeer> {
    let mut peer = Box::new(endpoint.peer.clone());
    let options = &mut peer.options;
    let bound = |own: Option<crate::values::Duration>, of_upstream: Option<Duration>| {
        Some(own.map_or(of_upstream.unwrap_or(left), crate::values::Duration::get).min(left))
    };
    options.connection_timeout = bound(route.connect, options.connection_timeout);
    options.total_connection_timeout = options.connection_timeout;
    options.read_timeout = bound(route.read, options.read_timeout);
    options.write_timeout = bound(route.write, options.write_timeout);
    peer
}

/// How long the whole exchange may take.
pub fn total(upstream: &Upstream, route: &RouteTimeouts) -> Duration {
    route.total.unwrap_or(upstream.timeouts.total).get()
}
