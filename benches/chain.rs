//! What each policy costs a request and its answer, beside a chain without any. `authenticate`, `authorize`, `cache` and
//! `compress` have benches of their own; what `upstream_auth` sends comes from another server.

#![expect(clippy::expect_used, reason = "a bench may say plainly what it takes for granted")]

#[path = "shared/callers.rs"]
#[expect(dead_code, reason = "shared with a bench that uses the rest")]
mod callers;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use pingora_http::{RequestHeader, ResponseHeader};
use serde_json::json;
use std::hint::black_box;
use tollgate::identity::config::ConsumersConfig;
use tollgate::policy::Verdict;
use tollgate::policy::chain::Chain;
use tollgate::policy::context::PolicyContext;

/// In THE LIST's order, none of them in the way of the request.
const POLICIES: [(&str, &str); 13] = [
    ("none", "{}"),
    ("ip_access", r#"{"ip_access":{"allow":["0.0.0.0/0"],"deny":["192.0.2.0/24","198.51.100.0/24"]}}"#),
    ("flood", r#"{"flood":{"rate":"1000000000/s"}}"#),
    ("cors", r#"{"cors":{"origins":["https://app.example.com"]}}"#),
    ("fault", r#"{"fault":{"header":"x-fault","abort":{"status":503,"share":"100%"}}}"#),
    ("grpc_web", r#"{"grpc_web":{}}"#),
    ("rate_limit", r#"{"rate_limit":{"rate":"1000000000/s","burst":1000000000}}"#),
    ("quota", r#"{"quota":{"key":"client_ip","max":"1000000000/day"}}"#),
    ("concurrency", r#"{"concurrency":{"max":1000}}"#),
    ("body_limit", r#"{"body_limit":{"max":"1MiB"}}"#),
    ("content_digest", r#"{"content_digest":{}}"#),
    (
        "headers",
        r#"{"headers":{"request":{"set":{"x-caller":"{client.ip}"},"remove":["x-internal"]},"response":{"set":{"x-a":"b"}}}}"#,
    ),
    ("rewrite", r#"{"rewrite":{"path":"/v2/orders"}}"#),
];

fn heads() -> (RequestHeader, ResponseHeader) {
    let mut request = RequestHeader::build("GET", b"/orders/4711?expand=items", None).expect("a request");
    for (name, value) in [
        ("host", "api.example.com"),
        ("accept", "*/*"),
        ("x-internal", "1"),
        ("origin", "https://app.example.com"),
    ] {
        request.append_header(name, value).expect("a field");
    }
    let mut answer = ResponseHeader::build(200, None).expect("an answer");
    answer.append_header("content-type", "application/json").expect("a field");
    (request, answer)
}

/// One exchange through the chain; true if nothing was in its way.
fn exchange(chain: &Chain, (request, answer): &(RequestHeader, ResponseHeader)) -> bool {
    let mut cx = PolicyContext::new();
    let verdict = chain.on_request(black_box(request), &mut cx).now_or_never();
    let mut answer = answer.clone();
    chain.on_response(request, &mut answer, &mut cx);
    black_box(answer);
    matches!(verdict, Some(Verdict::Continue))
}

fn chain(criterion: &mut Criterion) {
    let heads = heads();
    let mut group = criterion.benchmark_group("chain");
    for (name, written) in POLICIES {
        let policies = serde_json::from_str(written).expect("JSON");
        let chain = callers::chain(json!({}), &ConsumersConfig::default(), &policies);
        group.bench_function(name, |bencher| bencher.iter(|| assert!(exchange(&chain, &heads), "{name}")));
    }
    group.finish();
}

criterion_group!(benches, chain);
criterion_main!(benches);
