//! Instructions of a thousand hits in the store, of a thousand keys, and of judging and keeping a thousand answers,
//! counted by valgrind. `make bench-check` holds them against benches/baseline.json.
//!
//! `cargo install gungraun-runner --version 0.20.0 && cargo bench --profile release --bench cache_instructions`

#![expect(missing_docs, reason = "what gungraun's macros make has none")]
#![expect(clippy::disallowed_methods, reason = "gungraun's main ends the process itself")]
#![expect(clippy::expect_used, reason = "a bench may say plainly what it takes for granted")]

use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tollgate::cache::rules::directives::RequestDirectives;
use tollgate::cache::rules::freshness::Exchange;
use tollgate::cache::rules::key::{Key, Parts};
use tollgate::cache::rules::storing::{Asked, storable};
use tollgate::cache::store::body::Whole;
use tollgate::cache::store::object::{self, Body, Object};
use tollgate::cache::store::{Found, Store};
use tollgate::policy::cache::Settings;
use tollgate::values::ByteSize;

const NOW: Duration = Duration::from_secs(1_800_000_000);

struct World {
    store: Store,
    settings: Settings,
    request: HeaderMap,
    answer: HeaderMap,
}

fn world() -> World {
    let fields = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    };
    let world = World {
        store: Store::new(ByteSize::mib(8)),
        settings: Settings::default(),
        request: fields(&[("host", "shop.example"), ("accept", "*/*"), ("user-agent", "bench/1")]),
        answer: fields(&[
            ("content-type", "application/json"),
            ("cache-control", "public, max-age=86400"),
            ("etag", "\"1\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ]),
    };
    keep(&world, 1);
    hit(&world, 1);
    world
}

fn key(world: &World) -> Key {
    let parts = Parts {
        scheme: "https",
        authority: "shop.example",
        path: "/products/4711",
        query: Some("currency=eur"),
        headers: &world.request,
        realm: ["default", "shop"],
        caller: None,
    };
    Key::new(black_box(&parts), std::iter::empty(), &world.settings)
}

fn keep(world: &World, times: usize) {
    for _ in 0..times {
        let directives = RequestDirectives::of(&world.request);
        let asked = Asked { method: &Method::GET, directives: &directives, is_personal: false };
        let exchange = Exchange { asked: NOW, answered: NOW };
        let judged = storable(asked, (StatusCode::OK, black_box(&world.answer)), exchange, &world.settings);
        let (storable, _) = judged.expect("it may be kept");
        let body = Body::Whole(Arc::new(Whole::new(&[Bytes::from_static(&[b'x'; 1024])])));
        let object = Object::new(storable, &world.request, body, (Box::default(), world.store.stamp()));
        world.store.put(&Arc::new(key(world)), Arc::new(object), NOW);
    }
}

fn hit(world: &World, times: usize) {
    for _ in 0..times {
        let key = key(world);
        let directives = RequestDirectives::of(&world.request);
        let Found::Object { object, aged } = world.store.find(key.as_str(), &world.request) else { continue };
        black_box(object.head.terms.usable(&directives, NOW, aged));
        let mut headers = HeaderMap::clone(&object.head.headers);
        object::fill_in(
            &mut headers,
            object.head.terms.age(NOW),
            Some(HeaderValue::from_static("tollgate; hit")),
        );
        black_box(headers);
    }
}

#[library_benchmark]
#[bench::small(setup = world)]
fn hit_1000(world: World) -> World {
    hit(&world, 1_000);
    world
}

#[library_benchmark]
#[bench::small(setup = world)]
fn keep_1000(world: World) -> World {
    keep(&world, 1_000);
    world
}

library_benchmark_group!(name = cache, benchmarks = [hit_1000, keep_1000]);
main!(library_benchmark_groups = cache);
