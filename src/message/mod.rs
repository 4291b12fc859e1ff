//! Stateless rules on HTTP messages.

pub mod normalize;
