//! A gateway in the production assembly, origins and clients on real sockets, on ports from the
//! operating system. Guards end everything that was started.

mod authority;
mod client;
mod dns;
mod gateway;
mod http2;
mod issuer;
mod login_issuer;
mod modern;
mod origin;
mod process;
mod redis;
mod signer;
mod streams;

pub use authority::Authority;
pub use client::{Answer, Client, abort, get, send, statuses, turned_away};
pub use dns::Dns;
pub use gateway::Gateway;
pub use http2::Http2;
pub use issuer::{Issuer, Mood, now};
pub use login_issuer::{LoginIssuer, Visitor};
pub use modern::Modern;
pub use origin::{Gate, Origin, Received, answer};
pub use process::{Process, binary, curl, quiet_port};
pub use redis::Redis;
pub use signer::Signer;
pub use streams::{Exchange, Fate, Streams, trailers};

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: for a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
///
/// # Panics
/// If it does not within [`PATIENCE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
