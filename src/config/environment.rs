//! `${NAME}` and `${NAME:-default}` in scalars.
//!
//! What comes from the environment is text, never structure: it cannot become a list, a map, a key
//! or nothing. A field that wants a number or a boolean reads the text as one, with quotes around it
//! or without (inside of `{ }` YAML itself asks for the quotes). `$${` stands for `${`; any other `$` for itself.

use super::tree::{Fault, Kind, Node, Place, Scalar, shown};
use crate::values::{ConfigPath, Problem, Step};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How much text the variables of one file may bring in, all together.
const BROUGHT_IN: usize = 32 << 20;
const REMEDY: &str = "write `${NAME}` or `${NAME:-default}`, or `$${` for the characters themselves";

/// Where variables are looked up.
pub trait Environment: Send + Sync {
    /// The value of a variable; `None` if it is not set.
    ///
    /// # Errors
    /// If the value is not UTF-8.
    fn get(&self, name: &str) -> Result<Option<String>, Problem>;
}

/// The environment of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Result<Option<String>, Problem> {
        std::env::var_os(name).map_or(Ok(None), |value| {
            value.into_string().map(Some).map_err(|_| {
                Problem::new(format!("the environment variable `{name}` is not UTF-8"))
                    .remedy("give it a value in UTF-8")
            })
        })
    }
}

impl Environment for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Result<Option<String>, Problem> {
        Ok(self.get(name).cloned())
    }
}

/// What one file took from the environment.
pub(super) struct Replacing<'e> {
    environment: &'e dyn Environment,
    /// Each variable that was asked for, with what it was.
    pub used: BTreeMap<String, Option<String>>,
    brought_in: usize,
    pub faults: Vec<Fault>,
}

impl<'e> Replacing<'e> {
    pub fn new(environment: &'e dyn Environment) -> Self {
        Self { environment, used: BTreeMap::new(), brought_in: 0, faults: Vec::new() }
    }

    /// Replaces the variables in all scalars below `node`, which stands at `path`. What cannot be
    /// replaced is reported and is [`Kind::Gone`] afterwards.
    pub fn run(&mut self, node: &mut Node<'_>, path: &mut Vec<Step>) {
        match &mut node.kind {
            Kind::Scalar(scalar) => {
                if scalar.text.contains("${")
                    && let Err(problem) = self.scalar(scalar)
                {
                    let path = to_path(path);
                    self.faults.push(Fault { place: written(node.place), other: None, path, problem });
                    node.kind = Kind::Gone;
                }
            }
            Kind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    path.push(Step::Index(index));
                    self.run(item, path);
                    path.pop();
                }
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    if !matches!(value.kind, Kind::Scalar(ref s) if !s.text.contains("${")) {
                        path.push(Step::Key(key.text.to_string()));
                        self.run(value, path);
                        path.pop();
                    }
                }
            }
            Kind::Gone => {}
        }
    }

    fn scalar(&mut self, scalar: &mut Scalar<'_>) -> Result<(), Problem> {
        let replaced = self.replace(&scalar.text)?;
        scalar.written = Some(std::mem::replace(&mut scalar.text, Cow::Owned(replaced)));
        Ok(())
    }

    fn replace(&mut self, text: &str) -> Result<String, Problem> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if let Some(before) = rest[..at].strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let inside = &rest[at + 2..];
            let Some(end) = inside.find('}') else {
                return Err(Problem::new("`${` without `}`").remedy(REMEDY));
            };
            out.push_str(&self.variable(&inside[..end])?);
            rest = &inside[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn variable(&mut self, inside: &str) -> Result<String, Problem> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let fits = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || !fits {
            return Err(
                Problem::new(format!("`${{{}}}` does not name a variable", shown(inside))).remedy(REMEDY)
            );
        }
        let value = match self.used.get(name) {
            Some(known) => known.clone(),
            None => {
                let value = self.environment.get(name)?;
                self.used.insert(name.to_owned(), value.clone());
                value
            }
        };
        let value = match (value, default) {
            (Some(value), None) => value,
            (Some(value), Some(_)) if !value.is_empty() => value,
            (_, Some(default)) => default.to_owned(),
            (None, None) => {
                return Err(Problem::new(format!("the environment variable `{name}` is not set"))
                    .remedy(format!("set it, or give a default: `${{{name}:-…}}`")));
            }
        };
        self.brought_in += value.len();
        if self.brought_in > BROUGHT_IN {
            return Err(Problem::new("the variables of this file bring in more than 32MiB")
                .remedy("use fewer or shorter ones"));
        }
        Ok(value)
    }
}

fn to_path(steps: &[Step]) -> ConfigPath {
    steps.iter().fold(ConfigPath::root(), |path, step| match step {
        Step::Key(key) => path.key(key),
        Step::Index(index) => path.index(*index),
    })
}

/// A block scalar's mark is on the line before its text: point at the mark alone.
fn written(place: Place) -> Place {
    Place { length: if place.more_lines > 0 { 1 } else { place.length }, ..place }
}
