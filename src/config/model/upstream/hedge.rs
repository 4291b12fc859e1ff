use crate::values::{Duration, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a request goes to a second endpoint as well, while the first one is silent; whoever answers first has it.
/// Only requests with a safe method (RFC 9110 section 9.2.1) and no body, at their first attempt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// How long the first endpoint may be silent once it has the request. Good is a time that nineteen of twenty
    /// answers are quicker than.
    pub after: Duration,
    /// How many may go to a second endpoint, for all requests to this upstream together: this share of the
    /// requests that are under way, at any moment; and of all requests over time, besides 100 saved up and one a
    /// second. Default 5%.
    #[serde(default = "share")]
    pub share: Percent,
    /// How many may be under way in any case, where `share` of the requests under way is fewer; 0 to 1000.
    /// Default 1.
    #[serde(default = "at_once")]
    #[schemars(range(max = 1000))]
    pub at_once: u16,
}

fn share() -> Percent {
    Percent::from_basis_points(500)
}

const fn at_once() -> u16 {
    1
}
