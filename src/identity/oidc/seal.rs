//! What the gateway gives a browser to keep, so that nobody else can read it or make one: sealed
//! with AES-256-GCM-SIV (RFC 8452).
//!
//! The nonce is random and several gateways seal under one key for months; GCM-SIV, unlike GCM,
//! gives its key away to nobody if a nonce should ever come twice (RFC 8452 section 9).

use crate::values::Secret;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;

/// The fewest characters of a key in the configuration.
pub const SHORTEST_KEY: usize = 32;
/// The most keys: each is tried on what does not open.
pub const MOST_KEYS: usize = 8;

/// The longest text that is looked at.
const LONGEST: usize = 32 << 10;
/// The first byte of what is sealed: another way to seal will have another one.
const VERSION: u8 = 1;
const TAG: usize = 16;

/// Seals with its first key and opens with all of them, so that keys can be rotated.
pub struct Sealer {
    keys: Box<[LessSafeKey]>,
    /// What everything sealed here is bound to.
    context: Box<str>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys.len()).field("context", &self.context).finish()
    }
}

impl Sealer {
    /// A sealer with these keys, the first of which seals. What it seals opens under the same
    /// `context` alone, such as the provider and the client that it is for.
    ///
    /// # Errors
    /// The library refused; it gives no reason.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a Secret>, context: &str) -> Result<Self, Unspecified> {
        let keys: Result<Box<[_]>, _> = keys.into_iter().map(|secret| key(secret.expose())).collect();
        Ok(Self { keys: keys?, context: context.into() })
    }

    /// Seals under a label, which says what it is: the cookie's name and purpose.
    ///
    /// # Errors
    /// There is no key, or the library refused.
    pub fn seal(&self, label: &str, plain: &[u8]) -> Result<String, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + TAG);
        sealed.extend_from_slice(plain);
        let key = self.keys.first().ok_or(Unspecified)?;
        let aad = Aad::from(self.bound_to(label));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)?;
        let mut whole = Vec::with_capacity(1 + NONCE_LEN + sealed.len());
        whole.push(VERSION);
        whole.extend_from_slice(&nonce);
        whole.append(&mut sealed);
        Ok(URL_SAFE_NO_PAD.encode(whole))
    }

    /// What was sealed under this label; None if it was not, or was changed since.
    pub fn open(&self, label: &str, sealed: &str) -> Option<Vec<u8>> {
        if sealed.len() > LONGEST {
            return None;
        }
        let whole = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (version, rest) = whole.split_first()?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        if *version != VERSION || sealed.len() < TAG {
            return None;
        }
        let aad = self.bound_to(label);
        // A failed attempt leaves nothing usable behind, so each key gets a copy of its own.
        self.keys.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut sealed = sealed.to_vec();
            let length = key.open_in_place(nonce, Aad::from(&aad), &mut sealed).ok()?.len();
            sealed.truncate(length);
            Some(sealed)
        })
    }

    /// Lengths stand before texts, so that no two pairs make the same bytes.
    fn bound_to(&self, label: &str) -> Vec<u8> {
        let mut bound = Vec::with_capacity(17 + self.context.len() + label.len());
        bound.push(VERSION);
        for text in [&*self.context, label] {
            bound.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bound.extend_from_slice(text.as_bytes());
        }
        bound
    }
}

/// The secret is text of any form; what seals is derived from it (RFC 5869).
fn key(secret: &str) -> Result<LessSafeKey, Unspecified> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tollgate cookies");
    let derived = salt.extract(secret.as_bytes());
    let derived = derived.expand(&[b"aes-256-gcm-siv"], &AES_256_GCM_SIV)?;
    Ok(LessSafeKey::new(UnboundKey::from(derived)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealer(keys: &[&str], context: &str) -> Sealer {
        let secrets: Vec<Secret> = keys.iter().map(|key| Secret::new(*key)).collect();
        Sealer::new(&secrets, context).unwrap()
    }

    #[test]
    fn keys_are_rotated_without_a_lost_session() {
        let old = sealer(&["old key"], "sso");
        let both = sealer(&["new key", "old key"], "sso");
        let new = sealer(&["new key"], "sso");
        let (by_old, by_both) = (old.seal("a", b"x").unwrap(), both.seal("a", b"x").unwrap());
        assert_eq!(both.open("a", &by_old).as_deref(), Some(&b"x"[..]), "every key opens");
        assert_eq!(new.open("a", &by_both).as_deref(), Some(&b"x"[..]), "the first key seals");
        assert_eq!(old.open("a", &by_both), None);
        assert_eq!(new.open("a", &by_old), None, "a key that is gone opens nothing");
    }

    #[test]
    fn it_opens_only_as_what_it_was_sealed_as() {
        let sealed = sealer(&["key"], "sso").seal("session", b"x").unwrap();
        assert_eq!(sealer(&["key"], "sso").open("login", &sealed), None);
        assert_eq!(sealer(&["key"], "other").open("session", &sealed), None);
        assert_eq!(sealer(&["key"], "ssos").open("ession", &sealed), None, "borders count");
    }

    #[test]
    fn what_was_never_sealed_does_not_open() {
        let sealer = sealer(&["key"], "sso");
        let long = "A".repeat(LONGEST + 4);
        for text in ["", "A", "AQ", "AQAA", "AQAAAAAAAAAAAAAAAAAA", "é", "....", "AQ==", &long] {
            assert_eq!(sealer.open("a", text), None, "{text}");
        }
        let sealed = sealer.seal("a", b"").unwrap();
        assert_eq!(sealer.open("a", &sealed).as_deref(), Some(&b""[..]));
        assert_eq!(sealer.open("a", &format!("{sealed}=")), None, "one spelling alone");
        assert!(Sealer::new([], "sso").unwrap().seal("a", b"x").is_err());
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(plain: Vec<u8>, label: String) {
            let sealer = sealer(&["key"], "sso");
            prop_assert_eq!(sealer.open(&label, &sealer.seal(&label, &plain).unwrap()), Some(plain));
        }

        #[test]
        fn no_mutation_opens(plain: Vec<u8>, at: prop::sample::Index, with in "[A-Za-z0-9_.~=-]", how in 0_u8..4) {
            let sealer = sealer(&["key", "another"], "sso");
            let sealed = sealer.seal("a", &plain).unwrap();
            let mut mutant = sealed.clone();
            let at = at.index(sealed.len());
            match how {
                0 => mutant.replace_range(at..=at, &with),
                1 => mutant.insert_str(at, &with),
                2 => mutant.truncate(at),
                _ => drop(mutant.remove(at)),
            }
            prop_assume!(mutant != sealed);
            prop_assert_eq!(sealer.open("a", &mutant), None);
        }
    }
}
