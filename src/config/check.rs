//! What the types alone cannot say.

use super::Config;
use crate::values::Finding;
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

pub(super) fn check(config: &Config, unread: &Unread, findings: &mut Vec<Finding>) {
    let _ = (config, unread, findings);
}

/// An I/O error in words.
pub(super) fn why(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
