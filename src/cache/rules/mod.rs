//! The rules of HTTP caching (RFC 9111, RFC 9110 sections 13 and 14, RFC 5861, RFC 9211, RFC 9213) as
//! functions of messages and times: nothing here waits, stores or knows a session. Instants are time
//! since the Unix epoch, as [`Duration`](std::time::Duration).

pub mod conditional;
pub mod date;
pub mod directives;
pub mod freshness;
pub mod key;
pub mod range;
pub mod reuse;
pub mod status;
pub mod storing;
pub mod targeted;
pub mod update;
pub mod vary;

#[cfg(test)]
mod tests;
