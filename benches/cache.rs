//! The store of the cache: what a hit, a miss, a fill and a purge cost with a thousand and with a million answers of
//! 1 KiB, and what one answer takes.
//!
//! `cargo bench --bench cache`

#![expect(clippy::expect_used, reason = "a bench may say plainly what it takes for granted")]
#![expect(clippy::print_stdout, reason = "criterion counts no bytes")]

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tollgate::cache::rules::directives::RequestDirectives;
use tollgate::cache::rules::freshness::Exchange;
use tollgate::cache::rules::key::Key;
use tollgate::cache::rules::storing::{Asked, Storable, storable};
use tollgate::cache::rules::{conditional, date};
use tollgate::cache::store::body::{End, Filling, Whole};
use tollgate::cache::store::object::{self, Body, Object};
use tollgate::cache::store::purge::{Purge, Target};
use tollgate::cache::store::{Found, Store};
use tollgate::policy::cache::Settings;
use tollgate::values::ByteSize;

/// Counts what is asked for and not given back.
struct Counting;

static HELD: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "the trait of an allocator is unsafe; all is passed on as it is")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Layout) -> *mut u8 {
        HELD.fetch_add(memory.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, memory: Layout) {
        HELD.fetch_sub(memory.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, memory) }
    }
}

const BODY: [u8; 1024] = [b'x'; 1024];
const SIZES: [usize; 2] = [1_000, 1_000_000];
/// So many keys are asked for, whatever the number of answers: what the processor's own caches hold is the same.
const ASKED: usize = 1_000;

fn key(number: usize) -> Arc<Key> {
    let text = format!("https://shop.example/products/{number}?currency=eur\ndefault\nshop");
    Arc::new(Key::from_text(&text).expect("a key"))
}

/// The head of an answer as applications send it.
fn answer(number: usize) -> HeaderMap {
    let fields = [
        ("content-type", "application/json".to_owned()),
        ("content-length", BODY.len().to_string()),
        ("cache-control", "public, max-age=86400".to_owned()),
        ("etag", format!("\"{number:016x}\"")),
        ("surrogate-key", format!("product-{number} products")),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
    ];
    let pair = |(name, value): (&'static str, String)| {
        (HeaderName::from_static(name), HeaderValue::from_str(&value).expect("a value"))
    };
    fields.into_iter().map(pair).collect()
}

fn judged(headers: &HeaderMap, now: Duration) -> Storable {
    let directives = RequestDirectives::default();
    let asked = Asked { method: &Method::GET, directives: &directives, is_personal: false };
    let exchange = Exchange { asked: now, answered: now };
    storable(asked, (StatusCode::OK, headers), exchange, &Settings::default()).expect("it may be kept").0
}

/// What a flight does with an answer that came in one piece.
fn filled(store: &Store, headers: &HeaderMap, now: Duration) -> Arc<Object> {
    const TAGS: HeaderName = HeaderName::from_static("surrogate-key");
    let born = store.stamp();
    let filling = Filling::new(Some(BODY.len() as u64), 1 << 20, Arc::clone(&store.flights.budget));
    filling.push(&BODY).now_or_never();
    let whole = filling.finish(End::Whole).expect("it is whole");
    let tags = object::tags(headers, Some(&TAGS));
    let body = Body::Whole(whole);
    Arc::new(Object::new(judged(headers, now), &HeaderMap::new(), body, (tags, born)))
}

struct Filled {
    store: Store,
    keys: Vec<Arc<Key>>,
    now: Duration,
}

impl Filled {
    fn new(size: usize) -> Self {
        let now = date::now();
        let before = HELD.load(Ordering::Relaxed);
        let store = Store::new(ByteSize::mib(4096));
        let empty = HELD.load(Ordering::Relaxed);
        for number in 0..size {
            store.put(&key(number), filled(&store, &answer(number), now), now);
        }
        assert_eq!(store.keys(), size, "all of them are kept");
        let held = HELD.load(Ordering::Relaxed) - empty;
        let each = |bytes: i64| bytes / size as i64;
        println!(
            "{size} answers of 1 KiB: {} bytes each, counted as {} ({} bytes for a store without any)",
            each(held),
            each(store.bytes() as i64),
            empty - before
        );
        let counted = store.bytes() as i64;
        assert!(
            (counted - held).abs() < held / 10,
            "{counted} counted of {held}: the bound on bytes is none"
        );
        let keys = (0..ASKED).map(|at| key(at * (size / ASKED))).collect();
        Self { store, keys, now }
    }
}

fn hit(store: &Store, key: &Key, request: &HeaderMap, now: Duration) -> Option<(HeaderMap, Bytes)> {
    let Found::Object { object, aged } = store.find(key.as_str(), request) else { return None };
    object.head.terms.usable(&RequestDirectives::default(), now, aged);
    let Body::Whole(whole) = &object.body else { return None };
    Some((HeaderMap::clone(&object.head.headers), Whole::piece(whole, 0)?))
}

fn lookups(c: &mut Criterion, stores: &[Filled]) {
    let request = HeaderMap::new();
    for (name, exists) in [("hit", true), ("miss", false)] {
        let mut group = c.benchmark_group(name);
        for (filled, size) in stores.iter().zip(SIZES) {
            let absent: Vec<Arc<Key>> = (0..ASKED).map(|at| key(at + 10_000_000)).collect();
            let keys = if exists { &filled.keys } else { &absent };
            let mut next = 0;
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    next = (next + 1) % ASKED;
                    black_box(hit(&filled.store, &keys[next], &request, filled.now)).is_some()
                });
            });
        }
        group.finish();
    }
}

fn stores_and_purges(c: &mut Criterion, stores: &[Filled]) {
    let mut group = c.benchmark_group("fill_and_store");
    for (filled, size) in stores.iter().zip(SIZES) {
        let heads: Vec<HeaderMap> = (0..ASKED).map(answer).collect();
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                next = (next + 1) % ASKED;
                let object = self::filled(&filled.store, &heads[next], filled.now);
                filled.store.put(&filled.keys[next], object, filled.now)
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("purge_by_tag");
    for (filled, size) in stores.iter().zip(SIZES) {
        let purge = Purge { target: Target::Tag(object::tag(b"nothing")), soft: false };
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| drop(filled.store.purge(black_box(&purge))));
        });
    }
    group.finish();
    // The first look after a purge holds it against what is found.
    let mut group = c.benchmark_group("hit_after_a_purge");
    for (filled, size) in stores.iter().zip(SIZES) {
        let purge = Purge { target: Target::Tag(object::tag(b"nothing")), soft: false };
        let (request, mut next) = (HeaderMap::new(), 0);
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_batched(
                || drop(filled.store.purge(&purge)),
                |()| {
                    next = (next + 1) % ASKED;
                    hit(&filled.store, &filled.keys[next], &request, filled.now).is_some()
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn rules(c: &mut Criterion) {
    let (now, headers) = (date::now(), answer(7));
    c.bench_function("judge_an_answer", |b| b.iter(|| judged(black_box(&headers), now)));
    let kept = judged(&headers, now);
    let request = RequestDirectives::default();
    c.bench_function("freshness", |b| b.iter(|| kept.terms.usable(&request, black_box(now), false)));
    let asks = HeaderMap::from_iter([(http::header::IF_NONE_MATCH, HeaderValue::from_static("\"x\""))]);
    c.bench_function("conditions", |b| {
        b.iter(|| conditional::evaluate(&Method::GET, black_box(&asks), &kept.headers));
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    let stores = SIZES.map(Filled::new);
    lookups(&mut criterion, &stores);
    stores_and_purges(&mut criterion, &stores);
    rules(&mut criterion);
    criterion.final_summary();
}
