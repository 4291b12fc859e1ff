//! Stateless rules on HTTP messages.

pub mod authority;
pub mod client_ip;
pub mod cookies;
pub mod forwarded;
pub mod grpc;
pub mod hop_by_hop;
pub mod method;
pub mod negotiate;
pub mod normalize;
pub mod params;
pub mod pattern;
pub mod websocket;
