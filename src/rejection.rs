//! A refusal, with what the client may know and what only the log may.

use http::StatusCode;
use std::borrow::Cow;

/// A refusal of a request.
///
/// `proxy/reply.rs` is the only place that makes a response of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// A stable word for programs, such as `route_not_found`; a constant of who refuses.
    pub code: &'static str,
    /// The status of the answer, 4xx or 5xx.
    pub status: StatusCode,
    /// One sentence for the client. Nothing of the inside.
    pub title: &'static str,
    /// What happened, for the log alone.
    pub detail: Cow<'static, str>,
    /// Header fields that the status asks for, such as `Allow` or `WWW-Authenticate`.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Whether the connection has to go with the answer.
    pub close: bool,
}

impl Rejection {
    /// A refusal without a detail that keeps the connection.
    pub const fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self { code, status, title, detail: Cow::Borrowed(""), headers: Vec::new(), close: false }
    }

    /// Adds what happened, for the log alone.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds a header field to the answer.
    #[must_use]
    pub fn header(mut self, name: http::HeaderName, value: http::HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Closes the connection after the answer, as the protocol or safety asks.
    #[must_use]
    pub const fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}
