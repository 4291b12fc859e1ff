//! TLS of a listener, by rustls.

mod client;

pub use client::{ClientCertificate, ClientTls};

/// A listener's TLS, ready for handshakes.
#[derive(Debug)]
pub struct TlsSetup {}
