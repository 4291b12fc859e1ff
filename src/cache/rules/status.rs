//! `Cache-Status` (RFC 9211): what this cache did to a request.

use http::HeaderValue;
use http::header::HeaderName;
use std::fmt::Write as _;
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
        let mut text = String::from("tollgate");
        if self.hit {
            text.push_str("; hit");
        } else if let Some(forward) = self.forward {
            let _ = write!(text, "; fwd={}", forward.as_str());
            if let Some(status) = self.forward_status {
                let _ = write!(text, "; fwd-status={status}");
            }
            match self.stored {
                Some(true) => text.push_str("; stored"),
                Some(false) => text.push_str("; stored=?0"),
                None => {}
            }
            if self.collapsed {
                text.push_str("; collapsed");
            }
        }
        match self.ttl {
            Some(Ok(left)) => drop(write!(text, "; ttl={}", left.as_secs())),
            Some(Err(over)) => drop(write!(text, "; ttl=-{}", over.as_secs())),
            None => {}
        }
        if let Some(detail) = self.detail {
            let _ = write!(text, "; detail={detail}");
        }
        HeaderValue::from_str(&text).ok()
    }
}
