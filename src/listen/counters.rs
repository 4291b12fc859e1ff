use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a listener has seen, since it was added. Whoever exports metrics reads it.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    open: AtomicUsize,
    accept_errors: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    handshake_failures: [AtomicU64; HandshakeFailure::ALL.len()],
    unseen: [AtomicU64; Unseen::ALL.len()],
}

/// Why a connection was closed before anything was asked on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All listeners together have as many as there are file descriptors for.
    Descriptors,
    /// The listener has `limits.connections`.
    Listener,
    /// The client has `limits.client_connections`.
    Client,
    /// `limits.handshakes` are in the TLS handshake or before it.
    Handshakes,
    /// It had to begin with a PROXY header, and did not, or not in time.
    ProxyProtocol,
    /// The gateway is overloaded.
    Overload,
}

/// Why a TLS handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It was not done within `tls.handshake_time`.
    TimedOut,
    /// The client closed the connection.
    Closed,
    /// What came is not TLS: plain HTTP on a TLS port, for example.
    NotTls,
    /// The client asked for a name that has no certificate here, or for none.
    UnknownName,
    /// No protocol version, cipher suite or ALPN protocol in common.
    Incompatible,
    /// A certificate is required, and the client has shown none.
    CertificateMissing,
    /// The client's certificate is not valid: expired, revoked, of another authority.
    CertificateInvalid,
    /// Any other error, such as an alert of the client, which does not trust our certificate.
    Other,
}

/// Why a request came to nothing before the app got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It was answered with an error by the HTTP/1 parser: 400, or 405 for `CONNECT`.
    Malformed,
    /// Its header took longer than `limits.header_time`; answered with 408.
    TimedOut,
    /// The client left in the middle of its header.
    Aborted,
    /// Nothing was asked: the client left, or it was idle for too long, or we are going away.
    Idle,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Descriptors,
        Self::Listener,
        Self::Client,
        Self::Handshakes,
        Self::ProxyProtocol,
        Self::Overload,
    ];

    /// A word for a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Listener => "listener",
            Self::Client => "client",
            Self::Handshakes => "handshakes",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Overload => "overload",
        }
    }
}

impl HandshakeFailure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::TimedOut,
        Self::Closed,
        Self::NotTls,
        Self::UnknownName,
        Self::Incompatible,
        Self::CertificateMissing,
        Self::CertificateInvalid,
        Self::Other,
    ];

    /// A word for a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::UnknownName => "unknown_name",
            Self::Incompatible => "incompatible",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateInvalid => "certificate_invalid",
            Self::Other => "other",
        }
    }
}

impl Unseen {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Malformed, Self::TimedOut, Self::Aborted, Self::Idle];

    /// A word for a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TimedOut => "timed_out",
            Self::Aborted => "aborted",
            Self::Idle => "idle",
        }
    }
}

impl Counters {
    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now, those in their handshake included.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that the kernel could not give us: no file descriptors or memory left.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// Connections that were refused for this cause.
    pub fn refusals(&self, cause: Refusal) -> u64 {
        self.refused[cause as usize].load(Ordering::Relaxed)
    }

    /// TLS handshakes that came to nothing for this cause.
    pub fn handshake_failures(&self, cause: HandshakeFailure) -> u64 {
        self.handshake_failures[cause as usize].load(Ordering::Relaxed)
    }

    /// Requests that came to nothing before the app got them, for this cause. Only HTTP/1 is
    /// counted: the h2 crate refuses streams without telling.
    pub fn unseen(&self, cause: Unseen) -> u64 {
        self.unseen[cause as usize].load(Ordering::Relaxed)
    }

    /// Counts a connection in, and answers how many were open before.
    pub(super) fn opened(&self) -> usize {
        self.open.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, cause: Refusal) {
        self.refused[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handshake_failed(&self, cause: HandshakeFailure) {
        self.handshake_failures[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn went_unseen(&self, cause: Unseen) {
        self.unseen[cause as usize].fetch_add(1, Ordering::Relaxed);
    }
}
