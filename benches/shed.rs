//! What it costs to shed a request at an upstream that is full: nothing is waited for, so that this is how long it takes.

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use std::hint::black_box;
use std::sync::Arc;
use tollgate::config::model::upstream::{Limits, MostRequests};
use tollgate::upstream::shed::{Gate, Rules};
use tollgate::values::{Duration, Importance};

/// Longer than anybody waits here.
const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn shed(criterion: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    let _inside = runtime.enter();
    for waiting in [0, 128, 10_000] {
        let gate = Arc::new(Gate::default());
        let limits = Limits {
            requests: MostRequests::Fixed(1),
            waiting,
            wait: Duration::from_secs(60),
            ..Limits::default()
        };
        let rules = Rules::new(&limits);
        let turn = gate.try_enter(&rules);
        let mut queue: Vec<_> =
            (0..waiting).map(|_| Box::pin(gate.enter(&rules, Importance::Normal, HOUR))).collect();
        for place in &mut queue {
            assert!(place.now_or_never().is_none(), "it waits");
        }
        criterion.bench_function(&format!("shed, {waiting} wait"), |bencher| {
            bencher.iter(|| black_box(gate.enter(&rules, Importance::Normal, HOUR).now_or_never()));
        });
        drop((queue, turn));
    }
}

criterion_group!(benches, shed);
criterion_main!(benches);
