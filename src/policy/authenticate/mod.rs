//! Who calls. One file a way to prove it.

mod api_key;
mod bearer;
mod certificate;
mod introspection;
mod jwt;
mod oidc;

pub use api_key::ApiKeyConfig;
pub use certificate::CertificateConfig;

use super::context::{HeaderEdit, PolicyContext};
use super::shared::strip;
use super::{CompileEnv, Policy, Reply, Step, Verdict};
use crate::identity::introspection::Introspection;
use crate::identity::jwt::Jwt;
use crate::identity::{Identity, Principal, Provider};
use crate::rejection::Rejection;
use crate::telemetry::metrics::AuthMetrics;
use crate::values::{ConfigPath, Finding, Name, Problem};
use api_key::ApiKey;
use certificate::Certificate;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use oidc::Login;
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

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

/// One way to prove who calls.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WayConfig {
    /// A consumer's API key.
    ApiKey(ApiKeyConfig),
    /// A signed token of this provider in `identity.providers`.
    Jwt(Name),
    /// A token that this provider in `identity.providers` is asked about.
    Introspection(Name),
    /// A login with this provider in `identity.providers`. A person who opens a page without one is
    /// sent there; programs get a 401.
    Oidc(Name),
    /// A client certificate that the listener has verified.
    Certificate(CertificateConfig),
}

/// [`AuthenticateConfig`], compiled.
#[derive(Debug)]
pub struct Authenticate {
    ways: Box<[(Way, Arc<AuthMetrics>)]>,
    optional: bool,
    /// Counts requests without a credential.
    none: Arc<AuthMetrics>,
}

/// The caller is not known.
pub const UNAUTHENTICATED: &str = "unauthenticated";

/// Who would know the caller is not there.
pub const UNAVAILABLE: &str = "authentication_unavailable";

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
}

impl From<Arc<Principal>> for Admission {
    fn from(principal: Arc<Principal>) -> Self {
        Self { principal, edits: Vec::new(), cookies: Vec::new() }
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
}

impl Refusal {
    const fn new(cause: &'static str, detail: &'static str) -> Self {
        Self { cause, detail: Cow::Borrowed(detail), error: None, unavailable: false }
    }
}

/// A way, compiled. A new one is a file beside this one, a variant here and one in [`WayConfig`].
#[derive(Debug)]
enum Way {
    ApiKey(ApiKey),
    Jwt(Arc<Jwt>),
    Introspection(Introspection),
    Oidc(Login),
    Certificate(Certificate),
}

impl Way {
    /// Compiles one, with what it counts on.
    fn compile(config: &WayConfig, identity: &Identity) -> Result<(Self, Arc<AuthMetrics>), Vec<Finding>> {
        match config {
            WayConfig::ApiKey(config) => {
                let way = ApiKey::compile(config, identity).map_err(|found| under("api_key", found))?;
                Ok((Self::ApiKey(way), identity.counters("api_key", None)))
            }
            WayConfig::Jwt(name) => match identity.provider(name) {
                Some(Provider::Jwt(jwt)) => {
                    Ok((Self::Jwt(Arc::clone(jwt)), identity.counters("jwt", Some(name.as_str()))))
                }
                _ => Err(unknown("jwt", name, identity)),
            },
            WayConfig::Introspection(name) => match identity.provider(name) {
                Some(Provider::Introspection(asked)) => {
                    let counters = identity.counters("introspection", Some(name.as_str()));
                    Ok((Self::Introspection(asked.clone()), counters))
                }
                _ => Err(unknown("introspection", name, identity)),
            },
            WayConfig::Oidc(name) => match identity.provider(name) {
                Some(Provider::Oidc(provider)) => {
                    let login = Login::new(Arc::clone(provider), Arc::clone(identity.consumers()));
                    Ok((Self::Oidc(login), identity.counters("oidc", Some(name.as_str()))))
                }
                _ => Err(unknown("oidc", name, identity)),
            },
            WayConfig::Certificate(config) => {
                let way = Certificate::compile(config, identity);
                Ok((Self::Certificate(way), identity.counters("certificate", None)))
            }
        }
    }

    /// True if it may know more of a caller than the configuration does: claims, scopes.
    const fn has_claims(&self) -> bool {
        match self {
            Self::ApiKey(_) | Self::Certificate(_) => false,
            Self::Jwt(_) | Self::Introspection(_) | Self::Oidc(_) => true,
        }
    }

    fn attempt<'a>(&'a self, head: &'a RequestHeader, cx: &PolicyContext) -> Attempt<'a> {
        match self {
            Self::ApiKey(way) => way.attempt(head, cx),
            Self::Jwt(provider) => jwt::attempt(provider, head, cx),
            Self::Introspection(provider) => introspection::attempt(provider, head),
            Self::Oidc(login) => login.attempt(head, cx),
            Self::Certificate(way) => way.attempt(cx),
        }
    }

    /// What this way has for somebody who came with no credential at all.
    fn invite<'a>(&'a self, head: &RequestHeader, cx: &PolicyContext) -> Option<Attempt<'a>> {
        match self {
            Self::Oidc(login) => login.invite(head, cx),
            Self::ApiKey(_) | Self::Jwt(_) | Self::Introspection(_) | Self::Certificate(_) => None,
        }
    }

    /// What a 401 says of this way (RFC 9110 section 11.6.1), given the error of a bearer token that was
    /// refused.
    fn challenge(&self, error: Option<&'static str>) -> Option<HeaderValue> {
        match self {
            Self::ApiKey(_) => Some(api_key::CHALLENGE),
            Self::Jwt(_) | Self::Introspection(_) => Some(bearer::challenge(error)),
            Self::Oidc(_) => Some(oidc::CHALLENGE),
            Self::Certificate(_) => Some(certificate::CHALLENGE),
        }
    }

    /// Keeps its credential from the upstream, where asked to.
    fn strip(&self, head: &RequestHeader, cx: &mut PolicyContext) {
        match self {
            Self::ApiKey(way) => way.strip(head, cx),
            Self::Jwt(provider) if !provider.forward() => strip::token(provider.places(), head, cx),
            Self::Introspection(provider) if !provider.forward() => {
                strip::token(provider.places(), head, cx);
            }
            // What a login keeps with the browser goes upstream on no route at all.
            // A certificate is the connection's and goes nowhere.
            Self::Jwt(_) | Self::Introspection(_) | Self::Oidc(_) | Self::Certificate(_) => {}
        }
    }
}

fn under(key: &str, found: Vec<Finding>) -> Vec<Finding> {
    let path = ConfigPath::root().key(key);
    found.into_iter().map(|finding| finding.under(&path)).collect()
}

/// A provider that is not there, or is of another kind; nothing if it has mistakes of its own.
fn unknown(kind: &'static str, name: &Name, identity: &Identity) -> Vec<Finding> {
    let problem = match identity.provider(name) {
        None if identity.has_mistakes(name) => return Vec::new(),
        None => Problem::unknown("provider", name.as_str(), identity.provider_names()),
        Some(other) => Problem::new(format!("the provider `{name}` is not of the kind `{kind}`"))
            .remedy(format!("write `{{ {}: {name} }}`", other.kind())),
    };
    vec![Finding::error(ConfigPath::root().key(kind), problem)]
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
        Ok(Self { ways: ways.into(), optional: config.optional, none })
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
                Attempt::Admitted(admission) => self.admit(at, admission, head, cx),
                Attempt::Refused(refusal) => self.refuse(at, &refusal, cx),
                Attempt::Answer(cause, reply) => self.answer(at, cause, reply, cx),
                Attempt::Wait(outcome) => {
                    return Step::Wait(Box::pin(async move {
                        match outcome.await {
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
    fn admit(
        &self,
        at: usize,
        admission: Admission,
        head: &RequestHeader,
        cx: &mut PolicyContext,
    ) -> Verdict {
        let Admission { principal, edits, cookies } = admission;
        // An enforced policy and the route's own: both have looked, and must have seen the same.
        if cx.principal.as_ref().is_some_and(|before| !before.is_same_caller(&principal)) {
            let refusal = Refusal::new("callers_differ", "two credentials of different callers");
            return self.refuse(at, &refusal, cx);
        }
        self.ways[at].1.admitted();
        cx.principal = Some(principal);
        cx.edits.headers.extend(edits);
        cx.set_cookies.extend(cookies);
        for (way, _) in &self.ways {
            way.strip(head, cx);
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
