//! Targets that are not one upstream: fixed answers, redirects, the echo.

mod echo;
mod redirect;
mod respond;

pub use redirect::{REDIRECT_FAILED, Redirect};
pub use respond::Respond;

use crate::policy::context::PolicyContext;
use crate::policy::{Reply, Verdict};
use pingora_http::RequestHeader;

/// A target that the gateway answers by itself.
#[derive(Debug)]
pub enum Local {
    /// A fixed answer.
    Respond(Respond),
    /// A redirect.
    Redirect(Redirect),
    /// The request itself, as JSON.
    Echo,
}

impl Local {
    /// The answer to a request: always [`Verdict::Answer`] or [`Verdict::Reject`].
    pub fn answer(&self, head: &RequestHeader, cx: &PolicyContext) -> Verdict {
        match self {
            Self::Respond(respond) => Verdict::Answer(Box::new(respond.reply(head, cx))),
            Self::Redirect(redirect) => redirect.answer(head, cx),
            Self::Echo => Verdict::Answer(Box::new(echo::reply(head, cx))),
        }
    }
}

/// A head of our own. A status that the configuration checked is always one.
fn head(status: u16) -> pingora_http::ResponseHeader {
    let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::OK);
    let mut head = pingora_http::ResponseHeader::build_no_case(http::StatusCode::OK, Some(8))
        .unwrap_or_else(|_| unreachable!("200 is a status"));
    let _ = head.set_status(status);
    head
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Answer(Box::new(reply))
    }
}
