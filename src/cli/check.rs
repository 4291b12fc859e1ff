//! `tollgate check`: finds what is wrong with a configuration.

use super::print;
use crate::config::{ConfigErrors, Loader};
use crate::runtime::Compiler;
use crate::telemetry::metrics::{Metrics, MetricsSettings};
use std::path::Path;
use std::process::ExitCode;

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

/// Everything that is wrong, or worth saying, through the production `load` and `compile`.
pub fn check(path: &Path) -> ConfigErrors {
    let compiler = Compiler::new(Metrics::new(&MetricsSettings::default(), 1));
    match compiler.build(Loader::default().read(path)) {
        Ok((_, warnings)) => warnings,
        Err(report) => report,
    }
}
