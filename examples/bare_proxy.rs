//! A bare Pingora proxy: the stock service, no feature, one upstream. It is the floor that
//! `loadtest/` measures Tollgate against, so it gets the same allocator and the same crypto.
//!
//! ```text
//! bare_proxy THREADS UPSTREAM LISTEN [LISTEN_TLS CERTIFICATE KEY]
//! bare_proxy 1 127.0.0.1:9000 127.0.0.1:9001
//! bare_proxy 1 h2:127.0.0.1:9000 127.0.0.1:9001     HTTP/2 in the clear to the upstream
//! bare_proxy 1 tls:127.0.0.1:9000 127.0.0.1:9001    HTTP/1.1 in TLS, the certificate not looked at
//! bare_proxy tuned 1 127.0.0.1:9000 127.0.0.1:9001  small buffers for clients, no work stealing
//! ```
//!
//! LISTEN takes HTTP/1.1 and HTTP/2 in the clear when the upstream is `h2:`, else HTTP/1.1 alone.

use async_trait::async_trait;
use pingora_core::listeners::ListenerConfig;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use std::error::Error;
use std::net::{AddrParseError, SocketAddr};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare {
    upstream: SocketAddr,
    speaks: Speaks,
}

#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    Http1,
    Http2,
    Tls,
}

impl Bare {
    /// From `[h2:|tls:]ADDRESS`.
    fn new(upstream: &str) -> Result<Self, AddrParseError> {
        let (speaks, address) = match upstream.split_once(':') {
            Some(("h2", address)) => (Speaks::Http2, address),
            Some(("tls", address)) => (Speaks::Tls, address),
            _ => (Speaks::Http1, upstream),
        };
        Ok(Self { upstream: address.parse()?, speaks })
    }
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        let tls = self.speaks == Speaks::Tls;
        // Pingora's rustls takes no empty name.
        let name = if tls { "localhost".to_owned() } else { String::new() };
        #[expect(
            clippy::disallowed_methods,
            reason = "an address resolves to itself; the stock way is measured"
        )]
        let mut peer = HttpPeer::new(self.upstream, tls, name);
        if self.speaks == Speaks::Http2 {
            peer.options.set_http_version(2, 2);
        }
        peer.options.verify_cert = false;
        Ok(Box::new(peer))
    }
}

/// What Pingora's knobs gave where they were tried: a buffer of 64 KiB for each client is not needed, and on one
/// thread there is nobody to steal from.
const SMALL: L4BufferSettings = L4BufferSettings { read: Some(4096), write: Some(1460) };

const USAGE: &str = "usage: bare_proxy [tuned] THREADS UPSTREAM LISTEN [LISTEN_TLS CERTIFICATE KEY]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let tuned = arguments.first().is_some_and(|first| first == "tuned");
    arguments.drain(..usize::from(tuned));
    let (threads, upstream, listen, tls) = match arguments.as_slice() {
        [threads, upstream, listen] => (threads, upstream, listen, None),
        [threads, upstream, listen, address, certificate, key] => {
            (threads, upstream, listen, Some((address, certificate, key)))
        }
        _ => return Err(USAGE.into()),
    };
    let proxy = Bare::new(upstream)?;
    let h2c = proxy.speaks == Speaks::Http2;
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return Err("a crypto provider is installed already".into());
    }

    let conf = ServerConf {
        threads: threads.parse()?,
        work_stealing: !tuned,
        upstream_keepalive_pool_size: 4096,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, proxy);
    if let Some(logic) = service.app_logic_mut() {
        logic.server_options.get_or_insert_default().h2c = h2c;
    }
    let buffers = if tuned { SMALL } else { L4BufferSettings::default() };
    service.add_listener(ListenerConfig::tcp(listen).l4_buffer(buffers));
    if let Some((address, certificate, key)) = tls {
        let mut settings = TlsSettings::intermediate(certificate, key)?;
        settings.enable_h2();
        service.add_listener(ListenerConfig::tcp(address).l4_buffer(buffers).tls(settings));
    }
    server.add_service(service);
    server.run_forever()
}
