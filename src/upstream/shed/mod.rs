//! How many requests an upstream has at once: beyond that they wait for a turn, for a short while, or are shed.
//!
//! [`limit`] finds how many, [`queue`] says who is next; here are the threads. A request that finds room, while
//! nobody waits, takes it by one atomic step. Its [`Turn`] gives it back whatever happens to it.

pub mod limit;
pub mod queue;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use crate::config::model::upstream::{Limits, MostRequests};
use crate::values::Importance;
use limit::{Limit, Window};
use parking_lot::Mutex;
use queue::Queue;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The shortest window, in microseconds.
pub const WINDOW: u64 = 100_000;

/// What a configuration says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// So many, or between these.
    most: Most,
    waiting: usize,
    wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Most {
    Fixed(usize),
    Auto(f64, f64),
}

impl Rules {
    /// Of a configuration, which was checked.
    pub fn new(limits: &Limits) -> Self {
        let most = match limits.requests {
            MostRequests::Fixed(count) => Most::Fixed(count as usize),
            MostRequests::Auto => Most::Auto(limits.between.least.into(), limits.between.most.into()),
        };
        Self { most, waiting: limits.waiting as usize, wait: limits.wait.get() }
    }
}

/// The requests of an upstream, those in flight and those that wait. It outlives configurations.
pub struct Gate {
    began: Instant,
    in_flight: AtomicUsize,
    /// Those in the queue, some of whom may have gone.
    waiting: AtomicUsize,
    /// What the limit has found.
    found: AtomicUsize,
    shed: AtomicU64,
    seen: Seen,
    core: Mutex<Core>,
}

#[derive(Default)]
struct Core {
    queue: Queue<oneshot::Sender<Turn>>,
    limit: Limit,
}

/// What the window that has begun saw.
#[derive(Default)]
struct Seen {
    since: AtomicU64,
    answers: AtomicU64,
    sum: AtomicU64,
    failed: AtomicU64,
    peak: AtomicU64,
    /// In microseconds; what fails later failed for want of room.
    slow: AtomicU64,
}

/// Room for a request. It is given back when this is dropped.
#[must_use = "there is room as long as this is held"]
pub struct Turn(Option<(Arc<Gate>, Rules)>);

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// Whether there is room without a wait.
#[derive(Debug)]
pub enum Entry {
    /// There is no limit.
    Unlimited,
    /// There is.
    Room(Turn),
    /// There is none, or others wait for it.
    Full,
}

/// How a gate is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// In flight.
    pub in_flight: usize,
    /// Waiting.
    pub waiting: usize,
    /// Shed so far.
    pub shed: u64,
}

impl Default for Gate {
    fn default() -> Self {
        let limit = Limit::default();
        Self {
            began: Instant::now(),
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            found: AtomicUsize::new(limit.get()),
            shed: AtomicU64::new(0),
            seen: Seen::default(),
            core: Mutex::new(Core { queue: Queue::default(), limit }),
        }
    }
}

impl Gate {
    /// The most in flight by these rules now.
    pub fn limit(&self, rules: &Rules) -> usize {
        match rules.most {
            Most::Fixed(count) => count,
            Most::Auto(least, most) => {
                self.found.load(Ordering::Relaxed).clamp(least as usize, most as usize)
            }
        }
    }

    /// How it is.
    pub fn count(&self) -> Count {
        Count {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            shed: self.shed.load(Ordering::Relaxed),
        }
    }

    fn now(&self) -> u64 {
        micros(self.began.elapsed())
    }

    /// Room, if there is some and nobody waits for it.
    pub fn try_enter(self: &Arc<Self>, rules: &Rules) -> Option<Turn> {
        (self.waiting.load(Ordering::SeqCst) == 0 && self.take(rules)).then(|| self.turn(rules))
    }

    /// Room, after a while if it has to be. `None` if there is none to be had: the request is shed.
    pub async fn enter(
        self: &Arc<Self>,
        rules: &Rules,
        importance: Importance,
        left: Duration,
    ) -> Option<Turn> {
        let turn = match self.ask(rules, importance) {
            Ok(turn) => Some(turn),
            Err(coming) => tokio::time::timeout(rules.wait.min(left), coming).await.ok().and_then(Result::ok),
        };
        if turn.is_none() {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        turn
    }

    /// Room, or where it will come; that ends at once for whoever is shed.
    fn ask(self: &Arc<Self>, rules: &Rules, importance: Importance) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut core = self.core.lock();
        let now = self.now();
        self.expire(&mut core, now, rules);
        // Said before it is looked for room, so that whoever gives some back from here on looks for who waits.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if core.queue.is_empty() && self.take(rules) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Ok(self.turn(rules));
        }
        let (turn, coming) = oneshot::channel();
        if let Err(out) = core.queue.push(now, importance, turn, rules.waiting) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            // Whoever was put out learns it by the end of its channel; it may be this one.
            drop(out);
        }
        Err(coming)
    }

    /// Puts out who has waited for too long, and forgets who has gone.
    fn expire(&self, core: &mut Core, now: u64, rules: &Rules) {
        while let Some(out) = core.queue.expired(now, micros(rules.wait)) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            drop(out);
        }
    }

    fn take(&self, rules: &Rules) -> bool {
        let limit = self.limit(rules);
        let more = |count: usize| (count < limit).then_some(count + 1);
        let taken = self.in_flight.fetch_update(Ordering::SeqCst, Ordering::Relaxed, more);
        if let Ok(before) = taken {
            self.seen.peak.fetch_max(before as u64 + 1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    fn turn(self: &Arc<Self>, rules: &Rules) -> Turn {
        Turn(Some((Arc::clone(self), *rules)))
    }

    /// There may be room for some who wait.
    fn serve(self: &Arc<Self>, rules: &Rules) {
        let mut core = self.core.lock();
        let now = self.now();
        self.expire(&mut core, now, rules);
        while !core.queue.is_empty() && self.take(rules) {
            let Some(next) = core.queue.pop(now, micros(rules.wait)) else {
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                return;
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            if let Err(mut turn) = next.send(self.turn(rules)) {
                // It has gone. Not by its drop, which would come here again.
                turn.0 = None;
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Notes how long an answer took, or that it failed.
    pub fn note(self: &Arc<Self>, rules: &Rules, took: Duration, failed: bool) {
        let Most::Auto(least, most) = rules.most else { return };
        let (took, seen) = (micros(took), &self.seen);
        if !failed {
            seen.sum.fetch_add(took, Ordering::Relaxed);
            seen.answers.fetch_add(1, Ordering::Relaxed);
        } else if took >= seen.slow.load(Ordering::Relaxed) {
            seen.failed.fetch_add(1, Ordering::Relaxed);
        }
        let now = self.now();
        if now.saturating_sub(seen.since.load(Ordering::Relaxed)) < WINDOW {
            return;
        }
        let Some(mut core) = self.core.try_lock() else { return };
        let count = seen.answers.load(Ordering::Relaxed) + seen.failed.load(Ordering::Relaxed);
        if count < core.limit.wanted() || now.saturating_sub(seen.since.load(Ordering::Relaxed)) < WINDOW {
            return;
        }
        seen.since.store(now, Ordering::Relaxed);
        let in_flight = self.in_flight.load(Ordering::Relaxed) as u64;
        let window = Window {
            answers: seen.answers.swap(0, Ordering::Relaxed),
            sum: seen.sum.swap(0, Ordering::Relaxed),
            failed: seen.failed.swap(0, Ordering::Relaxed),
            peak: seen.peak.swap(in_flight, Ordering::Relaxed),
        };
        core.limit.update(window, now, (least, most));
        let shortest = core.limit.shortest();
        seen.slow.store(if shortest.is_finite() { (shortest * 2.0) as u64 } else { 0 }, Ordering::Relaxed);
        self.found.store(core.limit.get(), Ordering::Relaxed);
        drop(core);
        // It may have grown.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.serve(rules);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((gate, rules)) = self.0.take() else { return };
        gate.in_flight.fetch_sub(1, Ordering::SeqCst);
        if gate.waiting.load(Ordering::SeqCst) > 0 {
            gate.serve(&rules);
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
