//! A bare Pingora proxy: the stock service, no feature, one upstream. It is the floor that
//! `loadtest/` measures Tollgate against, so it gets the same allocator and the same crypto.
//!
//! ```text
//! bare_proxy THREADS UPSTREAM LISTEN [LISTEN_TLS CERTIFICATE KEY]
//! bare_proxy 1 127.0.0.1:9000 127.0.0.1:9001
//! ```

use async_trait::async_trait;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use std::error::Error;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare {
    upstream: std::net::SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        #[expect(
            clippy::disallowed_methods,
            reason = "an address resolves to itself; the stock way is measured"
        )]
        let peer = HttpPeer::new(self.upstream, false, String::new());
        Ok(Box::new(peer))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (threads, upstream, listen, tls) = match arguments.as_slice() {
        [threads, upstream, listen] => (threads, upstream, listen, None),
        [threads, upstream, listen, address, certificate, key] => {
            (threads, upstream, listen, Some((address, certificate, key)))
        }
        _ => return Err("usage: bare_proxy THREADS UPSTREAM LISTEN [LISTEN_TLS CERTIFICATE KEY]".into()),
    };
    let upstream = upstream.parse()?;
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return Err("a crypto provider is installed already".into());
    }

    let conf = ServerConf {
        threads: threads.parse()?,
        upstream_keepalive_pool_size: 4096,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream });
    service.add_tcp(listen);
    if let Some((address, certificate, key)) = tls {
        let mut settings = TlsSettings::intermediate(certificate, key)?;
        settings.enable_h2();
        service.add_tls_with_settings(address, None, settings);
    }
    server.add_service(service);
    server.run_forever()
}
