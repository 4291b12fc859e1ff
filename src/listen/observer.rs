use super::conn_info::ConnInfo;
use super::counters::{HandshakeFailure, Refusal, Unseen};
use crate::values::Name;
use std::net::SocketAddr;

/// Is told what no request tells, to log it. All of it is counted as well.
///
/// It is called on the connection's task: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// A request on HTTP/1 came to nothing before the app got it.
    fn unseen(&self, _connection: &ConnInfo, _cause: Unseen) {}

    /// A connection was closed before anything was asked on it.
    fn refused(&self, _listener: &Name, _peer: SocketAddr, _cause: Refusal) {}

    /// A TLS handshake came to nothing. `detail` says more than the cause, in rustls's words.
    fn handshake_failed(&self, _listener: &Name, _peer: SocketAddr, _cause: HandshakeFailure, _detail: &str) {
    }
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
