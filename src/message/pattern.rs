//! Path patterns, such as `/orders/{id}` and `/orders/*`: what routes match and roles permit.

use super::normalize::{Escapes, Options, Slashes, normalize};
use super::params::MAX_PARAMETERS;
use crate::values::Problem;

/// The most segments that a path pattern may have: the depth of the trie.
const MAX_SEGMENTS: usize = 64;

/// A path pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern<'a> {
    /// Those that are written, without the rest.
    pub segments: Vec<Segment<'a>>,
    /// True if all below is meant as well.
    pub below: bool,
    /// The names in the order in which the walk binds them.
    pub names: Vec<&'a str>,
}

/// One segment of a [`PathPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// This text.
    Literal(&'a str),
    /// Any text but none.
    Parameter,
}

impl<'a> PathPattern<'a> {
    /// Every path.
    pub const fn any() -> Self {
        Self { segments: Vec::new(), below: true, names: Vec::new() }
    }

    /// Reads a pattern.
    ///
    /// # Errors
    /// It is no path, has no normal form, or has parameters that cannot be told apart.
    pub fn parse(text: &'a str) -> Result<Self, Problem> {
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

/// True if a parameter may have this name.
pub fn is_parameter_name(name: &str) -> bool {
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

/// A path pattern that is asked about one path at a time. It agrees with the router, which walks
/// through all patterns at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMatcher {
    /// None is a parameter.
    segments: Box<[Option<Box<str>>]>,
    below: bool,
}

impl PathMatcher {
    /// Reads a pattern.
    ///
    /// # Errors
    /// As [`PathPattern::parse`].
    pub fn new(text: &str) -> Result<Self, Problem> {
        let pattern = PathPattern::parse(text)?;
        let segments = pattern.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => Some((*text).into()),
            Segment::Parameter => None,
        });
        Ok(Self { segments: segments.collect(), below: pattern.below })
    }

    /// True if it holds for a normalised path.
    pub fn matches(&self, path: &str) -> bool {
        let Some(mut rest) = path.strip_prefix('/').map(Some) else { return false };
        for wanted in &self.segments {
            let Some(left) = rest else { return false };
            let (segment, after) = match left.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (left, None),
            };
            let fits = match wanted {
                Some(text) => **text == *segment,
                None => !segment.is_empty(),
            };
            if !fits {
                return false;
            }
            rest = after;
        }
        self.below || rest.is_none()
    }
}
