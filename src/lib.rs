//! Tollgate, an API gateway on Pingora. A list of rooms, in the order in which a request flows
//! through them; `ARCHITECTURE.md` says who may use whom, and `tests/architecture.rs` checks it.

pub mod config;
pub mod listen;
pub mod policy;
pub mod rejection;
pub mod values;
