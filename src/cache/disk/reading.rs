//! Looking something up, and what comes of it.

use super::files::{Fault, Opened, Sound};
use super::format::PIECE;
use super::index::{Entry, Name};
use super::{Disk, count};
use crate::cache::store::body::{Budget, End, Filling, Whole};
use crate::cache::store::object::{Body, Object};
use crate::cache::store::purge::Verdict;
use bytes::Bytes;
use http::HeaderMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// A body up to this is read, and checked, as a whole before anything of it is served.
const AT_ONCE: usize = 4;

/// How long a request waits for its turn to read.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a look-up may take: a disk that hangs is an error.
const LONGEST: Duration = Duration::from_secs(2);

/// A moment so far ahead of the clock is none of its moments, in microseconds.
const AHEAD: u64 = 1_000_000;

/// An answer from disk.
#[derive(Debug)]
pub enum Hit {
    /// It is there.
    Whole(Arc<Object>),
    /// Its body comes, once its pump runs.
    Coming(Arc<Object>, Pump),
}

/// One that a request may be looking for.
#[derive(Debug)]
pub(super) struct Candidate {
    name: Name,
    variant: Box<[u8]>,
    entry: Option<Arc<Entry>>,
}

/// A sound file that is for a request.
#[derive(Debug)]
struct Chosen {
    name: Name,
    sound: Box<Sound>,
    checked: u64,
    is_aged: bool,
}

impl Disk {
    /// The answer for a request with these fields. A body that comes is kept as a whole up to `largest`
    /// bytes, as far as the budget allows.
    pub async fn find(
        self: &Arc<Self>,
        (key, request): (&str, &HeaderMap),
        now: Duration,
        (largest, budget): (u64, &Arc<Budget>),
    ) -> Option<Hit> {
        let candidates = self.candidates(key, request);
        if candidates.is_empty() {
            return None;
        }
        let looked = self.look(key, candidates, now).await?;
        count(&self.counts.hits);
        let (chosen, whole) = looked;
        let Chosen { name, sound, checked, is_aged } = chosen;
        let record = &sound.record;
        let object = |body| {
            let head = (record.head.clone(), record.variant.clone());
            Object::restored(head, body, (record.tags.clone(), record.born), (checked, is_aged))
        };
        if let Some(whole) = whole {
            return Some(Hit::Whole(Arc::new(object(Body::Whole(Arc::new(whole))))));
        }
        let filling = Arc::new(Filling::new(Some(record.length), largest, Arc::clone(budget)));
        let object = Arc::new(object(Body::Filling(Arc::clone(&filling))));
        let pump = Pump {
            disk: Arc::clone(self),
            name,
            sound: Arc::from(sound),
            filling,
            object: Arc::clone(&object),
        };
        Some(Hit::Coming(object, pump))
    }

    fn candidates(&self, key: &str, request: &HeaderMap) -> Vec<Candidate> {
        let plain = Name::of(key, b"");
        let known = self.index.find(plain.key, request);
        if known.is_empty() && !self.is_rebuilt() {
            // Not every file is known yet; the commonest name can be tried.
            return vec![Candidate { name: plain, variant: Box::default(), entry: None }];
        }
        let one = |(name, variant, entry)| Candidate { name, variant, entry: Some(entry) };
        known.into_iter().map(one).collect()
    }

    /// Looks off the worker, in its turn.
    async fn look(
        self: &Arc<Self>,
        key: &str,
        candidates: Vec<Candidate>,
        now: Duration,
    ) -> Option<(Chosen, Option<Whole>)> {
        if self.reading.is_paused(Instant::now()) {
            count(&self.counts.passed_over);
            return None;
        }
        let Some(turn) = self.turn().await else {
            count(&self.counts.passed_over);
            return None;
        };
        let (disk, key) = (Arc::clone(self), Box::<str>::from(key));
        let job = tokio::task::spawn_blocking(move || {
            // A job that is given up still holds its place: so many hang at most.
            let _turn = turn;
            disk.read(&key, candidates, now)
        });
        match tokio::time::timeout(LONGEST, job).await {
            Ok(Ok(Ok(found))) => {
                self.reading.worked(self.folder.root());
                found
            }
            Ok(Ok(Err(error))) => {
                self.read_failed(&error);
                None
            }
            Ok(Err(_)) => None,
            Err(_) => {
                self.read_failed(&io::Error::new(io::ErrorKind::TimedOut, "it took too long"));
                None
            }
        }
    }

    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.readers).acquire_owned();
        tokio::time::timeout(PATIENCE, turn).await.ok()?.ok()
    }

    /// The first of the candidates that is what it should be. Blocks.
    fn read(
        &self,
        key: &str,
        candidates: Vec<Candidate>,
        now: Duration,
    ) -> io::Result<Option<(Chosen, Option<Whole>)>> {
        for candidate in candidates {
            let Some(chosen) = self.choose(key, candidate, now)? else { continue };
            if chosen.sound.pieces() > AT_ONCE {
                return Ok(Some((chosen, None)));
            }
            let pieces: Result<Vec<Bytes>, Fault> =
                (0..chosen.sound.pieces()).map(|at| chosen.sound.piece(at).map(Bytes::from)).collect();
            match pieces {
                Ok(pieces) => return Ok(Some((chosen, Some(Whole::new(&pieces))))),
                Err(Fault::Damaged) => self.drop_damaged(chosen.name),
                Err(Fault::Io(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn choose(&self, key: &str, candidate: Candidate, now: Duration) -> io::Result<Option<Chosen>> {
        let Candidate { name, variant, entry } = candidate;
        let sound = match self.folder.object(name)? {
            Opened::Sound(sound) => sound,
            Opened::Damaged => {
                self.drop_damaged(name);
                return Ok(None);
            }
            Opened::Missing => {
                if let Some(entry) = &entry {
                    self.index.remove(name, Some(entry));
                }
                return Ok(None);
            }
        };
        if *sound.record.key != *key || sound.record.variant != variant {
            // Another key with the same hash, or an answer that varies on something else now.
            return Ok(None);
        }
        let since = entry.as_ref().map_or(0, |entry| entry.checked.load(Ordering::Acquire));
        let Some((checked, is_aged)) = self.is_usable(&sound, since, now) else {
            self.drop_file(name, entry.as_ref());
            return Ok(None);
        };
        if let Some(entry) = entry.filter(|_| !is_aged) {
            entry.checked.fetch_max(checked, Ordering::AcqRel);
        }
        Ok(Some(Chosen { name, sound, checked, is_aged }))
    }

    /// Up to when purges have been held against a file, and whether one has made it stale; none if it is of
    /// no use any more. `since` is up to when it was looked at before.
    pub(super) fn is_usable(&self, sound: &Sound, since: u64, now: Duration) -> Option<(u64, bool)> {
        let record = &sound.record;
        // What was there when the folder was opened had been looked at up to the floor of then.
        let since = since.max(record.born).max(self.floor);
        let (verdict, at) = self.purges.look(&record.key, &record.tags, since);
        if record.born > at + AHEAD {
            // The clock was set back: nobody can say what was before what.
            return None;
        }
        self.purges.clock().pass(record.born);
        let terms = &record.head.terms;
        let has_validator = crate::cache::rules::update::has_validator(&record.head.headers);
        let is_useless = now.saturating_sub(terms.answered) > terms.useful_for(has_validator);
        let is_ahead = terms.answered > now + Duration::from_secs(60);
        if verdict == Verdict::Gone || is_useless || is_ahead {
            return None;
        }
        Some((at, verdict == Verdict::Aged))
    }
}

/// Brings a body from disk to those who follow it.
#[derive(Debug)]
pub struct Pump {
    disk: Arc<Disk>,
    name: Name,
    sound: Arc<Sound>,
    filling: Arc<Filling>,
    object: Arc<Object>,
}

impl Pump {
    /// Runs to the end of the body, or until nobody follows. The answer with its whole body, if that is
    /// to be kept in memory.
    pub async fn run(self) -> Option<Arc<Object>> {
        let mut at = 0;
        while at < self.sound.pieces() {
            match self.next(at).await {
                Ok(pieces) => {
                    at += pieces.len();
                    for piece in pieces {
                        if !self.filling.push(&piece).await {
                            return None;
                        }
                    }
                }
                Err(fault) => {
                    match fault {
                        Fault::Damaged => self.disk.drop_damaged(self.name),
                        Fault::Io(error) => self.disk.read_failed(&error),
                    }
                    self.filling.finish(End::Broken);
                    return None;
                }
            }
        }
        let whole = self.filling.finish(End::Whole)?;
        Some(Arc::new(self.object.completed(Body::Whole(whole))))
    }

    /// Some pieces from this one on.
    async fn next(&self, at: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let gone = || Fault::Io(io::Error::other("the process ends"));
        let turn = Arc::clone(&self.disk.readers).acquire_owned().await.map_err(|_| gone())?;
        let sound = Arc::clone(&self.sound);
        let count = if self.filling.is_narrow() { 1 } else { AT_ONCE };
        let upto = (at + count).min(sound.pieces());
        let job = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            (at..upto).map(|at| sound.piece(at)).collect()
        });
        job.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Pump {
    /// One that is dropped before the end leaves a body that breaks off, not one that never ends.
    fn drop(&mut self) {
        self.filling.finish(End::Broken);
    }
}

const _: () = assert!(AT_ONCE * PIECE <= 256 << 10, "a look-up reads no more than this");
