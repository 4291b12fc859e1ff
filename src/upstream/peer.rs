//! The one place that makes a Pingora peer: address, TLS, pool key, timeouts.

use super::tls::UpstreamTls;
use super::{Endpoint, Upstream};
use crate::config::model::{route::RouteTimeouts, upstream as model};
use crate::values::{EndpointAddress, Problem};
use pingora_core::protocols::ALPN;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::protocols::tls::{CaType, CustomALPN};
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions, Scheme};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

/// An endpoint as Pingora connects to it.
pub(super) type Peer = HttpPeer;

/// How many requests an HTTP/2 connection carries at a time, unless the endpoint allows fewer.
const STREAMS: usize = 100;
/// What an HTTP/2 upstream may send on a stream before anyone has read it (RFC 9113 section 5.2).
const WINDOW: u32 = 1 << 20;

/// What the peers of an upstream have in common.
#[derive(Debug)]
pub(super) struct Template {
    options: PeerOptions,
    scheme: Scheme,
    client: Option<Arc<CertKey>>,
    server_name: Option<String>,
    /// What tells connections apart that Pingora's own key does not: protocol, authorities, our
    /// certificate. Times are not in it, so that another timeout keeps the pool.
    group_key: u64,
}

impl Template {
    /// Reads what an upstream's peers are made of.
    pub fn new(config: &model::Upstream, tls: Option<&UpstreamTls>) -> Self {
        let mut options = PeerOptions::new();
        options.idle_timeout = Some(config.idle_timeout.get());
        options.connection_timeout = Some(config.timeouts.connect.get());
        options.total_connection_timeout = Some(config.timeouts.connect.get());
        options.read_timeout = Some(config.timeouts.read.get());
        options.write_timeout = Some(config.timeouts.write.get());
        // Upgrades do not come this way.
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        // In the clear nobody negotiates: a smallest version of 2 is prior knowledge.
        options.alpn = match (config.protocol, tls) {
            (model::Protocol::Http1, _) | (model::Protocol::Auto, None) => ALPN::H1,
            (model::Protocol::Auto, Some(_)) => ALPN::H2H1,
            (model::Protocol::Http2, _) => ALPN::H2,
        };
        options.max_h2_streams = STREAMS;
        // What an upstream may send ahead of its client. All streams at once fit into the connection's
        // window, so that clients that read slowly stop nobody else.
        options.h2_stream_window_size = Some(WINDOW);
        options.h2_connection_window_size = Some(WINDOW * STREAMS as u32);
        let mut client = None;
        if let Some(tls) = tls {
            options.verify_cert = tls.verify;
            options.verify_hostname = tls.verify;
            options.ca = tls.authorities.as_ref().map(|list| {
                let parsed = list.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509));
                parsed.collect::<Arc<CaType>>()
            });
            client = tls.client.as_ref().map(|(chain, key)| {
                let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
                Arc::new(CertKey::new(chain, key.secret_der().to_vec()))
            });
        }
        let mut hasher = DefaultHasher::new();
        config.protocol.hash(&mut hasher);
        tls.hash(&mut hasher);
        Self {
            options,
            scheme: Scheme::from_tls_bool(tls.is_some()),
            client,
            server_name: tls.and_then(|tls| tls.server_name.clone()),
            group_key: hasher.finish(),
        }
    }

    /// The peer at an address. `name` is what the endpoint is called if the configuration gives no
    /// `server_name`. `HttpPeer::new` resolves names and panics; this takes an address.
    ///
    /// # Errors
    /// The path of a Unix socket that is none.
    pub fn peer(&self, address: &EndpointAddress, name: Option<&str>) -> Result<Peer, Problem> {
        let to = match address {
            EndpointAddress::Inet(address) => PeerAddress::Inet(*address),
            EndpointAddress::Unix(path) => std::os::unix::net::SocketAddr::from_pathname(path)
                .map(PeerAddress::Unix)
                .map_err(|error| Problem::new(format!("`{address}` cannot be a socket: {error}")))?,
        };
        // Never empty: Pingora takes an empty name for leave not to verify.
        let ip = || address.inet().map_or_else(|| "localhost".to_owned(), |it| it.ip().to_string());
        let sni = match self.scheme {
            Scheme::HTTP => String::new(),
            Scheme::HTTPS => {
                let name = self.server_name.as_deref().or(name);
                name.map_or_else(ip, |name| name.trim_end_matches('.').to_owned())
            }
        };
        Ok(HttpPeer {
            _address: to,
            scheme: self.scheme.clone(),
            sni,
            proxy: None,
            client_cert_key: self.client.clone(),
            group_key: self.group_key,
            options: self.options.clone(),
        })
    }
}

/// The peer for one attempt: the endpoint's, with the route's own times, and none of them longer
/// than what is `left` of the exchange. `is_free` says that the request has nothing for this hop alone:
/// Pingora would look up a dozen names to find none, at the price of a request's whole log line.
pub fn for_attempt(
    endpoint: &Endpoint,
    route: &RouteTimeouts,
    left: Duration,
    is_free: bool,
) -> Box<HttpPeer> {
    let mut peer = Box::new(endpoint.peer.clone());
    let options = &mut peer.options;
    if is_free {
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    }
    let bound = |own: Option<crate::values::Duration>, of_upstream: Option<Duration>| {
        Some(own.map_or(of_upstream.unwrap_or(left), crate::values::Duration::get).min(left))
    };
    options.connection_timeout = bound(route.connect, options.connection_timeout);
    options.total_connection_timeout = options.connection_timeout;
    options.read_timeout = bound(route.read, options.read_timeout);
    options.write_timeout = bound(route.write, options.write_timeout);
    peer
}

/// Marks the peer of an attempt that may be hedged: Pingora leaves it to the connector of hedged requests.
///
/// Its real protocol goes by the name of one that nobody speaks. Its connections are told apart from those of
/// Pingora's own pool, which it would look into first.
pub fn mark_hedged(peer: &mut HttpPeer) {
    let name = match peer.options.alpn {
        ALPN::H2 => HEDGED_HTTP2,
        ALPN::H2H1 => HEDGED_AUTO,
        _ => HEDGED_HTTP1,
    };
    peer.options.alpn = ALPN::Custom(CustomALPN::new(name.to_vec()));
    peer.group_key = !peer.group_key;
}

/// The peer as it was before [`mark_hedged`].
pub fn unmark_hedged(peer: &HttpPeer) -> HttpPeer {
    let mut peer = peer.clone();
    if let ALPN::Custom(name) = &peer.options.alpn {
        peer.options.alpn = match name.protocol() {
            HEDGED_HTTP2 => ALPN::H2,
            HEDGED_AUTO => ALPN::H2H1,
            _ => ALPN::H1,
        };
        peer.group_key = !peer.group_key;
    }
    peer
}

const HEDGED_HTTP1: &[u8] = b"hedged-h1";
const HEDGED_HTTP2: &[u8] = b"hedged-h2";
const HEDGED_AUTO: &[u8] = b"hedged-auto";

/// The peer for a probe that may take this long.
pub fn for_probe(endpoint: &Endpoint, time: Duration) -> Box<HttpPeer> {
    let mut peer = Box::new(endpoint.peer.clone());
    peer.options.connection_timeout = Some(time);
    peer.options.total_connection_timeout = Some(time);
    peer.options.read_timeout = Some(time);
    peer.options.write_timeout = Some(time);
    peer
}

/// How long the whole exchange may take.
pub fn total(upstream: &Upstream, route: &RouteTimeouts) -> Duration {
    route.total.unwrap_or(upstream.timeouts.total).get()
}

/// How long an upstream may take nothing of a request.
pub fn write(upstream: &Upstream, route: &RouteTimeouts) -> Duration {
    route.write.unwrap_or(upstream.timeouts.write).get()
}
