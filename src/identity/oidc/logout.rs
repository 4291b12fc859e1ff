//! The end of a session: here, and with the issuer (OpenID Connect RP-Initiated Logout 1.0).

use super::page;
use super::provider::{Answer, Oidc};
use super::session::Session;
use super::visit;
use crate::identity::revocations::Revocations;
use bytes::Bytes;
use http::{Method, StatusCode};
use pingora_http::RequestHeader;

/// The longest hint that goes into an address; an issuer asks without it.
const LONGEST_HINT: usize = 4096;

impl Oidc {
    /// Ends the session in a request's cookies, copies of them included, over restarts and with other
    /// gateways too where revocations are kept and shared. None where the method is none for logging out.
    pub fn log_out(&self, head: &RequestHeader, revocations: &Revocations, now: u64) -> Option<Answer> {
        let logout = self.logout.as_ref().filter(|_| matches!(head.method, Method::GET | Method::POST))?;
        let headers = &head.headers;
        if !visit::is_our_own(headers, &self.origin) {
            // Another site could send the browser here. Whoever wants it says so on a page of ours.
            let answer = Answer {
                status: StatusCode::OK,
                location: None,
                cookies: Vec::new(),
                page: page::ask_for_logout(&logout.path),
                cause: "logout_asked",
                detail: Box::default(),
            };
            return Some(answer);
        }
        let (session, cookies) = (self.session(headers), self.jar.delete_session(headers));
        if let Some(session) = &session {
            let until = now.saturating_add(session.left(now, &self.lifetimes));
            if !revocations.end_session(&self.name, &session.id.to_string(), until) {
                // At least this process knows it.
                log::warn!("revocations: a logout found no room provider={}", self.name);
                self.memory.ended(session.id).put(session.id, (), until, now);
            }
        }
        if !visit::opens_a_page(headers) {
            let answer = Answer {
                status: StatusCode::NO_CONTENT,
                location: None,
                cookies,
                page: Bytes::new(),
                cause: "logout_done",
                detail: Box::default(),
            };
            return Some(answer);
        }
        let issuer =
            session.as_ref().filter(|_| logout.provider).and_then(|session| self.end_session(session));
        let to = issuer.unwrap_or_else(|| logout.return_to.to_string());
        let mut answer = Answer::redirect(&to, cookies, "logout_done");
        // A POST becomes a GET (RFC 9110 section 15.4.4).
        answer.status = StatusCode::SEE_OTHER;
        Some(answer)
    }

    /// Where the browser ends its session with the issuer, if it offers that.
    fn end_session(&self, session: &Session) -> Option<String> {
        let metadata = self.issuer.known()?;
        let logout = self.logout.as_ref()?;
        let mut url = metadata.end_session.as_ref()?.get().clone();
        let hint = session.id_token.as_deref().filter(|token| token.len() <= LONGEST_HINT);
        url.query_pairs_mut()
            .extend_pairs(hint.map(|hint| ("id_token_hint", hint)))
            .append_pair("client_id", &self.issuer.client_id)
            .append_pair("post_logout_redirect_uri", logout.return_to.as_str());
        Some(url.into())
    }
}
