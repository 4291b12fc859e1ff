use super::body::{Budget, End, Filling, Next, Whole};
use super::flight::{Boarding, Stage};
use super::object::{Body, Object, tag};
use super::purge::{Purge, Target};
use super::{Found, Store};
use crate::cache::rules::date;
use crate::cache::rules::directives::RequestDirectives;
use crate::cache::rules::freshness::Exchange;
use crate::cache::rules::key::Key;
use crate::cache::rules::storing::{Asked, storable};
use crate::policy::cache::Settings;
use crate::values::ByteSize;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1_000_000);

fn head(lines: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    lines.iter().map(pair).collect()
}

fn key(url: &str) -> Arc<Key> {
    Arc::new(Key::from_text(&format!("{url}\ndefault\nroute")).unwrap())
}

fn object(store: &Store, answer: &[(&str, &str)], request: &HeaderMap, body: &[u8]) -> Arc<Object> {
    object_at(NOW, (store, answer), request, body)
}

fn object_at(
    now: Duration,
    (store, answer): (&Store, &[(&str, &str)]),
    request: &HeaderMap,
    body: &[u8],
) -> Arc<Object> {
    let mut answer = head(answer);
    answer.insert("cache-control", HeaderValue::from_static("max-age=60"));
    let asked = Asked { method: &Method::GET, directives: &RequestDirectives::default(), is_personal: false };
    let exchange = Exchange { asked: now, answered: now };
    let (storable, _) = storable(asked, (StatusCode::OK, &answer), exchange, &Settings::default()).unwrap();
    let whole = Whole::new(&[Bytes::copy_from_slice(body)]);
    let tags = super::object::tags(&answer, Some(&HeaderName::from_static("surrogate-key")));
    Arc::new(Object::new(storable, request, Body::Whole(Arc::new(whole)), (tags, store.stamp())))
}

fn found(store: &Store, key: &Key, request: &HeaderMap) -> Option<(Vec<u8>, bool)> {
    match store.find(key.as_str(), request) {
        Found::Object { object, aged } => {
            let Body::Whole(whole) = &object.body else { return None };
            Some((whole.part(0, whole.length()).collect::<Vec<_>>().concat(), aged))
        }
        Found::OtherVariants(_) | Found::Nothing => None,
    }
}

#[test]
fn variants_are_kept_apart() {
    let (store, key) = (Store::new(ByteSize::mib(8)), key("https://a/x"));
    let (de, en, fr) = (
        head(&[("accept-language", "de")]),
        head(&[("accept-language", "en")]),
        head(&[("accept-language", "fr")]),
    );
    for (request, body) in [(&de, "ja"), (&en, "yes")] {
        let object = object(&store, &[("vary", "accept-language")], request, body.as_bytes());
        assert!(store.put(&key, object, NOW));
    }
    assert_eq!(found(&store, &key, &de).unwrap().0, b"ja");
    assert_eq!(found(&store, &key, &en).unwrap().0, b"yes");
    assert!(matches!(store.find(key.as_str(), &fr), Found::OtherVariants(vary) if vary.names().len() == 1));
    store.put(&key, object(&store, &[("vary", "accept-language")], &de, b"doch"), NOW);
    assert_eq!(found(&store, &key, &de).unwrap().0, b"doch");
    assert_eq!(store.keys(), 1);
    for n in 0..200 {
        let request = head(&[("accept-language", &format!("x-{n}"))]);
        store.put(&key, object(&store, &[("vary", "accept-language")], &request, b""), NOW);
    }
    assert!(found(&store, &key, &de).is_none(), "the oldest variants have gone");
}

#[test]
fn it_stays_within_its_bytes_and_a_scan_moves_nothing_that_is_asked_for() {
    let store = Store::new(ByteSize::mib(4));
    let (empty, body) = (HeaderMap::new(), vec![7; 32 << 10]);
    let often = key("https://a/often");
    store.put(&often, object(&store, &[], &empty, &body), NOW);
    for n in 0..2000 {
        assert!(found(&store, &often, &empty).is_some(), "after {n}");
        let once = key(&format!("https://a/{n}"));
        store.put(&once, object(&store, &[], &empty, &body), NOW);
        assert!(store.bytes() <= 4 << 20);
    }
    assert!(store.keys() > 50);
}

#[test]
fn purges_reach_what_they_name_and_nothing_that_came_later() {
    let store = Store::new(ByteSize::mib(8));
    let empty = HeaderMap::new();
    let urls = ["https://a/x/1", "https://a/x/2", "https://a/y", "https://b/x/1"];
    let all = [
        Target::All,
        Target::Host("a".into()),
        Target::Prefix("https://a/x/".into()),
        Target::Url(urls[3].into()),
        Target::Tag(tag(b"t2")),
    ];
    let reached = [&[0, 1, 2, 3][..], &[0, 1, 2], &[0, 1], &[3], &[2]];
    for (target, reached) in all.into_iter().zip(reached) {
        for soft in [true, false] {
            for (at, url) in urls.iter().enumerate() {
                let tags = format!("t0 t{at}, t9");
                store.put(&key(url), object(&store, &[("surrogate-key", &tags)], &empty, b"1"), NOW);
            }
            store.purge(&Purge { target: target.clone(), soft });
            for (at, url) in urls.iter().enumerate() {
                let (url, hit) = (key(url), reached.contains(&at));
                for _ in 0..2 {
                    let aged = found(&store, &url, &empty).map(|(_, aged)| aged);
                    let expected = if hit { soft.then_some(true) } else { Some(false) };
                    assert_eq!(aged, expected, "{target:?} soft {soft}: {}", urls[at]);
                }
                store.put(&url, object(&store, &[], &empty, b"2"), NOW);
                assert_eq!(found(&store, &url, &empty), Some((b"2".to_vec(), false)));
            }
        }
    }
}

#[test]
fn what_was_purged_while_it_came_is_not_kept() {
    let (store, key, empty) = (Store::new(ByteSize::mib(8)), key("https://a/x"), HeaderMap::new());
    let old = object(&store, &[], &empty, b"old");
    store.purge(&Purge { target: Target::All, soft: false });
    assert!(!store.put(&key, old, NOW));
    assert!(found(&store, &key, &empty).is_none());
}

#[tokio::test]
async fn purges_that_are_carried_out_stay_in_force() {
    let (store, empty) = (Arc::new(Store::new(ByteSize::mib(64))), HeaderMap::new());
    let keys: Vec<_> = (0..10_000).map(|n| key(&format!("https://a/{n}"))).collect();
    for key in &keys {
        store.put(key, object(&store, &[], &empty, b"x"), NOW);
    }
    let purge_all = || {
        for key in &keys {
            store.purge(&Purge { target: Target::Url(key.url().into()), soft: false });
        }
    };
    purge_all();
    assert!(keys.iter().all(|key| found(&store, key, &empty).is_none()));
    assert_eq!((store.purges.count(), store.keys()), (10_000, 10_000), "they are remembered");
    let upkeep = tokio::spawn(Arc::clone(&store).keep());
    until("they are carried out", || store.purges.count() == 0 && store.keys() == 0).await;
    upkeep.abort();
    for key in &keys {
        store.put(key, object(&store, &[], &empty, b"y"), NOW);
    }
    assert!(keys.iter().all(|key| found(&store, key, &empty).is_some()), "what came later is not reached");
    // Without anybody who does it beside requests, there is a bound all the same.
    for n in 0..40_000 {
        store.purge(&Purge { target: Target::Url(format!("https://b/{n}").into()), soft: false });
        assert!(store.purges.count() <= super::purge::MOST);
    }
    purge_all();
    assert!(keys.iter().all(|key| found(&store, key, &empty).is_none()));
}

#[tokio::test]
async fn all_follow_one_writer_from_its_first_byte() {
    let budget = Arc::new(Budget::new(1 << 20));
    let filling = Arc::new(Filling::new(Some(6), 1 << 20, Arc::clone(&budget)));
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let mut reader = filling.follow().unwrap();
            tokio::spawn(async move {
                let mut got = Vec::new();
                loop {
                    match reader.next().await {
                        Next::Piece(piece) => got.extend_from_slice(&piece),
                        Next::End(end) => return (got, end),
                    }
                }
            })
        })
        .collect();
    assert!(filling.push(b"abc").await);
    assert!(filling.push(b"def").await);
    let whole = filling.finish(End::Whole).unwrap();
    assert_eq!(whole.part(2, 3).collect::<Vec<_>>().concat(), b"cde");
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (b"abcdef".to_vec(), End::Whole));
    }
    assert_eq!(budget.used(), 0, "it is on its way no longer");
}

#[tokio::test]
async fn who_reads_slowly_keeps_nothing_from_being_fetched() {
    let budget = Arc::new(Budget::new(1 << 20));
    // Once in pieces that are kept as they are, and once in such that are put together.
    for (size, count) in [(512 << 10, 2), (1000, 300)] {
        let filling = Arc::new(Filling::new(None, 1 << 20, Arc::clone(&budget)));
        let mut slow = [0, 1, count / 2].map(|already| (already, filling.follow().unwrap(), Vec::new()));
        let mut sent = Vec::new();
        for n in 0..count {
            let piece = vec![n as u8; size];
            assert!(filling.push(&piece).await);
            sent.extend_from_slice(&piece);
            for (already, reader, got) in &mut slow {
                if n < *already {
                    let Next::Piece(piece) = reader.next().await else { panic!("it came") };
                    got.extend_from_slice(&piece);
                }
            }
        }
        assert!(budget.used() > 0);
        let whole = filling.finish(End::Whole).unwrap();
        drop(filling);
        assert_eq!((budget.used(), whole.length()), (0, sent.len() as u64));
        for (already, mut reader, mut got) in slow {
            while let Next::Piece(piece) = reader.next().await {
                got.extend_from_slice(&piece);
            }
            assert!(got == sent, "{already} of {count} came before the end");
            assert!(matches!(reader.next().await, Next::End(End::Whole)));
        }
    }
}

#[tokio::test]
async fn a_writer_that_goes_leaves_nobody_waiting() {
    let filling = Arc::new(Filling::new(None, 100, Arc::new(Budget::new(100))));
    let mut reader = filling.follow().unwrap();
    let writer = super::body::Writer(Arc::clone(&filling));
    writer.0.push(b"abc").await;
    assert!(matches!(reader.next().await, Next::Piece(_)));
    let waiting = tokio::spawn(async move { reader.next().await });
    drop(writer);
    assert!(matches!(waiting.await.unwrap(), Next::End(End::Broken)));
    let whole = Arc::new(Filling::new(None, 100, Arc::new(Budget::new(100))));
    let writer = super::body::Writer(Arc::clone(&whole));
    assert!(whole.finish(End::Whole).is_some());
    drop(writer);
    assert!(matches!(whole.follow().unwrap().next().await, Next::End(End::Whole)));
}

#[test]
fn what_is_replaced_is_not_evicted() {
    let (store, empty) = (Store::new(ByteSize::mib(1)), HeaderMap::new());
    let evicted = || store.counts.evicted.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..100 {
        store.put(&key("https://a/x"), object(&store, &[], &empty, b"x"), NOW);
    }
    assert_eq!((store.keys(), evicted()), (1, 0));
    for n in 0..99 {
        store.put(&key(&format!("https://a/{n}")), object(&store, &[], &empty, &[7; 32 << 10]), NOW);
    }
    assert!(store.keys() < 40);
    assert_eq!(store.keys() as u64 + evicted(), 100);
}

#[tokio::test]
async fn a_body_that_breaks_off_or_is_too_short_is_no_whole() {
    for (declared, end) in [(None, End::Broken), (Some(9), End::Whole)] {
        let filling = Arc::new(Filling::new(declared, 100, Arc::new(Budget::new(100))));
        let mut reader = filling.follow().unwrap();
        filling.push(b"abc").await;
        assert!(filling.finish(end).is_none());
        assert!(matches!(reader.next().await, Next::Piece(_)));
        assert!(matches!(reader.next().await, Next::End(End::Broken)));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_passes_through_a_window() {
    passes_through((1 << 30, 1000), 4000).await;
    // With no memory to spare it is a narrow one.
    passes_through((100, 1000), 600).await;
}

async fn passes_through((memory, largest): (u64, u64), held: u64) {
    let budget = Arc::new(Budget::new(memory));
    let filling = Arc::new(Filling::new(None, largest, Arc::clone(&budget)));
    let mut reader = filling.follow().unwrap();
    let writer = tokio::spawn({
        let filling = Arc::clone(&filling);
        async move {
            for _ in 0..1000 {
                assert!(filling.push(&[1; 100]).await);
            }
            filling.finish(End::Whole)
        }
    });
    let mut got = 0;
    loop {
        match reader.next().await {
            Next::Piece(piece) => got += piece.len(),
            Next::End(end) => break assert_eq!(end, End::Whole),
        }
        assert!(budget.used() <= held, "{}", budget.used());
    }
    assert_eq!(got, 100_000);
    assert!(writer.await.unwrap().is_none());
    assert!(filling.follow().is_none(), "the first bytes are gone");
    drop(reader);
    assert!(!filling.push(b"x").await, "nobody is left to go on for");
}

#[test]
fn small_pieces_are_put_together() {
    let pieces: Vec<Bytes> = (0..100_000_u32).map(|n| Bytes::from(vec![n as u8; 3])).collect();
    let whole = Whole::new(&pieces);
    assert_eq!(whole.length(), 300_000);
    assert!(whole.piece(5).is_none());
    assert_eq!(whole.part(0, 300_000).collect::<Vec<_>>().concat(), pieces.concat());
    assert_eq!(whole.part(65_535, 2).collect::<Vec<_>>().concat(), &pieces.concat()[65_535..65_537]);
}

#[tokio::test]
async fn one_fetches_and_the_others_follow() {
    let store = Store::new(ByteSize::mib(8));
    let Boarding::Fetch(seat) = store.flights.board(b"k", NOW) else { panic!() };
    let Boarding::Follow(flight) = store.flights.board(b"k", NOW) else { panic!() };
    let waiting = tokio::spawn(async move { flight.landed().await });
    seat.flight.set(Stage::Private);
    assert!(matches!(waiting.await.unwrap(), Stage::Private));
    store.flights.leave(&seat);
    assert!(matches!(store.flights.board(b"k", NOW), Boarding::Fetch(_)));
}

/// None of them waits for another: each waits for all, and so for ever if they go on one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_go_on_at_once_from_what_is_for_one() {
    const HERD: usize = 10_000;
    let store = Arc::new(Store::new(ByteSize::mib(8)));
    let Boarding::Fetch(seat) = store.flights.board(b"k", NOW) else { panic!("nobody else fetches") };
    let all_on_their_way = Arc::new(tokio::sync::Barrier::new(HERD));
    let waiting: Vec<_> = (0..HERD)
        .map(|_| {
            let Boarding::Follow(flight) = store.flights.board(b"k", NOW) else { panic!("one fetches") };
            let (store, all_on_their_way) = (Arc::clone(&store), Arc::clone(&all_on_their_way));
            tokio::spawn(async move {
                assert!(matches!(flight.landed().await, Stage::Private));
                assert!(matches!(store.flights.board(b"k", NOW), Boarding::Alone), "nobody waits again");
                all_on_their_way.wait().await;
            })
        })
        .collect();
    // As a landing does it: what is remembered is remembered before anybody hears of it.
    store.flights.note_in_vain(b"k", NOW);
    seat.flight.set(Stage::Private);
    store.flights.leave(&seat);
    for one in waiting {
        one.await.unwrap();
    }
    assert_eq!(store.flights.count(), 0);
}

#[test]
fn what_is_in_vain_is_tried_by_one_from_time_to_time() {
    let flights = &Store::new(ByteSize::mib(8)).flights;
    flights.note_in_vain(b"k", NOW);
    assert!(matches!(flights.board(b"k", NOW + Duration::from_secs(9)), Boarding::Alone));
    let later = NOW + Duration::from_secs(10);
    assert!(matches!(flights.board(b"k", later), Boarding::Probe));
    assert!(matches!(flights.board(b"k", later), Boarding::Alone));
    flights.note_worthwhile(b"k");
    assert!(matches!(flights.board(b"k", later), Boarding::Fetch(_)));
    // A clock that was set back makes ten seconds no hour.
    flights.note_in_vain(b"l", NOW + Duration::from_secs(3600));
    assert!(matches!(flights.board(b"l", NOW), Boarding::Probe));
    assert!(matches!(flights.board(b"l", NOW), Boarding::Alone));
}

const ROOMY: crate::cache::disk::index::Bounds =
    crate::cache::disk::index::Bounds { bytes: 1 << 30, objects: 1 << 20 };

/// A store with a disk tier that knows all its files.
async fn on_disk(root: &std::path::Path, memory: ByteSize) -> Arc<Store> {
    let store = Arc::new(Store::new(memory));
    store.set_disk(Some((root, ROOMY))).unwrap();
    until("the index is rebuilt", || store.disk().unwrap().is_rebuilt()).await;
    store
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn below(store: &Arc<Store>, key: &Arc<Key>) -> Option<(Vec<u8>, bool)> {
    let below = store.find_below(key, &HeaderMap::new(), date::now()).await?;
    if let Some(mut place) = below.place {
        let mut body = Vec::new();
        loop {
            match place.next().await {
                Next::Piece(piece) => body.extend_from_slice(&piece),
                Next::End(end) => {
                    assert_eq!(end, End::Whole);
                    return Some((body, below.aged));
                }
            }
        }
    }
    let Body::Whole(whole) = &below.object.body else { panic!("it comes, and there is no place") };
    Some((whole.pieces().concat(), below.aged))
}

#[tokio::test]
async fn who_looks_for_what_others_look_for_waits_for_a_moment_only() {
    let folder = tempfile::tempdir().unwrap();
    let (store, key) = (on_disk(folder.path(), ByteSize::mib(8)).await, key("https://a/x"));
    let object = object_at(date::now(), (&store, &[]), &HeaderMap::new(), b"x");
    store.disk().unwrap().offer(&key, &object, date::now());
    until("it is written", || store.disk().unwrap().objects() == 1).await;
    // Those that look are stuck, as on a disk that hangs.
    let mut stuck = Vec::new();
    for looking in &store.looking {
        stuck.push(looking.lock().await);
    }
    assert!(below(&store, &key).await.is_none());
    stuck.clear();
    assert!(below(&store, &key).await.is_some());
}

#[tokio::test]
async fn what_the_memory_lost_comes_up_from_disk() {
    let root = tempfile::tempdir().unwrap();
    let empty = HeaderMap::new();
    let sizes = [0, 10, 200_000, 300_000, 2_000_000];
    let keys: Vec<_> = sizes.iter().map(|size| key(&format!("https://a/{size}"))).collect();
    let store = on_disk(root.path(), ByteSize::mib(16)).await;
    for (key, size) in keys.iter().zip(sizes) {
        store.put(key, object_at(date::now(), (&store, &[]), &empty, &vec![7; size]), date::now());
    }
    until("they are written", || store.disk().unwrap().objects() == sizes.len() as u64).await;
    let again = on_disk(root.path(), ByteSize::mib(16)).await;
    for (key, size) in keys.iter().zip(sizes) {
        assert!(found(&again, key, &empty).is_none(), "the memory is empty");
        assert_eq!(below(&again, key).await.unwrap(), (vec![7; size], false));
        let is_small = size < 1 << 20;
        if is_small {
            until("it is in memory", || found(&again, key, &empty).is_some()).await;
        }
    }
    let hits = |store: &Store| store.disk().unwrap().counts.hits.load(std::sync::atomic::Ordering::Relaxed);
    let before = hits(&again);
    let many = futures_util::future::join_all((0..100).map(|_| below(&again, &keys[1]))).await;
    assert!(many.iter().all(|body| body.as_ref().unwrap().0 == [7; 10]));
    assert_eq!(hits(&again), before, "it is in memory");
    let third = on_disk(root.path(), ByteSize::mib(16)).await;
    let many = futures_util::future::join_all((0..100).map(|_| below(&third, &keys[1]))).await;
    assert!(many.iter().all(|body| body.as_ref().unwrap().0 == [7; 10]));
    assert_eq!(hits(&third), 1, "one looks for all");
    assert!(below(&third, &key("https://a/other")).await.is_none());
}

#[tokio::test]
async fn purges_and_removals_reach_both_tiers() {
    let root = tempfile::tempdir().unwrap();
    let empty = HeaderMap::new();
    let store = on_disk(root.path(), ByteSize::mib(8)).await;
    let keys: Vec<_> = (0..6).map(|n| key(&format!("https://a/{n}"))).collect();
    for (at, key) in keys.iter().enumerate() {
        let body = vec![b'x'; if at == 5 { 300_000 } else { 1 }];
        store.put(key, object_at(date::now(), (&store, &[]), &empty, &body), date::now());
    }
    until("they are written", || store.disk().unwrap().objects() == 6).await;
    let other = on_disk(root.path(), ByteSize::mib(8)).await;
    for key in &keys {
        assert!(below(&other, key).await.is_some());
        until("it is in memory", || found(&other, key, &empty).is_some()).await;
    }
    let url = |n: usize| Target::Url(keys[n].url().into());
    store.purge(&Purge { target: url(0), soft: false }).done().await.unwrap();
    store.purge(&Purge { target: url(1), soft: true }).done().await.unwrap();
    store.purge(&Purge { target: url(5), soft: true }).done().await.unwrap();
    let Found::Object { object: third, .. } = store.find(keys[2].as_str(), &empty) else { panic!() };
    store.replace(&keys[2], &third, None);
    assert!(found(&store, &keys[0], &empty).is_none() && below(&store, &keys[0]).await.is_none());
    assert!(found(&store, &keys[1], &empty).unwrap().1);
    assert!(found(&store, &keys[2], &empty).is_none() && below(&store, &keys[2]).await.is_none());
    // Another process hears of it, though it has looked at them in the meantime.
    until("the other one hears of both", || {
        found(&other, &keys[0], &empty).is_none() && found(&other, &keys[1], &empty).unwrap().1
    })
    .await;
    assert!(below(&other, &keys[0]).await.is_none());
    let third = on_disk(root.path(), ByteSize::mib(8)).await;
    assert!(below(&third, &keys[0]).await.is_none());
    assert!(below(&third, &keys[1]).await.unwrap().1, "stale after a restart as well");
    assert!(found(&third, &keys[1], &empty).unwrap().1, "and in memory");
    assert!(below(&third, &keys[5]).await.unwrap().1, "also one that comes in pieces");
    until("it is in memory", || found(&third, &keys[5], &empty).is_some()).await;
    assert!(found(&third, &keys[5], &empty).unwrap().1);
    assert!(!below(&third, &keys[3]).await.unwrap().1);
    third.set_disk(None).unwrap();
    assert!(below(&third, &keys[4]).await.is_none());
}

#[test]
fn it_is_known_of_which_urls_there_is_something() {
    let store = Store::new(ByteSize::mib(4));
    let (request, url) = (HeaderMap::new(), "https://a/x");
    let (one, tenants) = (key(url), Arc::new(Key::from_text(&format!("{url}\ntenant\nroute")).unwrap()));
    assert!(!store.may_have(url));
    let coming = store.mark(&one);
    assert!(store.may_have(url) && !store.may_have("https://a/y"));
    for _ in 0..3 {
        store.put(&one, object(&store, &[], &request, b"one"), NOW);
    }
    store.put(&tenants, object(&store, &[], &request, b"another"), NOW);
    drop(coming);
    let Found::Object { object: first, .. } = store.find(one.as_str(), &request) else {
        panic!("it is kept")
    };
    store.replace(&one, &first, None);
    assert!(store.may_have(url), "there is the tenant's");
    drop(store.purge(&Purge { target: Target::Host("a".into()), soft: false }));
    store.sweep();
    assert!(!store.may_have(url));
    // What has to leave for want of room is not there any more.
    let urls: Vec<String> = (0..1000).map(|number| format!("https://b/{number}")).collect();
    for url in &urls {
        store.put(&key(url), object(&store, &[], &request, &[7; 16 << 10]), NOW);
    }
    assert!(store.keys() < urls.len());
    assert_eq!(urls.iter().filter(|url| store.may_have(url)).count(), store.keys());
}

/// A piece is written by one call: a body of a MiB is one, however it came, and a larger one is none that is put together
/// for long.
#[test]
fn bodies_are_kept_in_few_pieces() {
    for (length, came_in, pieces) in [
        (1 << 20, 65_536, 1),
        (1 << 20, 1000, 1),
        (1 << 20, 1 << 20, 1),
        (3 << 20, 65_536, 3),
        (9 << 20, 65_536, 144),
        (9 << 20, 1000, 9),
    ] {
        let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let came: Vec<Bytes> = body.chunks(came_in).map(Bytes::copy_from_slice).collect();
        let whole = Whole::new(&came);
        assert_eq!((whole.pieces().len(), whole.length()), (pieces, length as u64), "{length} in {came_in}");
        assert!(whole.pieces().concat() == body, "{length} in {came_in}");
    }
}

/// A map has slots for more fields than there are in it, of 104 bytes each.
#[test]
fn an_answer_weighs_what_its_map_has_room_for() {
    let store = Store::new(ByteSize::mib(8));
    let names: Vec<String> = (0..10).map(|number| format!("x-{number}")).collect();
    let fields: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "a")).collect();
    let object = object(&store, &fields, &HeaderMap::new(), &[0; 1000]);
    let room = object.head.headers.capacity();
    assert!(room > object.head.headers.len(), "or this shows nothing");
    assert!(object.weight() >= 1000 + 104 * room as u64, "{} for {room} slots", object.weight());
}
