//! Purges. One is remembered, not carried out: an answer is held against those that came after it when it
//! is next asked for. So a purge costs the same for one answer and for millions, and is in force at once.

use super::object::Object;
use crate::cache::rules::date;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many purges are remembered before they are carried out.
const MOST: usize = 8192;

/// What is purged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Everything.
    All,
    /// All of one host, with its port if it is not its scheme's.
    Host(Box<str>),
    /// All URLs that begin so.
    Prefix(Box<str>),
    /// One URL, in all its variants.
    Url(Box<str>),
    /// All answers with this tag, hashed.
    Tag(u64),
}

/// A purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// What is purged.
    pub target: Target,
    /// Whether what is purged may still be served in its grace, or instead of an error, and be asked about.
    pub soft: bool,
}

/// What purges leave of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as good as it was.
    Good,
    /// It is stale.
    Aged,
    /// It must not be used.
    Gone,
}

/// The purges that are remembered.
#[derive(Debug, Default)]
pub(super) struct Purges {
    /// The last moment that was given out, microseconds of the epoch.
    clock: AtomicU64,
    /// When the last purge was.
    latest: AtomicU64,
    /// Purges up to then have been carried out and forgotten: what was not looked at since is gone.
    floor: AtomicU64,
    known: RwLock<Known>,
}

/// When each target was purged last, hard and soft.
#[derive(Debug, Default)]
struct Known {
    exact: HashMap<Target, Moments, ahash::RandomState>,
    prefixes: HashMap<Box<str>, Moments, ahash::RandomState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    hard: u64,
    soft: u64,
}

impl Known {
    fn len(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }
}

impl Purges {
    /// A moment after all that were given out: by the clock on the wall, so that it holds over restarts.
    pub(super) fn stamp(&self) -> u64 {
        let wall = u64::try_from(date::now().as_micros()).unwrap_or(u64::MAX / 2);
        let mut before = self.clock.load(Ordering::Relaxed);
        loop {
            let next = wall.max(before + 1);
            match self.clock.compare_exchange_weak(before, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(now) => before = now,
            }
        }
    }

    /// Remembers one. True if there are so many that they had better be carried out.
    pub(super) fn add(&self, purge: &Purge) -> bool {
        let mut known = self.known.write();
        let at = self.stamp();
        if purge.target == Target::All && !purge.soft {
            // What came before is gone with it.
            *known = Known::default();
        }
        let moments = match &purge.target {
            Target::Prefix(prefix) => known.prefixes.entry(prefix.clone()).or_default(),
            target => known.exact.entry(target.clone()).or_default(),
        };
        if purge.soft {
            moments.soft = at;
        } else {
            moments.hard = at;
        }
        self.latest.store(at, Ordering::Release);
        known.len() >= MOST
    }

    /// What is left of an answer under this key.
    pub(super) fn verdict(&self, key: &str, object: &Object) -> Verdict {
        let latest = self.latest.load(Ordering::Acquire);
        let since = object.checked();
        if since < self.floor.load(Ordering::Acquire) {
            return Verdict::Gone;
        }
        let was_aged = || object.aged.load(Ordering::Acquire);
        if latest <= since {
            return if was_aged() { Verdict::Aged } else { Verdict::Good };
        }
        let known = self.known.read();
        let url = key.split('\n').next().unwrap_or(key);
        let mut verdict = if was_aged() { Verdict::Aged } else { Verdict::Good };
        let mut hold = |moments: Option<&Moments>| {
            let Some(moments) = moments else { return };
            if moments.hard > since {
                verdict = Verdict::Gone;
            } else if moments.soft > since && verdict == Verdict::Good {
                verdict = Verdict::Aged;
            }
        };
        hold(known.exact.get(&Target::All));
        hold(known.exact.get(&Target::Host(host(url).into())));
        hold(known.exact.get(&Target::Url(url.into())));
        object.tags.iter().for_each(|tag| hold(known.exact.get(&Target::Tag(*tag))));
        known
            .prefixes
            .iter()
            .filter(|(prefix, _)| url.starts_with(&***prefix))
            .for_each(|(_, moments)| hold(Some(moments)));
        match verdict {
            // It stays so: nothing that is remembered later makes it good again.
            Verdict::Gone => return verdict,
            Verdict::Aged => object.aged.store(true, Ordering::Release),
            Verdict::Good => {}
        }
        object.checked.store(latest, Ordering::Release);
        verdict
    }

    /// Forgets the purges up to a moment, which have been carried out.
    pub(super) fn forget(&self, upto: u64) {
        let mut known = self.known.write();
        self.floor.fetch_max(upto, Ordering::AcqRel);
        known.exact.retain(|_, moments| moments.hard.max(moments.soft) > upto);
        known.prefixes.retain(|_, moments| moments.hard.max(moments.soft) > upto);
    }
}

/// The host, with its port, of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}
