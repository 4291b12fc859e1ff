//! The tier as a whole: what is found, what leaves, what purges reach, and over restarts.

use super::super::files::Opened;
use super::super::index::{Bounds, Name};
use super::super::{MANY_PURGES, WRITERS};
use super::{ROOMY, Tier, file_of, files, head, key, object, pattern, until};
use crate::cache::rules::date;
use crate::cache::store::object::{Body, tag};
use crate::cache::store::purge::{Purge, Target};
use http::HeaderMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn none() -> HeaderMap {
    HeaderMap::new()
}

#[tokio::test]
async fn an_answer_outlives_the_process_that_wrote_it() {
    let root = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 1000, 65_536, 65_537, 262_144, 262_145, 3_000_000];
    let tier = Tier::open(root.path(), ROOMY);
    for size in sizes {
        tier.put(&format!("https://a/{size}"), &[("x-size", "y")], &none(), &pattern(size, size as usize));
    }
    let again = Tier::open(root.path(), ROOMY);
    // Once before all is known, at least at first, and once after.
    for _ in 0..2 {
        for size in sizes {
            let (body, headers, is_aged) = again.get(&format!("https://a/{size}"), &none()).await.unwrap();
            assert!(body == pattern(size, size as usize), "{size} bytes");
            assert_eq!((headers["x-size"].to_str().unwrap(), is_aged), ("y", false));
        }
        until("the index is rebuilt", || again.disk.is_rebuilt()).await;
    }
    assert!(!again.has("https://a/other").await);
    assert_eq!(again.disk.objects(), sizes.len() as u64);
}

#[tokio::test]
async fn variants_are_kept_apart_and_found_again() {
    let root = tempfile::tempdir().unwrap();
    let [de, en, fr] = ["de", "en", "fr"].map(|language| head(&[("accept-language", language)]));
    let tier = Tier::open(root.path(), ROOMY);
    for (request, body) in [(&de, "ja"), (&en, "yes"), (&de, "doch")] {
        tier.put("https://a/x", &[("vary", "accept-language")], request, body.as_bytes());
    }
    let again = Tier::open(root.path(), ROOMY).rebuilt().await;
    for tier in [&tier, &again] {
        assert_eq!(tier.get("https://a/x", &de).await.unwrap().0, b"doch");
        assert_eq!(tier.get("https://a/x", &en).await.unwrap().0, b"yes");
        assert!(tier.get("https://a/x", &fr).await.is_none());
        assert_eq!(tier.disk.objects(), 2);
    }
}

#[tokio::test]
async fn it_stays_within_its_bounds() {
    let root = tempfile::tempdir().unwrap();
    let on_disk = || files(root.path()).iter().map(|path| path.metadata().unwrap().size()).sum::<u64>();
    let tier = Tier::open(root.path(), Bounds { bytes: 4 << 20, objects: 1000 }).rebuilt().await;
    for n in 0..600 {
        tier.put(&format!("https://a/{n}"), &[], &none(), &pattern(n, 30_000));
        assert!(tier.disk.bytes() <= 4 << 20, "after {n}");
    }
    assert!(on_disk() <= 4 << 20 && tier.disk.objects() > 60, "{}", tier.disk.objects());
    assert_eq!(files(root.path()).len() as u64, tier.disk.objects());
    assert_eq!(600 - tier.disk.counts.evicted.load(Ordering::Relaxed), tier.disk.objects());
    for n in 0..3000 {
        tier.put(&format!("https://b/{n}"), &[], &none(), b"small");
        assert!(tier.disk.objects() <= 1000, "after {n}");
    }
    assert_eq!(files(root.path()).len() as u64, tier.disk.objects());
    drop(tier);
    let less = Tier::open(root.path(), Bounds { bytes: 400 << 10, objects: 100 }).rebuilt().await;
    until("what is too much has left", || files(root.path()).len() as u64 == less.disk.objects()).await;
    assert!(less.disk.objects() <= 100 && less.disk.bytes() <= 400 << 10);
    assert!(less.disk.bytes() > 200 << 10, "{}", less.disk.bytes());
}

#[tokio::test]
async fn a_scan_moves_nothing_that_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let tier = Tier::open(root.path(), Bounds { bytes: 2 << 20, objects: 100_000 }).rebuilt().await;
    tier.put("https://a/often", &[], &none(), b"often");
    for n in 0..1000 {
        assert!(tier.has("https://a/often").await, "after {n}");
        tier.put(&format!("https://a/{n}"), &[], &none(), &pattern(n, 20_000));
    }
}

#[tokio::test]
async fn purges_hold_on_disk_also_after_a_restart() {
    let urls = ["https://a/x/1", "https://a/x/2", "https://a/y", "https://b/x/1"];
    let all = [
        (Target::All, &[0, 1, 2, 3][..]),
        (Target::Host("a".into()), &[0, 1, 2]),
        (Target::Prefix("https://a/x/".into()), &[0, 1]),
        (Target::Url(urls[3].into()), &[3]),
        (Target::Tag(tag(b"t2")), &[2]),
    ];
    for (target, reached) in all {
        for soft in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
            for (at, url) in urls.iter().enumerate() {
                let tags = format!("t0, t{at}");
                tier.put(url, &[("surrogate-key", &tags)], &none(), b"1");
            }
            tier.disk.purge(&Purge { target: target.clone(), soft }).unwrap();
            let check = async |tier: &Tier, when: &str| {
                for (at, url) in urls.iter().enumerate() {
                    let aged = tier.get(url, &none()).await.map(|(_, _, aged)| aged);
                    let expected = if reached.contains(&at) { soft.then_some(true) } else { Some(false) };
                    assert_eq!(aged, expected, "{target:?} soft {soft}: {url} {when}");
                }
            };
            check(&tier, "at once").await;
            // Another process, to which no file is known yet, and that is not alone.
            let again = Tier::open(root.path(), ROOMY);
            check(&again, "before the index is rebuilt").await;
            let again = again.rebuilt().await;
            check(&again, "after the index is rebuilt").await;
            for url in urls {
                again.put(url, &[], &none(), b"2");
                assert_eq!(again.get(url, &none()).await.unwrap().0, b"2", "what came later stays");
            }
        }
    }
}

#[tokio::test]
async fn what_was_purged_while_it_came_is_not_written() {
    let root = tempfile::tempdir().unwrap();
    let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
    let old = object(tier.clock.stamp(), &[], &none(), b"old");
    tier.disk.purge(&Purge { target: Target::Url("https://a/x".into()), soft: false }).unwrap();
    let crate::cache::store::object::Body::Whole(whole) = &old.body else { panic!() };
    tier.disk.write(&key("https://a/x"), &old, whole).unwrap();
    assert!(!tier.has("https://a/x").await);
    assert!(files(root.path()).is_empty());
}

#[tokio::test]
async fn many_purges_are_carried_out_and_forgotten_but_stay_in_force() {
    let root = tempfile::tempdir().unwrap();
    let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
    until("the folder is known to be empty", || tier.disk.purges.count() == 0).await;
    for n in 0..30 {
        tier.put(&format!("https://a/{n}"), &[], &none(), b"x");
    }
    let named = |n: usize| Purge { target: Target::Url(format!("https://a/{n}").into()), soft: false };
    for n in 10..MANY_PURGES + 10 {
        tier.disk.purge(&named(n)).unwrap();
    }
    until("they are forgotten", || tier.disk.purges.count() < 10).await;
    assert_eq!(tier.disk.objects(), 10);
    let journal = root.path().join("purges");
    until("so does the journal", || journal.metadata().unwrap().len() < 1000).await;
    let again = Tier::open(root.path(), ROOMY);
    for tier in [tier, again.rebuilt().await] {
        for n in 0..30 {
            assert_eq!(tier.has(&format!("https://a/{n}")).await, n < 10, "{n}");
        }
    }
}

#[tokio::test]
async fn a_journal_that_is_damaged_or_gone_purges_everything() {
    for harm in [Some("0123456789abcdef 1 hard all\n"), None] {
        let root = tempfile::tempdir().unwrap();
        let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
        tier.put("https://a/x", &[], &none(), b"x");
        drop(tier);
        let journal = root.path().join("purges");
        match harm {
            Some(text) => std::fs::write(&journal, text).unwrap(),
            None => std::fs::remove_file(&journal).unwrap(),
        }
        let tier = Tier::open(root.path(), ROOMY);
        assert!(!tier.has("https://a/x").await);
        tier.put("https://a/x", &[], &none(), b"y");
        assert!(tier.has("https://a/x").await);
    }
}

#[tokio::test]
async fn two_processes_share_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let old = Tier::open(root.path(), ROOMY).rebuilt().await;
    old.put("https://a/x", &[], &none(), b"1");
    let new = Tier::open(root.path(), ROOMY).rebuilt().await;
    assert_eq!(new.get("https://a/x", &none()).await.unwrap().0, b"1");
    new.put("https://a/x", &[], &none(), b"two");
    assert_eq!(old.get("https://a/x", &none()).await.unwrap().0, b"two", "under the same name");
    // It has looked at it now, and hears only later of what is purged.
    new.disk.purge(&Purge { target: Target::All, soft: false }).unwrap();
    assert!(!new.has("https://a/x").await);
    // What the old one asked for before and writes now.
    until("the old one hears of it", || old.disk.purges.count() > 0).await;
    assert!(!old.has("https://a/x").await);
}

#[tokio::test]
async fn of_two_that_write_one_answer_the_later_one_has_the_file() {
    let root = tempfile::tempdir().unwrap();
    let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
    for n in 0..200 {
        let url = format!("https://a/{n}");
        let versions = [(); 4].map(|()| tier.clock.stamp());
        std::thread::scope(|scope| {
            for born in versions {
                let (url, disk) = (&url, &tier.disk);
                scope.spawn(move || {
                    let object = object(born, &[], &none(), b"x");
                    let Body::Whole(whole) = &object.body else { unreachable!() };
                    disk.write(&key(url), &object, whole).unwrap();
                });
            }
        });
        let name = Name::of(key(&url).as_str(), b"");
        let Opened::Sound(sound) = tier.disk.folder.object(name).unwrap() else { panic!("it is written") };
        let known = tier.disk.index.get(name).unwrap().born;
        assert_eq!((sound.record.born, known), (versions[3], versions[3]), "{n}");
    }
}

#[tokio::test]
async fn what_dead_writers_left_is_swept() {
    let root = tempfile::tempdir().unwrap();
    drop(Tier::open(root.path(), ROOMY));
    let (dead, alive) = (root.path().join("tmp/1-dead"), root.path().join("tmp/1-alive"));
    std::fs::write(&dead, "half").unwrap();
    std::fs::write(&alive, "half").unwrap();
    let held = std::fs::File::open(&alive).unwrap();
    held.lock().unwrap();
    let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
    assert!(!dead.exists() && alive.exists());
    assert_eq!(tier.disk.counts.swept.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_damaged_file_is_counted_and_gone() {
    let root = tempfile::tempdir().unwrap();
    let urls: Vec<String> = (0..6).map(|n| format!("https://a/{n}")).collect();
    let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
    for url in &urls {
        tier.put(url, &[], &none(), &pattern(1, 400_000));
    }
    let places = [0, 9, 60, 100_000, 399_999];
    for (url, at) in urls.iter().zip(places) {
        let path = file_of(root.path(), url);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
        assert!(!tier.has(url).await, "byte {at}");
        assert!(!path.exists());
    }
    assert_eq!(tier.disk.counts.damaged.load(Ordering::Relaxed), places.len() as u64);
    assert!(tier.has(&urls[5]).await);
    assert!(!tier.disk.is_ill(), "that is no error of the disk");
    // Another object's file under this name: found by the walk, or when it is asked for.
    std::fs::copy(file_of(root.path(), &urls[5]), file_of(root.path(), &urls[0])).unwrap();
    let again = Tier::open(root.path(), ROOMY);
    assert!(!again.has(&urls[0]).await);
    let again = again.rebuilt().await;
    assert!(!file_of(root.path(), &urls[0]).exists());
    assert!(again.has(&urls[5]).await);
}

#[tokio::test]
async fn answers_from_the_future_are_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
    let hour = 3600 * 1_000_000;
    let object = object(tier.clock.stamp() + hour, &[], &none(), b"x");
    let crate::cache::store::object::Body::Whole(whole) = &object.body else { panic!() };
    tier.disk.write(&key("https://a/x"), &object, whole).unwrap();
    assert!(!tier.has("https://a/x").await);
    assert!(files(root.path()).is_empty());
}

#[tokio::test]
async fn what_is_useless_is_taken_away() {
    let root = tempfile::tempdir().unwrap();
    let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
    tier.put("https://a/x", &[], &none(), b"x");
    let later = date::now() + Duration::from_secs(7200);
    let text = key("https://a/x");
    assert!(tier.disk.find((text.as_str(), &none()), later, (1, &tier.budget)).await.is_none());
    assert!(files(root.path()).is_empty());
}

#[tokio::test]
async fn it_steps_aside_when_too_many_read_or_write() {
    let root = tempfile::tempdir().unwrap();
    let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
    tier.put("https://a/x", &[], &none(), b"x");
    let readers = Arc::clone(&tier.disk.readers);
    let all = readers.acquire_many(super::super::READERS as u32).await.unwrap();
    assert!(!tier.has("https://a/x").await);
    drop(all);
    assert!(tier.has("https://a/x").await);
    let writers = Arc::clone(&tier.disk.writers);
    let all = writers.acquire_many(WRITERS as u32).await.unwrap();
    let large = object(tier.clock.stamp(), &[], &none(), &pattern(1, 20 << 20));
    for n in 0..10 {
        tier.disk.offer(&key(&format!("https://a/{n}")), &large, date::now());
    }
    assert_eq!(tier.disk.counts.passed_over.load(Ordering::Relaxed), 1 + 7, "three wait");
    drop(all);
    until("they are written", || tier.disk.objects() == 4).await;
    until("nothing waits", || tier.disk.queued.load(Ordering::Relaxed) == 0).await;
}
