//! Where clients connect.

use crate::policy::config::Policies;
use crate::values::{ByteSize, Duration, Network};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address and port to bind, such as `0.0.0.0:8080` or `[::]:8443`.
    pub address: SocketAddr,
    /// TLS. Without it the listener speaks in the clear.
    pub tls: Option<Tls>,
    /// HTTP/2 in the clear (with prior knowledge) beside HTTP/1.1. Default false.
    #[serde(default)]
    pub h2c: bool,
    /// Sizes, counts and times.
    #[serde(default)]
    pub limits: Limits,
    /// The PROXY protocol, versions 1 and 2, where balancers before this listener speak it.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Networks whose `x-forwarded-*`, `forwarded`, `traceparent` and `x-request-id` are believed.
    /// Default none.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// This listener's layer of policies: over the gateway's defaults, under the route's own.
    #[serde(default)]
    pub policies: Policies,
    /// A file to answer with instead of our own words, by status, such as `404: pages/404.html`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, PathBuf>")]
    pub error_pages: BTreeMap<u16, PathBuf>,
}

/// Who begins connections with the PROXY protocol, which names the client that stands behind.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Networks of the balancers that speak it. They must: a connection of theirs that begins otherwise
    /// is closed. From any other address it is not read, and a client that tries gets what malformed
    /// requests get.
    #[schemars(length(min = 1))]
    pub from: Vec<Network>,
    /// How long its header may take to come. Default 5s.
    #[serde(default = "five_seconds")]
    pub time: Duration,
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// TLS of a listener. Names come from the certificates.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates with their keys; which one a client gets follows from the name it asks for.
    #[schemars(length(min = 1))]
    pub certificates: Vec<Certificate>,
    /// The name of the certificate for clients that ask for an unknown name, or for none. Without
    /// it they are refused.
    pub default: Option<String>,
    /// `1.2` (1.2 and 1.3, the default) or `1.3` (only that).
    #[serde(default)]
    pub min_version: MinVersion,
    /// Cipher suites by their IANA names, best first. Default: all that are safe.
    #[serde(default)]
    pub ciphers: Vec<String>,
    /// Client certificates.
    pub client: Option<ClientCertificates>,
    /// HTTP/2 by ALPN. Default true.
    #[serde(default = "yes")]
    pub http2: bool,
    /// How long a handshake may take. Default 10s.
    #[serde(default = "ten_seconds")]
    pub handshake_time: Duration,
}

fn yes() -> bool {
    true
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// The lowest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 alone.
    #[serde(rename = "1.3")]
    V13,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file: the certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Which client certificates are asked for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificates {
    /// PEM file of the authorities that may have signed them.
    pub ca: PathBuf,
    /// PEM file of revocation lists.
    pub crl: Option<PathBuf>,
    /// True: a client without a certificate is refused. Default false: it is let in without one.
    #[serde(default)]
    pub require: bool,
}

/// Sizes, counts and times of a listener.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// All header fields of a request together; more is answered with 431. Default 64KiB; 1KiB to 1MiB.
    pub headers: ByteSize,
    /// How many header fields; more is answered with 431. Default 100; 1 to 256.
    #[schemars(range(min = 1, max = 256))]
    pub header_count: u16,
    /// The request target; longer is answered with 414. Default 8KiB; 1KiB to 64KiB.
    pub uri: ByteSize,
    /// The body of a request; longer is answered with 413. Default 10MiB. A route's `body_limit`
    /// overrides it.
    pub body: ByteSize,
    /// Requests on one HTTP/1.1 connection before it is closed. Default 10000.
    #[schemars(range(min = 1))]
    pub requests: u32,
    /// HTTP/2 streams of one connection at a time. Default 100.
    #[schemars(range(min = 1, max = 10_000))]
    pub streams: u32,
    /// HTTP/2 flow-control window of a stream; a connection has four times this.
    /// Default 256KiB; 1KiB to 256MiB.
    pub window: ByteSize,
    /// How long a client may take to send a whole request header. Default 10s.
    pub header_time: Duration,
    /// How long a connection may be idle between requests. Default 60s.
    pub idle: Duration,
    /// How long a client may pause while it sends a body. Default 30s. In gRPC calls, which may be
    /// conversations, `timeouts.read` of the upstream bounds the pause instead.
    pub body_time: Duration,
    /// How many bytes a second a body must come at on average, once it has taken longer than
    /// `body_time` and as long as no answer has begun. Default 256B; `0B` for no bound.
    pub body_rate: ByteSize,
    /// How long a client may take to accept what is written to it before it counts as gone. Default 60s.
    pub write_time: Duration,
    /// How old a connection may get. It ends with the request under way then (`Connection: close`, or
    /// GOAWAY on HTTP/2). Default 1h.
    pub max_age: Duration,
    /// Open connections of this listener; a further one is closed at once. Default 100000. All
    /// listeners together are bounded by the file descriptors that the process may have, of which
    /// some are kept for upstreams and the admin listener.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections: u32,
    /// Open connections of one client address; a further one is closed at once. Addresses in
    /// `trusted_proxies` and in `proxy_protocol.from` speak for others and are not bounded. Default 1000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub client_connections: u32,
    /// How many leading bits of an IPv6 address make one client, since clients have whole networks.
    /// Default 64; 16 to 128.
    #[schemars(range(min = 16, max = 128))]
    pub client_prefix: u8,
    /// Connections that are in the TLS handshake or before the end of their PROXY header; a further one
    /// is closed at once. Default 4096.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub handshakes: u32,
    /// Whether connections and requests of this listener are taken whatever `process.overload` says: one for health
    /// checks, for instance. Default false.
    pub spare: bool,
    /// Bounds on connections that were upgraded, to WebSocket for instance.
    pub upgraded: Upgraded,
}

/// Bounds on an upgraded connection. At one of them, and when the gateway stops, a WebSocket gets a
/// close frame in each direction (1001, going away) before it ends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upgraded {
    /// How long nothing may move in either direction. Default 10m.
    pub idle: Duration,
    /// How long it may last. Default 24h.
    pub age: Duration,
}

impl Default for Upgraded {
    fn default() -> Self {
        Self { idle: Duration::from_secs(600), age: Duration::from_secs(24 * 3600) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            headers: ByteSize::kib(64),
            header_count: 100,
            uri: ByteSize::kib(8),
            body: ByteSize::mib(10),
            requests: 10_000,
            streams: 100,
            window: ByteSize::kib(256),
            header_time: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            body_time: Duration::from_secs(30),
            body_rate: ByteSize::of(256),
            write_time: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            connections: 100_000,
            client_connections: 1000,
            client_prefix: 64,
            handshakes: 4096,
            spare: false,
            upgraded: Upgraded::default(),
        }
    }
}
