//! Instructions of a thousand callers with API keys, among 1, 1,000 and 1,000,000 consumers, counted by
//! valgrind.
//!
//! `cargo install gungraun-runner --version 0.20.0 && cargo bench --profile release --bench consumers_instructions`

#![expect(missing_docs, reason = "what gungraun's macros make has none")]
#![expect(clippy::disallowed_methods, reason = "gungraun's main ends the process itself")]
#![expect(clippy::expect_used, reason = "a bench may say plainly what it takes for granted")]

#[path = "shared/callers.rs"]
mod callers;

use futures_util::FutureExt as _;
use gungraun::{library_benchmark, library_benchmark_group, main};
use pingora_http::RequestHeader;
use std::hint::black_box;
use tollgate::policy::chain::Chain;
use tollgate::policy::context::PolicyContext;

struct Bench {
    chain: Chain,
    heads: Vec<RequestHeader>,
}

fn ask(bench: &Bench) {
    for head in &bench.heads {
        let mut cx = PolicyContext::new();
        black_box(bench.chain.on_request(head, &mut cx).now_or_never());
        assert!(cx.principal.is_some());
    }
}

/// All of them have called before.
fn build(count: usize) -> Bench {
    let bench = Bench { chain: callers::among(count), heads: callers::requests(count, 1_000) };
    ask(&bench);
    bench
}

#[library_benchmark]
#[bench::of_1(args = (1), setup = build)]
#[bench::of_1000(args = (1_000), setup = build)]
#[bench::of_1000000(args = (1_000_000), setup = build)]
fn call_1000(bench: Bench) -> Bench {
    ask(&bench);
    bench
}

library_benchmark_group!(name = consumers, benchmarks = call_1000);
main!(library_benchmark_groups = consumers);
