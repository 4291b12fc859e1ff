//! Whoever signs tokens in these tests.

use crate::identity::jwt::Algorithm;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs.
pub enum Signer {
    Elliptic(EcdsaKeyPair, Algorithm),
    Rsa(RsaKeyPair),
    Edwards(Ed25519KeyPair),
    Secret(Vec<u8>),
}

impl Signer {
    /// A new key for this algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        let elliptic = |signing| Self::Elliptic(EcdsaKeyPair::generate(signing).unwrap(), algorithm);
        match algorithm {
            Algorithm::ES256 => elliptic(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => elliptic(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::ES512 => elliptic(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDSA | Algorithm::Ed25519 => Self::Edwards(Ed25519KeyPair::generate().unwrap()),
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                let mut secret = vec![0; 64];
                rand::fill(&mut secret).unwrap();
                Self::Secret(secret)
            }
            _ => Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        }
    }

    /// The key as it is published; a secret as it is configured.
    pub fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = match self {
            Self::Elliptic(pair, algorithm) => {
                let (curve, length) = match algorithm {
                    Algorithm::ES256 => ("P-256", 32),
                    Algorithm::ES384 => ("P-384", 48),
                    _ => ("P-521", 66),
                };
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = (base64url(&point[..length]), base64url(&point[length..]));
                json!({ "kty": "EC", "crv": curve, "x": x, "y": y })
            }
            Self::Rsa(pair) => {
                let public: RsaPublicKeyComponents<Vec<u8>> = pair.public_key().into();
                json!({ "kty": "RSA", "n": base64url(public.n), "e": base64url(public.e) })
            }
            Self::Edwards(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()) })
            }
            Self::Secret(secret) => json!({ "kty": "oct", "k": base64url(secret) }),
        };
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    /// Signs these bytes by this algorithm.
    pub fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Elliptic(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Edwards(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Secret(secret) => {
                let hash = match algorithm {
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    Algorithm::HS512 => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
            }
            Self::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    Algorithm::RS384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &signature::RSA_PSS_SHA256,
                    Algorithm::PS384 => &signature::RSA_PSS_SHA384,
                    Algorithm::PS512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signed = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signed).unwrap();
                signed
            }
        }
    }

    /// A token of these texts, whatever they say.
    pub fn token_of(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = base64url(self.sign(algorithm, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// A token as issuers make them.
    pub fn token(&self, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({ "alg": algorithm.name(), "typ": "JWT" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.token_of(algorithm, &header.to_string(), &claims.to_string())
    }

    /// The private key in PKCS #8, or the secret, for other libraries.
    pub fn private(&self) -> Vec<u8> {
        match self {
            Self::Elliptic(pair, _) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).unwrap().as_ref().to_vec(),
            Self::Edwards(pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Self::Secret(secret) => secret.clone(),
        }
    }

    /// The public key in `SubjectPublicKeyInfo`.
    pub fn public(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Elliptic(pair, _) => pair.public_key().as_der().unwrap(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
            Self::Edwards(pair) => pair.public_key().as_der().unwrap(),
            Self::Secret(_) => panic!("a secret has no public key"),
        };
        der.as_ref().to_vec()
    }
}
