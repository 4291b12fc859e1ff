//! A lookup allocates nothing.

#![expect(clippy::expect_used, reason = "a test may say plainly what it takes for granted")]

#[path = "../benches/shared/routes.rs"]
mod routes;

use routes::Layout;
use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::sync::Arc;
use tollgate::message::normalize::{Options, normalize};
use tollgate::routing::Found;
use tollgate::upstream::Upstream;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread asks for.
struct Counting;

#[expect(unsafe_code, reason = "the trait of an allocator is unsafe; all is passed on as it is")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, memory: Memory) {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let result = work();
    (ALLOCATIONS.get() - before, result)
}

#[test]
fn the_counter_counts() {
    let (count, _) = allocations(|| std::hint::black_box(vec![1_u8]));
    assert_eq!(count, 1);
}

#[test]
fn a_lookup_allocates_nothing() {
    for layout in [Layout::Paths, Layout::Hosts] {
        let router = routes::compile(&routes::routes(layout, 1_000));
        let head = routes::head();
        for (path, host) in routes::targets(layout, 1_000, 100) {
            let upper = format!("{}:8443", host.to_ascii_uppercase());
            for host in [&host, &upper] {
                let (count, found) = allocations(|| routes::find(&router, &head, &path, host));
                assert!(matches!(found, Found::Route { .. }), "{path} {host}");
                assert_eq!(count, 0, "{path} {host}");
            }
        }
        let (count, found) =
            allocations(|| routes::find(&router, &head, "/nowhere/at/all", "api.example.com"));
        assert_eq!((count, found), (0, Found::NotFound));
    }
}

#[test]
fn a_normal_path_allocates_nothing() {
    let (count, normal) = allocations(|| normalize("/orders/4711/%C3%A9", Options::default()));
    assert!(normal.is_ok());
    assert_eq!(count, 0);
}

#[test]
fn a_choice_among_a_thousand_endpoints_allocates_nothing() {
    let endpoints: Vec<String> = (1..=1000).map(|port| format!("'127.0.0.1:{port}'")).collect();
    for balance in ["round_robin", "least_request", "random", "{ hash: path }", "{ sticky: { cookie: s } }"] {
        let yaml = format!("balance: {balance}\nendpoints: [{}]", endpoints.join(", "));
        let config = Arc::new(serde_saphyr::from_str(&yaml).unwrap());
        let (upstream, _) =
            Upstream::compile(&"u".parse().unwrap(), &config, &Default::default(), &Arc::default()).unwrap();
        upstream.endpoints().endpoints()[7].state.set_draining(true);
        for hint in [None, Some(1), Some(u64::MAX)] {
            let (count, choice) = allocations(|| upstream.choose(hint, &[]));
            assert!(choice.is_some());
            assert_eq!(count, 0, "{balance}");
        }
    }
}
