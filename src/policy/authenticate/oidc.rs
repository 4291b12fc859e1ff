//! Login of people with a browser: who is logged in, who is sent to log in, and the two paths that the
//! gateway answers itself.

use super::{Admission, Attempt, Outcome, REVOKED, Refusal};
use crate::identity::oidc::{Answer, Caller, LoginSession, Oidc, Place, ReturnTo, is_navigation};
use crate::identity::revocations::Revocations;
use crate::identity::{Consumers, Identity, Method, Principal};
use crate::message::authority;
use crate::policy::Reply;
use crate::policy::context::PolicyContext;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Nobody registered a scheme for sessions; a 401 must have one all the same.
pub(super) const CHALLENGE: HeaderValue = HeaderValue::from_static("Cookie realm=\"tollgate\"");

const CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");

/// A provider of logins, as a way to prove who calls.
#[derive(Debug)]
pub(super) struct Login {
    provider: Arc<Oidc>,
    consumers: Arc<Consumers>,
    revocations: Arc<Revocations>,
}

impl Login {
    pub(super) fn new(provider: Arc<Oidc>, identity: &Identity) -> Self {
        let (consumers, revocations) = (identity.consumers(), identity.revocations());
        Self { provider, consumers: Arc::clone(consumers), revocations: Arc::clone(revocations) }
    }

    pub(super) fn attempt<'a>(&'a self, head: &'a RequestHeader, cx: &PolicyContext) -> Attempt<'a> {
        let now = now();
        match self.provider.place(cx.path(head)) {
            Place::Callback if head.method == http::Method::GET => return self.come_back(head, cx, now),
            Place::Logout => {
                if let Some(answer) = self.provider.log_out(head, &self.revocations, now) {
                    return answered(answer);
                }
            }
            Place::Callback | Place::Application => {}
        }
        match self.provider.caller(&head.headers, now) {
            Caller::Nobody => Attempt::Absent,
            Caller::Over(cause) => Attempt::Lapsed(cause),
            Caller::Known(session, seen) => {
                Attempt::Admitted(self.admission(&session, seen.into_iter().collect()))
            }
            // No token is spent on what does not count.
            Caller::Due(session) if self.is_revoked(&session) => Attempt::Lapsed(REVOKED),
            Caller::Due(session) => {
                let refresh = Arc::clone(&self.provider).refresh(session, (cx.client, cookies(head)), now);
                Attempt::Wait(Box::pin(async move {
                    match refresh.await {
                        Ok((session, cookies)) => Outcome::Admitted(self.admission(&session, cookies)),
                        Err(failed) => Outcome::Lapsed(failed.cause),
                    }
                }))
            }
        }
    }

    /// Sends a person who opens a page to log in. None for programs: they get a 401.
    pub(super) fn invite<'a>(&'a self, head: &RequestHeader, cx: &PolicyContext) -> Option<Attempt<'a>> {
        if !is_navigation(head) || self.provider.place(cx.path(head)) != Place::Application {
            return None;
        }
        let (now, to) = (now(), ReturnTo::of(cx.path(head), head.uri.query()));
        if !self.provider.is_at(authority::host(authority::authority(head))) {
            return Some(answered(self.provider.elsewhere(&to)));
        }
        let Some(metadata) = self.provider.issuer.known() else {
            let login = Arc::clone(&self.provider).login(to, cookies(head), now);
            return Some(Attempt::Wait(outcome(Box::pin(login))));
        };
        Some(answered(self.provider.login_with(&metadata, &to, &head.headers, now)))
    }

    fn come_back<'a>(&'a self, head: &RequestHeader, cx: &PolicyContext, now: u64) -> Attempt<'a> {
        let query = head.uri.query().unwrap_or_default();
        match self.provider.match_return(query, (cx.client, &head.headers), now) {
            Ok(matched) => Attempt::Wait(outcome(Box::pin(Arc::clone(&self.provider).finish(matched, now)))),
            Err(answer) => answered(*answer),
        }
    }

    fn is_revoked(&self, session: &LoginSession) -> bool {
        self.revocations.refuses(&self.admission(session, Vec::new()).principal)
    }

    fn admission(&self, session: &LoginSession, cookies: Vec<HeaderValue>) -> Admission {
        let provider = &self.provider.name;
        let principal = Principal {
            provider: Some(Arc::clone(provider)),
            consumer: self.consumers.of(provider, session.subject(), &session.claims),
            claims: session.claims.clone(),
            scopes: session.scopes(),
            // What revocations know a session by.
            token_id: Some(session.id.to_string().into()),
            issued_at: Some(session.started),
            expires_at: Some(session.fresh_until),
            ..Principal::new(Method::Oidc, session.subject())
        };
        Admission { cookies, ..Arc::new(principal).into() }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn cookies(head: &RequestHeader) -> HeaderMap {
    let all = head.headers.get_all(header::COOKIE).into_iter();
    all.map(|value| (header::COOKIE, value.clone())).collect()
}

fn answered<'a>(answer: Answer) -> Attempt<'a> {
    let cause = answer.cause;
    match reply(answer) {
        Ok(reply) => Attempt::Answer(cause, Box::new(reply)),
        Err(_) => Attempt::Refused(Refusal::new(cause, "the answer could not be written")),
    }
}

fn outcome<'a>(answer: BoxFuture<'a, Answer>) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let answer = answer.await;
        let cause = answer.cause;
        match reply(answer) {
            Ok(reply) => Outcome::Answer(cause, Box::new(reply)),
            Err(_) => Outcome::Refused(Refusal::new(cause, "the answer could not be written")),
        }
    })
}

/// What concerns a login is for this browser alone, is kept by nobody, and shows its address to no
/// other site.
fn reply(answer: Answer) -> pingora_error::Result<Reply> {
    let Answer { status, location, cookies, page, .. } = answer;
    let mut head = ResponseHeader::build_no_case(status, Some(8 + cookies.len()))?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    head.insert_header(header::REFERRER_POLICY, "no-referrer")?;
    if let Some(location) = location {
        head.insert_header(header::LOCATION, location)?;
    }
    if !page.is_empty() {
        head.insert_header(header::CONTENT_TYPE, "text/html; charset=utf-8")?;
        head.insert_header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'")?;
        head.insert_header(CONTENT_TYPE_OPTIONS, "nosniff")?;
    }
    for cookie in cookies {
        head.append_header(header::SET_COOKIE, cookie)?;
    }
    Ok(Reply { head, body: page })
}
