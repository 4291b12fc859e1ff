//! Tollgate, an API gateway on Pingora. A list of rooms, in the order in which a request flows
//! through them; `ARCHITECTURE.md` says who may use whom, and `tests/architecture.rs` checks it.

pub mod admin;
#[cfg(feature = "mimalloc")]
pub mod allocator;
pub mod background;
pub mod cache;
pub mod cli;
pub mod compose;
pub mod config;
pub mod identity;
pub mod listen;
pub mod message;
pub mod outbound;
pub mod policy;
pub mod proxy;
pub mod rejection;
pub mod retained;
pub mod routing;
pub mod runtime;
pub mod server;
pub mod telemetry;
pub mod upstream;
pub mod values;
