//! JSON Web Tokens (RFC 7519): whether one counts, and whose it is. What can be checked cheaply comes
//! first: size, encoding, JSON, algorithm, claims; then the signature, of what was read to the byte.

mod algorithm;
mod compact;
mod compile;
mod config;
mod header;
#[cfg(test)]
mod tests;

pub use algorithm::Algorithm;
pub use config::{FetchConfig, JwtConfig, KeysConfig};

use super::cause::{Cause, Refused};
use super::claims::{Expected, Span};
use super::keys::{Key, KeySet, Keys, NoKey};
use super::presented::Places;
use super::principal::{Method, Principal};
use super::tokens::{Entry, Id, Prefix, TokenCache};
use super::{Consumers, claimed, json};
use compact::Compact;
use header::{Header, Rules};
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::sync::Arc;

/// The most keys that a token without a key's name is tried with.
const MOST_TRIES: usize = 8;

/// A provider of signed tokens, compiled.
#[derive(Debug)]
pub struct Jwt {
    name: Arc<str>,
    rules: Rules,
    expected: Expected,
    keys: Keys,
    max_size: usize,
    places: Places,
    forward: bool,
    consumers: Arc<Consumers>,
    tokens: Arc<TokenCache>,
    prefix: Prefix,
}

/// What came of a token.
#[derive(Debug)]
pub enum Checked {
    /// It counts, and this is whose it is.
    Admitted(Arc<Principal>),
    /// It does not.
    Refused(Refused),
    /// Its key is not known yet: [`Jwt::wait`] may help.
    KeyMissing(Box<Pending>),
}

/// A token that was read, and whose signature is still to be checked.
#[derive(Debug)]
pub struct Pending {
    id: Id,
    header: Header,
    claims: Map<String, Value>,
    span: Span,
    signed: Box<[u8]>,
    signature: Vec<u8>,
    /// The keys that it was tried with.
    tried: Arc<KeySet>,
    length: usize,
}

impl Jwt {
    /// Looks a token up, or checks it; `now` in seconds since 1970.
    pub fn check(&self, token: &str, now: u64) -> Checked {
        if token.len() > self.max_size {
            return Checked::Refused(Cause::TooLarge.with(format!("{} bytes", token.len())));
        }
        let id = self.prefix.id(token);
        match self.tokens.get(&id, now) {
            Some(entry) => Checked::Admitted(self.known(id, &entry)),
            None => self.check_unknown(token, id, now),
        }
    }

    /// Waits for the key that a token was signed with, and checks it; `now` tells the time then.
    ///
    /// # Errors
    /// Why it does not count.
    pub async fn wait(
        &self,
        pending: Box<Pending>,
        client: IpAddr,
        now: impl Fn() -> u64,
    ) -> Result<Arc<Principal>, Refused> {
        let Keys::Remote(keys, wait) = &self.keys else {
            return Err(self.no_key(&pending, NoKey::Unknown));
        };
        let wanted = (pending.header.kid.as_deref(), pending.header.algorithm);
        let set = keys.wait_for(wanted, &pending.tried, client, *wait).await;
        let set = set.map_err(|why| self.no_key(&pending, why))?;
        let key = self.prove(&pending, &set).ok_or(Cause::BadSignature)?;
        if !pending.span.contains(now()) {
            return Err(Cause::Expired.with("while it waited"));
        }
        Ok(self.admit(*pending, key))
    }

    /// The provider's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where tokens are looked for.
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// Whether the upstream gets the token too.
    pub const fn forward(&self) -> bool {
        self.forward
    }

    fn check_unknown(&self, token: &str, id: Id, now: u64) -> Checked {
        let pending = match self.read(token, id, now) {
            Ok(pending) => pending,
            Err(refused) => return Checked::Refused(refused),
        };
        if let Some(key) = self.prove(&pending, &pending.tried) {
            return Checked::Admitted(self.admit(pending, key));
        }
        let Header { algorithm, kid } = &pending.header;
        let is_known = pending.tried.candidates(kid.as_deref(), *algorithm).next().is_some();
        match &self.keys {
            // A key without a name cannot be told from the one that follows it.
            Keys::Remote(..) if !is_known || kid.is_none() => Checked::KeyMissing(Box::new(pending)),
            _ if is_known => Checked::Refused(Cause::BadSignature.into()),
            _ => Checked::Refused(self.no_key(&pending, NoKey::Unknown)),
        }
    }

    /// Reads a token and checks all but its signature.
    fn read(&self, token: &str, id: Id, now: u64) -> Result<Pending, Refused> {
        let Compact { header, payload, signed, signature } = compact::split(token)?;
        let object = |part: &str, json: &[u8]| {
            json::object(json).map_err(|why| Cause::Malformed.with(format!("{part}: {why}")))
        };
        let header = self.rules.read(&object("header", &header)?)?;
        let claims = object("claims", &payload)?;
        let span = self.expected.claims(&claims, now)?;
        let (signed, tried) = (signed.into(), self.keys.current());
        Ok(Pending { id, header, claims, span, signed, signature, tried, length: token.len() })
    }

    /// The key that signed it.
    fn prove(&self, pending: &Pending, set: &KeySet) -> Option<Arc<Key>> {
        let Header { algorithm, kid } = &pending.header;
        let mut candidates = set.candidates(kid.as_deref(), *algorithm).take(MOST_TRIES);
        candidates.find(|key| key.verify(*algorithm, &pending.signed, &pending.signature)).map(Arc::clone)
    }

    fn no_key(&self, pending: &Pending, why: NoKey) -> Refused {
        let kid = &pending.header.kid;
        match why {
            NoKey::Unknown if kid.is_none() && !pending.tried.is_empty() => Cause::BadSignature.into(),
            NoKey::Unknown => Cause::UnknownKey.with(format!("kid={kid:?}")),
            NoKey::TooLate => Cause::KeysUnavailable.with(format!("kid={kid:?}")),
            NoKey::Full => Cause::TooManyWaiting.with(format!("kid={kid:?}")),
        }
    }

    fn admit(&self, pending: Pending, key: Arc<Key>) -> Arc<Principal> {
        let Pending { id, claims, span, length, .. } = pending;
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().into();
        let how = (Method::Jwt, &self.name);
        let principal = Arc::new(claimed::principal(how, subject, claims, &self.consumers));
        let entry = Entry {
            principal: Arc::clone(&principal),
            key,
            consumers: Arc::downgrade(&self.consumers),
            from: span.from,
            until: span.until,
            length,
        };
        self.tokens.insert(id, entry);
        principal
    }

    /// Whose a token is that was verified before, perhaps when consumers were others.
    fn known(&self, id: Id, entry: &Entry) -> Arc<Principal> {
        let principal = &entry.principal;
        if entry.consumers.as_ptr() == Arc::as_ptr(&self.consumers) {
            return Arc::clone(principal);
        }
        let principal = claimed::among(principal, &self.consumers);
        let consumers = Arc::downgrade(&self.consumers);
        let entry = Entry { principal: Arc::clone(&principal), consumers, ..Entry::clone(entry) };
        self.tokens.insert(id, entry);
        principal
    }
}
