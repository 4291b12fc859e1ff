//! `tollgate check`: finds what is wrong with a configuration.

use super::print;
use crate::config::{self, ConfigErrors};
use crate::runtime::Compiler;
use crate::telemetry::metrics::{Metrics, MetricsSettings};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

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
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(errors) => return errors,
    };
    let config = Arc::new(loaded.config);
    let compiler = Compiler::new(Metrics::new(&MetricsSettings::default(), 1));
    let found = match compiler.compile(&config) {
        Ok(compiled) => compiled.warnings,
        Err(found) => found,
    };
    loaded.warnings.and(config.errors(found))
}
