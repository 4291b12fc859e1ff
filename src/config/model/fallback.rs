//! What a route does when its upstream fails.

use super::route::Respond;
use super::upstream::Condition;
use crate::values::{Duration, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What requests get when the upstream of their route fails, in the place of an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// What it is for, once the upstream's own attempts are over: `connect` (nobody could be asked: no connection,
    /// no endpoint, an open breaker, no room), `reset` (the connection broke before an answer), `timeout` (no answer
    /// in time), and statuses of the upstream, 400 to 599. Default `[connect, reset, timeout, 502, 503, 504]`.
    #[serde(default = "failures")]
    pub on: Vec<Condition>,
    /// What is tried, in this order: `{ stale: … }` where the route's cache has something, `{ upstream: … }` where the
    /// request can safely be sent again, as in `retry`, and `{ respond: … }`, which always has an answer. 1 to 8 of
    /// them.
    #[schemars(length(min = 1, max = 8))]
    pub to: Vec<Step>,
}

impl Fallback {
    /// The upstreams that it names.
    pub fn upstreams(&self) -> impl Iterator<Item = &Name> {
        self.to.iter().filter_map(|step| match step {
            Step::Upstream(name) => Some(name),
            Step::Stale(_) | Step::Respond(_) => None,
        })
    }
}

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// What the route's cache has for the request, too old as it is.
    Stale(Stale),
    /// Another upstream.
    Upstream(Name),
    /// An answer of the gateway's own.
    Respond(Respond),
}

/// A kept answer in the place of an upstream that failed. One that says `no-cache`, `must-revalidate`,
/// `proxy-revalidate` or `s-maxage` is none (RFC 9111 section 4.2.4).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stale {
    /// How long after it was fresh. Default 1d.
    pub max_age: Duration,
}

impl Default for Stale {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(86_400) }
    }
}

fn failures() -> Vec<Condition> {
    let named = [Condition::Connect, Condition::Reset, Condition::Timeout];
    named.into_iter().chain([502, 503, 504].map(Condition::Status)).collect()
}
