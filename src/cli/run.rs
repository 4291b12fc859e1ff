//! `tollgate run`: serves.

use super::complain;
use crate::background::supervisor::Supervisor;
use crate::listen::inherited::inherited;
use crate::server::{self, Assembly, Ending, Options, Upgrade};
use crate::telemetry::error_log::ErrorLog;
use crate::values::Problem;
use nix::sys::signal::{SigSet, Signal};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn main(config: &Path, upgrade: Option<Upgrade>) -> ExitCode {
    match assemble(config, upgrade) {
        Ok(assembly) => match assembly.run() {
            Ending::Stopped => ExitCode::SUCCESS,
            Ending::NotTakenOver => ExitCode::FAILURE,
        },
        Err(code) => code,
    }
}

/// A file that has grown as far as it may (`RLIMIT_FSIZE`) is an error of that write, not the end of the process.
/// Threads that are started later have it from this one.
fn let_writes_fail() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // It cannot fail: the signal is one.
    let _ = signals.thread_block();
}

/// Builds the gateway of this process, or says what is wrong.
pub(super) fn assemble(config: &Path, upgrade: Option<Upgrade>) -> Result<Assembly, ExitCode> {
    let wrong = |problem: Problem| {
        complain(&format!("tollgate: {problem}\n"));
        ExitCode::FAILURE
    };
    let variable = |name: &str| std::env::var_os(name);
    let_writes_fail();
    // First of all: these descriptors have numbers that others must not get.
    let inherited = inherited(variable).map_err(wrong)?;
    let supervisor = Supervisor::of(variable).map_err(wrong)?;
    let filters = std::env::var("RUST_LOG").ok();
    let error_log = ErrorLog::install(log::LevelFilter::Info, filters.as_deref())
        .inspect_err(|problem| complain(&format!("tollgate: {problem}\n")))
        .ok();
    let options =
        Options { sockets: BTreeMap::new(), inherited, signals: true, error_log, supervisor, upgrade };
    match server::build(config, options) {
        Ok((assembly, warnings)) => {
            if !warnings.is_empty() {
                complain(&warnings.to_string());
            }
            Ok(assembly)
        }
        Err(errors) => {
            complain(&errors.to_string());
            Err(ExitCode::FAILURE)
        }
    }
}
