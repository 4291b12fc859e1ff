//! Regular expressions over a whole value, bounded in size.

use crate::values::Problem;
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::literal::{ExtractKind, Extractor, Seq};
use regex_syntax::hir::{Hir, HirKind};

/// Of a compiled expression and, again, of each thread's cache for it; bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// A regular expression that must match the whole of a value.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    text: Box<str>,
    whole: Regex,
}

impl Expression {
    pub(super) fn new(text: &str) -> Result<Self, Problem> {
        // On its own first: `a)|(b` would become another expression inside the anchors.
        parse(text)?;
        let whole = RegexBuilder::new(&format!(r"\A(?:{text})\z"))
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => {
                    Problem::new("the regular expression is larger than 1 MiB when compiled")
                        .remedy("write smaller repetitions, or `(?-u)` where only ASCII is meant")
                }
                error => not_an_expression(&error.to_string()),
            })?;
        Ok(Self { text: text.into(), whole })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }

    pub(super) fn captures<'v>(&self, value: &'v [u8]) -> Option<regex::bytes::Captures<'v>> {
        self.whole.captures(value)
    }

    /// True if no value can match both. False says nothing.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        let (Ok(this), Ok(other)) = (parse(&self.text), parse(&other.text)) else {
            return false;
        };
        [ExtractKind::Prefix, ExtractKind::Suffix].into_iter().any(|kind| {
            let mut extractor = Extractor::new();
            extractor.kind(kind.clone());
            ends_exclude(&kind, &extractor.extract(&this), &extractor.extract(&other))
        })
    }
}

/// True if no value can begin (or end) with one literal of each.
fn ends_exclude(kind: &ExtractKind, these: &Seq, others: &Seq) -> bool {
    let (Some(these), Some(others)) = (these.literals(), others.literals()) else {
        return false;
    };
    let both = |a: &[u8], b: &[u8]| match kind {
        ExtractKind::Suffix => a.ends_with(b) || b.ends_with(a),
        _ => a.starts_with(b) || b.starts_with(a),
    };
    !these.iter().any(|a| others.iter().any(|b| both(a.as_bytes(), b.as_bytes())))
}

/// The named groups of an expression and their numbers.
pub(super) fn group_names(text: &str) -> Result<Vec<(String, u16)>, Problem> {
    fn collect(hir: &Hir, names: &mut Vec<(String, u16)>) {
        match hir.kind() {
            HirKind::Capture(group) => {
                if let (Some(name), Ok(number)) = (&group.name, u16::try_from(group.index)) {
                    names.push((name.to_string(), number));
                }
                collect(&group.sub, names);
            }
            HirKind::Repetition(repetition) => collect(&repetition.sub, names),
            HirKind::Concat(parts) | HirKind::Alternation(parts) => {
                parts.iter().for_each(|part| collect(part, names));
            }
            HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => {}
        }
    }
    let mut names = Vec::new();
    collect(&parse(text)?, &mut names);
    Ok(names)
}

fn parse(text: &str) -> Result<Hir, Problem> {
    regex_syntax::ParserBuilder::new()
        .utf8(false)
        .nest_limit(100)
        .build()
        .parse(text)
        .map_err(|error| not_an_expression(&error.to_string()))
}

fn not_an_expression(error: &str) -> Problem {
    // The crate draws a picture over several lines; its last one says what is wrong.
    let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
    Problem::new(format!("not a regular expression: {why}"))
        .remedy("the syntax is that of the Rust crate `regex`: no look-around, no back-references")
}
