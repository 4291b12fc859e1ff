//! What the types alone cannot say: references, ranges, files. What belongs to another room, such
//! as the meaning of a path pattern or whether a key fits its certificate, is checked there.

mod fallback;
mod files;
mod limits;
mod ranges;
mod references;
mod upstreams;

use super::Config;
use crate::values::{ConfigPath, Finding, Problem};
use std::collections::HashSet;

/// What is written but could not be read, so that nobody calls it missing.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// A whole file: anything may be in it.
    pub all: bool,
    /// Items by section and name; the name is empty for a section without names.
    pub items: HashSet<(String, String)>,
}

impl Unread {
    /// True if the item may be among what could not be read.
    pub fn covers(&self, section: &str, name: &str) -> bool {
        self.all
            || self.items.contains(&(section.to_owned(), String::new()))
            || self.items.contains(&(section.to_owned(), name.to_owned()))
    }
}

/// Checks a configuration as far as it could be read.
pub(super) fn check(config: &Config, unread: &Unread) -> Vec<Finding> {
    let mut findings = Findings::default();
    references::check(config, unread, &mut findings);
    ranges::check(config, &mut findings);
    upstreams::check(config, &mut findings);
    limits::check(config, &mut findings);
    files::check(config, &mut findings);
    findings.0
}

/// Findings, as they are made.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, path: ConfigPath, problem: Problem) {
        self.0.push(Finding::error(path, problem));
    }

    fn error_at_key(&mut self, path: ConfigPath, problem: Problem) {
        self.0.push(Finding::error(path, problem).at_key());
    }

    fn warning(&mut self, path: ConfigPath, problem: Problem) {
        self.0.push(Finding::warning(path, problem));
    }

    fn twice(&mut self, path: ConfigPath, first: ConfigPath, problem: Problem) {
        self.0.push(Finding::error(path, problem).with_other(first));
    }
}

/// The path of a section.
fn section(name: &str) -> ConfigPath {
    ConfigPath::root().key(name)
}

/// An I/O error in words.
pub(super) fn why(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
