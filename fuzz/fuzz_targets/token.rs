//! Whatever a request presents as a token: nothing panics and nobody gets in. The header and the claims
//! are fuzzed both as they come and as parts of a token whose form is right, so that the deeper checks are
//! reached too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use tollgate::identity::config::{ConsumersConfig, IdentityConfig};
use tollgate::identity::jwt::{Checked, Jwt};
use tollgate::identity::{Identity, Provider, Sources};
use tollgate::outbound::Outbound;
use tollgate::outbound::redis::Stores;
use tollgate::retained::Retained;
use tollgate::telemetry::metrics::{Metrics, MetricsSettings};

/// A provider with the key of RFC 7515, appendix A.3, whose tokens ended in 2011.
const CONFIG: &str = r#"{ "providers": { "main": { "jwt": {
    "issuer": "joe", "audiences": "any", "algorithms": ["ES256", "RS256", "EdDSA"],
    "keys": { "inline": [
        { "kty": "EC", "crv": "P-256",
          "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
          "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" },
        { "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
        { "kty": "RSA", "e": "AQAB",
          "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw" }
    ] }
} } } }"#;

static PROVIDER: LazyLock<Arc<Jwt>> = LazyLock::new(|| {
    let identity: IdentityConfig = serde_json::from_str(CONFIG).unwrap();
    let (consumers, plans, roles) = (ConsumersConfig::default(), Default::default(), Default::default());
    let sources = Sources { identity: &identity, consumers: &consumers, plans: &plans, roles: &roles, stores: &Stores::default() };
    let metrics = Metrics::new(&MetricsSettings { max_routes: 1, buckets: Vec::new() }, 1);
    let outbound = Outbound::default();
    let (identity, found) = Identity::compile(sources, (&Retained::default(), &outbound), &metrics);
    assert!(found.is_empty(), "{found:?}");
    match identity.provider(&"main".parse().unwrap()) {
        Some(Provider::Jwt(jwt)) => Arc::clone(jwt),
        _ => unreachable!("the provider is there"),
    }
});

fn check(token: &str, now: u64) {
    assert!(matches!(PROVIDER.check(token, now), Checked::Refused(_)), "{token}");
}

fuzz_target!(|input: (&str, &[u8], &[u8], &[u8], u64)| {
    let (text, header, claims, signature, now) = input;
    check(text, now);
    let part =
        |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    check(&format!("{}.{}.{}", part(header), part(claims), part(signature)), now);
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let header = part(format!("{{\"alg\":\"{algorithm}\"}}").as_bytes());
        check(&format!("{header}.{}.{}", part(claims), part(signature)), now);
    }
});
