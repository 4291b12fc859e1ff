//! The life of a request. This file is its table of contents: each hook of Pingora's is one call
//! into `phases`, and there is no `if` here.

pub mod app;
mod context;
mod hedge;
mod phases;
mod reply;
mod stream;
mod tunnel;

pub use context::RequestContext;

use crate::runtime::pressure::Pressure;
use crate::runtime::{Current, Snapshot};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use pingora_core::connectors::TransportConnector;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The gateway, as Pingora sees it.
pub struct Gateway {
    /// The configuration in force.
    pub current: Arc<Current>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where requests are logged; empty where the log is off.
    pub access_log: Arc<ArcSwapOption<AccessLog>>,
    /// This process in `via`, such as `1.1 tollgate-4fa1c93e`.
    pub via: HeaderValue,
    /// Connects what does not go by Pingora's pool: tunnels.
    pub connector: TransportConnector,
    /// How hard it is for the gateway itself.
    pub pressure: Arc<Pressure>,
    /// True once the drain time is over and tunnels have to end.
    pub stopping: watch::Receiver<bool>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora moves it, and the future that holds it, several times.
    type CTX = Box<RequestContext>;

    fn new_ctx(&self) -> Box<RequestContext> {
        Box::new(RequestContext::new(self.current.load()))
    }

    fn init_downstream_modules(&self, _: &mut HttpModules) {
        // Pingora's compression module would be boxed anew for each request; nothing here uses it.
    }

    async fn early_request_filter(&self, session: &mut Session, cx: &mut Box<RequestContext>) -> Result<()> {
        phases::admit::connection(session, cx);
        Ok(())
    }

    fn allow_spawning_subrequest(&self, _: &Session, cx: &Box<RequestContext>) -> bool {
        !cx.snapshot.caches.is_empty()
    }

    async fn request_filter(&self, session: &mut Session, cx: &mut Box<RequestContext>) -> Result<bool> {
        phases::check::run(self, session, cx).await
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        cx: &mut Box<RequestContext>,
    ) -> Result<bool> {
        phases::connect::choose(self, session, cx).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        cx: &mut Box<RequestContext>,
    ) -> Result<Box<HttpPeer>> {
        phases::connect::exchange(session, cx).await
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        cx: &mut Box<RequestContext>,
        error: Box<Error>,
    ) -> Box<Error> {
        phases::connect::failed(cx, error)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: std::os::unix::io::RawFd,
        _: Option<&Digest>,
        cx: &mut Box<RequestContext>,
    ) -> Result<()> {
        phases::connect::connected(cx, reused);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        cx: &mut Box<RequestContext>,
    ) -> Result<()> {
        phases::forward::request(self, session, request, cx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        cx: &mut Box<RequestContext>,
    ) -> Result<()> {
        phases::body::request(session, body, end, cx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        cx: &mut Box<RequestContext>,
    ) -> Result<()> {
        phases::respond::from_upstream(session, answer, cx)
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<Bytes>,
        end: bool,
        cx: &mut Box<RequestContext>,
    ) -> Result<Option<Duration>> {
        phases::body::answer(session, end, cx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        cx: &mut Box<RequestContext>,
    ) -> Result<()> {
        phases::respond::to_client(session, answer, cx);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        cx: &mut Box<RequestContext>,
    ) -> Result<Option<Duration>> {
        phases::respond::body(body, end, cx)
    }

    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        trailers: &mut HeaderMap,
        cx: &mut Box<RequestContext>,
    ) -> Result<Option<Bytes>> {
        phases::respond::trailers(trailers, cx)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        cx: &mut Box<RequestContext>,
        reused: bool,
    ) -> Box<Error> {
        phases::fail::while_proxying(peer, session, error, cx, reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        cx: &mut Box<RequestContext>,
    ) -> FailToProxy {
        phases::fail::run(self, session, error, cx).await
    }

    fn suppress_error_log(&self, _: &Session, _: &Box<RequestContext>, error: &Error) -> bool {
        phases::fail::is_everyday(error)
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, cx: &mut Box<RequestContext>) {
        phases::finish::run(self, session, error, cx);
    }
}

impl Gateway {
    /// The snapshot in force, for what is no request.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load()
    }
}
