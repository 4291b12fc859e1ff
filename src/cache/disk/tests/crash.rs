//! kill -9 at any moment: a child writes, evicts and purges; its parent kills it and reads what it left.

use super::super::index::Bounds;
use super::{Tier, object, pattern};
use crate::cache::rules::date;
use crate::cache::store::purge::{Purge, Target};
use http::HeaderMap;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const KEYS: u64 = 60;
const ROUNDS: u64 = 50;
const BOUNDS: Bounds = Bounds { bytes: 8 << 20, objects: 1000 };

fn url(key: u64) -> String {
    format!("https://a/{key}")
}

/// What the answer of a key is in a version: small ones, and such of many pieces.
fn body(key: u64, version: u64) -> Vec<u8> {
    let seed = key << 32 | version;
    pattern(
        seed,
        (seed.wrapping_mul(0x5851_f42d) % if key.is_multiple_of(7) { 700_000 } else { 30_000 }) as usize,
    )
}

#[test]
#[ignore = "run by its parent"]
fn child() {
    let Ok(root) = std::env::var("TOLLGATE_TEST_CRASH") else { return };
    let first: u64 = std::env::var("TOLLGATE_TEST_ROUND").unwrap().parse::<u64>().unwrap() << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tier = Tier::open(Path::new(&root), BOUNDS);
        let mut out = std::io::stdout().lock();
        for version in first.. {
            let key = version.wrapping_mul(0x9e37_79b9) % KEYS;
            if version % 13 == 5 {
                tier.disk.purge(&Purge { target: Target::Url(url(key).into()), soft: false }).unwrap();
                writeln!(out, "purged {key} {version}").unwrap();
            } else {
                let text = version.to_string();
                let made = object(
                    tier.clock.stamp(),
                    &[("x-version", &text)],
                    &HeaderMap::new(),
                    &body(key, version),
                );
                tier.disk.offer(&super::key(&url(key)), &made, date::now());
                writeln!(out, "offered {key} {version}").unwrap();
                // Now all at once, now one after the other.
                if version % 3 == 0 {
                    let _ = tier.get(&url(version % KEYS), &HeaderMap::new()).await;
                }
            }
            tokio::task::yield_now().await;
        }
    });
}

fn spawn(root: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["cache::disk::tests::crash::child", "--exact", "--ignored", "--nocapture"])
        .env("TOLLGATE_TEST_CRASH", root)
        .env("TOLLGATE_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_leaves_a_corrupt_or_partial_or_purged_answer() {
    let root = tempfile::tempdir().unwrap();
    // The last version of each key that was purged.
    let mut purged: HashMap<u64, u64> = HashMap::new();
    let (mut answers, mut versions) = (0, std::collections::HashSet::new());
    for round in 0..ROUNDS {
        let mut child = spawn(root.path(), round);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let after = 20 + pattern(round, 1)[0] as usize * 3;
        let mut told: Vec<String> = lines.by_ref().take(after).map(Result::unwrap).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died.
        told.extend(lines.map_while(Result::ok));
        for line in &told {
            let mut words = line.split(' ');
            if words.next() == Some("purged") {
                let mut number = || words.next().unwrap().parse::<u64>().unwrap();
                purged.insert(number(), number());
            }
        }
        let tier = Tier::open(root.path(), BOUNDS);
        let tier = if round % 2 == 0 { tier.rebuilt().await } else { tier };
        for key in 0..KEYS {
            let Some((got, headers, _)) = tier.get(&url(key), &HeaderMap::new()).await else { continue };
            let version: u64 = headers["x-version"].to_str().unwrap().parse().unwrap();
            assert!(got == body(key, version), "round {round}: {key} in version {version} is not whole");
            let last = purged.get(&key).copied().unwrap_or(0);
            assert!(version > last, "round {round}: {key} in version {version} was purged at {last}");
            answers += 1;
            versions.insert((key, version));
        }
        assert_eq!(tier.disk.counts.damaged.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
    println!("{answers} answers of {} versions in {ROUNDS} rounds", versions.len());
    assert!(answers > 5 * ROUNDS && versions.len() > 100, "{answers} answers, {} versions", versions.len());
}
