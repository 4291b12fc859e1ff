//! What may happen to a request: the policies, the contract that each of them keeps, and the
//! fixed order in which they run.

pub mod body_limit;
pub mod config;
pub mod cors;
pub mod headers;
pub mod ip_access;
pub mod rewrite;
