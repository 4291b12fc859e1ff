//! TLS of a listener, by rustls: which certificate a client gets follows from the name it asks for.

mod certificate;
mod clients;
mod handshake;
mod names;
mod setup;
mod suites;

pub(super) use handshake::Failed;

pub use setup::TlsSetup;
