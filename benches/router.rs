//! Time of a lookup with 10, 1,000 and 100,000 routes, beside matchit with the same paths, and time
//! to compile. Each iteration is one lookup, of requests all over the routes, so that with many
//! routes the caches of the processor are part of what is measured.
//!
//! `cargo bench --bench router`

#![expect(clippy::expect_used, reason = "a bench may say plainly what it takes for granted")]

#[path = "shared/routes.rs"]
mod routes;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use routes::Layout;
use std::hint::black_box;
use tollgate::message::normalize::{Options, normalize};

const COUNTS: [usize; 3] = [10, 1_000, 100_000];
const TARGETS: usize = 1_000;

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find");
    group.throughput(Throughput::Elements(1));
    for count in COUNTS {
        for (name, layout) in [("paths", Layout::Paths), ("hosts", Layout::Hosts)] {
            let router = routes::compile(&routes::routes(layout, count));
            let targets = routes::targets(layout, count, TARGETS);
            let head = routes::head();
            let mut next = targets.iter().cycle();
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    let (path, host) = next.next().expect("a cycle has no end");
                    black_box(routes::find(&router, &head, path, host))
                });
            });
        }
        let mut rival = matchit::Router::new();
        for number in 0..count {
            rival.insert(routes::pattern(Layout::Paths, number).0, number).expect("no conflict");
        }
        let targets = routes::targets(Layout::Paths, count, TARGETS);
        let mut next = targets.iter().cycle();
        group.bench_function(BenchmarkId::new("matchit", count), |bencher| {
            bencher.iter(|| {
                let (path, _) = next.next().expect("a cycle has no end");
                black_box(rival.at(path).expect("a route"));
            });
        });
    }
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for (name, layout) in [("paths", Layout::Paths), ("hosts", Layout::Hosts)] {
        let routes = routes::routes(layout, 100_000);
        group.bench_function(BenchmarkId::new(name, 100_000), |bencher| {
            bencher.iter(|| routes::compile(&routes));
        });
    }
    group.finish();
}

fn normal_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("normalize");
    for (name, path) in [
        ("normal", "/service-00042/users/b2f1c8/keys/9"),
        ("rewritten", "/service-00042/./users//b2f1c8/%6beys/9"),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| normalize(black_box(path), Options::default())));
    }
    group.finish();
}

criterion_group!(benches, find, compile, normal_path);
criterion_main!(benches);
