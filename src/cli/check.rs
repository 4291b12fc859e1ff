//! `tollgate check`: finds what is wrong with a configuration.

use super::print;
use crate::config::{ConfigErrors, Loader};
use crate::runtime::{Compiler, Snapshot};
use crate::telemetry::metrics::{Metrics, MetricsSettings};
use crate::upstream::discovery::Source;
use crate::upstream::resolve::Asker;
use crate::values::{ConfigPath, Finding, Problem};
use futures_util::future::join_all;
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
    let report = check(path);
    let wrong = report.errors() > 0;
    match format {
        Format::Json => print(&format!("{:#}\n", report.to_json())),
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

/// Everything that is wrong, or worth saying, through the production `load` and `compile`.
pub fn check(path: &Path) -> ConfigErrors {
    let compiler = Compiler::new(Metrics::new(&MetricsSettings::default(), 1));
    match compiler.build(Loader::default().read(path)) {
        Ok((compiled, warnings)) => {
            let config = &compiled.snapshot.config;
            warnings.and(config.errors(unresolved(&compiled.snapshot)))
        }
        Err(report) => report,
    }
}
