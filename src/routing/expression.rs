//! Regular expressions over a whole value, bounded in size.

use crate::values::Problem;
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, HirKind};

/// Of a compiled expression and, again, of each thread's cache for it; bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// The most literals that an expression's ends are known by; with more they are not known.
const MAX_ENDS: usize = 32;

/// A regular expression that must match the whole of a value.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    text: Box<str>,
    whole: Regex,
    /// Every value that matches begins with one of these; none if that is not known.
    begins: Ends,
    /// And ends with one of these.
    ends: Ends,
}

type Ends = Option<Box<[Box<[u8]>]>>;

impl Expression {
    pub(super) fn new(text: &str) -> Result<Self, Problem> {
        // On its own first: `a)|(b` would become another expression inside the anchors.
        let hir = parse(text)?;
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
        let ends = |kind| {
            let literals = Extractor::new().kind(kind).limit_total(MAX_ENDS).extract(&hir);
            literals.literals().map(|all| all.iter().map(|one| one.as_bytes().into()).collect())
        };
        let (begins, ends) = (ends(ExtractKind::Prefix), ends(ExtractKind::Suffix));
        Ok(Self { text: text.into(), whole, begins, ends })
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
        let apart = |these: &Ends, others: &Ends, meet: fn(&[u8], &[u8]) -> bool| match (these, others) {
            (Some(these), Some(others)) => !these.iter().any(|a| others.iter().any(|b| meet(a, b))),
            _ => false,
        };
        apart(&self.begins, &other.begins, |a, b| a.starts_with(b) || b.starts_with(a))
            || apart(&self.ends, &other.ends, |a, b| a.ends_with(b) || b.ends_with(a))
    }
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
