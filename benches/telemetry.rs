//! What a request pays for being counted and logged.

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Version};
use std::hint::black_box;
use std::time::{Duration, SystemTime};
use tollgate::telemetry::access_log::{AccessLog, AccessLogSettings, LogTarget, Record};
use tollgate::telemetry::metrics::{Answer, Metrics, MetricsSettings, StatusClass};
use tollgate::telemetry::request_id::RequestId;
use tollgate::telemetry::trace::TraceContext;
use tollgate::values::{ListenerId, Name};

fn count(criterion: &mut Criterion) {
    let metrics = Metrics::new(&MetricsSettings::default(), 2);
    let listener = metrics.listener(ListenerId(0), "public");
    let routes = metrics.routes(["orders"]);
    let upstreams = metrics.upstreams(["backend"]);
    let answer = Answer {
        listener: ListenerId(0),
        upstream: Some(&upstreams[0]),
        class: StatusClass::Success,
        duration: Duration::from_micros(1234),
        upstream_duration: Some(Duration::from_micros(1000)),
    };
    criterion.bench_function("record", |bencher| bencher.iter(|| routes[0].record(black_box(&answer))));
    criterion.bench_function("in flight", |bencher| bencher.iter(|| drop(black_box(listener.begin()))));
    criterion.bench_function("scrape", |bencher| bencher.iter(|| metrics.scrape()));
}

fn log(criterion: &mut Criterion) {
    let settings = AccessLogSettings { target: LogTarget::File("/dev/null".into()), ..Default::default() };
    let Ok(log) = AccessLog::open(&settings, 2, Default::default()) else { return };
    let mut request = HeaderMap::new();
    request.insert("user-agent", HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64; rv:140.0)"));
    let [Ok(listener), Ok(route), Ok(upstream)] = ["public", "orders", "backend"].map(str::parse::<Name>)
    else {
        return;
    };
    let record = Record {
        time: SystemTime::now(),
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
        fallback: None,
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
        request: Some(&request),
        response: None,
    };
    criterion.bench_function("access log line", |bencher| bencher.iter(|| log.log(black_box(&record))));
}

fn name(criterion: &mut Criterion) {
    let now = SystemTime::now();
    criterion.bench_function("request id", |bencher| bencher.iter(|| RequestId::new(black_box(now))));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    criterion.bench_function("trace: parse, child, write", |bencher| {
        bencher.iter(|| {
            let parent = TraceContext::parse(black_box(parent.as_bytes()));
            parent.map(|parent| parent.child().header_value())
        });
    });
}

criterion_group!(benches, count, log, name);
criterion_main!(benches);
