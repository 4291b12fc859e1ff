//! What is wrong with a configuration, for people and for programs.

use crate::values::{ConfigPath, Problem, Severity};
use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;

/// How many problems are printed one by one.
const PRINTED: usize = 100;
/// How many characters of a line are shown.
const LINE: usize = 110;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The file, as it was named.
    pub file: PathBuf,
    /// From 1; 0 if it is the file as a whole.
    pub line: u32,
    /// From 1, in characters; 0 if it is the file as a whole.
    pub column: u32,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}:{}", self.file.display(), self.column),
        }
    }
}

/// A line of a file with a mark under a part of it. Secrets in it print as `***`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// The line, or the part of it around the mark.
    pub text: String,
    /// How many characters stand before the mark.
    pub before: usize,
    /// How many characters are marked, at least one.
    pub marked: usize,
}

impl Snippet {
    /// A snippet of `line`, cut to a readable length around the mark.
    pub(super) fn new(line: &str, before: usize, marked: usize) -> Self {
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let all: Vec<char> = line.chars().map(clean).collect();
        let before = before.min(all.len());
        let from = if all.len() > LINE { before.saturating_sub(LINE / 2) } else { 0 };
        let to = all.len().min(from + LINE);
        let text: String = all[from..to].iter().collect();
        let before = before - from;
        let marked = marked.clamp(1, (to - from).saturating_sub(before).max(1));
        Self { text: text.trim_end().to_owned(), before, marked }
    }
}

/// A problem of a configuration, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it is.
    pub spot: Spot,
    /// Where it is in the configuration, whatever the file.
    pub path: ConfigPath,
    /// The line.
    pub snippet: Option<Snippet>,
    /// What is wrong and what to do about it.
    pub problem: Problem,
    /// Whether it rejects the configuration.
    pub severity: Severity,
    /// The second place, such as the first of two equal names.
    pub other: Option<Spot>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = severity(self.severity);
        writeln!(f, "{}: {word}: {}", self.spot, self.problem.what)?;
        let number = self.spot.line.to_string();
        let margin = " ".repeat(number.len());
        if let Some(snippet) = &self.snippet {
            writeln!(f, "{margin} |")?;
            writeln!(f, "{number} | {}", snippet.text)?;
            writeln!(f, "{margin} | {}{}", " ".repeat(snippet.before), "^".repeat(snippet.marked))?;
        }
        if let Some(other) = &self.other {
            writeln!(f, "{margin} = also: {other}")?;
        }
        if let Some(remedy) = &self.problem.remedy {
            writeln!(f, "{margin} = help: {remedy}")?;
        }
        Ok(())
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// All problems of a configuration, by file, line and column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by(|a, b| a.spot.cmp(&b.spot).then_with(|| a.problem.what.cmp(&b.problem.what)));
        errors.dedup();
        Self(errors)
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// True if there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are, warnings included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them reject the configuration.
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|error| error.severity == Severity::Error).count()
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        Self::new(self.0)
    }

    /// For editors and CI: an array of `{file, line, column, severity, path, message, remedy, other}`.
    /// `line` and `column` are 0 where the file as a whole is meant; `remedy` and `other` may be null.
    pub fn to_json(&self) -> Value {
        self.0.iter().map(ConfigError::to_json).collect()
    }
}

impl ConfigError {
    fn to_json(&self) -> Value {
        let other = self.other.as_ref().map(|spot| {
            json!({ "file": spot.file.display().to_string(), "line": spot.line, "column": spot.column })
        });
        json!({
            "file": self.spot.file.display().to_string(),
            "line": self.spot.line,
            "column": self.spot.column,
            "severity": severity(self.severity),
            "path": self.path.to_string(),
            "message": self.problem.what,
            "remedy": self.problem.remedy,
            "other": other,
        })
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// In the manner of a compiler; at most 100 are printed.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self.0.iter().take(PRINTED) {
            writeln!(f, "{error}")?;
        }
        match self.0.len().saturating_sub(PRINTED) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}
