//! Requests that their sender has signed.

use super::bearer::now;
use super::{Admission, Attempt, Refusal};
use crate::identity::Identity;
use crate::identity::signatures::{Message, Refused, Rules, SCHEME, Signatures, Signed, Window};
use crate::policy::context::{HeaderEdit, PolicyContext, SignedBody};
use crate::policy::shared::digest;
use crate::policy::shared::whole_body::WholeBody;
use crate::values::{ConfigPath, Duration, Finding, Problem};
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderName, HeaderValue, Version};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Nobody registered a scheme for RFC 9421; a 401 must have one all the same.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Signature realm=\"tollgate\"");
const SIMPLE_CHALLENGE: HeaderValue = HeaderValue::from_static("HMAC-SHA256 realm=\"tollgate\"");

/// A request that is signed by RFC 9421. A consumer has its key by a credential
/// `{ signature: { id: …, key: … } }`. Each signature counts once. What body a request has must be what
/// its signed `content-digest` (RFC 9530) says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignatureConfig {
    /// What has to be signed at least, besides the digest of a body. `@target-uri` counts for the scheme,
    /// the authority, the path and the query, `@request-target` for the last two. Default:
    /// `["@method", "@authority", "@path", "@query"]`.
    pub components: Vec<String>,
    /// How long a signature counts after it was `created`; `expires` may end it earlier. Default 5m.
    pub max_age: Duration,
    /// By how much clocks may differ. Default 10s.
    pub leeway: Duration,
    /// Whether each signature needs a `nonce`. Without one, the same request signed in the same second is
    /// the same request. Default false.
    pub nonce: bool,
    /// The only signatures that are looked at, by their `tag`. Default: whichever there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// How bodies are held until they are compared with their digests.
    pub body: WholeBody,
}

impl Default for SignatureConfig {
    fn default() -> Self {
        Self {
            components: ["@method", "@authority", "@path", "@query"].map(str::to_owned).into(),
            max_age: Duration::from_secs(300),
            leeway: Duration::from_secs(10),
            nonce: false,
            tag: None,
            body: WholeBody::default(),
        }
    }
}

/// A request that is signed with a shared secret in the simple way: method, target, host, `date` and
/// `content-digest`, in `authorization: HMAC-SHA256 keyid="…", signature="…"`. A consumer has the
/// secret by a credential `{ signature: { id: …, key: { hmac-sha256: … } } }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HmacConfig {
    /// By how much `date` may differ from the gateway's clock, in either direction. Each request counts
    /// once. Default 5m.
    pub window: Duration,
    /// How bodies are held until they are compared with their digests.
    pub body: WholeBody,
    /// Whether the upstream gets the signature too. Default true.
    pub forward: bool,
}

impl Default for HmacConfig {
    fn default() -> Self {
        Self { window: Duration::from_secs(300), body: WholeBody::default(), forward: true }
    }
}

/// [`SignatureConfig`] or [`HmacConfig`], compiled.
#[derive(Debug)]
pub(super) struct Signature {
    signatures: Signatures,
    rules: Rules,
    body: WholeBody,
    kind: Kind,
    /// Has them remembered for as long as this lets them in.
    _window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Standard,
    Simple { forward: bool },
}

impl Signature {
    pub(super) fn compile(config: &SignatureConfig, identity: &Identity) -> Result<Self, Vec<Finding>> {
        let root = ConfigPath::root();
        let mut found = body_findings(&config.body);
        if config.max_age.is_zero() {
            found.push(nothing_counts("max_age"));
        }
        let (max_age, leeway) = (config.max_age.get().as_secs(), config.leeway.get().as_secs());
        let rules = Rules::new(&config.components, max_age, leeway).map_err(|wrong| {
            let at = |(place, problem)| Finding::error(root.key("components").index(place), problem);
            found.extend(wrong.into_iter().map(at));
        });
        let (Ok(rules), true) = (rules, found.is_empty()) else { return Err(found) };
        let rules = rules.tagged(config.tag.as_deref()).with_nonce(config.nonce);
        Ok(Self::new(identity.signatures(), rules, config.body, Kind::Standard))
    }

    pub(super) fn compile_simple(config: &HmacConfig, identity: &Identity) -> Result<Self, Vec<Finding>> {
        let mut found = body_findings(&config.body);
        if config.window.is_zero() {
            found.push(nothing_counts("window"));
        }
        let window = config.window.get().as_secs();
        // As far ahead as behind: what is signed says nothing else of time.
        let Ok(rules) = Rules::new(&[], 0, window) else { return Err(found) };
        if !found.is_empty() {
            return Err(found);
        }
        let kind = Kind::Simple { forward: config.forward };
        Ok(Self::new(identity.signatures(), rules, config.body, kind))
    }

    fn new(signatures: Signatures, rules: Rules, body: WholeBody, kind: Kind) -> Self {
        let window = signatures.in_force(&rules);
        Self { signatures, rules, body, kind, _window: window }
    }

    pub(super) fn attempt<'a>(&self, head: &RequestHeader, cx: &PolicyContext) -> Attempt<'a> {
        let message = Message { head, scheme: cx.scheme(), admitted: cx.signature };
        let checked = match self.kind {
            Kind::Standard => self.signatures.check(&self.rules, message, now()),
            Kind::Simple { .. } => self.signatures.check_simple(&self.rules, message, now()),
        };
        match checked {
            None => Attempt::Absent,
            Some(Err(Refused { cause, detail, unavailable })) => {
                Attempt::Refused(Refusal { cause, detail, error: None, unavailable, forbidden: false })
            }
            Some(Ok(signed)) => match self.about_body(&signed, head) {
                Ok(body) => Attempt::Admitted(Admission {
                    body,
                    signature: Some(signed.id),
                    ..Arc::clone(&signed.principal).into()
                }),
                Err(refusal) => Attempt::Refused(refusal),
            },
        }
    }

    /// What has to be true of the body.
    fn about_body(
        &self,
        signed: &Signed,
        head: &RequestHeader,
    ) -> Result<Option<(SignedBody, WholeBody)>, Refusal> {
        if signed.digest {
            return match digest::given(head) {
                Ok(given) if !given.is_empty() => Ok(Some((SignedBody::Digest, self.body))),
                Ok(_) => Err(Refusal::new("digest_unknown", "a signed digest that cannot be checked")),
                Err(digest::Malformed) => {
                    Err(Refusal::new("digest_malformed", "a signed digest that is none"))
                }
            };
        }
        if digest::announces_body(head) {
            return Err(Refusal::new("body_not_signed", "a body whose digest is not signed"));
        }
        // In HTTP/1 there is none then; in HTTP/2 one may come that does not announce itself.
        let may_come = head.version == Version::HTTP_2 && !head.headers.contains_key(CONTENT_LENGTH);
        Ok(may_come.then_some((SignedBody::Empty, self.body)))
    }

    pub(super) const fn challenge(&self) -> HeaderValue {
        match self.kind {
            Kind::Standard => CHALLENGE,
            Kind::Simple { .. } => SIMPLE_CHALLENGE,
        }
    }

    /// Keeps the credential of the simple scheme from the upstream, if it shall not have it. Signatures by
    /// RFC 9421 say nothing that is secret.
    pub(super) fn strip(&self, head: &RequestHeader, cx: &mut PolicyContext) {
        if self.kind != (Kind::Simple { forward: false }) {
            return;
        }
        let is_ours = |value: &HeaderValue| {
            let begin = value.as_bytes().get(..SCHEME.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(SCHEME.as_bytes()))
        };
        let name: HeaderName = AUTHORIZATION;
        if head.headers.get_all(&name).iter().any(is_ours) {
            cx.edits.headers.push(HeaderEdit::Remove(name));
        }
    }
}

fn body_findings(body: &WholeBody) -> Vec<Finding> {
    let at = ConfigPath::root().key("body");
    body.findings().into_iter().map(|finding| finding.under(&at)).collect()
}

fn nothing_counts(key: &str) -> Finding {
    let problem = Problem::new("no signature would count").remedy("write some minutes, such as `5m`");
    Finding::error(ConfigPath::root().key(key), problem)
}

/// True if a body is what was signed of it.
pub(super) fn agrees(signed: SignedBody, head: &RequestHeader, body: &[u8]) -> bool {
    match signed {
        SignedBody::Empty => body.is_empty(),
        SignedBody::Digest => digest::given(head)
            .is_ok_and(|given| !given.is_empty() && given.iter().all(|one| one.is_of(body))),
    }
}
