use crate::message::grpc;
use crate::values::Problem;

/// Which media types: one, `text/*`, or `application/*+json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Exact(Box<str>),
    /// The type with its slash.
    Any(Box<str>),
    /// The type with its slash, and the suffix with its plus (RFC 6838 section 4.2.8).
    Suffix(Box<str>, Box<str>),
}

/// Live by nature, so never meant by a wildcard.
const EVENT_STREAM: &str = "text/event-stream";

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            Problem::new(format!("`{text}` is not a media type"))
                .remedy("write it as `text/html`, `text/*` or `application/*+json`, without parameters")
        };
        let lower = text.to_ascii_lowercase();
        let (kind, subtype) = lower.split_once('/').ok_or_else(wrong)?;
        let is_token = |text: &str| {
            !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&c))
        };
        if grpc::dialect_of(lower.as_bytes()).is_some() {
            let problem = Problem::new("gRPC compresses its own messages and is never compressed here");
            return Err(problem.remedy("leave it out"));
        }
        if !is_token(kind) {
            return Err(wrong());
        }
        match subtype.strip_prefix('*') {
            Some("") => Ok(Self::Any(format!("{kind}/").into())),
            Some(suffix) if suffix.starts_with('+') && is_token(suffix) => {
                Ok(Self::Suffix(format!("{kind}/").into(), suffix.into()))
            }
            None if is_token(subtype) => Ok(Self::Exact(lower.into())),
            _ => Err(wrong()),
        }
    }

    pub(super) fn matches(&self, essence: &[u8]) -> bool {
        let starts = |kind: &str| {
            essence.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes()))
        };
        let ends = |suffix: &str| {
            let at = essence.len().checked_sub(suffix.len());
            at.is_some_and(|at| essence[at..].eq_ignore_ascii_case(suffix.as_bytes()))
        };
        match self {
            Self::Exact(name) => essence.eq_ignore_ascii_case(name.as_bytes()),
            Self::Any(kind) => starts(kind) && !essence.eq_ignore_ascii_case(EVENT_STREAM.as_bytes()),
            Self::Suffix(kind, suffix) => starts(kind) && ends(suffix),
        }
    }
}
