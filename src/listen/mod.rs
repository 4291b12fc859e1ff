//! Where clients connect: our own listening service for Pingora's `Server`, generic over the app
//! that it serves. It knows no gateway, no routing and no metrics.
//!
//! From accept to app: [`Listeners`] holds the sockets and the gate, [`Service`] runs the accept
//! tasks (`accept`), which refuse what is beyond a bound (`caps`); each other connection gets a task
//! (`connection`) that reads the PROXY header (`proxy_protocol`) and the TLS handshake (`tls`), makes an [`Edge`] of the stream, finds out the protocol, and feeds the app: requests of
//! HTTP/1 one after the other, HTTP/2 through Pingora's own loop (`http2`). The app finds
//! [`ConnInfo`] in a session's digest.
//!
//! Why not Pingora's own service: it has no gate, no deadline for a whole header, no way to add or
//! remove a listener, and an idle connection costs it 100 KiB; here 2 KiB.

mod accept;
mod caps;
mod conn_info;
mod connection;
mod counters;
mod edge;
mod http2;
pub mod inherited;
mod listeners;
mod observer;
pub mod proxy_protocol;
mod request_line;
mod service;
mod slot;
mod socket;
#[cfg(test)]
mod tests;
pub mod tls;
mod transport;
mod write_buffer;

pub use conn_info::ConnInfo;
pub use counters::{Counters, HandshakeFailure, Refusal, Unseen};
pub use edge::Edge;
pub use listeners::Listeners;
pub use observer::{Observer, Unobserved};
pub use service::Service;
pub use slot::ListenerSpec;
pub use socket::bind;
pub use transport::Transport;
