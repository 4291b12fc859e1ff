//! A value that does not fit where it stands, in the user's words rather than serde's.

use super::tree::{Key, Kind, Node, Scalar, shown};
use crate::values::{ConfigPath, Problem, Step, nearest};
use serde::de::{self, Unexpected};
use std::fmt;

/// A value that does not fit where it stands.
#[derive(Debug)]
pub(super) struct Misfit(Box<Inner>);

#[derive(Debug)]
struct Inner {
    /// From the value up to the root.
    steps: Vec<Step>,
    /// It is about the key, whatever its value.
    at_key: bool,
    missing: Option<&'static str>,
    problem: Problem,
}

impl Misfit {
    pub fn new(problem: Problem) -> Self {
        Self(Box::new(Inner { steps: Vec::new(), at_key: false, missing: None, problem }))
    }

    pub fn expected(expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::new(Problem::new(format!("expected {expected}, found {found}")))
    }

    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.problem.remedy = Some(remedy.into());
        self
    }

    pub fn under(mut self, step: Step) -> Self {
        self.0.steps.push(step);
        self
    }

    pub fn on_key(mut self, key: &Key<'_>) -> Self {
        self.0.at_key = self.0.steps.is_empty();
        self.under(Step::Key(key.text.to_string()))
    }

    /// Where it is.
    pub fn path(&self) -> ConfigPath {
        self.0.steps.iter().rev().fold(ConfigPath::root(), |path, step| match step {
            Step::Key(key) => path.key(key),
            Step::Index(index) => path.index(*index),
        })
    }

    /// True if it is about the last key of its path rather than about the value.
    pub fn at_key(&self) -> bool {
        self.0.at_key
    }

    /// The field that is missing at its path, if that is what is wrong.
    pub fn missing(&self) -> Option<&'static str> {
        self.0.missing
    }

    /// What is wrong.
    pub fn into_problem(self) -> Problem {
        self.0.problem
    }

    /// What came from the environment is not repeated: it may be a secret in the wrong place.
    pub fn without_value_of(mut self, node: &Node<'_>) -> Self {
        if let Kind::Scalar(Scalar { text, written: Some(written), .. }) = &node.kind
            && self.0.steps.is_empty()
        {
            let head: String = text.chars().take(12).collect();
            let written = shown(written);
            let said = &mut self.0.problem.what;
            if !text.is_empty() && said.contains(&format!("`{text}`")) {
                *said = said.replace(&format!("`{text}`"), &format!("`{written}`"));
            }
            if !head.is_empty() && said.contains(&head) && !written.contains(&head) {
                *said = format!("the value of `{written}` does not fit here");
            }
        }
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.problem)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    /// A [`Problem`] prints its remedy on a second line if asked for the alternate form.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = format!("{message:#}");
        Self::new(match text.split_once('\n') {
            Some((what, remedy)) => Problem::new(what).remedy(remedy),
            // What serde says of every socket address.
            None if text == "invalid socket address syntax" => {
                Problem::new("this is not an address with a port")
                    .remedy("write it as `0.0.0.0:8080` or `[::]:8443`")
            }
            None => Problem::new(text),
        })
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        if expected == "enum" {
            return Self::expected("a map with one key", "an empty map");
        }
        let bare = matches!(found, Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_))
            || matches!(found, Unexpected::Float(_));
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Str(_) | Unexpected::Char(_) => "text",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a map",
            _ => "something else",
        };
        let mut misfit = Self::expected(&expected, found);
        if bare && expected.contains("text") {
            misfit.0.problem.remedy = Some("put it in quotes".to_owned());
        }
        misfit
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        match found {
            Unexpected::Str(text) => Self::expected(expected, format_args!("`{}`", shown(text))),
            Unexpected::Unsigned(n) => Self::expected(expected, format_args!("`{n}`")),
            Unexpected::Signed(n) => Self::expected(expected, format_args!("`{n}`")),
            other => Self::invalid_type(other, expected),
        }
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        Self::expected(expected, format_args!("{length} values"))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::new(unknown("unknown choice", variant, known))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(unknown("unknown field", field, known))
    }

    fn missing_field(field: &'static str) -> Self {
        let mut misfit = Self::new(
            Problem::new(format!("missing field `{field}`")).remedy(format!("add `{field}: …` here")),
        );
        misfit.0.missing = Some(field);
        misfit
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Problem::new(format!("duplicate key `{field}`")))
    }
}

fn unknown(kind: &str, name: &str, known: &[&str]) -> Problem {
    let problem = Problem::new(format!("{kind} `{}`", shown(name)));
    if let Some(near) = nearest(name, known.iter().copied()) {
        return problem.remedy(format!("did you mean `{near}`?"));
    }
    match known {
        [] => problem.remedy("nothing can be said here"),
        known => problem.remedy(format!("known: {}", one_of(known))),
    }
}

/// Words for a message: `a`, `b`.
pub(super) fn one_of(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
