//! A disk on which nothing can be written: requests go on, and so does the disk when it can be.

use super::{ROOMY, Tier, key, object, pattern, until};
use crate::cache::rules::date;
use http::HeaderMap;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use std::process::Command;
use std::sync::atomic::Ordering;

/// In a process of its own, for its limit on the size of files is everybody's.
#[test]
fn a_disk_that_takes_no_more_is_left_alone_until_it_does() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["cache::disk::tests::full::child", "--exact", "--ignored", "--nocapture"])
        .env("TOLLGATE_TEST_FULL", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
#[ignore = "run by its parent"]
fn child() {
    if std::env::var_os("TOLLGATE_TEST_FULL").is_none() {
        return;
    }
    // Then a write beyond the limit fails as on a full disk, instead of ending the process.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(fills());
}

async fn fills() {
    let root = tempfile::tempdir().unwrap();
    let none = HeaderMap::new();
    let tier = Tier::open(root.path(), ROOMY).rebuilt().await;
    let offer = |url: &str| {
        let made = object(tier.clock.stamp(), &[], &none, &pattern(1, 200_000));
        tier.disk.offer(&key(url), &made, date::now());
    };
    let counts = &tier.disk.counts;
    let (errors, passed_over) =
        (|| counts.errors.load(Ordering::Relaxed), || counts.passed_over.load(Ordering::Relaxed));
    offer("https://a/before");
    until("it is written", || tier.disk.objects() == 1).await;
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 100_000, hard).unwrap();
    offer("https://a/full");
    until("the error is seen", || errors() > 0 && tier.disk.is_ill()).await;
    for _ in 0..100 {
        offer("https://a/full");
    }
    assert_eq!((errors(), passed_over()), (1, 100), "it is left alone for a while");
    assert!(tier.has("https://a/before").await, "what is there is served");
    assert!(!tier.has("https://a/full").await);
    assert_eq!(std::fs::read_dir(root.path().join("tmp")).unwrap().count(), 0, "no half file stays");
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    until("it is tried again, and works", || {
        offer("https://a/after");
        !tier.disk.is_ill()
    })
    .await;
    assert!(tier.has("https://a/after").await);
}
