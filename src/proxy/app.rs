//! What the listening room is told about the proxy, and what is said of requests that the proxy
//! never saw.

use crate::listen::{ConnInfo, Unseen};
use crate::telemetry::access_log::Record;
use pingora_core::apps::HttpServerOptions;
use std::time::{Duration, SystemTime};

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
        listener: conn.listener_name().as_str(),
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
