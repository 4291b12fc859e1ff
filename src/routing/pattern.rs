//! What a route says about the path: `/orders/{id}`, `/orders/*`, or a regular expression.

use super::expression::{self, Expression};
use super::params::MAX_PARAMETERS;
use crate::message::normalize::{Escapes, Options, Slashes, normalize};
use crate::values::Problem;

/// The most segments that a path pattern may have: the depth of the trie.
const MAX_SEGMENTS: usize = 64;

/// A path pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern<'a> {
    pub(super) segments: Vec<Segment<'a>>,
    /// True if all below is meant as well.
    pub(super) below: bool,
    /// The names in the order in which the walk binds them.
    pub(super) names: Vec<&'a str>,
}

/// One segment of a [`PathPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    Literal(&'a str),
    Parameter,
}

impl<'a> PathPattern<'a> {
    /// Every path.
    pub(super) const fn any() -> Self {
        Self { segments: Vec::new(), below: true, names: Vec::new() }
    }

    pub(super) fn parse(text: &'a str) -> Result<Self, Problem> {
        let shown: String = text.chars().take(80).collect();
        let wrong = |why: &str, remedy: String| {
            Problem::new(format!("`{shown}` is not a path pattern: {why}")).remedy(remedy)
        };
        let Some(rest) = text.strip_prefix('/') else {
            return Err(wrong("it does not begin with `/`", format!("write `/{shown}`")));
        };
        refuse_unnormal(text)?;
        let mut pattern = Self { segments: Vec::new(), below: false, names: Vec::new() };
        for segment in rest.split('/') {
            if pattern.below {
                let remedy = "`*` and `{*name}` stand for all that follows, so they are the last segment";
                return Err(wrong("something follows its `*`", remedy.to_owned()));
            }
            match Word::read(segment).map_err(|(why, remedy)| wrong(why, remedy.to_owned()))? {
                Word::Literal => pattern.segments.push(Segment::Literal(segment)),
                Word::Parameter(name) => {
                    pattern.segments.push(Segment::Parameter);
                    pattern.bind(name).map_err(|why| wrong(why, "give each its own name".to_owned()))?;
                }
                Word::Below(name) => {
                    pattern.below = true;
                    if let Some(name) = name {
                        pattern.bind(name).map_err(|why| wrong(why, "give each its own name".to_owned()))?;
                    }
                }
            }
        }
        if pattern.names.len() > MAX_PARAMETERS {
            return Err(wrong(
                "it has too many parameters",
                format!("{MAX_PARAMETERS} are the most; take what follows as `{{*rest}}`"),
            ));
        }
        if pattern.segments.len() > MAX_SEGMENTS {
            return Err(wrong(
                "it has too many segments",
                format!("{MAX_SEGMENTS} are the most; take what follows as `{{*rest}}`"),
            ));
        }
        Ok(pattern)
    }

    fn bind(&mut self, name: &'a str) -> Result<(), &'static str> {
        if self.names.contains(&name) {
            return Err("two of its parameters have the same name");
        }
        self.names.push(name);
        Ok(())
    }
}

/// One segment as it is written.
enum Word<'a> {
    Literal,
    Parameter(&'a str),
    Below(Option<&'a str>),
}

impl<'a> Word<'a> {
    /// An error is what is wrong and what to do about it.
    fn read(segment: &'a str) -> Result<Self, (&'static str, &'static str)> {
        if segment == "*" {
            return Ok(Self::Below(None));
        }
        let braced = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(inside) = braced.filter(|inside| !inside.contains(['{', '}'])) {
            let name = inside.strip_prefix('*');
            return match (name, is_parameter_name(name.unwrap_or(inside))) {
                (_, false) => Err((
                    "a parameter has no fitting name",
                    "write a letter, then letters, digits, `_` or `-`, as in `{id}` or `{*rest}`",
                )),
                (None, true) => Ok(Self::Parameter(inside)),
                (Some(name), true) => Ok(Self::Below(Some(name))),
            };
        }
        if segment.contains(['{', '}']) {
            return Err((
                "a parameter is a whole segment",
                "write `/files/{name}`, or use `path_regex` for `/files/{name}.json`",
            ));
        }
        if segment.contains('*') {
            return Err((
                "`*` is a whole segment, and the last one",
                "write `/orders/*` for all below `/orders`, `{name}` for one segment, or use `path_regex`",
            ));
        }
        Ok(Self::Literal)
    }
}

fn is_parameter_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// A pattern is compared with normalised paths, so one that is not normal would match nothing.
/// `%2F` may stand in it: the host may keep escapes.
fn refuse_unnormal(text: &str) -> Result<(), Problem> {
    let shown: String = text.chars().take(80).collect();
    let options = Options { slashes: Slashes::Merge, escapes: Escapes::Keep };
    match normalize(text, options) {
        Ok(normal) if normal == text => Ok(()),
        Ok(normal) => Err(Problem::new(format!("`{shown}` is not in normal form and would match nothing"))
            .remedy(format!("write `{normal}`"))),
        Err(bad) => Err(Problem::new(format!("`{shown}` is not a path pattern: {bad}"))
            .remedy("write what is not plain ASCII as escapes, and leave the query to `query`")),
    }
}

/// A segment such as `:id`, which other gateways take for a parameter and we take as it is.
pub(super) fn foreign_parameter(text: &str) -> Option<&str> {
    text.split('/').find(|segment| segment.strip_prefix(':').is_some_and(is_parameter_name))
}

/// A regular expression on the path with the names of its groups.
pub(super) struct PathExpression {
    pub(super) expression: Expression,
    /// Name and number of each named group.
    pub(super) names: Vec<(String, u16)>,
}

impl PathExpression {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let expression = Expression::new(text)?;
        let names = expression::group_names(text)?;
        if names.len() > MAX_PARAMETERS {
            return Err(Problem::new("the regular expression has too many named groups")
                .remedy(format!("{MAX_PARAMETERS} are the most; write `(?:…)` for a group without a name")));
        }
        if let Some((name, _)) = names.iter().find(|(name, _)| !is_parameter_name(name)) {
            return Err(Problem::new(format!("`{name}` is not a parameter's name"))
                .remedy("name a group with letters, digits and `_`"));
        }
        Ok(Self { expression, names })
    }
}
