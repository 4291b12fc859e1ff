//! The keys of an issuer (RFC 7517, section 5).

use super::key::{Key, Origin};
use crate::identity::json;
use crate::identity::jwt::Algorithm;
use serde_json::Value;
use std::sync::Arc;

/// The keys of an issuer at one time.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Box<[Arc<Key>]>,
}

/// A set of keys as it was read, and why keys in it cannot be used.
#[derive(Debug)]
pub struct Read {
    /// The keys that can be used; one at least.
    pub set: KeySet,
    /// What is wrong with the others, in words for the log.
    pub skipped: Vec<String>,
}

impl KeySet {
    /// These keys.
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys: keys.into_iter().map(Arc::new).collect() }
    }

    /// Reads a JSON Web Key Set of at most `most` keys. A key that is of no use here is skipped
    /// (RFC 7517, section 5); a set without any that is of use is none.
    ///
    /// # Errors
    /// What is wrong with the set, in words for the log.
    pub fn read(text: &[u8], most: usize, origin: Origin) -> Result<Read, String> {
        let set = json::object(text)?;
        let Some(Value::Array(list)) = set.get("keys") else {
            return Err("it has no list `keys`".to_owned());
        };
        Self::of(list, most, origin)
    }

    /// As [`Self::read`], of a list of keys.
    ///
    /// # Errors
    /// What is wrong with the list, in words for the log.
    pub fn of(list: &[Value], most: usize, origin: Origin) -> Result<Read, String> {
        if list.len() > most {
            return Err(format!("it has {} keys; {most} are read at most", list.len()));
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (at, value) in list.iter().enumerate() {
            let key = match value {
                Value::Object(jwk) => Key::from_jwk(jwk, origin),
                _ => Err("it is not an object".to_owned()),
            };
            match key {
                Ok(key) => keys.push(key),
                Err(why) => skipped.push(format!("key {at}: {why}")),
            }
        }
        if keys.is_empty() {
            let why = if skipped.is_empty() { "it is empty".to_owned() } else { skipped.join("; ") };
            return Err(format!("no key in it can be used: {why}"));
        }
        Ok(Read { set: Self::new(keys), skipped })
    }

    /// The keys that may have signed a token with this `kid`, or none, in this way.
    pub fn candidates<'s>(
        &'s self,
        kid: Option<&'s str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'s Arc<Key>> {
        self.keys.iter().filter(move |key| key.fits(kid, algorithm))
    }

    /// True if this very key is in the set.
    pub fn has(&self, key: &Arc<Key>) -> bool {
        self.keys.iter().any(|known| Arc::ptr_eq(known, key))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys' digests, in their order.
    pub fn digests(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.keys.iter().map(|key| key.digest())
    }

    /// This set after `before`: a key that was there stays the same one, so that what it verified
    /// still counts; one that is gone is withdrawn.
    pub fn succeeding(self, before: &Self) -> Self {
        let keys: Box<[Arc<Key>]> = self
            .keys
            .iter()
            .map(|key| before.keys.iter().find(|old| old.digest() == key.digest()).unwrap_or(key))
            .map(Arc::clone)
            .collect();
        for old in &before.keys {
            if !keys.iter().any(|key| Arc::ptr_eq(key, old)) {
                old.withdraw();
            }
        }
        Self { keys }
    }

    /// Withdraws all keys.
    pub fn withdraw(&self) {
        self.keys.iter().for_each(|key| key.withdraw());
    }
}
