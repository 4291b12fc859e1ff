use super::Problem;
use std::fmt;

/// Where something stands in a configuration: `routes.orders.match.hosts[0]`.
///
/// `config` turns it into file, line and column, and only when there is something to report, so
/// that a good configuration pays nothing for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigPath(Vec<Step>);

/// One step of a [`ConfigPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Into the value of this key.
    Key(String),
    /// Into this element of a list.
    Index(usize),
}

impl ConfigPath {
    /// The document as a whole.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// One step further, into the value of `key`.
    #[must_use]
    pub fn key(&self, key: impl fmt::Display) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_string()));
        Self(steps)
    }

    /// One step further, into element `index`.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// This path, and then the other one from where it ends.
    #[must_use]
    pub fn join(&self, rest: &Self) -> Self {
        let mut steps = self.0.clone();
        steps.extend_from_slice(&rest.0);
        Self(steps)
    }

    /// True if this is `other` or leads through it. Everything is under the root but nothing is said
    /// of the whole by that, so the root counts for itself alone.
    pub fn is_at_or_under(&self, other: &Self) -> bool {
        self == other || (!other.0.is_empty() && self.0.starts_with(&other.0))
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A problem, with where in the configuration it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where; relative to what the reporter was given.
    pub path: ConfigPath,
    /// A second place that belongs to it, such as the other of two routes in conflict.
    pub other: Option<ConfigPath>,
    /// What, and what to do about it.
    pub problem: Problem,
    /// An error rejects the configuration; a warning is reported by `check` and by the reload.
    pub severity: Severity,
    /// It is about the last key of the path rather than about its value.
    pub at_key: bool,
}

/// Whether a [`Finding`] rejects the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

impl Finding {
    /// What rejects the configuration.
    pub fn error(path: ConfigPath, problem: Problem) -> Self {
        Self { path, other: None, problem, severity: Severity::Error, at_key: false }
    }

    /// What is only worth saying.
    pub fn warning(path: ConfigPath, problem: Problem) -> Self {
        Self { path, other: None, problem, severity: Severity::Warning, at_key: false }
    }

    /// Adds the second place.
    #[must_use]
    pub fn with_other(mut self, other: ConfigPath) -> Self {
        self.other = Some(other);
        self
    }

    /// It is about the last key of the path, such as a name that stands for nothing.
    #[must_use]
    pub fn at_key(mut self) -> Self {
        self.at_key = true;
        self
    }

    /// The same finding, seen from `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: &ConfigPath) -> Self {
        self.path = prefix.join(&self.path);
        self.other = self.other.map(|other| prefix.join(&other));
        self
    }
}
