//! What the gateway says about itself.

use crate::values::{Duration, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Access log, error log, metrics.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// One line a request. `off` switches it off.
    pub access_log: crate::policy::config::Setting<AccessLog>,
    /// What happens besides requests.
    pub error_log: ErrorLog,
    /// Prometheus metrics on the admin listener.
    pub metrics: Metrics,
}

/// One JSON object a line for each request.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// `stdout` (the default), `stderr`, or `{ file: path }`, which is reopened on SIGUSR1.
    pub to: LogTarget,
    /// Which fields, in this order; default: all but headers. A header is `request.NAME` or `response.NAME`.
    pub fields: Vec<String>,
    /// Headers whose values print as `***`. Default: authorization, proxy-authorization, cookie, set-cookie, x-api-key.
    pub redact: Vec<String>,
    /// The share of requests that are logged; those answered with 5xx always are. Default 100%.
    pub sample: Percent,
    /// Lines that may wait for the writer before lines are dropped and counted. Default 8192.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue: u32,
}

impl Default for AccessLog {
    fn default() -> Self {
        let redact = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];
        Self {
            to: LogTarget::Stdout,
            fields: Vec::new(),
            redact: redact.iter().map(ToString::to_string).collect(),
            sample: Percent::ALL,
            queue: 8192,
        }
    }
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, created if missing, appended to, reopened on SIGUSR1.
    File(PathBuf),
}

/// The log of what happens besides requests, on standard error.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorLog {
    /// `error`, `warn`, `info` (the default), `debug` or `trace`. The admin listener can change it.
    pub level: LogLevel,
}

impl Default for ErrorLog {
    fn default() -> Self {
        Self { level: LogLevel::Info }
    }
}

/// How much the error log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words are the whole meaning")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Prometheus metrics.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Routes that have a label of their own; beyond that the label is `_other`. Default 1000.
    pub max_routes: u32,
    /// Upper bounds of the duration histograms, ascending, 1 to 50 of them. Default: 1ms to 10s in
    /// 12 steps.
    #[schemars(length(min = 1, max = 50))]
    pub buckets: Vec<Duration>,
}

impl Default for Metrics {
    fn default() -> Self {
        let bounds = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000];
        Self { max_routes: 1000, buckets: bounds.map(Duration::from_millis).to_vec() }
    }
}
