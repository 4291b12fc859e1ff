//! Instructions of a thousand lookups, with 10, 1,000 and 100,000 routes, counted by valgrind.
//!
//! `cargo install gungraun-runner --version 0.20.0 && cargo bench --profile release --bench router_instructions`

#![expect(missing_docs, reason = "what gungraun's macros make has none")]
#![expect(clippy::disallowed_methods, reason = "gungraun's main ends the process itself")]
#![expect(clippy::expect_used, reason = "a bench may say plainly what it takes for granted")]

#[path = "shared/routes.rs"]
mod routes;

use gungraun::{library_benchmark, library_benchmark_group, main};
use pingora_http::RequestHeader;
use routes::Layout;
use std::hint::black_box;
use tollgate::routing::Router;

struct Bench {
    router: Router,
    head: RequestHeader,
    targets: Vec<(String, String)>,
}

fn build(layout: Layout, count: usize) -> Bench {
    let router = routes::compile(&routes::routes(layout, count));
    Bench { router, head: routes::head(), targets: routes::targets(layout, count, 1_000) }
}

#[library_benchmark]
#[bench::paths_10(args = (Layout::Paths, 10), setup = build)]
#[bench::paths_1000(args = (Layout::Paths, 1_000), setup = build)]
#[bench::paths_100000(args = (Layout::Paths, 100_000), setup = build)]
#[bench::hosts_10(args = (Layout::Hosts, 10), setup = build)]
#[bench::hosts_1000(args = (Layout::Hosts, 1_000), setup = build)]
#[bench::hosts_100000(args = (Layout::Hosts, 100_000), setup = build)]
fn find_1000(bench: Bench) -> Bench {
    for (path, host) in &bench.targets {
        black_box(routes::find(&bench.router, &bench.head, path, host));
    }
    bench
}

library_benchmark_group!(name = router, benchmarks = find_1000);
main!(library_benchmark_groups = router);
