//! What is kept of answers, and the rules by which it is (RFC 9111). This room knows messages, times and
//! bytes; how requests come to it is `proxy/phases/cache`.
//!
//! A fresh hit is served from here in `request_filter`, so that Pingora's own cache, its locks and its
//! boxed handlers are not on the way. Everything that is fetched to be kept is fetched by a *flight*: a
//! request of its own through the same hooks, which no client's leaving ends. The client that began it
//! and those that come meanwhile follow it, from its first byte.

pub mod disk;
pub mod rules;
pub mod store;
