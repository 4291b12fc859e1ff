//! What a policy says that has to see a request's body whole.

use crate::values::{ByteSize, ConfigPath, Duration, Finding, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a body is held until a policy has seen it whole. It is held in memory, within
/// `process.body_memory` for all requests together, and goes to an upstream only then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WholeBody {
    /// The largest body; more is answered with 413, over whatever `body_limit` says. Default 1MiB.
    pub max: ByteSize,
    /// How long it may take to come as a whole; more is answered with 408. Default 30s.
    pub time: Duration,
    /// What is done with a body that does not say how long it is. Default `hold`.
    pub undeclared: Undeclared,
}

/// What is done with a body that does not say how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Undeclared {
    /// The upstream is connected and gets the head; the body is held back until it is whole. A refusal
    /// breaks that connection off.
    #[default]
    Hold,
    /// 411 (RFC 9110 section 15.5.12).
    Refuse,
}

impl Default for WholeBody {
    fn default() -> Self {
        Self { max: ByteSize::mib(1), time: Duration::from_secs(30), undeclared: Undeclared::Hold }
    }
}

impl WholeBody {
    /// What is wrong with it, from its own key.
    pub fn findings(&self) -> Vec<Finding> {
        let wrong = |key: &str, remedy: &str| {
            let problem = Problem::new(format!("`{key}` cannot be zero")).remedy(remedy.to_owned());
            Finding::error(ConfigPath::root().key(key), problem)
        };
        let max = self.max.is_empty().then(|| wrong("max", "write at least `1B`"));
        let time = self.time.is_zero().then(|| wrong("time", "write at least `1ms`"));
        max.into_iter().chain(time).collect()
    }

    /// What satisfies both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let refuse = [self.undeclared, other.undeclared].contains(&Undeclared::Refuse);
        Self {
            max: self.max.min(other.max),
            time: self.time.min(other.time),
            undeclared: if refuse { Undeclared::Refuse } else { Undeclared::Hold },
        }
    }
}
