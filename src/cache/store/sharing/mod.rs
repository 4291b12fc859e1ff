//! Purges that gateways pass on to each other by a store that they share, such as Redis.
//!
//! For each cache there is a log of the last purges there (a Redis stream). A gateway adds to it what it is asked
//! to purge, and never what it has heard, so nothing goes in circles. It takes in what others have added since the
//! last entry that it knows, and is woken when there is more. So what was purged while it was cut off is
//! caught up with. If the entry that it knows is in the log no more, because very much was purged meanwhile or because
//! the store was emptied, then what was purged is not known, and everything is.

mod belonging;

pub use belonging::PassedOn;

use super::Store;
use super::purge::{Purge, Target};
use crate::outbound::redis::{self, Script, StoreFailure, Waiting, cmd, pipe};
use crate::telemetry::random;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Purges that the log holds, or a few more (`MAXLEN ~`).
const KEPT: usize = 4096;

/// Purges that wait to be passed on. Beyond them everything is purged instead.
const MOST_WAITING: usize = 1024;

/// Purges that are passed on, or taken in, at a time.
const BATCH: usize = 256;

/// For a call: no request waits for it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the store waits for news before it says that there are none. Then it is asked whether the log is
/// still the same.
const WAIT: Duration = Duration::from_secs(1);

/// How long who purges waits until it is passed on.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first pause after a failure, and the longest; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How often the place in the log is written to the disk at most.
const SAVE: Duration = Duration::from_secs(1);

/// Key: the log. Arguments: the entry that is known, how many to take in, how many the log may hold, who asks. The answer:
/// `lost` and the last entry's id if the one that is known is not there, else `news`, an id, and of each new entry
/// its id, whose it is, and what it says. A log that is empty gets an entry that says nothing, so that there
/// is one to know.
const ASK: &str = r"
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id = last and last[1] or redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'by', ARGV[4], 'what', '')
if ARGV[1] == '' then return {'lost', id} end
local found = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2] + 1)
if not found[1] or found[1][1] ~= ARGV[1] then return {'lost', id} end
local answer = {'news', id}
for at = 2, #found do
  answer[#answer + 1] = found[at][1]
  answer[#answer + 1] = found[at][2][2] or ''
  answer[#answer + 1] = found[at][2][4] or ''
end
return answer
";

/// An entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    millis: u64,
    number: u64,
}

impl Place {
    /// One that is in no log.
    const NOWHERE: Self = Self { millis: 0, number: 1 };

    fn parse(text: &[u8]) -> Option<Self> {
        let (millis, number) = std::str::from_utf8(text).ok()?.trim_end().split_once('-')?;
        Some(Self { millis: millis.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

/// A cache's side of it.
pub struct Sharing {
    cache: Box<str>,
    redis: redis::Store,
    key: String,
    ask: Script,
    /// What tells its own entries from those of others.
    own: String,
    /// The folder in which its place is kept.
    folder: Option<PathBuf>,
    outbox: Mutex<Outbox>,
    wake: Notify,
    /// Up to which number purges are passed on.
    told: watch::Sender<u64>,
    /// The last entry that is known.
    place: Mutex<Option<Place>>,
    /// It could not be asked from the beginning, so that there may be something that it has not heard.
    is_late: AtomicBool,
    is_connected: AtomicBool,
    /// Asking was tried once.
    settled: watch::Sender<bool>,
    counts: Counts,
}

/// Purges that wait to be passed on, with their numbers.
#[derive(Debug, Default)]
struct Outbox {
    waiting: VecDeque<(u64, Purge)>,
    last: u64,
}

#[derive(Debug, Default)]
struct Counts {
    told: AtomicU64,
    heard: AtomicU64,
    lost: AtomicU64,
}

/// What a scrape shows of it.
#[derive(Clone, Copy, Debug)]
pub struct SharingCount {
    /// Whether others are heard.
    pub is_connected: bool,
    /// Purges that wait to be passed on.
    pub waiting: u64,
    /// What happened, by its label.
    pub events: [(&'static str, u64); 3],
}

impl Sharing {
    fn new(cache: &str, redis: &redis::Store, (folder, place): (Option<PathBuf>, Option<Place>)) -> Self {
        Self {
            cache: cache.into(),
            key: redis.key("purges", cache),
            redis: redis.within(TIMEOUT),
            ask: Script::new(ASK),
            own: format!("{:016x}", random::next_u64()),
            folder,
            outbox: Mutex::default(),
            wake: Notify::new(),
            told: watch::Sender::new(0),
            place: Mutex::new(place),
            is_late: AtomicBool::new(false),
            is_connected: AtomicBool::new(false),
            settled: watch::Sender::new(false),
            counts: Counts::default(),
        }
    }

    fn is_for(&self, redis: &redis::Store, folder: Option<&PathBuf>) -> bool {
        let same = |a: &redis::Store, b: &redis::Store| a.keeping().id() == b.keeping().id();
        same(&self.redis, redis)
            && self.key == redis.key("purges", &self.cache)
            && self.folder.as_ref() == folder
    }

    /// What a scrape shows.
    pub fn count(&self) -> SharingCount {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { told, heard, lost } = &self.counts;
        SharingCount {
            is_connected: self.is_connected.load(Ordering::Relaxed),
            waiting: self.outbox.lock().waiting.len() as u64,
            events: [("told", of(told)), ("heard", of(heard)), ("lost", of(lost))],
        }
    }

    fn pass_on(&self, purge: &Purge) -> u64 {
        let number = {
            let mut outbox = self.outbox.lock();
            outbox.last += 1;
            let number = outbox.last;
            let purge = match outbox.waiting.len() < MOST_WAITING {
                true => purge.clone(),
                false => {
                    outbox.waiting.clear();
                    Purge { target: Target::All, soft: false }
                }
            };
            outbox.waiting.push_back((number, purge));
            number
        };
        self.wake.notify_one();
        number
    }

    /// Passes on and takes in, until it is dropped.
    async fn run(&self, store: &Store) {
        self.redis.keeping().settled().await;
        tokio::join!(self.tell_always(), self.listen_always(store));
    }

    async fn tell_always(&self) {
        let mut failures =
            Failures::new("purges are not passed on", "purges are passed on again", &self.cache);
        loop {
            match self.tell().await {
                Ok(()) => {
                    failures.none();
                    self.wake.notified().await;
                }
                Err(failure) => failures.another(&failure).await,
            }
        }
    }

    async fn tell(&self) -> Result<(), StoreFailure> {
        loop {
            let batch: Vec<(u64, String)> = {
                let outbox = self.outbox.lock();
                outbox
                    .waiting
                    .iter()
                    .take(BATCH)
                    .map(|(number, purge)| (*number, purge.to_string()))
                    .collect()
            };
            let Some((last, _)) = batch.last() else { return Ok(()) };
            let mut add = pipe();
            for (_, what) in &batch {
                let add = add.cmd("XADD").arg(&self.key).arg("MAXLEN").arg("~").arg(KEPT).arg("*");
                add.arg("by").arg(&self.own).arg("what").arg(what).ignore();
            }
            // What is told twice, since the answer was lost, costs a fetch.
            self.redis.query_all::<()>(&add).await?;
            let mut outbox = self.outbox.lock();
            while outbox.waiting.front().is_some_and(|(number, _)| number <= last) {
                outbox.waiting.pop_front();
            }
            self.counts.told.fetch_add(batch.len() as u64, Ordering::Relaxed);
            self.told.send_replace(*last);
        }
    }

    async fn listen_always(&self, store: &Store) {
        let mut failures =
            Failures::new("purges of others are not heard", "they are heard again", &self.cache);
        let mut waiting = self.redis.waiting();
        let mut saved = (None, None);
        loop {
            match self.listen(store, &mut waiting, &mut saved).await {
                Ok(()) => failures.none(),
                Err(failure) => {
                    self.is_connected.store(false, Ordering::Relaxed);
                    let is_first = self.place.lock().is_none();
                    self.is_late.fetch_or(is_first, Ordering::Relaxed);
                    self.settled.send_replace(true);
                    failures.another(&failure).await;
                }
            }
        }
    }

    /// Takes in what there is, and waits for more.
    async fn listen(
        &self,
        store: &Store,
        waiting: &mut Waiting,
        saved: &mut (Option<Place>, Option<Instant>),
    ) -> Result<(), StoreFailure> {
        let place = self.take_in(store).await?;
        self.is_connected.store(true, Ordering::Relaxed);
        self.settled.send_replace(true);
        save(store, place, saved).await;
        let mut wait = cmd("XREAD");
        wait.arg("COUNT").arg(1).arg("BLOCK").arg(WAIT.as_millis() as u64);
        wait.arg("STREAMS").arg(&self.key).arg(place.to_string());
        waiting.query::<()>(&wait, WAIT).await
    }

    /// Takes in what others have added; the last entry that is known then.
    async fn take_in(&self, store: &Store) -> Result<Place, StoreFailure> {
        loop {
            let known = *self.place.lock();
            let mut ask = self.ask.prepare_invoke();
            ask.key(&self.key).arg(known.map(|place| place.to_string()).unwrap_or_default());
            ask.arg(BATCH).arg(KEPT).arg(&self.own);
            let answer: Vec<Vec<u8>> = self.redis.run(&ask).await?;
            let (entries, last) = match answer.as_slice() {
                [kind, last, entries @ ..] if kind == b"news" => {
                    (entries, entries.chunks(3).last().unwrap_or(std::slice::from_ref(last)))
                }
                [_, last, ..] => {
                    self.lose(store, known.is_some());
                    (&[][..], std::slice::from_ref(last))
                }
                _ => return Err(strange()),
            };
            let last = last.first().and_then(|id| Place::parse(id)).ok_or_else(strange)?;
            for entry in entries.chunks(3) {
                let [_, by, what] = entry else { return Err(strange()) };
                if by != self.own.as_bytes() && !what.is_empty() {
                    self.hear(store, what);
                }
            }
            *self.place.lock() = Some(last);
            if entries.len() < BATCH * 3 {
                return Ok(last);
            }
        }
    }

    fn hear(&self, store: &Store, what: &[u8]) {
        self.counts.heard.fetch_add(1, Ordering::Relaxed);
        let purge = std::str::from_utf8(what).ok().and_then(Purge::parse).unwrap_or_else(|| {
            log::warn!(
                "cache: another gateway purged what is not understood, everything is purged cache={}",
                self.cache
            );
            Purge { target: Target::All, soft: false }
        });
        // In force at once. The place is not written down before the journal has it.
        drop(store.purge(&purge));
    }

    /// What was purged is not known, unless this is the beginning.
    fn lose(&self, store: &Store, was_known: bool) {
        if was_known || self.is_late.load(Ordering::Relaxed) {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            log::warn!(
                "cache: what other gateways purged is not known, everything is purged cache={}",
                self.cache
            );
            drop(store.purge(&Purge { target: Target::All, soft: false }));
        }
    }
}

/// Writes down which entry is known, now and then.
async fn save(store: &Store, place: Place, (saved, at): &mut (Option<Place>, Option<Instant>)) {
    let Some(disk) = store.disk() else { return };
    if *saved == Some(place) || at.is_some_and(|at| at.elapsed() < SAVE) {
        return;
    }
    *at = Some(Instant::now());
    let written = tokio::task::spawn_blocking(move || disk.set_heard(&place.to_string())).await;
    // What cannot be written is tried again, and until then heard again after a restart.
    if matches!(written, Ok(Ok(()))) {
        *saved = Some(place);
    }
}

fn strange() -> StoreFailure {
    StoreFailure::Refused("the log of purges is none".to_owned())
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Failures in a row: the log is told of the first, and of their end.
struct Failures<'a> {
    begin: &'static str,
    end: &'static str,
    cache: &'a str,
    pause: Option<Duration>,
}

impl<'a> Failures<'a> {
    const fn new(begin: &'static str, end: &'static str, cache: &'a str) -> Self {
        Self { begin, end, cache, pause: None }
    }

    fn none(&mut self) {
        if self.pause.take().is_some() {
            log::info!("cache: {} cache={}", self.end, self.cache);
        }
    }

    async fn another(&mut self, failure: &StoreFailure) {
        let (first, most) = PAUSES;
        if self.pause.is_none() {
            log::warn!("cache: {} cache={} cause={failure}", self.begin, self.cache);
        }
        let pause = self.pause.unwrap_or(first);
        self.pause = Some((pause * 2).min(most));
        tokio::time::sleep(pause).await;
    }
}
