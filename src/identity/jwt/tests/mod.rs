mod attacks;
mod keys;
mod provider;
mod signer;
mod times;

use super::{Algorithm, Checked, Jwt, JwtConfig};
use crate::identity::cause::Cause;
use crate::identity::principal::Principal;
use crate::identity::tokens::TokenCache;
use crate::identity::{Building, Consumers};
use crate::outbound::Outbound;
use crate::retained::Retained;
use serde_json::{Value, json};
use signer::Signer;
use std::sync::Arc;

/// The time in these tests, in seconds since 1970.
const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://id.example.com";

/// What the claims of a token are that counts.
fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "api", "sub": "alice", "exp": NOW + 60, "scope": "a b", "jti": "7" })
}

/// The usual claims with some others.
fn claims_with(others: &Value) -> Value {
    let mut all = claims();
    for (name, value) in others.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

/// A configuration with these settings over the usual ones.
fn config(settings: &Value) -> JwtConfig {
    let mut all = json!({ "issuer": ISSUER, "audiences": ["api"], "algorithms": ["ES256"] });
    for (name, value) in settings.as_object().unwrap() {
        all[name] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

/// A provider with these settings over the usual ones.
fn provider(settings: &Value) -> Result<Jwt, String> {
    let (tokens, consumers) = (Arc::new(TokenCache::new(1 << 20)), Arc::<Consumers>::default());
    let (retained, outbound) = (Retained::default(), Outbound::default());
    let building =
        Building { retained: &retained, outbound: &outbound, tokens: &tokens, consumers: &consumers };
    let compiled = Jwt::compile("main", &config(settings), &building);
    let tell = |found: Vec<crate::values::Finding>| {
        found
            .iter()
            .map(|finding| format!("{}: {}", finding.path, finding.problem))
            .collect::<Vec<_>>()
            .join("\n")
    };
    compiled.map(|(jwt, _)| jwt).map_err(tell)
}

/// A provider with this signer's key and no other.
fn trusting(signer: &Signer, algorithm: Algorithm, kid: Option<&str>, settings: &Value) -> Jwt {
    let mut all = json!({ "algorithms": [algorithm.name()], "keys": { "inline": [signer.jwk(kid)] } });
    for (name, value) in settings.as_object().unwrap() {
        all[name] = value.clone();
    }
    provider(&all).unwrap()
}

/// What a provider says of a token: whose it is, or why it does not count.
fn verdict(provider: &Jwt, token: &str) -> Result<Arc<Principal>, Cause> {
    verdict_at(provider, token, NOW)
}

fn verdict_at(provider: &Jwt, token: &str, now: u64) -> Result<Arc<Principal>, Cause> {
    match provider.check(token, now) {
        Checked::Admitted(principal) => Ok(principal),
        Checked::Refused(refused) => Err(refused.cause),
        Checked::KeyMissing(_) => Err(Cause::UnknownKey),
    }
}
