//! Purges. One is remembered, not carried out: an answer is held against those that came after it when it
//! is next asked for. So a purge costs the same for one answer and for millions, and is in force at once.

use super::object::Object;
use crate::cache::rules::date;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many purges are remembered before they are carried out.
pub(super) const MANY: usize = 8192;

/// How many at most: then whoever purges carries them out.
pub(super) const MOST: usize = 4 * MANY;

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

/// As it is written down and passed on: `soft` or `hard`, and what; on one line.
impl fmt::Display for Purge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.soft { "soft" } else { "hard" })?;
        let (kind, of) = match &self.target {
            Target::All => return f.write_str(" all"),
            Target::Tag(tag) => return write!(f, " tag {tag:016x}"),
            Target::Host(host) => ("host", host),
            Target::Prefix(prefix) => ("prefix", prefix),
            Target::Url(url) => ("url", url),
        };
        write!(f, " {kind} ")?;
        of.chars().try_for_each(|c| match c {
            '\n' => f.write_str("\\n"),
            '\\' => f.write_str("\\\\"),
            c => f.write_char(c),
        })
    }
}

impl Purge {
    /// What was written; none if that is no purge.
    pub fn parse(text: &str) -> Option<Self> {
        let (how, what) = text.split_once(' ')?;
        let soft = match how {
            "soft" => true,
            "hard" => false,
            _ => return None,
        };
        let target = match what.split_once(' ') {
            None if what == "all" => Target::All,
            Some(("host", of)) => Target::Host(unescaped(of)?),
            Some(("prefix", of)) => Target::Prefix(unescaped(of)?),
            Some(("url", of)) => Target::Url(unescaped(of)?),
            Some(("tag", of)) => Target::Tag(u64::from_str_radix(of, 16).ok()?),
            _ => return None,
        };
        Some(Self { target, soft })
    }
}

fn unescaped(text: &str) -> Option<Box<str>> {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' if chars.as_str().starts_with('n') => chars.next().map(|_| '\n')?,
            '\\' => chars.next()?,
            c => c,
        });
    }
    Some(out.into())
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

/// Moments in the order in which they are given out: microseconds of the epoch by the clock on the wall, so
/// that they hold over restarts, but never the same twice and never one before the last.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// A moment after all that were given out.
    pub fn stamp(&self) -> u64 {
        let wall = u64::try_from(date::now().as_micros()).unwrap_or(u64::MAX / 2);
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let next = wall.max(before + 1);
            match self.0.compare_exchange_weak(before, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(now) => before = now,
            }
        }
    }

    /// What is given out from now on is after this.
    pub fn pass(&self, moment: u64) {
        self.0.fetch_max(moment, Ordering::AcqRel);
    }
}

/// The purges that are remembered.
#[derive(Debug, Default)]
pub(in crate::cache) struct Purges {
    clock: Arc<Clock>,
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

impl Moments {
    fn last(&self) -> u64 {
        self.hard.max(self.soft)
    }
}

impl Known {
    fn len(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }

    fn moments(&mut self, target: &Target) -> &mut Moments {
        match target {
            Target::Prefix(prefix) => self.prefixes.entry(prefix.clone()).or_default(),
            target => self.exact.entry(target.clone()).or_default(),
        }
    }

    /// What the purges after `since` leave of an answer.
    fn judge(&self, key: &str, tags: &[u64], since: u64) -> Verdict {
        let url = key.split('\n').next().unwrap_or(key);
        let mut verdict = Verdict::Good;
        let mut hold = |moments: Option<&Moments>| {
            let Some(moments) = moments else { return };
            if moments.hard > since {
                verdict = Verdict::Gone;
            } else if moments.soft > since && verdict == Verdict::Good {
                verdict = Verdict::Aged;
            }
        };
        hold(self.exact.get(&Target::All));
        hold(self.exact.get(&Target::Host(host(url).into())));
        hold(self.exact.get(&Target::Url(url.into())));
        tags.iter().for_each(|tag| hold(self.exact.get(&Target::Tag(*tag))));
        let prefixes = self.prefixes.iter().filter(|(prefix, _)| url.starts_with(&***prefix));
        prefixes.for_each(|(_, moments)| hold(Some(moments)));
        verdict
    }
}

impl Purges {
    /// None yet, by this clock.
    pub(in crate::cache) fn new(clock: Arc<Clock>) -> Self {
        Self { clock, ..Self::default() }
    }

    /// A moment after all that were given out.
    pub(in crate::cache) fn stamp(&self) -> u64 {
        self.clock.stamp()
    }

    /// The clock.
    pub(in crate::cache) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Remembers one. How many there are then.
    pub(super) fn add(&self, purge: &Purge) -> usize {
        self.remember(purge);
        self.count()
    }

    /// Remembers one. When it was: after everything that was asked about it before.
    pub(in crate::cache) fn remember(&self, purge: &Purge) -> u64 {
        let mut known = self.known.write();
        let at = self.stamp();
        self.enter(&mut known, purge, at);
        at
    }

    /// Remembers one of which is known when it was; this may be the second time.
    pub(in crate::cache) fn recall(&self, purge: &Purge, at: u64) {
        self.clock.pass(at);
        self.enter(&mut self.known.write(), purge, at);
    }

    /// Hears of one that another process has remembered. True if it is news; then it reaches all that there
    /// is now, since what has been looked at meanwhile was looked at without it.
    pub(in crate::cache) fn hear(&self, purge: &Purge, at: u64) -> bool {
        let mut known = self.known.write();
        self.clock.pass(at);
        let of = |target: &Target| known.exact.get(target).copied().unwrap_or_default();
        let last = match &purge.target {
            Target::Prefix(prefix) => known.prefixes.get(prefix).copied().unwrap_or_default(),
            target => of(target),
        };
        let last = if purge.soft { last.soft } else { last.hard };
        if last.max(of(&Target::All).hard) >= at || self.floor() >= at {
            return false;
        }
        let now = self.stamp();
        self.enter(&mut known, purge, now);
        true
    }

    fn enter(&self, known: &mut Known, purge: &Purge, at: u64) {
        if purge.target == Target::All && !purge.soft {
            // What came before is gone with it.
            known.exact.retain(|_, moments| moments.last() > at);
            known.prefixes.retain(|_, moments| moments.last() > at);
        }
        let moments = known.moments(&purge.target);
        let moment = if purge.soft { &mut moments.soft } else { &mut moments.hard };
        *moment = at.max(*moment);
        self.latest.fetch_max(at, Ordering::AcqRel);
    }

    /// How many are remembered.
    pub(in crate::cache) fn count(&self) -> usize {
        self.known.read().len()
    }

    /// All that are remembered, with when each was.
    pub(in crate::cache) fn all(&self) -> Vec<(Purge, u64)> {
        let known = self.known.read();
        let exact = known.exact.iter().map(|(target, moments)| (target.clone(), *moments));
        let prefixes =
            known.prefixes.iter().map(|(prefix, moments)| (Target::Prefix(prefix.clone()), *moments));
        let both = exact.chain(prefixes).flat_map(|(target, Moments { hard, soft })| {
            let one = |soft, at| (Purge { target: target.clone(), soft }, at);
            [one(false, hard), one(true, soft)]
        });
        both.filter(|(_, at)| *at > 0).collect()
    }

    /// What is left of an answer that was looked at last at `since`, and the moment of this look: what is
    /// purged later has a later one.
    pub(in crate::cache) fn look(&self, key: &str, tags: &[u64], since: u64) -> (Verdict, u64) {
        // A purge gets its moment under this lock, so that none before `now` is missed.
        let known = self.known.read();
        let now = self.stamp();
        if since < self.floor.load(Ordering::Acquire) {
            return (Verdict::Gone, now);
        }
        (known.judge(key, tags, since), now)
    }

    /// What is left of an answer under this key.
    pub(super) fn verdict(&self, key: &str, object: &Object) -> Verdict {
        let latest = self.latest.load(Ordering::Acquire);
        let since = object.checked();
        if since < self.floor.load(Ordering::Acquire) {
            return Verdict::Gone;
        }
        let was_aged = || object.aged.load(Ordering::Acquire);
        let or_aged = |verdict| if verdict == Verdict::Good && was_aged() { Verdict::Aged } else { verdict };
        if latest <= since {
            return or_aged(Verdict::Good);
        }
        let verdict = self.known.read().judge(key, &object.tags, since);
        match verdict {
            // It stays so: nothing that is remembered later makes it good again.
            Verdict::Gone => return verdict,
            Verdict::Aged => object.aged.store(true, Ordering::Release),
            Verdict::Good => {}
        }
        object.checked.store(latest, Ordering::Release);
        or_aged(verdict)
    }

    /// Up to when purges have been forgotten.
    pub(in crate::cache) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    /// Forgets the purges up to a moment, which have been carried out.
    pub(in crate::cache) fn forget(&self, upto: u64) {
        let mut known = self.known.write();
        self.floor.fetch_max(upto, Ordering::AcqRel);
        known.exact.retain(|_, moments| moments.last() > upto);
        known.prefixes.retain(|_, moments| moments.last() > upto);
    }
}

/// The host, with its port, of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}
