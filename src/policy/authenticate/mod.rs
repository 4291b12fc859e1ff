//! Who calls. One file a way to prove it.

mod api_key;
pub mod basic;
mod bearer;
mod certificate;
mod forward;
mod introspection;
mod jwt;
mod oidc;
mod signature;
mod way;

pub use api_key::ApiKeyConfig;
pub use basic::BasicConfig;
pub use certificate::CertificateConfig;
pub use signature::{HmacConfig, SignatureConfig};
pub use way::WayConfig;

use super::context::{HeaderEdit, PolicyContext, SignedBody};
use super::shared::whole_body::WholeBody;
use super::{CompileEnv, Policy, Reply, Step, Verdict};
use crate::identity::Principal;
use crate::identity::revocations::Revocations;
use crate::rejection::Rejection;
use crate::telemetry::metrics::AuthMetrics;
use crate::values::{ConfigPath, Finding, Problem, Sha256};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use way::Way;

/// Who calls. Whoever presents no credential, or one that does not count, is answered with 401.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthenticateConfig {
    /// Ways to prove who calls. The first one whose credential a request presents decides.
    pub any_of: Vec<WayConfig>,
    /// Whether a request without any credential passes, as nobody's. A credential that does not
    /// count is refused all the same. Default false.
    #[serde(default)]
    pub optional: bool,
}

/// [`AuthenticateConfig`], compiled.
#[derive(Debug)]
pub struct Authenticate {
    ways: Box<[(Way, Arc<AuthMetrics>)]>,
    optional: bool,
    /// Counts requests without a credential.
    none: Arc<AuthMetrics>,
    revocations: Arc<Revocations>,
}

/// The caller is not known.
pub const UNAUTHENTICATED: &str = "unauthenticated";

/// The caller or its credential was revoked: the word for the log and the metric.
const REVOKED: &str = "revoked";

/// Who would know the caller is not there.
pub const UNAVAILABLE: &str = "authentication_unavailable";

/// The caller is known and may not do this.
pub const FORBIDDEN: &str = "forbidden";

/// What a way says of a request.
enum Attempt<'a> {
    /// There is no credential of this kind: the next way is asked.
    Absent,
    /// This is who calls.
    Admitted(Admission),
    /// A credential was presented and does not count.
    Refused(Refusal),
    /// A credential was presented that is not this way's, but may be another one's: the next way is
    /// asked. If it is nobody's, this is why.
    Another(Refusal),
    /// There was a credential that has lapsed, as sessions do: the next way is asked, as if there were
    /// none. This is why, for the log.
    Lapsed(&'static str),
    /// The way answers by itself; for the log, why.
    Answer(&'static str, Box<Reply>),
    /// It has to ask somebody. Whoever waits has found a credential and decides.
    Wait(BoxFuture<'a, Outcome>),
}

/// An [`Attempt`] that has come to an end.
enum Outcome {
    Admitted(Admission),
    Refused(Refusal),
    Lapsed(&'static str),
    Answer(&'static str, Box<Reply>),
}

/// A caller that is let in.
struct Admission {
    principal: Arc<Principal>,
    /// What the upstream is told besides.
    edits: Vec<HeaderEdit>,
    /// Cookies that the answer sets.
    cookies: Vec<HeaderValue>,
    /// What has to be true of the request's body.
    body: Option<(SignedBody, WholeBody)>,
    /// What the request was signed by.
    signature: Option<Sha256>,
}

impl From<Arc<Principal>> for Admission {
    fn from(principal: Arc<Principal>) -> Self {
        Self { principal, edits: Vec::new(), cookies: Vec::new(), body: None, signature: None }
    }
}

/// Why a credential does not count.
struct Refusal {
    /// A stable word for the log and the metric, such as `token_expired`.
    cause: &'static str,
    /// What happened, for the log alone.
    detail: Cow<'static, str>,
    /// The error code of RFC 6750 section 3.1, for the way's own challenge.
    error: Option<&'static str>,
    /// Nothing is known against it: who would vouch for it is not there.
    unavailable: bool,
    /// It counts, and its holder may not do this: 403.
    forbidden: bool,
}

impl Refusal {
    const fn new(cause: &'static str, detail: &'static str) -> Self {
        Self { cause, detail: Cow::Borrowed(detail), error: None, unavailable: false, forbidden: false }
    }
}

/// What becomes of a caller that was revoked.
enum Revoked {
    /// As if the session had ended: whoever can may begin another one.
    Lapsed,
    Refused(Refusal),
}

impl Authenticate {
    /// How to refuse a caller that passed without a credential and gets no further: 401, with what
    /// it may prove itself by.
    pub fn unknown(&self) -> Rejection {
        self.rejection(None, "")
    }

    /// True if a request without a credential passes.
    pub const fn is_optional(&self) -> bool {
        self.optional
    }

    /// True if one of the ways wants a client certificate of the connection.
    pub fn wants_certificates(&self) -> bool {
        self.ways.iter().any(|(way, _)| matches!(way, Way::Certificate(_)))
    }

    /// True if one of the ways may say more of a caller than the configuration does: claims, scopes.
    pub fn has_claims(&self) -> bool {
        self.ways.iter().any(|(way, _)| way.has_claims())
    }
}

impl Policy for Authenticate {
    const NAME: &'static str = "authenticate";
    /// Those whose digests are signed.
    const READS_REQUESTS: bool = true;
    type Config = AuthenticateConfig;

    fn compile(config: &AuthenticateConfig, env: &CompileEnv<'_>) -> Result<Self, Vec<Finding>> {
        let path = ConfigPath::root().key("any_of");
        if config.any_of.is_empty() {
            let problem = Problem::new("there is no way to prove who calls: nobody would be let in")
                .remedy("name one, such as `{ api_key: { header: x-api-key } }`");
            return Err(vec![Finding::error(path, problem)]);
        }
        let mut found = Vec::new();
        let mut ways = Vec::with_capacity(config.any_of.len());
        for (index, way) in config.any_of.iter().enumerate() {
            match Way::compile(way, &env.identity) {
                Ok(way) => ways.push(way),
                Err(wrong) => {
                    found.extend(wrong.into_iter().map(|finding| finding.under(&path.index(index))));
                }
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        let none = env.identity.counters("_none", None);
        let revocations = Arc::clone(env.identity.revocations());
        Ok(Self { ways: ways.into(), optional: config.optional, none, revocations })
    }

    fn on_request<'a>(&'a self, head: &'a RequestHeader, cx: &'a mut PolicyContext) -> Step<'a> {
        let (mut another, mut lapsed) = (None, None);
        for (at, (way, _)) in self.ways.iter().enumerate() {
            let verdict = match way.attempt(head, cx) {
                Attempt::Absent => continue,
                Attempt::Lapsed(cause) => {
                    lapsed.get_or_insert((at, cause));
                    continue;
                }
                Attempt::Another(refusal) => {
                    another.get_or_insert((at, refusal));
                    continue;
                }
                Attempt::Admitted(admission) => match self.counts(way, &admission) {
                    Ok(()) => self.admit(at, admission, head, cx),
                    Err(Revoked::Lapsed) => {
                        lapsed.get_or_insert((at, REVOKED));
                        continue;
                    }
                    Err(Revoked::Refused(refusal)) => self.refuse(at, &refusal, cx),
                },
                Attempt::Refused(refusal) => self.refuse(at, &refusal, cx),
                Attempt::Answer(cause, reply) => self.answer(at, cause, reply, cx),
                Attempt::Wait(outcome) => {
                    return Step::Wait(Box::pin(async move {
                        let outcome = match outcome.await {
                            Outcome::Admitted(admission) => match self.counts(way, &admission) {
                                Ok(()) => Outcome::Admitted(admission),
                                Err(Revoked::Lapsed) => Outcome::Lapsed(REVOKED),
                                Err(Revoked::Refused(refusal)) => Outcome::Refused(refusal),
                            },
                            outcome => outcome,
                        };
                        match outcome {
                            Outcome::Lapsed(cause) => match self.nobody(Some((at, cause)), head, cx) {
                                Step::Continue => Verdict::Continue,
                                Step::Answer(reply) => Verdict::Answer(reply),
                                Step::Reject(rejection) => Verdict::Reject(rejection),
                                Step::Wait(verdict) => verdict.await,
                            },
                            outcome => self.conclude(at, outcome, head, cx),
                        }
                    }));
                }
            };
            return verdict.into();
        }
        if let Some((at, refusal)) = another {
            return self.refuse(at, &refusal, cx).into();
        }
        self.nobody(lapsed, head, cx)
    }

    fn on_request_body(
        &self,
        head: &RequestHeader,
        body: &Bytes,
        cx: &mut PolicyContext,
    ) -> Result<(), Box<Rejection>> {
        let Some(signed) = cx.signed_body.filter(|signed| !signature::agrees(*signed, head, body)) else {
            return Ok(());
        };
        let counters = self.ways.iter().find(|(way, _)| matches!(way, Way::Signature(_)));
        if let Some((_, counters)) = counters {
            counters.count("body_differs");
        }
        cx.auth_cause = Some("body_differs");
        cx.principal = None;
        Err(Box::new(self.rejection(None, format!("the body is not the one that was signed: {signed:?}"))))
    }

    fn on_response(&self, _: &RequestHeader, answer: &mut ResponseHeader, cx: &mut PolicyContext) {
        if cx.set_cookies.is_empty() {
            return;
        }
        // A cache that kept somebody's cookies would hand them to others (RFC 9111 section 7.3). Names
        // and values are whole already, so that these cannot fail.
        let _ = answer.insert_header(CACHE_CONTROL, "private, no-store");
        for cookie in std::mem::take(&mut cx.set_cookies) {
            let _ = answer.append_header(SET_COOKIE, cookie);
        }
    }
}

impl From<Verdict> for Step<'_> {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Continue => Self::Continue,
            Verdict::Answer(reply) => Self::Answer(reply),
            Verdict::Reject(rejection) => Self::Reject(rejection),
        }
    }
}

impl Authenticate {
    /// Whether a caller that proved who it is still counts.
    fn counts(&self, way: &Way, admission: &Admission) -> Result<(), Revoked> {
        if !self.revocations.refuses(&admission.principal) {
            return Ok(());
        }
        if matches!(way, Way::Oidc(_)) {
            return Err(Revoked::Lapsed);
        }
        let is_bearer = matches!(way, Way::Jwt(_) | Way::Introspection(_));
        let error = is_bearer.then_some("invalid_token");
        Err(Revoked::Refused(Refusal { error, ..Refusal::new(REVOKED, "it was revoked") }))
    }

    fn admit(
        &self,
        at: usize,
        admission: Admission,
        head: &RequestHeader,
        cx: &mut PolicyContext,
    ) -> Verdict {
        let Admission { principal, edits, cookies, body, signature } = admission;
        // An enforced policy and the route's own: both have looked, and must have seen the same.
        if cx.principal.as_ref().is_some_and(|before| !before.is_same_caller(&principal)) {
            let refusal = Refusal::new("callers_differ", "two credentials of different callers");
            return self.refuse(at, &refusal, cx);
        }
        self.ways[at].1.admitted();
        cx.principal = Some(principal);
        for (way, _) in &self.ways {
            way.strip(head, cx);
        }
        cx.edits.headers.extend(edits);
        cx.set_cookies.extend(cookies);
        cx.signature = signature.or(cx.signature);
        if let Some((signed, whole)) = body {
            cx.need_body(whole);
            let strictest = cx.signed_body.filter(|known| *known == SignedBody::Empty).unwrap_or(signed);
            cx.signed_body = Some(strictest);
        }
        Verdict::Continue
    }

    /// Nobody came with a credential that counts, or the one that there was has lapsed.
    fn nobody<'a>(
        &'a self,
        lapsed: Option<(usize, &'static str)>,
        head: &'a RequestHeader,
        cx: &'a mut PolicyContext,
    ) -> Step<'a> {
        if let Some((at, cause)) = lapsed {
            self.ways[at].1.count(cause);
            cx.auth_cause = Some(cause);
        }
        if self.optional {
            self.none.count("anonymous");
            for (way, _) in &self.ways {
                way.strip(head, cx);
            }
            return Step::Continue;
        }
        let invited = self.ways.iter().enumerate().find_map(|(at, way)| Some((at, way.0.invite(head, cx)?)));
        match invited {
            Some((at, Attempt::Answer(cause, reply))) => self.answer(at, cause, reply, cx).into(),
            Some((at, Attempt::Wait(outcome))) => {
                Step::Wait(Box::pin(async move { self.conclude(at, outcome.await, head, cx) }))
            }
            _ => {
                if lapsed.is_none() {
                    self.none.count("missing");
                    cx.auth_cause = Some("missing");
                }
                Step::Reject(Box::new(self.rejection(None, "no credential")))
            }
        }
    }

    fn conclude(&self, at: usize, outcome: Outcome, head: &RequestHeader, cx: &mut PolicyContext) -> Verdict {
        match outcome {
            Outcome::Admitted(admission) => self.admit(at, admission, head, cx),
            Outcome::Refused(refusal) => self.refuse(at, &refusal, cx),
            Outcome::Lapsed(cause) => self.refuse(at, &Refusal::new(cause, "it has lapsed"), cx),
            Outcome::Answer(cause, reply) => self.answer(at, cause, reply, cx),
        }
    }

    fn answer(&self, at: usize, cause: &'static str, reply: Box<Reply>, cx: &mut PolicyContext) -> Verdict {
        self.ways[at].1.count(cause);
        cx.auth_cause.get_or_insert(cause);
        cx.principal = None;
        Verdict::Answer(reply)
    }

    fn refuse(&self, at: usize, refusal: &Refusal, cx: &mut PolicyContext) -> Verdict {
        self.ways[at].1.count(refusal.cause);
        cx.auth_cause = Some(refusal.cause);
        cx.principal = None;
        if refusal.unavailable {
            let rejection = Rejection::new(
                StatusCode::SERVICE_UNAVAILABLE,
                UNAVAILABLE,
                "Callers cannot be recognised now",
            )
            .detail(refusal.detail.clone())
            .header(RETRY_AFTER, HeaderValue::from_static("5"));
            return Verdict::Reject(Box::new(rejection));
        }
        if refusal.forbidden {
            let rejection = Rejection::new(StatusCode::FORBIDDEN, FORBIDDEN, "This is not allowed");
            return Verdict::Reject(Box::new(rejection.detail(refusal.detail.clone())));
        }
        Verdict::Reject(Box::new(self.rejection(refusal.error, refusal.detail.clone())))
    }

    /// RFC 9110 section 15.5.2: a 401 says how to do better, and nothing of what was wrong.
    fn rejection(&self, error: Option<&'static str>, detail: impl Into<Cow<'static, str>>) -> Rejection {
        let title = "Valid credentials are needed";
        let mut rejection = Rejection::new(StatusCode::UNAUTHORIZED, UNAUTHENTICATED, title).detail(detail);
        for (way, _) in &self.ways {
            let Some(challenge) = way.challenge(error) else { continue };
            if !rejection.headers.iter().any(|(_, known)| *known == challenge) {
                rejection = rejection.header(WWW_AUTHENTICATE, challenge);
            }
        }
        rejection
    }
}

#[cfg(test)]
mod tests;
