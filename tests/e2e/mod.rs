//! Whole requests through the production assembly, on real sockets.

mod admin;
mod forwarding;
mod logs;
mod policies;
mod reload;
mod routing;
mod tls;
