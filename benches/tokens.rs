//! What a token costs: one that is remembered, beside no policy at all; one that is seen for the first
//! time, beside the bare check of its signature; and what an API key costs, among one consumer or a million.
//!
//! `cargo bench --bench tokens`

#![expect(clippy::expect_used, reason = "a bench may say plainly what it takes for granted")]

#[path = "shared/callers.rs"]
mod callers;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use pingora_http::RequestHeader;
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tollgate::identity::config::ConsumersConfig;
use tollgate::policy::chain::Chain;
use tollgate::policy::context::PolicyContext;

/// As in the binary: a token is some thirty blocks of memory, and takes the place of another one.
#[global_allocator]
static ALLOCATOR: tollgate::allocator::Allocator = tollgate::allocator::Allocator;

/// How many tokens are seen for the first time in one batch.
const BATCH: usize = 512;

/// An API key.
const KEY: &str = "3f2b8c91d4e6a7f05c1d9e8b7a6f4c2d3f2b8c91d4e6a7f05c1d9e8b7a6f4c2d";

struct Issuer {
    pair: EcdsaKeyPair,
}

impl Issuer {
    /// A token as issuers make them, of about 700 bytes.
    fn token(&self, number: usize) -> String {
        let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": "2026-11" }).to_string();
        let claims = json!({
            "iss": "https://id.example.com", "aud": ["api", "orders"], "sub": format!("user-{number}"),
            "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 4_000_000_000_u64, "jti": number.to_string(),
            "client_id": "web", "scope": "openid profile email orders:read orders:write",
            "email": "user@example.com", "tenant": "acme", "roles": ["reader", "writer", "auditor"],
            "session": "f4d6c1b29a7e4f0c9a2b7d1e5c8f3a60", "acr": "urn:example:acr:2", "amr": ["pwd", "otp"],
        })
        .to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("it signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn jwk(&self) -> Value {
        let point = &self.pair.public_key().as_ref()[1..];
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "kid": "2026-11", "x": text(&point[..32]), "y": text(&point[32..]) })
    }
}

/// A chain of these policies.
fn chain(issuer: &Issuer, policies: &Value) -> Chain {
    let identity = json!({ "providers": { "main": { "jwt": {
        "issuer": "https://id.example.com", "audiences": ["api"], "algorithms": ["ES256"],
        "keys": { "inline": [issuer.jwk()] },
    } } } });
    let consumers = json!({ "acme": { "credentials": [{ "api_key": { "key": KEY } }] } });
    let consumers: ConsumersConfig = serde_json::from_value(consumers).expect("consumers");
    callers::chain(identity, &consumers, policies)
}

fn request(token: &str) -> RequestHeader {
    let mut head = RequestHeader::build("GET", b"/orders/7", None).expect("a request");
    for (name, value) in
        [("host", "api.example.com"), ("accept", "application/json"), ("user-agent", "bench")]
    {
        head.append_header(name, value).expect("a field");
    }
    head.append_header("authorization", format!("Bearer {token}")).expect("a field");
    head
}

/// Runs a chain, and says whether the caller is known.
fn run(chain: &Chain, head: &RequestHeader) -> bool {
    let mut cx = PolicyContext::new();
    let verdict = chain.on_request(head, &mut cx).now_or_never();
    black_box(verdict);
    cx.principal.is_some()
}

fn tokens(criterion: &mut Criterion) {
    let issuer = Issuer { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key") };
    let nothing = chain(&issuer, &json!({}));
    let tokens = chain(&issuer, &json!({ "authenticate": { "any_of": [{ "jwt": "main" }] } }));
    let head = request(&issuer.token(0));
    assert!(run(&tokens, &head) && !run(&nothing, &head));

    let mut group = criterion.benchmark_group("remembered");
    group.bench_function("no policy", |bencher| bencher.iter(|| run(&nothing, black_box(&head))));
    group.bench_function("ES256", |bencher| bencher.iter(|| run(&tokens, black_box(&head))));
    group.finish();

    let keys =
        chain(&issuer, &json!({ "authenticate": { "any_of": [{ "api_key": { "header": "x-api-key" } }] } }));
    let mut with_key = request(&issuer.token(0));
    with_key.append_header("x-api-key", KEY).expect("a field");
    assert!(run(&keys, &with_key));
    let mut group = criterion.benchmark_group("API key");
    group.bench_function("no policy", |bencher| bencher.iter(|| run(&nothing, black_box(&with_key))));
    group.bench_function("known", |bencher| bencher.iter(|| run(&keys, black_box(&with_key))));
    group.finish();

    let key =
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, issuer.pair.public_key().as_ref()).expect("a key");
    // Ever others here too: a processor learns its way through one signature.
    let split = |token: String| {
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        (signed.to_owned(), URL_SAFE_NO_PAD.decode(signature).expect("base64url"))
    };
    let all: Vec<_> = (0..BATCH).map(|number| split(issuer.token(number))).collect();
    let mut next = all.iter().cycle();
    let mut group = criterion.benchmark_group("first seen");
    group.bench_function("signature alone", |bencher| {
        bencher.iter(|| {
            next.next().is_some_and(|(signed, of)| key.verify_sig(black_box(signed.as_bytes()), of).is_ok())
        });
    });
    let mut number = 1;
    // Until the cache is full, as it is from then on: each new token costs the system fresh pages before.
    group.warm_up_time(Duration::from_secs(6));
    group.bench_function("ES256", |bencher| {
        bencher.iter_custom(|iterations| {
            let (mut spent, mut left) = (Duration::ZERO, iterations as usize);
            while left > 0 {
                let count = left.min(BATCH);
                let heads: Vec<_> = (0..count).map(|at| request(&issuer.token(number + at))).collect();
                let began = Instant::now();
                for head in &heads {
                    black_box(run(&tokens, head));
                }
                spent += began.elapsed();
                number += count;
                left -= count;
            }
            spent
        });
    });
    group.finish();
}

/// Callers from all over a file of so many. Those of a million are not in the caches that those of one are in.
fn consumers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("consumers");
    for count in [1, 1_000, 1_000_000] {
        let (chain, heads) = (callers::among(count), callers::requests(count, 65_536));
        assert!(heads.iter().all(|head| run(&chain, head)));
        let mut next = heads.iter().cycle();
        group.bench_function(count.to_string(), |bencher| {
            bencher.iter(|| next.next().is_some_and(|head| run(&chain, black_box(head))));
        });
    }
    group.finish();
}

criterion_group!(benches, tokens, consumers);
criterion_main!(benches);
