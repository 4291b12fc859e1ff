use crate::values::{Duration, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When requests are answered with 503 at once, because too many before them failed or were slow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// The share of failed requests (no answer, or a 5xx) from which on it opens. Default 50%; `0%` for never.
    pub failures: Percent,
    /// What counts as slow, and the share of slow requests from which on it opens. Default: nothing.
    pub slow: Option<Slow>,
    /// With fewer requests within the time it does not open. Default 20.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub of_at_least: u32,
    /// The time that is looked back at. Default 10s.
    pub within: Duration,
    /// How long it stays open before a few requests try again. Default 5s.
    pub open_for: Duration,
    /// How many requests try, all of which have to go well. Default 3.
    #[schemars(range(min = 1, max = 1000))]
    pub probes: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: Percent::from_basis_points(5_000),
            slow: None,
            of_at_least: 20,
            within: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
            probes: 3,
        }
    }
}

/// What counts as slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// An answer whose head took so long.
    pub after: Duration,
    /// The share of slow requests from which on the breaker opens. Default 80%.
    #[serde(default = "most")]
    pub share: Percent,
}

const fn most() -> Percent {
    Percent::from_basis_points(8_000)
}
