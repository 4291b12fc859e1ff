//! Mistakes in YAML's own grammar, in words that help.

use super::tree::{Fault, Place, line, too_deep};
use crate::values::{ConfigPath, Problem};
use serde_saphyr::granit_parser as parser;

/// What the parser says of `text`, with its place.
pub(super) fn syntax(error: &parser::ScanError, text: &str) -> Fault {
    use parser::ErrorKind as E;
    let marker = error.marker();
    let line = line(text, marker.line() as u32).unwrap_or_default();
    let problem =
        match error.kind() {
            E::ExpectedFlowMappingSeparator | E::ExpectedFlowSequenceSeparator if line.contains("${") => {
                Problem::new("`${…}` without quotes inside of `{ }` or `[ ]`").remedy("write `\"${NAME}\"`")
            }
            E::TabNotAllowed | E::TabInBlockIndentation | E::TabInIndentation | E::TabAtBlockScalarStart => {
                Problem::new("a tab where YAML wants spaces").remedy("indent with spaces")
            }
            E::RecursionLimitExceeded => too_deep(),
            E::UnknownAnchor => Problem::new("unknown alias").remedy(
                "`*name` repeats what `&name` marked further up; put quotes around text that begins with `*`",
            ),
            E::UnclosedQuotedScalar => {
                Problem::new("quotes that are not closed").remedy("close them before the end of the value")
            }
            E::UnexpectedEofFlowSequence
            | E::UnexpectedEofFlowMapping
            | E::UnexpectedEofImplicitFlowMapping
            | E::UnclosedFlowCollection { .. } => {
                Problem::new("a `[` or `{` that is not closed").remedy("close it with `]` or `}`")
            }
            E::ExpectedFlowMappingSeparator => Problem::new("`,` or `}` is missing before this")
                .remedy("close the `{`; put quotes around text that holds `{`, `}`, `[`, `]` or `,`"),
            E::ExpectedFlowSequenceSeparator => Problem::new("`,` or `]` is missing before this")
                .remedy("close the `[`; put quotes around text that holds `{`, `}`, `[`, `]` or `,`"),
            E::ExpectedBlockMappingKey | E::InvalidIndentation => {
                Problem::new("this line does not line up with those above it")
                    .remedy("give the keys of one map the same indentation")
            }
            E::MappingValueNotAllowed => Problem::new("`:` is not allowed here")
                .remedy("put quotes around text with `: ` in it, and check the indentation"),
            E::SimpleKeyExpected => Problem::new("`:` is missing after a key")
                .remedy("write `key: value`, and check the indentation"),
            E::UnexpectedCharacter { character } => {
                Problem::new(format!("`{}` cannot begin a value", character.escape_default()))
                    .remedy("put quotes around text that begins with it")
            }
            kind => Problem::new(format!("this is not YAML: {kind}"))
                .remedy("check the indentation and the quotes"),
        };
    let place = Place {
        line: marker.line().max(1) as u32,
        column: marker.col() as u32 + 1,
        length: 1,
        more_lines: 0,
    };
    Fault { place, other: None, path: ConfigPath::root(), problem }
}
