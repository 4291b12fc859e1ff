//! A consumer's API key, in a header, a query parameter or a cookie.

use super::{Attempt, REVOKED, Refusal};
use crate::identity::revocations::Revocations;
use crate::identity::{Consumers, Identity};
use crate::message::cookies;
use crate::policy::context::{HeaderEdit, PolicyContext};
use crate::values::{ConfigPath, Finding, Problem, Sha256};
use http::{HeaderName, HeaderValue, header};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// The longest key that is looked at, in bytes.
const LONGEST: usize = 4096;

/// Nobody registered a scheme for API keys; a 401 must have one all the same.
pub(super) const CHALLENGE: HeaderValue = HeaderValue::from_static("ApiKey realm=\"tollgate\"");

/// A consumer's API key. It is looked for in each place that is named; one in two places, or twice in
/// one, is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiKeyConfig {
    /// The header that holds it, such as `x-api-key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The query parameter that holds it. URLs are often logged: prefer a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The cookie that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Whether the upstream gets the key too. Default true.
    pub forward: bool,
}

impl Default for ApiKeyConfig {
    fn default() -> Self {
        Self { header: None, query: None, cookie: None, forward: true }
    }
}

/// [`ApiKeyConfig`], compiled.
#[derive(Debug)]
pub(super) struct ApiKey {
    header: Option<HeaderName>,
    query: Option<Box<str>>,
    cookie: Option<Box<str>>,
    forward: bool,
    consumers: Arc<Consumers>,
    revocations: Arc<Revocations>,
}

/// What was presented.
enum Presented<'a> {
    Nothing,
    Key(Cow<'a, [u8]>),
    Several,
}

impl<'a> Presented<'a> {
    fn and(self, key: Cow<'a, [u8]>) -> Self {
        match self {
            Self::Nothing => Self::Key(key),
            Self::Key(_) | Self::Several => Self::Several,
        }
    }
}

impl ApiKey {
    pub(super) fn compile(config: &ApiKeyConfig, identity: &Identity) -> Result<Self, Vec<Finding>> {
        if config.header.is_none() && config.query.is_none() && config.cookie.is_none() {
            let problem = Problem::new("it says nowhere where the key is").remedy(
                "name a `header`, a `query` parameter or a `cookie`, such as `{ header: x-api-key }`",
            );
            return Err(vec![Finding::error(ConfigPath::root(), problem)]);
        }
        let mut found = Vec::new();
        let mut token = |key: &str, name: &Option<String>| {
            let parsed = name.as_ref().map(|name| (name, HeaderName::try_from(name.as_str())));
            if let Some((name, Err(_))) = &parsed {
                let shown: String = name.chars().take(40).collect();
                let problem = Problem::new(format!("{shown:?} is not the name of a {key}"))
                    .remedy("use letters, digits and hyphens, such as `x-api-key`");
                found.push(Finding::error(ConfigPath::root().key(key), problem));
            }
            parsed.and_then(|(_, parsed)| parsed.ok())
        };
        let header = token("header", &config.header);
        // A cookie's name is a token as a header field's is (RFC 6265 section 4.1.1).
        token("cookie", &config.cookie);
        if config.query.as_ref().is_some_and(String::is_empty) {
            let problem = Problem::new("the parameter has no name").remedy("write one, such as `api_key`");
            found.push(Finding::error(ConfigPath::root().key("query"), problem));
        }
        if !found.is_empty() {
            return Err(found);
        }
        Ok(Self {
            header,
            query: config.query.as_deref().map(Box::from),
            cookie: config.cookie.as_deref().map(Box::from),
            forward: config.forward,
            consumers: Arc::clone(identity.consumers()),
            revocations: Arc::clone(identity.revocations()),
        })
    }

    pub(super) fn attempt<'a>(&self, head: &RequestHeader, _: &PolicyContext) -> Attempt<'a> {
        let key = match self.presented(head) {
            Presented::Nothing => return Attempt::Absent,
            Presented::Key(key) => key,
            Presented::Several => {
                return Attempt::Refused(Refusal::new("ambiguous", "several API keys"));
            }
        };
        if key.is_empty() || key.len() > LONGEST {
            return Attempt::Refused(Refusal::new("malformed", "an API key that is empty or too long"));
        }
        // What is compared are digests of keys, in constant time: nothing of a key shows in how long
        // it takes (RFC 9110 says nothing of this; every other way invites measuring).
        let digest = Sha256::of(&key);
        match self.consumers.by_api_key(&digest) {
            Some(_) if self.revocations.refuses_key(&digest) => {
                Attempt::Refused(Refusal::new(REVOKED, "an API key that was revoked"))
            }
            Some(principal) => Attempt::Admitted(Arc::clone(principal).into()),
            None => Attempt::Refused(Refusal::new("unknown_key", "an API key that nobody has")),
        }
    }

    fn presented<'h>(&self, head: &'h RequestHeader) -> Presented<'h> {
        let mut presented = Presented::Nothing;
        if let Some(name) = &self.header {
            for value in head.headers.get_all(name) {
                presented = presented.and(Cow::Borrowed(value.as_bytes()));
            }
        }
        if let Some((name, query)) = self.query.as_deref().zip(head.uri.query()) {
            for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
                if key == name {
                    presented = presented.and(match value {
                        Cow::Borrowed(value) => Cow::Borrowed(value.as_bytes()),
                        Cow::Owned(value) => Cow::Owned(value.into_bytes()),
                    });
                }
            }
        }
        if let Some(name) = self.cookie.as_deref() {
            for (_, value) in cookies::pairs(&head.headers).filter(|(key, _)| *key == name.as_bytes()) {
                presented = presented.and(Cow::Borrowed(value));
            }
        }
        presented
    }

    /// Keeps the key from the upstream, if it shall not have it.
    pub(super) fn strip(&self, head: &RequestHeader, cx: &mut PolicyContext) {
        if self.forward {
            return;
        }
        if let Some(name) = self.header.as_ref().filter(|name| head.headers.contains_key(*name)) {
            cx.edits.headers.push(HeaderEdit::Remove(name.clone()));
        }
        if let Some((name, query)) = self.query.as_deref().zip(head.uri.query()) {
            let rest = without_parameter(cx.edits.query.as_deref().unwrap_or(query), name);
            cx.edits.query = rest.or(cx.edits.query.take());
        }
        if let Some(name) = self.cookie.as_ref().filter(|_| head.headers.contains_key(header::COOKIE)) {
            cx.edits.headers.push(HeaderEdit::RemoveCookie(name.clone()));
        }
    }
}

/// A query without a parameter, the rest as it was written; None if it has no such parameter.
fn without_parameter(query: &str, name: &str) -> Option<String> {
    let is_other =
        |pair: &&str| url::form_urlencoded::parse(pair.as_bytes()).next().is_none_or(|(key, _)| key != name);
    let rest: Vec<&str> = query.split('&').filter(is_other).collect();
    (rest.len() < query.split('&').count()).then(|| rest.join("&"))
}
