//! The demo's issuer of tokens: it vouches for whoever asks, on loopback alone.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use std::time::SystemTime;

/// Where it listens; `conf/gateway.yaml` names it.
pub const ADDRESS: &str = "127.0.0.1:9110";
/// For whom its tokens are.
const AUDIENCE: &str = "demo";
/// How long a token counts unless asked otherwise, in seconds.
const LIFETIME: u64 = 3600;

/// An issuer with a key that is as old as itself.
pub(super) struct Issuer {
    key: EcdsaKeyPair,
    kid: String,
}

impl Issuer {
    /// A new one; nothing if the system has no random numbers.
    pub fn new() -> Option<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        let public = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key().as_ref());
        let kid = URL_SAFE_NO_PAD.encode(&public.as_ref()[..12]);
        Some(Self { key, kid })
    }

    /// The answer to a GET: its content type and body.
    pub fn answer(&self, target: &str, now: SystemTime) -> Option<(&'static str, String)> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let json = |value: Value| Some(("application/json", format!("{value}\n")));
        match path {
            "/.well-known/openid-configuration" => {
                let url = format!("http://{ADDRESS}");
                json(json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }))
            }
            "/keys" => json(json!({ "keys": [self.jwk()] })),
            "/token" => Some(("text/plain", format!("{}\n", self.token(query, now)?))),
            _ => None,
        }
    }

    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid, "x": text(x), "y": text(y) })
    }

    /// A token of the claims in a query: `sub`, `expires_in` in seconds, and whatever else, as JSON where
    /// it is JSON and as text where it is not.
    fn token(&self, query: &str, now: SystemTime) -> Option<String> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), format!("http://{ADDRESS}").into());
        claims.insert("aud".to_owned(), AUDIENCE.into());
        claims.insert("sub".to_owned(), "alice".into());
        claims.insert("iat".to_owned(), now.into());
        let mut lifetime = LIFETIME;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "expires_in" => lifetime = value.parse().ok()?,
                "sub" | "scope" => drop(claims.insert(name.into_owned(), value.as_ref().into())),
                _ => {
                    let value = serde_json::from_str(&value).unwrap_or_else(|_| Value::from(&*value));
                    claims.insert(name.into_owned(), value);
                }
            }
        }
        claims.entry("exp").or_insert_with(|| now.saturating_add(lifetime).into());
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid }).to_string();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(Value::Object(claims).to_string())
        );
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}
