use super::{Problem, text_value};
use std::{fmt, str::FromStr, sync::Arc};

/// The name of a listener, a route, an upstream: 1 to 100 of `a-z A-Z 0-9 _ - .`, the first one
/// a letter or a digit. It is safe in a metric label, a log line, a URL path and a header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
        let fits = !text.is_empty()
            && text.len() <= 100
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(allowed);
        if fits {
            return Ok(Self(text.into()));
        }
        let shown: String = text.chars().take(40).collect();
        Err(Problem::new(format!("`{shown}` is not a name")).remedy(
            "a name has 1 to 100 letters, digits, `_`, `-` or `.`, and begins with a letter or a digit",
        ))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

text_value!(
    Name,
    "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$",
    "a name: letters, digits, `_`, `-` or `.`, the first one a letter or a digit",
    ["orders"]
);
