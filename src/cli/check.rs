//! `tollgate check`: finds what is wrong with a configuration.

use super::print;
use crate::config::{ConfigErrors, Loader};
use crate::runtime::{Compiler, Openness, Snapshot};
use crate::telemetry::metrics::{Metrics, MetricsSettings};
use crate::upstream::discovery::Source;
use crate::upstream::resolve::Asker;
use crate::values::{ConfigPath, Finding, Name, Problem};
use futures_util::future::join_all;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For editors and CI.
    Json,
}

pub(super) fn main(path: &Path, format: Format) -> ExitCode {
    let (report, openness) = examine(path);
    let wrong = report.errors() > 0;
    match format {
        Format::Json => {
            print(&format!("{:#}\n", json!({ "problems": report.to_json(), "facts": openness.map(facts) })));
        }
        Format::Text => {
            print(&report.to_string());
            let (errors, warnings) = (report.errors(), report.len() - report.errors());
            let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
            print(&format!(
                "{}: {}, {}\n",
                path.display(),
                plural(errors, "error"),
                plural(warnings, "warning")
            ));
            print(&openness.as_ref().map(told).unwrap_or_default());
        }
    }
    if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// How long names may take, all together.
const ASKING: Duration = Duration::from_secs(5);

/// Names that upstreams are found by and that do not resolve now. A warning: they may later, and the
/// machine that checks may not be the one that serves.
fn unresolved(snapshot: &Snapshot) -> Vec<Finding> {
    let upstreams = snapshot.upstreams.iter().map(|(upstream, _)| upstream);
    let asked = upstreams.filter_map(|upstream| {
        let discovery = upstream.discovery()?;
        let path = ConfigPath::root().key("upstreams").key(&upstream.name).key("discover");
        let (path, dns) = match &discovery.source {
            Source::Dns { dns, .. } => (path.key("dns"), dns),
            Source::Srv { dns, .. } => (path.key("srv"), dns),
            Source::File(_) => return None,
        };
        Some(async move {
            let answer = async { Asker::new(dns)?.ask(&discovery.source).await };
            let failure = match tokio::time::timeout(ASKING, answer).await {
                Ok(answer) => answer.err()?,
                Err(_) => format!("no answer within {}s", ASKING.as_secs()),
            };
            let problem = Problem::new(format!("the name does not resolve here: {failure}"))
                .remedy("check the name and the name servers in `dns`");
            Some(Finding::warning(path, problem))
        })
    });
    let asked: Vec<_> = asked.collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_or_else(
        |_| Vec::new(),
        |runtime| runtime.block_on(join_all(asked)).into_iter().flatten().collect(),
    )
}

/// Everything that is wrong, or worth saying.
pub(super) fn check(path: &Path) -> ConfigErrors {
    examine(path).0
}

/// The same through the production `load` and `compile`, with how routes treat callers.
fn examine(path: &Path) -> (ConfigErrors, Option<Openness>) {
    let compiler = Compiler::new(Metrics::new(&MetricsSettings::default(), 1));
    match compiler.build(Loader::default().read(path)) {
        Ok((compiled, warnings)) => {
            let config = &compiled.snapshot.config;
            let unresolved = config.errors(unresolved(&compiled.snapshot));
            (warnings.and(unresolved), Some(compiled.snapshot.openness()))
        }
        Err(report) => (report, None),
    }
}

fn facts(openness: Openness) -> serde_json::Value {
    let names = |names: Vec<Name>| names.iter().map(Name::to_string).collect::<Vec<_>>();
    json!({
        "routes": openness.routes,
        "unauthenticated_routes": names(openness.unauthenticated),
        "optionally_authenticated_routes": names(openness.optional),
    })
}

/// Worth a line only where some routes do ask.
fn told(openness: &Openness) -> String {
    let (routes, open) = (openness.routes, openness.unauthenticated.len());
    if open == 0 || open == routes {
        return String::new();
    }
    format!("{open} of {routes} routes ask for no caller; `--format json` lists them\n")
}
