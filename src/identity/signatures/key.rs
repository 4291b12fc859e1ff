use super::config::KeyConfig;
use crate::identity::jwt::Algorithm;
use crate::identity::keys::Key;
use crate::values::Problem;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

/// A key that a consumer signs with, and for which algorithm it is.
#[derive(Debug)]
pub struct SigningKey {
    algorithm: Algorithm,
    name: &'static str,
    key: Key,
}

impl SigningKey {
    /// Reads a key.
    ///
    /// # Errors
    /// It is none, or for another algorithm.
    pub(in crate::identity) fn read(config: &KeyConfig) -> Result<Self, Problem> {
        let (algorithm, name) = match config {
            KeyConfig::HmacSha256(_) => (Algorithm::HS256, "hmac-sha256"),
            KeyConfig::Ed25519(_) => (Algorithm::Ed25519, "ed25519"),
            KeyConfig::EcdsaP256Sha256(_) => (Algorithm::ES256, "ecdsa-p256-sha256"),
            KeyConfig::RsaPssSha512(_) => (Algorithm::PS512, "rsa-pss-sha512"),
        };
        let text = config.material().expose();
        if algorithm.is_symmetric() {
            let key = Key::from_secret(text.as_bytes()).map_err(|why| {
                Problem::new(format!("the secret cannot be used: {why}"))
                    .remedy("make one with `openssl rand -hex 32`")
            })?;
            return Ok(Self { algorithm, name, key });
        }
        let wrong = |what: String| {
            Problem::new(what)
                .remedy(format!("give the PEM of a public key for {name}, `-----BEGIN PUBLIC KEY-----`"))
        };
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .map_err(|_| wrong("this is not the PEM of a public key".to_owned()))?;
        let key =
            Key::from_spki(&der).map_err(|why| wrong(format!("the public key cannot be used: {why}")))?;
        if !key.fits(None, algorithm) {
            return Err(wrong(format!("this public key is not for {name}")));
        }
        Ok(Self { algorithm, name, key })
    }

    /// The algorithm by its name in RFC 9421, section 6.2.2.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// True for a secret that both sides have.
    pub(super) const fn is_secret(&self) -> bool {
        self.algorithm.is_symmetric()
    }

    pub(super) fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.key.verify(self.algorithm, signed, signature)
    }
}
