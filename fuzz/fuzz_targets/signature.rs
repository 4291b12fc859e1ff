//! Whatever signatures a request has: nothing panics and nobody gets in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pingora_http::RequestHeader;
use std::sync::LazyLock;
use tollgate::identity::config::{ConsumersConfig, IdentityConfig};
use tollgate::identity::signatures::{Message, Rules, Signatures};
use tollgate::identity::{Identity, Sources};
use tollgate::outbound::Outbound;
use tollgate::outbound::redis::Stores;
use tollgate::retained::Retained;
use tollgate::telemetry::metrics::{Metrics, MetricsSettings};

/// The Ed25519 key of RFC 9421, appendix B.1.4, and a secret that the fuzzer does not know.
const CONSUMERS: &str = r#"{ "a": { "credentials": [
    { "signature": { "id": "a", "key": { "hmac-sha256": "d4c2b4f0a9f14e8c9c57f2a1f3f9f2ab" } } },
    { "signature": { "id": "b", "key": { "ed25519":
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\n-----END PUBLIC KEY-----\n" } } }
] } }"#;

static SIGNATURES: LazyLock<Signatures> = LazyLock::new(|| {
    let consumers: ConsumersConfig = serde_json::from_str(CONSUMERS).unwrap();
    let (identity, plans, roles) = (IdentityConfig::default(), Default::default(), Default::default());
    let stores = Stores::default();
    let sources =
        Sources { identity: &identity, consumers: &consumers, plans: &plans, roles: &roles, stores: &stores };
    let metrics = Metrics::new(&MetricsSettings { max_routes: 1, buckets: Vec::new() }, 1);
    let outbound = Outbound::default();
    let (identity, found) = Identity::compile(sources, (&Retained::default(), &outbound), &metrics);
    assert!(found.is_empty(), "{found:?}");
    identity.signatures()
});

fn check(target: &[u8], fields: &[(&str, &[u8])], now: u64) {
    let Ok(mut head) = RequestHeader::build("GET", target, None) else { return };
    for (name, value) in fields {
        let Ok(value) = http::HeaderValue::from_bytes(value) else { return };
        let _ = head.append_header((*name).to_owned(), value);
    }
    for components in [&[][..], &["@method".to_owned(), "@query".to_owned()]] {
        let Ok(rules) = Rules::new(components, u64::MAX, u64::MAX) else { return };
        let message = Message { head: &head, scheme: "https", admitted: None };
        assert!(!matches!(SIGNATURES.check(&rules, message, now), Some(Ok(_))));
        assert!(!matches!(SIGNATURES.check_simple(&rules, message, now), Some(Ok(_))));
    }
}

fuzz_target!(|input: (&[u8], &[u8], &[u8], &[u8], &[u8], u64)| {
    let (target, signature_input, signature, credential, value, now) = input;
    let fields = [
        ("signature-input", signature_input),
        ("signature", signature),
        ("authorization", credential),
        ("content-digest", value),
        ("date", value),
        ("host", value),
    ];
    check(target, &fields, now);
    // In a form that is right, so that the deeper checks are reached.
    let whole = [b"a=(", signature_input, b");created=1;keyid=\"b\""].concat();
    let simple = [b"HMAC-SHA256 keyid=\"a\", signature=\"", credential, b"\""].concat();
    let date = &b"Tue, 20 Apr 2021 02:07:55 GMT"[..];
    let fields = [
        ("signature-input", &whole[..]),
        ("signature", b"a=:AAAA:"),
        ("authorization", &simple),
        ("date", date),
        ("x", value),
    ];
    check(target, &fields, now);
});
