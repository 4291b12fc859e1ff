//! What choosing an endpoint costs, among few and among a thousand.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use tollgate::config::model::upstream as model;
use tollgate::retained::Retained;
use tollgate::upstream::Upstream;

const BALANCES: [(&str, &str); 5] = [
    ("round robin", "round_robin"),
    ("least request", "least_request"),
    ("random", "random"),
    ("hash", "{ hash: client_ip }"),
    ("sticky", "{ sticky: { cookie: s } }"),
];

fn upstream(balance: &str, endpoints: usize, weighted: bool) -> Option<Upstream> {
    let weight = |at: usize| if weighted { 1 + at % 7 } else { 1 };
    let endpoints: Vec<String> = (0..endpoints)
        .map(|at| format!("{{ address: '127.0.{}.{}:80', weight: {} }}", at / 250, at % 250, weight(at)))
        .collect();
    let yaml = format!("balance: {balance}\nendpoints: [{}]", endpoints.join(", "));
    let config: model::Upstream = serde_saphyr::from_str(&yaml).ok()?;
    let retained = Arc::<Retained>::default();
    Some(Upstream::compile(&"u".parse().ok()?, &Arc::new(config), &Default::default(), &retained).ok()?.0)
}

fn choose(criterion: &mut Criterion) {
    for (name, balance) in BALANCES {
        for (endpoints, weighted) in [(2, false), (1000, false), (1000, true)] {
            let Some(upstream) = upstream(balance, endpoints, weighted) else { continue };
            let how = if weighted { "weighted" } else { "alike" };
            let mut hint = 0_u64;
            criterion.bench_function(&format!("{name}, {endpoints} {how}"), |bencher| {
                bencher.iter(|| {
                    hint = hint.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    drop(black_box(upstream.choose(Some(hint), &[])));
                });
            });
        }
    }
}

criterion_group!(benches, choose);
criterion_main!(benches);
