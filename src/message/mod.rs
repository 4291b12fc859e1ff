//! Stateless rules on HTTP messages.

pub mod authority;
pub mod params;
