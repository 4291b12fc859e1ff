//! `Cache-Status` (RFC 9211): what this cache did to a request.

use crate::values::digits;
use http::HeaderValue;
use http::header::HeaderName;
use std::time::Duration;

/// The field.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went to the upstream (RFC 9211 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The route says so.
    Bypass,
    /// Its method.
    Method,
    /// Nothing is kept under its URL.
    UriMiss,
    /// What is kept is for other requests.
    VaryMiss,
    /// Its own directives.
    Request,
    /// What is kept is stale.
    Stale,
}

impl Forward {
    /// The token of the standard.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// It was answered from what is kept.
    pub hit: bool,
    /// Why it went to the upstream.
    pub forward: Option<Forward>,
    /// The upstream's status, where it is not the answer's.
    pub forward_status: Option<u16>,
    /// Whether the answer is kept now.
    pub stored: Option<bool>,
    /// Whether it waited for another request's answer.
    pub collapsed: bool,
    /// What is left of its lifetime; negative if it is stale.
    pub ttl: Option<Result<Duration, Duration>>,
    /// A word on why.
    pub detail: Option<&'static str>,
}

impl Report {
    /// The member of the list that is this cache's, the last one. The key is nobody's business.
    pub fn value(&self) -> Option<HeaderValue> {
        // The longest one is shorter than this; a hit is to cost no more than its value.
        let mut line = Line { text: [0; 192], end: 0 };
        line.push("tollgate");
        if self.hit {
            line.push("; hit");
        } else if let Some(forward) = self.forward {
            line.push("; fwd=").push(forward.as_str());
            if let Some(status) = self.forward_status {
                line.push("; fwd-status=").number(status.into());
            }
            line.push(match self.stored {
                Some(true) => "; stored",
                Some(false) => "; stored=?0",
                None => "",
            });
            line.push(if self.collapsed { "; collapsed" } else { "" });
        }
        match self.ttl {
            Some(Ok(left)) => line.push("; ttl=").number(left.as_secs()),
            Some(Err(over)) if over.as_secs() == 0 => {
                line.push("; ttl=0");
            }
            Some(Err(over)) => line.push("; ttl=-").number(over.as_secs()),
            None => {}
        }
        if let Some(detail) = self.detail {
            line.push("; detail=").push(detail);
        }
        HeaderValue::from_bytes(line.text.get(..line.end)?).ok()
    }
}

/// A line in the making. What does not fit is left out.
struct Line {
    text: [u8; 192],
    end: usize,
}

impl Line {
    fn push(&mut self, piece: &str) -> &mut Self {
        if let Some(room) = self.text.get_mut(self.end..self.end + piece.len()) {
            room.copy_from_slice(piece.as_bytes());
            self.end += piece.len();
        }
        self
    }

    fn number(&mut self, number: u64) {
        let mut room = digits::Room::default();
        let digits = std::str::from_utf8(digits::of(number, &mut room));
        self.push(digits.unwrap_or_default());
    }
}
