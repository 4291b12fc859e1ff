//! The text side of signatures: keys, and what is remembered.

use crate::values::{Problem, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// How signed requests are kept from being sent again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignaturesConfig {
    /// How many requests are remembered, about 100 bytes each, each for as long as the longest `max_age` or
    /// `window` of all routes would let it in. When so many are, further ones are answered with 503: none is
    /// forgotten early. A consumer may have as many as there is room left, and so half of it at most.
    /// Default 200000.
    pub remembered: NonZeroU32,
}

impl Default for SignaturesConfig {
    fn default() -> Self {
        Self { remembered: NonZeroU32::new(200_000).unwrap_or(NonZeroU32::MIN) }
    }
}

/// A key that a consumer signs its requests with.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningKeyConfig {
    /// By which name requests refer to it: `keyid`.
    pub id: String,
    /// The key, by the algorithm that it is for. A request cannot choose another one.
    pub key: KeyConfig,
}

/// A key by its algorithm (RFC 9421, section 3.3).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
pub enum KeyConfig {
    /// A shared secret, 32 bytes at least: `openssl rand -hex 32` makes one.
    #[serde(rename = "hmac-sha256")]
    HmacSha256(Secret),
    /// The PEM of an Ed25519 public key, in place or `{ file: … }`.
    #[serde(rename = "ed25519")]
    Ed25519(Secret),
    /// The PEM of a P-256 public key, in place or `{ file: … }`.
    #[serde(rename = "ecdsa-p256-sha256")]
    EcdsaP256Sha256(Secret),
    /// The PEM of an RSA public key of 2048 to 8192 bits, in place or `{ file: … }`.
    #[serde(rename = "rsa-pss-sha512")]
    RsaPssSha512(Secret),
}

impl KeyConfig {
    /// What of it may be in a file of its own, with its key.
    pub fn material(&self) -> &Secret {
        match self {
            Self::HmacSha256(secret)
            | Self::Ed25519(secret)
            | Self::EcdsaP256Sha256(secret)
            | Self::RsaPssSha512(secret) => secret,
        }
    }

    pub(in crate::identity) fn material_mut(&mut self) -> (&'static [&'static str], &mut Secret) {
        match self {
            Self::HmacSha256(secret) => (&["signature", "key", "hmac-sha256"], secret),
            Self::Ed25519(secret) => (&["signature", "key", "ed25519"], secret),
            Self::EcdsaP256Sha256(secret) => (&["signature", "key", "ecdsa-p256-sha256"], secret),
            Self::RsaPssSha512(secret) => (&["signature", "key", "rsa-pss-sha512"], secret),
        }
    }
}

impl SigningKeyConfig {
    /// True if the name can stand in a request, where it is quoted.
    pub(in crate::identity) fn check_id(&self) -> Result<(), Problem> {
        let is_plain = |c: u8| (c.is_ascii_graphic() || c == b' ') && !matches!(c, b'"' | b'\\');
        if (1..=256).contains(&self.id.len()) && self.id.bytes().all(is_plain) {
            return Ok(());
        }
        Err(Problem::new(
            "the key's `id` is empty, too long, or has signs that cannot be written in a request",
        )
        .remedy("write 1 to 256 characters of plain ASCII, without quotes and backslashes"))
    }
}
