use crate::config::model::listener::Limits;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use std::pin::Pin;
use std::sync::Arc;

/// An app under the HTTP/2 options of one connection, which are its listener's.
pub(super) struct Http2App<A> {
    app: Arc<A>,
    http2: H2Options,
    server: HttpServerOptions,
}

impl<A> Http2App<A> {
    pub(super) fn new(app: Arc<A>, limits: &Limits) -> Self {
        let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        // RFC 9113 section 6.9.1.
        let window = narrow(limits.window.len()).clamp(65_535, (1 << 31) - 1);
        let mut http2 = default_h2_options();
        http2.max_concurrent_streams(limits.streams);
        http2.max_header_list_size(narrow(limits.headers.len()));
        http2.initial_window_size(window);
        http2.initial_connection_window_size(window.saturating_mul(4).min((1 << 31) - 1));
        let mut server = HttpServerOptions::default();
        server.h2_idle_timeout = Some(limits.idle.get());
        Self { app, http2, server }
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Http2App<A> {
    // What `#[async_trait]` would make of it, less one boxed future for each stream.
    fn process_new_http<'app, 'watch, 'future>(
        self: &'app Arc<Self>,
        session: ServerSession,
        shutdown: &'watch ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'future>>
    where
        'app: 'future,
        'watch: 'future,
        Self: 'future,
    {
        self.app.process_new_http(session, shutdown)
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.http2.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.server)
    }
}
