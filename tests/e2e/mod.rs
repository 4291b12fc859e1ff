//! Whole requests through the production assembly, on real sockets.

mod forwarding;
