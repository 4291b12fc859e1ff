//! One key: what it may verify, and from which texts it is read (RFC 7517, RFC 7518 section 6).

use crate::identity::jwt::Algorithm;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// RSA keys in bits (RFC 7518, section 3.3; the upper bound keeps a check cheap).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The largest public exponent, in bytes: larger ones only cost time.
const LARGEST_EXPONENT: usize = 8;
/// The longest name of a key, in bytes.
const LONGEST_ID: usize = 256;

/// A key that tokens are verified with.
pub struct Key {
    id: Option<Box<str>>,
    verifiers: Box<[(Algorithm, Verifier)]>,
    /// Of everything above: an equal one is the same key.
    digest: [u8; 32],
    withdrawn: AtomicBool,
}

enum Verifier {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

/// Where a key comes from decides what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration, which may hold secrets.
    Configuration,
    /// The network, where a secret would be none.
    Network,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<&str> = self.verifiers.iter().map(|(algorithm, _)| algorithm.name()).collect();
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &algorithms).finish_non_exhaustive()
    }
}

impl Key {
    /// Reads a JSON Web Key.
    ///
    /// # Errors
    /// Why it verifies nothing here, for the log.
    pub fn from_jwk(jwk: &Map<String, Value>, origin: Origin) -> Result<Self, String> {
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(format!("its `{name}` is not text")),
        };
        let id = text("kid")?;
        if id.is_some_and(|id| id.len() > LONGEST_ID) {
            return Err(format!("its `kid` is longer than {LONGEST_ID} bytes"));
        }
        if text("use")?.is_some_and(|purpose| purpose != "sig") {
            return Err("it is not for signatures: `use`".to_owned());
        }
        check_operations(jwk)?;
        let kind = text("kty")?.ok_or("it has no `kty`")?;
        // Whoever can read the private part can sign.
        if kind != "oct" && jwk.contains_key("d") {
            return Err("its private part is public".to_owned());
        }
        let mut verifiers = match kind {
            "RSA" => rsa(&bytes(jwk, "n")?, &bytes(jwk, "e")?)?,
            "EC" => elliptic(text("crv")?, &bytes(jwk, "x")?, &bytes(jwk, "y")?)?,
            "OKP" => edwards(text("crv")?, &bytes(jwk, "x")?)?,
            "oct" if origin == Origin::Configuration => secret(&bytes(jwk, "k")?)?,
            "oct" => return Err("it is a secret, and not secret: it came over the network".to_owned()),
            _ => return Err("its `kty` is not known".to_owned()),
        };
        if let Some(name) = text("alg")? {
            verifiers.retain(|(algorithm, _)| algorithm.name() == name);
            if verifiers.is_empty() {
                return Err("its `alg` is not for signatures, or not for its kind of key".to_owned());
            }
        }
        Ok(Self::new(id, verifiers, &Value::Object(jwk.clone()).to_string()))
    }

    /// Reads a public key as X.509 has it (`SubjectPublicKeyInfo`, RFC 5280 section 4.1.2.7), in DER.
    ///
    /// # Errors
    /// Why it verifies nothing here, for the log.
    pub fn from_spki(der: &[u8]) -> Result<Self, String> {
        let parse = |algorithm: Algorithm| {
            let parsed = ParsedPublicKey::new(public(algorithm)?, der).ok()?;
            Some((algorithm, Verifier::Public(parsed)))
        };
        let verifiers: Vec<_> = Algorithm::ALL.into_iter().filter_map(parse).collect();
        if verifiers.is_empty() {
            return Err("it is no RSA, P-256, P-384, P-521 or Ed25519 key".to_owned());
        }
        if verifiers.iter().any(|(algorithm, _)| *algorithm == Algorithm::RS256) {
            let key = aws_lc_rs::rsa::PublicKey::from_der(der).map_err(|error| error.to_string())?;
            check_bits(key.modulus_len() * 8)?;
        }
        Ok(Self::new(None, verifiers, &URL_SAFE_NO_PAD.encode(der)))
    }

    /// A secret that whoever signs has as well.
    ///
    /// # Errors
    /// If it is shorter than the shortest hash.
    pub fn from_secret(secret_text: &[u8]) -> Result<Self, String> {
        Ok(Self::new(None, secret(secret_text)?, &URL_SAFE_NO_PAD.encode(secret_text)))
    }

    fn new(id: Option<&str>, verifiers: Vec<(Algorithm, Verifier)>, text: &str) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self {
            id: id.map(Into::into),
            verifiers: verifiers.into(),
            digest,
            withdrawn: AtomicBool::new(false),
        }
    }

    /// True if a token with this `kid`, or none, may be signed by this key in this way. A key without
    /// a name may have signed any token, and a token without one may be by any key.
    pub fn fits(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        let names_agree = match (kid, &self.id) {
            (Some(asked), Some(id)) => asked == &**id,
            _ => true,
        };
        names_agree && self.verifiers.iter().any(|(known, _)| *known == algorithm)
    }

    /// True if `signature` is this key's, by this algorithm, of `signed`.
    pub fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let verifier = self.verifiers.iter().find(|(known, _)| *known == algorithm);
        match verifier {
            Some((_, Verifier::Public(key))) => key.verify_sig(signed, signature).is_ok(),
            Some((_, Verifier::Secret(key))) => hmac::verify(key, signed, signature).is_ok(),
            None => false,
        }
    }

    /// Of what the key is made of.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// True once its issuer does not publish it any more: what it verified must not count any longer.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed)
    }

    pub(super) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Relaxed);
    }
}

/// `key_ops`, where it is there, has to allow verifying (RFC 7517, section 4.3).
fn check_operations(jwk: &Map<String, Value>) -> Result<(), String> {
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => Ok(()),
        Some(_) => Err("it is not for verifying: `key_ops`".to_owned()),
    }
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = jwk.get(name).and_then(Value::as_str).ok_or_else(|| format!("it has no `{name}`"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its `{name}` is not base64url"))
}

type Verifiers = Vec<(Algorithm, Verifier)>;

fn check_bits(bits: usize) -> Result<(), String> {
    if RSA_BITS.contains(&bits) {
        return Ok(());
    }
    Err(format!("it has {bits} bits; an RSA key has {} to {}", RSA_BITS.start(), RSA_BITS.end()))
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Verifiers, String> {
    // Some issuers write a leading zero, as ASN.1 would have it.
    let without_zeros =
        |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
    let (n, e) = (without_zeros(modulus), without_zeros(exponent));
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    check_bits(bits)?;
    let is_odd = |bytes: &[u8]| bytes.last().is_some_and(|last| last % 2 == 1);
    if e.len() > LARGEST_EXPONENT || !is_odd(&e) || *e == [1] || !is_odd(&n) {
        return Err("its `n` and `e` are no RSA key".to_owned());
    }
    let components = RsaPublicKeyComponents { n, e };
    let verifiers = [
        (Algorithm::RS256, &signature::RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::RS384, &signature::RSA_PKCS1_2048_8192_SHA384),
        (Algorithm::RS512, &signature::RSA_PKCS1_2048_8192_SHA512),
        (Algorithm::PS256, &signature::RSA_PSS_2048_8192_SHA256),
        (Algorithm::PS384, &signature::RSA_PSS_2048_8192_SHA384),
        (Algorithm::PS512, &signature::RSA_PSS_2048_8192_SHA512),
    ];
    let parse = |(algorithm, parameters): (Algorithm, &'static RsaParameters)| {
        let parsed = components.to_parsed_public_key(parameters).map_err(|error| error.to_string())?;
        Ok((algorithm, Verifier::Public(parsed)))
    };
    verifiers.into_iter().map(parse).collect()
}

fn elliptic(curve: Option<&str>, x: &[u8], y: &[u8]) -> Result<Verifiers, String> {
    let (algorithm, length) = match curve {
        Some("P-256") => (Algorithm::ES256, 32),
        Some("P-384") => (Algorithm::ES384, 48),
        Some("P-521") => (Algorithm::ES512, 66),
        _ => return Err("its `crv` is not known".to_owned()),
    };
    // Full length, leading zeros included (RFC 7518, section 6.2.1.2).
    if x.len() != length || y.len() != length {
        return Err("its `x` or `y` has not its curve's length".to_owned());
    }
    let point = [&[4], x, y].concat();
    parsed(&[algorithm], &point).map_err(|()| "its point is not on its curve".to_owned())
}

fn edwards(curve: Option<&str>, x: &[u8]) -> Result<Verifiers, String> {
    if curve != Some("Ed25519") || x.len() != 32 {
        return Err("it is no Ed25519 key".to_owned());
    }
    parsed(&[Algorithm::EdDSA, Algorithm::Ed25519], x).map_err(|()| "it is no Ed25519 key".to_owned())
}

fn parsed(algorithms: &[Algorithm], key: &[u8]) -> Result<Verifiers, ()> {
    let parse = |algorithm: &Algorithm| {
        let parsed = ParsedPublicKey::new(public(*algorithm).ok_or(())?, key).map_err(|_| ())?;
        Ok((*algorithm, Verifier::Public(parsed)))
    };
    algorithms.iter().map(parse).collect()
}

fn secret(secret: &[u8]) -> Result<Verifiers, String> {
    let all = [
        (Algorithm::HS256, hmac::HMAC_SHA256),
        (Algorithm::HS384, hmac::HMAC_SHA384),
        (Algorithm::HS512, hmac::HMAC_SHA512),
    ];
    let verifiers: Verifiers = all
        .into_iter()
        .filter(|(algorithm, _)| secret.len() >= algorithm.shortest_secret())
        .map(|(algorithm, hash)| (algorithm, Verifier::Secret(Box::new(hmac::Key::new(hash, secret)))))
        .collect();
    if verifiers.is_empty() {
        return Err("the secret is shorter than 32 bytes".to_owned());
    }
    Ok(verifiers)
}

/// How public keys verify; signatures of elliptic curves have a fixed length (RFC 7518, section 3.4).
fn public(algorithm: Algorithm) -> Option<&'static dyn signature::VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::ES512 => &signature::ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDSA | Algorithm::Ed25519 => &signature::ED25519,
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => return None,
    })
}
