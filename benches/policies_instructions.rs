//! Instructions of a thousand requests through chains of policies, of a thousand lines of the access log, and of
//! compiling a thousand routes, counted by valgrind. `make bench-check` holds them against benches/baseline.json.
//!
//! `cargo install gungraun-runner --version 0.20.0 && cargo bench --profile release --bench policies_instructions`

#![expect(missing_docs, reason = "what gungraun's macros make has none")]
#![expect(clippy::disallowed_methods, reason = "gungraun's main ends the process itself")]
#![expect(clippy::expect_used, reason = "a bench may say plainly what it takes for granted")]

#[path = "shared/callers.rs"]
#[expect(dead_code, reason = "shared with a bench that uses the rest")]
mod callers;
#[path = "shared/routes.rs"]
#[expect(dead_code, reason = "shared with benches that use the rest")]
mod routes;

use futures_util::FutureExt as _;
use gungraun::{library_benchmark, library_benchmark_group, main};
use http::Version;
use pingora_http::RequestHeader;
use routes::Layout;
use serde_json::json;
use std::hint::black_box;
use std::time::{Duration, SystemTime};
use tollgate::config::model::route::Route;
use tollgate::identity::config::ConsumersConfig;
use tollgate::policy::chain::Chain;
use tollgate::policy::context::PolicyContext;
use tollgate::routing::Router;
use tollgate::telemetry::access_log::{AccessLog, AccessLogSettings, LogTarget, Record};
use tollgate::values::Name;

struct Asked {
    chain: Chain,
    head: RequestHeader,
}

/// A chain of these policies, and a request that passes it.
fn policies(written: &str) -> Asked {
    let policies = serde_json::from_str(written).expect("JSON");
    let chain = callers::chain(json!({}), &ConsumersConfig::default(), &policies);
    let mut head = RequestHeader::build("GET", b"/orders/4711?expand=items", None).expect("a request");
    for (name, value) in [("host", "api.example.com"), ("accept", "*/*"), ("x-internal", "1")] {
        head.append_header(name, value).expect("a field");
    }
    let asked = Asked { chain, head };
    ask(&asked, 1);
    asked
}

fn ask(asked: &Asked, times: usize) {
    for _ in 0..times {
        let mut cx = PolicyContext::new();
        black_box(asked.chain.on_request(black_box(&asked.head), &mut cx).now_or_never());
    }
}

#[library_benchmark]
#[bench::none(args = ("{}"), setup = policies)]
#[bench::rate_limit(args = (r#"{"rate_limit":{"rate":"1000000/s"}}"#), setup = policies)]
#[bench::concurrency(args = (r#"{"concurrency":{"max":1000}}"#), setup = policies)]
#[bench::headers(args = (r#"{"headers":{"request":{"set":{"x-a":"b"},"remove":["x-internal"]}}}"#), setup = policies)]
#[bench::cors(args = (r#"{"cors":{"origins":["https://app.example.com"]}}"#), setup = policies)]
fn chain_1000(asked: Asked) -> Asked {
    ask(&asked, 1_000);
    asked
}

fn open_log() -> AccessLog {
    let settings = AccessLogSettings { target: LogTarget::File("/dev/null".into()), ..Default::default() };
    AccessLog::open(&settings, 1, Default::default()).expect("a log")
}

#[library_benchmark]
#[bench::json(setup = open_log)]
fn log_1000(log: AccessLog) -> AccessLog {
    let [listener, route, upstream] =
        ["public", "orders", "backend"].map(|name| name.parse::<Name>().expect("a name"));
    let record = Record {
        fallback: None,
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        request_id: b"0198c6f0-7a5d-7b1e-9c2d-3e4f5a6b7c8d",
        trace_id: b"4bf92f3577b34da6a3ce929d0e0e4736",
        listener: Some(&listener),
        route: Some(&route),
        upstream: Some(&upstream),
        endpoint: Some("127.0.0.1:8080"),
        client: Some([192, 0, 2, 1].into()),
        method: "GET",
        host: Some(b"api.example.com"),
        target: b"/v1/orders/4711?expand=items",
        status: Some(200),
        cause: None,
        bytes_received: 0,
        bytes_sent: 12_345,
        duration: Duration::from_micros(1234),
        upstream_duration: Some(Duration::from_micros(1000)),
        connect_duration: None,
        attempts: 1,
        tls_version: Some("TLSv1.3"),
        http_version: Some(Version::HTTP_2),
        consumer: Some("acme"),
        principal: Some("acme-1"),
        auth: Some("api_key"),
        request: None,
        response: None,
    };
    for _ in 0..1_000 {
        log.log(black_box(&record));
    }
    log
}

fn thousand() -> Vec<(Name, Route)> {
    routes::routes(Layout::Paths, 1_000)
}

#[library_benchmark]
#[bench::routes_1000(setup = thousand)]
fn compile(routes: Vec<(Name, Route)>) -> (Router, Vec<(Name, Route)>) {
    (routes::compile(&routes), routes)
}

library_benchmark_group!(name = policies, benchmarks = [chain_1000, log_1000, compile]);
main!(library_benchmark_groups = policies);
