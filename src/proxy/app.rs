//! What the listening room is told about the proxy, and what is said of requests that the proxy
//! never saw.

use super::Gateway;
use super::hedge::Hedger;
use super::stream::Watch;
use crate::listen::{ConnInfo, Unseen};
use crate::telemetry::access_log::Record;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::listening::Service;
use pingora_proxy::{HttpProxy, ProxyServiceBuilder};
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The proxy, with an end to each HTTP/2 stream (`stream`).
pub struct App(Arc<HttpProxy<Gateway, Hedger>>);

impl App {
    /// A proxy around this gateway.
    pub fn new(gateway: Gateway, conf: &Arc<ServerConf>) -> Self {
        let service = ProxyServiceBuilder::new(conf, gateway)
            .server_options(server_options())
            // No client speaks a protocol of its own.
            .custom(Hedger::new(conf), Arc::new(|_, _, _| Box::pin(async { None })))
            .build();
        Self(Arc::new(taken_out(service)))
    }
}

/// The proxy of a service that is never started. Pingora makes a proxy with a connector of one's own only inside
/// of a service, and lends it, where `listen` needs it by value.
#[expect(unsafe_code, reason = "Pingora lends what it would give to nobody else")]
#[expect(
    clippy::expect_used,
    reason = "a service loses its application only when it starts, and this one is new"
)]
fn taken_out(service: Service<HttpProxy<Gateway, Hedger>>) -> HttpProxy<Gateway, Hedger> {
    let service = ManuallyDrop::new(service);
    let proxy = service.app_logic().expect("a new service has its application");
    // SAFETY: the proxy is moved out of a service that is neither used nor dropped after this, so that it has one
    // owner as before. What else the service holds (its name, an empty list of listeners) stays behind, once a process.
    unsafe { std::ptr::read(proxy) }
}

impl HttpServerApp for App {
    // What `#[async_trait]` would make of it, less one boxed future for each request that is not watched.
    fn process_new_http<'app, 'watch, 'future>(
        self: &'app Arc<Self>,
        mut session: ServerSession,
        shutdown: &'watch ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'future>>
    where
        'app: 'future,
        'watch: 'future,
        Self: 'future,
    {
        if !session.is_http2() || session.is_body_done() {
            return self.0.process_new_http(session, shutdown);
        }
        let watch = Arc::<Watch>::default();
        session.req_header_mut().extensions_mut().insert(Arc::clone(&watch));
        let served = self.0.process_new_http(session, shutdown);
        Box::pin(async move {
            tokio::select! {
                biased;
                served = served => served,
                () = watch.over() => None,
            }
        })
    }

    fn http_cleanup<'app, 'future>(&'app self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'app: 'future,
        Self: 'future,
    {
        self.0.http_cleanup()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.0.server_options()
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.0.h2_options()
    }
}

/// CONNECT comes to our hooks, so that it is refused and logged like any other request.
pub fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    options
}

/// The log line of a request that reached no hook: malformed, too slow, or broken off.
pub fn unseen_record(conn: &ConnInfo, cause: Unseen) -> Record<'_> {
    Record {
        time: SystemTime::now(),
        request_id: b"",
        trace_id: b"",
        listener: Some(conn.listener_name()),
        route: None,
        upstream: None,
        endpoint: None,
        client: Some(conn.peer_addr().ip()),
        method: "",
        host: None,
        target: b"",
        status: match cause {
            Unseen::Malformed => Some(400),
            Unseen::TimedOut => Some(408),
            Unseen::Aborted | Unseen::Idle => None,
        },
        consumer: None,
        principal: None,
        auth: None,
        cause: Some(cause.as_str()),
        fallback: None,
        bytes_received: conn.received(),
        bytes_sent: conn.sent(),
        duration: Duration::ZERO,
        upstream_duration: None,
        connect_duration: None,
        attempts: 0,
        tls_version: conn.tls().map(|tls| tls.version),
        http_version: None,
        request: None,
        response: None,
    }
}
