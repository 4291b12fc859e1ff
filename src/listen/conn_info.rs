use crate::config::model::listener::{Limits, Listener};
use crate::identity::certificate::ClientTls;
use crate::values::{ListenerId, Name};
use pingora_core::protocols::Digest;
use pingora_core::server::ShutdownWatch;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// What is known about a client's connection. Hooks reach it by [`ConnInfo::of`], for HTTP/1 and
/// HTTP/2 alike.
///
/// It holds no resource of the connection, so keeping it longer keeps nothing open.
#[derive(Debug)]
pub struct ConnInfo {
    listener: ListenerId,
    name: Name,
    config: Arc<Listener>,
    local: SocketAddr,
    peer: SocketAddr,
    tls: Option<Arc<ClientTls>>,
    header: AtomicU8,
    broken_line: AtomicBool,
    received: AtomicU64,
    sent: AtomicU64,
    leave: ShutdownWatch,
}

/// How far the request in progress has come. Of interest to HTTP/1 alone: an HTTP/2 connection
/// stays `Complete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum HeaderState {
    /// Not one byte of it yet.
    Idle,
    /// Some bytes of its header: the deadline runs.
    Partial,
    /// The app has its header.
    Complete,
    /// The deadline passed before the header was complete, and the client was told so.
    TimedOut,
}

/// Where a connection came in, and from whom: what is known before a byte was read.
pub(super) struct Origin {
    pub(super) listener: ListenerId,
    pub(super) name: Name,
    pub(super) config: Arc<Listener>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) leave: ShutdownWatch,
}

impl ConnInfo {
    pub(super) fn new(origin: Origin, tls: Option<ClientTls>) -> Self {
        let Origin { listener, name, config, local, peer, leave } = origin;
        Self {
            listener,
            name,
            config,
            local,
            peer,
            tls: tls.map(Arc::new),
            header: AtomicU8::new(HeaderState::Idle as u8),
            broken_line: AtomicBool::new(false),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            leave,
        }
    }

    /// The connection that a session's digest belongs to; `None` if this room did not serve it.
    pub fn of(digest: &Digest) -> Option<&Arc<Self>> {
        digest.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
    }

    /// The listener that accepted the connection.
    pub fn listener(&self) -> ListenerId {
        self.listener
    }

    /// That listener's name.
    pub fn listener_name(&self) -> &Name {
        &self.name
    }

    /// That listener's configuration when the connection was accepted. A reload does not change it.
    pub fn config(&self) -> &Arc<Listener> {
        &self.config
    }

    /// The limits in force for this connection: those of [`ConnInfo::config`].
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Our side of the connection.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other side of the connection: the client, or the nearest proxy before it.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// What TLS settled; `None` in the clear.
    pub fn tls(&self) -> Option<&Arc<ClientTls>> {
        self.tls.as_ref()
    }

    /// Bytes that the client has sent on this connection so far, without TLS's own.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes that were sent to the client on this connection so far, without TLS's own.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the connection ends with the request that is under way: the listener goes, or the process
    /// does.
    pub fn is_leaving(&self) -> bool {
        *self.leave.borrow()
    }

    /// Ends the time limit on the request's header. The app must call it for every request as soon
    /// as it has the header, or a body that takes longer than `limits.header_time` is cut with 408.
    pub fn header_complete(&self) {
        self.set_header_state(HeaderState::Complete);
    }

    /// False if the request line of the HTTP/1 request in progress has a byte that no request line
    /// may have (RFC 9112 section 3). Pingora has escaped it then, so the request as the app sees it
    /// is another one than the client sent: the app must refuse it and close the connection.
    pub fn request_line_is_sound(&self) -> bool {
        !self.broken_line.load(Ordering::Relaxed)
    }

    /// For the rest of the connection, which ends with this request.
    pub(super) fn break_request_line(&self) {
        self.broken_line.store(true, Ordering::Relaxed);
    }

    pub(super) fn header_state(&self) -> HeaderState {
        match self.header.load(Ordering::Relaxed) {
            0 => HeaderState::Idle,
            1 => HeaderState::Partial,
            2 => HeaderState::Complete,
            _ => HeaderState::TimedOut,
        }
    }

    pub(super) fn set_header_state(&self, state: HeaderState) {
        self.header.store(state as u8, Ordering::Relaxed);
    }

    /// Only the connection's own task counts, so a plain load and store do.
    pub(super) fn count_received(&self, bytes: usize) {
        self.received.store(self.received() + bytes as u64, Ordering::Relaxed);
    }

    /// As [`ConnInfo::count_received`].
    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent.store(self.sent() + bytes as u64, Ordering::Relaxed);
    }
}
