//! `tollgate upgrade`: a new process takes over from the one that runs, or nothing changes.

use super::{check, complain, print};
use crate::background::handover::{self, Answer, Wanted};
use crate::config::Loader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn main(config: &Path, binary: Option<&Path>, control: Option<PathBuf>) -> ExitCode {
    let unchanged = |why: &str| {
        complain(&format!("tollgate: {why}\ntollgate: nothing has changed\n"));
        ExitCode::FAILURE
    };
    // With this binary: what is wrong with the text alone is found before anything is started.
    let report = if binary.is_none() { check::check(config) } else { Default::default() };
    if report.errors() > 0 {
        return unchanged(&report.to_string());
    }
    let Some(control) = control.or_else(|| Loader::default().read(config).config.process.control) else {
        return unchanged(
            "the configuration names no control socket: set `process.control`, or say `--control`",
        );
    };
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let wanted = Wanted { binary: binary.map(absolute), config: Some(absolute(config)) };
    let started = |pid| print(&format!("started process {pid}\n"));
    match handover::ask_to_start(&control, wanted, started) {
        Ok(Answer::Upgraded(pid)) => {
            print(&format!("process {pid} serves; the one before it drains\n"));
            ExitCode::SUCCESS
        }
        Ok(Answer::Refused(why)) => unchanged(&why),
        Err(problem) => unchanged(&problem.to_string()),
    }
}
