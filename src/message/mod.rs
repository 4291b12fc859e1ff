//! Stateless rules on HTTP messages.

pub mod client_ip;
pub mod forwarded;
pub mod hop_by_hop;
