//! What the gateway says about itself: metrics, the access log, the error log, and the marks that
//! tie a request to them (trace and request id).

pub mod access_log;
pub mod error_log;
pub mod metrics;
pub mod random;
pub mod request_id;
pub mod trace;
mod worker;
