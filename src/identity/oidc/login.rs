//! The way to a session: to the issuer, and back.

use super::attempt::{self, Attempt, Request, Return};
use super::cookies::{self, Purpose};
use super::issuer::{Ask, Failed};
use super::metadata::Metadata;
use super::provider::{Answer, Oidc};
use super::return_to::ReturnTo;
use super::tokens::TokenRequest;
use http::header::HeaderMap;
use http::{HeaderValue, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// What a person reads whose login was too old, not begun in this browser, or answered before.
const NOT_THIS_ONE: &str = "This login was not begun here, took too long, or is over already.";
/// What a person reads who can do nothing but come again.
const LATER: &str = "The login service gave no answer that counts. Please try again later.";

/// A return that belongs to an attempt of this browser.
#[derive(Debug)]
pub struct Matched {
    attempt: Attempt,
    code: String,
    client: IpAddr,
    cookies: HeaderMap,
    forget: Option<HeaderValue>,
}

impl Oidc {
    /// Sends a browser to the issuer, to come back to `to`.
    pub async fn login(self: Arc<Self>, to: ReturnTo, headers: HeaderMap, now: u64) -> Answer {
        match self.issuer.metadata(now).await {
            Ok(metadata) => self.login_with(&metadata, &to, &headers, now),
            Err(failed) => self.fail(failed, &to, None),
        }
    }

    /// The same with what is known of the issuer already.
    pub fn login_with(&self, metadata: &Metadata, to: &ReturnTo, headers: &HeaderMap, now: u64) -> Answer {
        let begun = Attempt::begin(to, now).ok().and_then(|(state, attempt)| {
            let plain = attempt.to_cookie();
            let cookie =
                self.jar.write(&self.sealer, Purpose::Login(&state), &plain, self.login_time).ok()?;
            Some((state, attempt, cookie))
        });
        let Some((state, attempt, cookie)) = begun else {
            return Answer::failed(StatusCode::SERVICE_UNAVAILABLE, "seal_failed", LATER, to);
        };
        let request = Request {
            endpoint: metadata.authorization.get(),
            client_id: &self.issuer.client_id,
            redirect_uri: self.redirect_uri.as_str(),
            scope: &self.scope,
            more: &self.parameters,
        };
        let mut cookies = self.surplus(headers);
        cookies.push(cookie);
        Answer::redirect(attempt.location(&state, &request).as_str(), cookies, "login_begun")
    }

    /// Deletes attempts so that there is room for one more: those that do not count, then the oldest.
    fn surplus(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let began = |state: &str| self.attempt(state, headers).map(|attempt| attempt.began);
        let mut known: Vec<(Option<u64>, &str)> =
            self.jar.logins(headers).map(|state| (began(state), state)).collect();
        // Browsers send older cookies first (RFC 6265 section 5.4), which tells those of one second apart.
        known.sort_by_key(|(began, _)| *began);
        let surplus = (known.len() + 1).saturating_sub(attempt::MOST);
        known.iter().take(surplus).filter_map(|(_, state)| self.jar.delete_login(state)).collect()
    }

    fn attempt(&self, state: &str, headers: &HeaderMap) -> Option<Attempt> {
        Attempt::from_cookie(&self.jar.read(&self.sealer, Purpose::Login(state), headers)?)
    }

    /// Looks whether the browser comes back from an attempt of its own, with a code.
    ///
    /// # Errors
    /// The page that says what is wrong.
    pub fn match_return(
        &self,
        query: &str,
        from: (IpAddr, &HeaderMap),
        now: u64,
    ) -> Result<Matched, Box<Answer>> {
        let (client, headers) = from;
        let refuse = |cause, again: &ReturnTo| {
            Box::new(Answer::failed(StatusCode::BAD_REQUEST, cause, NOT_THIS_ONE, again))
        };
        let root = ReturnTo::root();
        let returned = Return::parse(query).ok_or_else(|| refuse("callback_malformed", &root))?;
        let state = returned.state.as_deref().filter(|state| cookies::is_login_id(state));
        let state = state.ok_or_else(|| refuse("state_missing", &root))?;
        let attempt = self.attempt(state, headers).ok_or_else(|| refuse("state_unknown", &root))?;
        let (to, forget) = (attempt.return_to(), self.jar.delete_login(state));
        let ends = attempt.began.saturating_add(self.login_time);
        if now >= ends {
            return Err(Box::new(refuse("state_expired", &to).with(forget)));
        }
        // A gateway whose clock is behind that of the one where it began: it ends all the same.
        let until = ends.min(now.saturating_add(self.login_time));
        if !self.memory.answered.put(state.into(), (), until, now) {
            return Err(Box::new(refuse("state_replayed", &to).with(forget)));
        }
        if !self.is_from_issuer(&returned) {
            return Err(Box::new(refuse("issuer_mismatch", &to).with(forget)));
        }
        if let Some(error) = &returned.error {
            return Err(Box::new(refused_by_issuer(error, &to).with(forget)));
        }
        let Some(code) = returned.code.filter(|code| !code.is_empty()) else {
            return Err(Box::new(refuse("code_missing", &to).with(forget)));
        };
        Ok(Matched { attempt, code, client, cookies: cookies::only(headers), forget })
    }

    /// An answer of another issuer must not be taken to this one (RFC 9207 section 2.4).
    fn is_from_issuer(&self, returned: &Return) -> bool {
        match &returned.issuer {
            Some(issuer) => issuer.as_bytes().ct_eq(self.issuer.name.as_bytes()).into(),
            None => !self.issuer.known().is_some_and(|metadata| metadata.names_itself),
        }
    }

    /// Exchanges the code, and begins a session.
    pub async fn finish(self: Arc<Self>, matched: Matched, now: u64) -> Answer {
        let Matched { attempt, code, client, cookies, forget } = matched;
        let to = attempt.return_to();
        let redirect_uri = self.redirect_uri.as_str();
        let request = TokenRequest::Code { code: &code, verifier: &attempt.verifier, redirect_uri };
        let ask = Ask { request, nonce: &attempt.nonce, subject: None, client };
        let grant = match self.issuer.grant(ask, now).await {
            Ok(grant) => grant,
            Err(failed) => return self.fail(failed, &to, forget),
        };
        let begun = self.begin(grant, attempt.nonce, now);
        match begun.and_then(|mut session| self.write(&mut session, &cookies, now)) {
            Ok(set) => Answer::redirect(to.as_str(), set, "login_done").with(forget),
            Err(cause) => Answer::failed(StatusCode::BAD_GATEWAY, cause, LATER, &to).with(forget),
        }
    }

    fn fail(&self, failed: Failed, to: &ReturnTo, forget: Option<HeaderValue>) -> Answer {
        let (status, sentence) = match failed.cause {
            Failed::REFUSED => (StatusCode::BAD_REQUEST, NOT_THIS_ONE),
            Failed::UNAVAILABLE => (StatusCode::SERVICE_UNAVAILABLE, LATER),
            _ => (StatusCode::BAD_GATEWAY, LATER),
        };
        log::warn!("login failed provider={} cause={} detail={:?}", self.name, failed.cause, failed.detail);
        Answer::failed(status, failed.cause, sentence, to).detail(failed.detail).with(forget)
    }
}

/// RFC 6749 section 4.1.2.1 and OpenID Connect Core section 3.1.2.6.
fn refused_by_issuer(error: &str, to: &ReturnTo) -> Answer {
    let shown: String = error.chars().take(100).collect();
    let (status, cause, sentence) = match error {
        "access_denied" => (StatusCode::FORBIDDEN, "login_denied", "The login was refused or broken off."),
        "temporarily_unavailable" | "server_error" => {
            (StatusCode::SERVICE_UNAVAILABLE, "login_unavailable", LATER)
        }
        _ => (StatusCode::BAD_REQUEST, "login_refused", "The login service refused the login."),
    };
    Answer::failed(status, cause, sentence, to).detail(shown)
}
