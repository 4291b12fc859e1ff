mod crash;
mod file;
mod full;
mod tier;

use super::files::Folder;
use super::index::{Bounds, Name};
use super::{Disk, Hit};
use crate::cache::rules::date;
use crate::cache::rules::key::Key;
use crate::cache::rules::storing::{Storable, Terms};
use crate::cache::rules::vary::Vary;
use crate::cache::store::body::{Budget, Next, Whole};
use crate::cache::store::object::{Body, Object, tags};
use crate::cache::store::purge::Clock;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const ROOMY: Bounds = Bounds { bytes: 1 << 30, objects: 1 << 20 };

fn head(lines: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    lines.iter().map(pair).collect()
}

fn key(url: &str) -> Arc<Key> {
    Arc::new(Key::from_text(&format!("{url}\ndefault\nroute")).unwrap())
}

fn terms(lifetime: Duration) -> Terms {
    Terms {
        answered: date::now(),
        initial_age: Duration::from_secs(3),
        lifetime,
        grace: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        no_cache: false,
        must_revalidate: true,
    }
}

fn object(born: u64, fields: &[(&str, &str)], request: &HeaderMap, body: &[u8]) -> Arc<Object> {
    let headers = head(fields);
    let vary = Vary::of(&headers).unwrap();
    let tags = tags(&headers, Some(&HeaderName::from_static("surrogate-key")));
    let storable =
        Storable { status: StatusCode::OK, headers, vary, terms: terms(Duration::from_secs(3600)) };
    let pieces: Vec<Bytes> = body.chunks(50_000).map(Bytes::copy_from_slice).collect();
    let body = Body::Whole(Arc::new(Whole::new(&pieces)));
    Arc::new(Object::new(storable, request, body, (tags, born)))
}

/// A tier with what its tests need.
struct Tier {
    disk: Arc<Disk>,
    clock: Arc<Clock>,
    budget: Arc<Budget>,
}

impl Tier {
    fn open(root: &Path, bounds: Bounds) -> Self {
        let clock = Arc::<Clock>::default();
        let disk = Disk::open(root, bounds, (Arc::clone(&clock), Arc::default()), Box::new(|_| {})).unwrap();
        Self { disk, clock, budget: Arc::new(Budget::new(64 << 20)) }
    }

    /// Writes, and waits until it is done.
    fn put(&self, url: &str, fields: &[(&str, &str)], request: &HeaderMap, body: &[u8]) {
        let object = object(self.clock.stamp(), fields, request, body);
        let Body::Whole(whole) = &object.body else { unreachable!() };
        self.disk.write(&key(url), &object, whole).unwrap();
    }

    async fn get(&self, url: &str, request: &HeaderMap) -> Option<(Vec<u8>, HeaderMap, bool)> {
        let text = key(url).as_str().to_owned();
        let hit = self.disk.find((&text, request), date::now(), (16 << 20, &self.budget)).await?;
        let (object, pump) = match hit {
            Hit::Whole(object) => (object, None),
            Hit::Coming(object, pump) => (object, Some(tokio::spawn(pump.run()))),
        };
        let is_aged = object.aged.load(std::sync::atomic::Ordering::Acquire);
        let body = match &object.body {
            Body::Whole(whole) => whole.pieces().concat(),
            Body::Filling(filling) => {
                let mut reader = filling.follow().unwrap();
                let mut body = Vec::new();
                loop {
                    match reader.next().await {
                        Next::Piece(piece) => body.extend_from_slice(&piece),
                        Next::End(crate::cache::store::body::End::Whole) => break body,
                        Next::End(_) => return None,
                    }
                }
            }
        };
        if let Some(pump) = pump {
            let whole = pump.await.unwrap().unwrap();
            let Body::Whole(whole) = &whole.body else { panic!() };
            assert_eq!(whole.pieces().concat(), body, "what is kept is what was served");
        }
        Some((body, object.head.headers.as_ref().clone(), is_aged))
    }

    async fn has(&self, url: &str) -> bool {
        self.get(url, &HeaderMap::new()).await.is_some()
    }

    async fn rebuilt(self) -> Self {
        until("the index is rebuilt", || self.disk.is_rebuilt()).await;
        self
    }
}

/// Waits for a condition.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The files of objects.
fn files(root: &Path) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.is_dir() && !path.ends_with("tmp"));
    folders.flat_map(|path| std::fs::read_dir(path).unwrap()).map(|entry| entry.unwrap().path()).collect()
}

fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        out.extend_from_slice(&next().to_le_bytes());
    }
    out.truncate(length);
    out
}

fn file_of(root: &Path, url: &str) -> std::path::PathBuf {
    Folder::open(root).unwrap().path(Name::of(key(url).as_str(), b""))
}
