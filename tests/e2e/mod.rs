//! Whole requests through the production assembly, on real sockets.

mod door;
mod forwarding;
mod limits;
mod protocols;
mod refusals;
