use crate::values::{ConfigPath, Duration, Finding, Name, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The longest that one can be kept for by default, and how long those of API keys are.
pub(super) const LONGEST_KEEP: Duration = Duration::from_secs(3660 * 86_400);

/// What does not count any more before its time is over: API keys, certificates, tokens, all of a subject's.
/// Revocations come by the admin listener (`/revocations`), from a file, and from other gateways.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RevocationsConfig {
    /// A file of further ones, one JSON object a line, which is watched: a change needs no reload, and a
    /// line counts as long as it is there. Of two lines about the same thing the stricter one holds, and the
    /// log names them. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Where those that came by the admin listener or from other gateways are kept over a restart.
    /// Default: nowhere; they are kept over reloads and upgrades all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// The store in `stores` by which gateways tell each other. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Name>,
    /// How often the store is asked for what other gateways revoked, 100ms to 1m: so much later a
    /// revocation counts here. Default 1s.
    pub refresh: Duration,
    /// How long one counts that does not say until when, 1m to 10 years: longer than any token lives.
    /// Default 30d. That of a `key`, an API key or a certificate, counts for 10 years.
    pub keep: Duration,
    /// How many there may be, 1 to 1000000; and as many in the file. Sessions that their people log out of are
    /// among them, and take half of the room at most. Default 100000.
    pub most: u32,
}

impl Default for RevocationsConfig {
    fn default() -> Self {
        Self {
            file: None,
            state: None,
            store: None,
            refresh: Duration::from_secs(1),
            keep: Duration::from_secs(30 * 86_400),
            most: 100_000,
        }
    }
}

impl RevocationsConfig {
    /// What is out of range; paths from its own key.
    pub(super) fn check(&self) -> Vec<Finding> {
        let root = ConfigPath::root();
        let mut found = Vec::new();
        for (field, time, least, most) in [
            ("refresh", self.refresh, Duration::from_millis(100), Duration::from_secs(60)),
            ("keep", self.keep, Duration::from_secs(60), LONGEST_KEEP),
        ] {
            if !(least..=most).contains(&time) {
                let problem = Problem::new(format!("`{field}` cannot be {time}"))
                    .remedy(format!("write a time from {least} to {most}"));
                found.push(Finding::error(root.key(field), problem));
            }
        }
        if !(1..=1_000_000).contains(&self.most) {
            let problem = Problem::new(format!("`most` cannot be {}", self.most))
                .remedy("write a number from 1 to 1000000");
            found.push(Finding::error(root.key("most"), problem));
        }
        found
    }

    /// The files that it names.
    pub(crate) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.file.iter_mut().chain(&mut self.state)
    }
}
