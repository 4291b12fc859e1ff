//! Signed requests: HTTP Message Signatures (RFC 9421), and a simpler scheme with a shared secret.
//!
//! - **What has to be signed** is said by the configuration, never by the request: a signature that leaves
//!   out a component that is wanted does not count, whatever else it covers.
//! - **The key says the algorithm.** A request names a key; what the key is for decides how it is checked.
//! - **Once.** A signed request counts for some minutes, and once: those that were let in are remembered
//!   until they would count nowhere any more ([`Replay`]). When there is no room, nothing more is let in, and
//!   of a consumer that takes more than its share nothing before that. What is remembered is the nonce, or
//!   without one all that was signed; not the signature, of which some algorithms allow a second form.
//! - **The body** is covered by `content-digest` (RFC 9530), which then has to be what the body is.

mod base;
pub mod config;
mod key;
mod replay;
mod simple;
#[cfg(test)]
mod tests;

pub use base::Message;
pub use key::SigningKey;
pub use replay::{Replay, Window};
pub use simple::SCHEME;

use super::revocations::Revocations;
use super::{Consumers, Method, Principal};
use crate::values::{Problem, Sha256};
use base::{Component, Input};
use config::SignaturesConfig;
use http::{HeaderMap, HeaderName, HeaderValue};
use replay::{ReplayId, Seen};
use sfv::{BareItem, Dictionary, ListEntry, ParseMore as _, Parser};
use std::borrow::Cow;
use std::sync::Arc;

const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// What may be written where components are wanted.
const COMPONENTS: &str = "write `@method`, `@authority`, `@path`, `@query`, `@target-uri`, `@request-target`, `@scheme`, or a header field in lower case";

/// The most signatures that a request may have.
const MOST_SIGNATURES: usize = 16;

/// Why a signed request is refused: a stable word for the log and the metric, and what happened, for the
/// log alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The word.
    pub cause: &'static str,
    /// What happened.
    pub detail: Cow<'static, str>,
    /// Nothing is known against it: there is no room to remember it.
    pub unavailable: bool,
}

impl Refused {
    fn new(cause: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { cause, detail: detail.into(), unavailable: false }
    }
}

/// A signed request that counts.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Whose it is.
    pub principal: Arc<Principal>,
    /// Whether its `content-digest` is signed. If not, nothing is said of its body.
    pub digest: bool,
    /// What it is remembered by.
    pub id: Sha256,
}

/// When a signature counts.
#[derive(Clone, Debug)]
pub struct Rules {
    required: Box<[Component]>,
    /// The only signatures that are looked at, where a request has several.
    tag: Option<Box<str>>,
    require_nonce: bool,
    /// How long after `created`, in seconds.
    max_age: u64,
    /// By how much clocks may differ, in seconds.
    leeway: u64,
}

impl Rules {
    /// What has to be signed, for how many seconds it counts, and by how many clocks may differ.
    ///
    /// # Errors
    /// The places of components that are none.
    pub fn new(components: &[String], max_age: u64, leeway: u64) -> Result<Self, Vec<(usize, Problem)>> {
        let (mut required, mut wrong) = (Vec::with_capacity(components.len()), Vec::new());
        for (place, name) in components.iter().enumerate() {
            if let Some(component) = Component::named(name) {
                required.push(component);
                continue;
            }
            let shown: String = name.chars().take(40).collect();
            let problem = Problem::new(format!("{shown:?} is no component of a request"));
            wrong.push((place, problem.remedy(COMPONENTS)));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self { required: required.into(), tag: None, require_nonce: false, max_age, leeway })
    }

    /// Looks only at signatures with this tag.
    #[must_use]
    pub fn tagged(self, tag: Option<&str>) -> Self {
        Self { tag: tag.map(Into::into), ..self }
    }

    /// Wants a nonce in each signature.
    #[must_use]
    pub fn with_nonce(self, require_nonce: bool) -> Self {
        Self { require_nonce, ..self }
    }

    /// Whether a request counts that was signed then, in seconds since 1970.
    ///
    /// # Errors
    /// It does not count now.
    fn counts(&self, created: u64, expires: Option<u64>, now: u64) -> Result<(), Refused> {
        if created > now.saturating_add(self.leeway) {
            return Err(Refused::new("signature_from_the_future", format!("created={created}")));
        }
        let until = created.saturating_add(self.max_age).min(expires.unwrap_or(u64::MAX));
        let until = until.saturating_add(self.leeway);
        if until < now {
            return Err(Refused::new("signature_expired", format!("created={created} expires={expires:?}")));
        }
        Ok(())
    }
}

/// Whose keys sign, and what was signed before.
#[derive(Clone, Debug)]
pub struct Signatures {
    consumers: Arc<Consumers>,
    replay: Arc<Replay>,
    revocations: Arc<Revocations>,
}

impl Signatures {
    /// The keys of these consumers.
    pub(super) fn new(config: &SignaturesConfig, consumers: &Arc<Consumers>, replay: &Arc<Replay>) -> Self {
        replay.resize(usize::try_from(config.remembered.get()).unwrap_or(usize::MAX));
        let revocations = Arc::default();
        Self { consumers: Arc::clone(consumers), replay: Arc::clone(replay), revocations }
    }

    /// Without those of whom these say that they do not count.
    #[must_use]
    pub(super) fn without(self, revocations: &Arc<Revocations>) -> Self {
        Self { revocations: Arc::clone(revocations), ..self }
    }

    /// Room to remember requests.
    pub(super) fn room() -> Replay {
        Replay::new(usize::MAX)
    }

    /// Has requests remembered for as long as these rules would let them in, until what is returned is
    /// dropped. Whoever checks by rules holds it.
    pub fn in_force(&self, rules: &Rules) -> Window {
        self.replay.window(rules.max_age.saturating_add(rules.leeway))
    }

    /// Checks a request that is signed by RFC 9421; nothing if it is not. The time is in seconds since 1970.
    pub fn check(&self, rules: &Rules, message: Message<'_>, now: u64) -> Option<Result<Signed, Refused>> {
        message.head.headers.get(&SIGNATURE_INPUT)?;
        self.check_signed(rules, message, now).transpose()
    }

    fn check_signed(&self, rules: &Rules, message: Message<'_>, now: u64) -> Result<Option<Signed>, Refused> {
        let headers = &message.head.headers;
        let inputs = dictionary(headers, &SIGNATURE_INPUT)?;
        let signatures = dictionary(headers, &SIGNATURE)?;
        if inputs.len() > MOST_SIGNATURES {
            return Err(Refused::new("signature_malformed", "too many signatures"));
        }
        let mut meant = None;
        for (label, entry) in &inputs {
            let ListEntry::InnerList(list) = entry else {
                return Err(Refused::new("signature_malformed", "a signature input that is no list"));
            };
            let tag = list.params.get("tag").and_then(BareItem::as_str);
            if rules.tag.is_some() && tag != rules.tag.as_deref() {
                continue;
            }
            if meant.replace((label, list)).is_some() {
                return Err(Refused::new("ambiguous", "several signatures"));
            }
        }
        let Some((label, list)) = meant else { return Ok(None) };
        let input = Input::read(list)?;
        let signature = match signatures.get(label) {
            Some(ListEntry::Item(item)) => item.bare_item.as_byte_seq(),
            _ => None,
        };
        let signature =
            signature.ok_or_else(|| Refused::new("signature_malformed", "no signature for its input"))?;
        self.check_input(rules, message, (&input, signature), now).map(Some)
    }

    fn check_input(
        &self,
        rules: &Rules,
        message: Message<'_>,
        (input, signature): (&Input, &[u8]),
        now: u64,
    ) -> Result<Signed, Refused> {
        let created = input
            .created
            .ok_or_else(|| Refused::new("signature_malformed", "it does not say when it was made"))?;
        rules.counts(created, input.expires, now)?;
        let covered =
            |wanted: &Component| input.components.iter().any(|(_, component)| component.covers(wanted));
        if let Some(missing) = rules.required.iter().find(|wanted| !covered(wanted)) {
            return Err(Refused::new("signature_coverage", format!("{missing:?} is not signed")));
        }
        if rules.require_nonce && input.nonce.as_deref().is_none_or(str::is_empty) {
            return Err(Refused::new("signature_nonce", "it has no nonce"));
        }
        let (principal, key) = self.key(&input.key)?;
        if input.algorithm.as_deref().is_some_and(|algorithm| algorithm != key.name()) {
            return Err(Refused::new("signature_algorithm", "another algorithm than its key's"));
        }
        let base = input.base(message)?;
        if !key.verify(&base, signature) {
            return Err(Refused::new("signature_wrong", "not of this request by this key"));
        }
        let id = match &input.nonce {
            Some(nonce) => Sha256::of_parts(&[b"nonce", input.key.as_bytes(), nonce.as_bytes()]),
            None => Sha256::of_parts(&[b"base", &base]),
        };
        self.once(message, &principal, (id, created), now)?;
        Ok(Signed { principal, digest: covered(&Component::Field(CONTENT_DIGEST)), id })
    }

    /// Whose key this is. The key's name becomes the caller's.
    fn key(&self, id: &str) -> Result<(Arc<Principal>, &SigningKey), Refused> {
        let (consumer, key) =
            self.consumers.by_signing_key(id).ok_or_else(|| Refused::new("signature_key_unknown", ""))?;
        Ok((Arc::new(Principal::of(Method::Signature, id, Arc::clone(consumer))), key))
    }

    /// Lets a request in once, however many policies ask. Whoever was revoked is refused before anything of
    /// it is remembered: it could take the room of all others.
    fn once(
        &self,
        message: Message<'_>,
        signer: &Principal,
        (id, created): (Sha256, u64),
        now: u64,
    ) -> Result<(), Refused> {
        if message.admitted == Some(id) {
            return Ok(());
        }
        if self.revocations.refuses(signer) {
            return Err(Refused::new("revoked", "its signer was revoked"));
        }
        let full = |cause, detail| Err(Refused { unavailable: true, ..Refused::new(cause, detail) });
        // Whoever has several keys has one share all the same.
        let consumer = signer.consumer.as_ref().map_or(&*signer.subject, |consumer| &*consumer.name);
        match self.replay.admit(remembered_by(&id), consumer, created, now) {
            Seen::New => Ok(()),
            Seen::Again => Err(Refused::new("signature_replayed", "it was let in before")),
            Seen::Full => full("signatures_full", "no more signed requests can be remembered"),
            Seen::FullOfOne => {
                full("signer_full", "no more signed requests of this consumer can be remembered")
            }
        }
    }
}

fn remembered_by(id: &Sha256) -> ReplayId {
    ReplayId::from_be_bytes(id.bytes().first_chunk().copied().unwrap_or_default())
}

/// All lines of a field as one dictionary (RFC 9651, section 4.2). Of a member that is there twice it is not
/// clear which one is meant.
fn dictionary(headers: &HeaderMap, name: &HeaderName) -> Result<Dictionary, Refused> {
    let wrong = |detail: &'static str| Refused::new("signature_malformed", detail);
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = lines.next().ok_or_else(|| wrong("a signature input without a signature"))?;
    let mut dictionary = Parser::parse_dictionary(first).map_err(|_| wrong("no dictionary"))?;
    for line in lines {
        let more = Parser::parse_dictionary(line).map_err(|_| wrong("no dictionary"))?;
        if more.keys().any(|label| dictionary.contains_key(label)) {
            return Err(wrong("a signature that is there twice"));
        }
        dictionary.parse_more(line).map_err(|_| wrong("no dictionary"))?;
    }
    Ok(dictionary)
}
