//! Units that a gateway takes from the store ahead of time, to spend by itself.
//!
//! A lease is units of a key that the store has counted as used. They are good for as long as the store
//! takes to have as many again, and for a second in any case (units of a fast limit are there again in less time than
//! requests take to come); what is left of them then is gone. How many are taken at once goes by what
//! was spent of the last lease, from one request's up to twice as many, so that a gateway that seldom has a
//! request of a key takes nothing away from the others, and one that has many asks seldom.
//!
//! With `G` gateways and leases of `L` units, in no stretch of time `t` are more than
//! `burst + rate * t + G * L` admitted: what the store gave in it, and what each gateway had before. At
//! most `G * L` units are out of a request's reach at a time, and over any time a gateway lets at most as
//! many go unspent as it has spent, and one lease.
//!
//! What the store refuses, it would refuse until units have come back: for a second at most a gateway
//! answers so by itself, so that who is refused again and again costs the store nothing either.

use super::shared::LimitKey;
use crate::policy::shared::gcra::{Pace, Ticks, ticks};
use crate::retained::{Retained, StableId};
use ahash::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Locks that keys are spread over.
const SHARDS: usize = 16;
/// The most keys that have leases, about 6 MiB of them; others ask for each request.
const MOST: usize = 1 << 16;
/// A lease is good for at least as long. How long does not touch the bound: a gateway has one lease at a time.
const SHORTEST: Duration = Duration::from_secs(1);
/// So long it is believed what the store said last of what it has.
const BELIEF: Duration = Duration::from_secs(1);

/// What this gateway has leased, for all limits of the process.
#[derive(Debug)]
pub struct Leases {
    shards: [Mutex<HashMap<LimitKey, Lease>>; SHARDS],
}

/// What is asked of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// What was leased at another interval counts no more.
    pub pace: Pace,
    /// What the request costs.
    pub cost: Ticks,
    /// The most to lease, in the same measure.
    pub most: Ticks,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Leased<'a> {
    /// There was enough: all of the key is there again then, as far as this gateway knows.
    Taken(Ticks),
    /// The store would refuse it.
    Refused {
        /// How long it has to wait.
        wait: Ticks,
        /// When all of the key is there again.
        full: Ticks,
    },
    /// The store is to be asked: for so much, if there is as much, and for the request's cost at least.
    /// Where there is a turn, what comes beyond that cost is a lease.
    Ask(Ticks, Option<Turn<'a>>),
}

/// The right to lease units of a key: one request's at a time, so that a gateway never has two leases.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    of: &'a Leases,
    key: LimitKey,
    need: Need,
}

#[derive(Debug, Default)]
struct Lease {
    interval: Ticks,
    /// What can be spent.
    left: Ticks,
    /// What was spent.
    spent: Ticks,
    /// Until when it is good.
    until: Ticks,
    /// When all of the key is there again, as the store said.
    full: Ticks,
    /// When it said so.
    told: Ticks,
    /// Somebody asks the store for more.
    is_asking: bool,
}

impl Lease {
    const fn is_good(&self, now: Ticks) -> bool {
        now < self.until
    }

    /// True if forgetting it loses nothing.
    fn is_over(&self, now: Ticks) -> bool {
        !self.is_good(now) && !self.is_asking && now.saturating_sub(self.told) > ticks(BELIEF)
    }

    /// How much to take next.
    fn next(&self, need: &Need, now: Ticks) -> Ticks {
        let more = if self.is_good(now) { self.spent.saturating_mul(2) } else { self.spent };
        more.min(need.most).max(need.cost)
    }

    /// What the store would say, if it is known.
    fn refusal(&self, need: &Need, now: Ticks) -> Option<Ticks> {
        let is_known = now.saturating_sub(self.told) <= ticks(BELIEF);
        need.pace.take(self.full, now, need.cost).err().filter(|_| is_known)
    }
}

impl Leases {
    /// Those of the process.
    pub(super) fn of_process(retained: &Retained) -> Arc<Self> {
        retained.get_or(Self::id(), Self::new)
    }

    /// Those of the process, if a limit has any.
    pub fn of(retained: &Retained) -> Option<Arc<Self>> {
        retained.get(Self::id())
    }

    fn id() -> StableId {
        StableId::new("limit_leases", "")
    }

    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Takes what a request needs from what was leased, or says what to ask the store for.
    pub(super) fn take(&self, key: LimitKey, need: Need, now: Ticks) -> Leased<'_> {
        let mut shard = self.shard(&key).lock();
        if shard.len() >= MOST / SHARDS && !shard.contains_key(&key) {
            shard.retain(|_, lease| !lease.is_over(now));
            if shard.len() >= MOST / SHARDS {
                return Leased::Ask(need.cost, None);
            }
        }
        let lease = shard.entry(key).or_default();
        if lease.interval != need.pace.interval() {
            *lease = Lease { interval: need.pace.interval(), ..Lease::default() };
        }
        if lease.is_good(now) && lease.left >= need.cost {
            lease.left -= need.cost;
            lease.spent = lease.spent.saturating_add(need.cost);
            return Leased::Taken(lease.full.saturating_sub(lease.left));
        }
        if let Some(wait) = lease.refusal(&need, now) {
            return Leased::Refused { wait, full: lease.full };
        }
        if lease.is_asking {
            return Leased::Ask(need.cost, None);
        }
        lease.is_asking = true;
        Leased::Ask(lease.next(&need, now), Some(Turn { of: self, key, need }))
    }

    /// Puts back what a request took and does not need.
    pub(super) fn give_back(&self, key: &LimitKey, taken: Ticks, (interval, now): (Ticks, Ticks)) {
        let mut shard = self.shard(key).lock();
        let lease = shard.get_mut(key).filter(|lease| lease.interval == interval && lease.is_good(now));
        if let Some(lease) = lease {
            // Not more than this lease has given: what is of an earlier one is gone with that.
            let taken = taken.min(lease.spent);
            lease.left = lease.left.saturating_add(taken);
            lease.spent -= taken;
        }
    }

    /// The memory that it takes, in bytes, without what the allocator adds.
    pub fn bytes(&self) -> usize {
        let each = size_of::<(LimitKey, Lease)>() + 1;
        self.shards.iter().map(|shard| shard.lock().capacity() * each).sum()
    }

    fn shard(&self, [first, ..]: &LimitKey) -> &Mutex<HashMap<LimitKey, Lease>> {
        &self.shards[usize::from(*first) % SHARDS]
    }
}

impl Turn<'_> {
    /// The store gave `granted`, of which the request takes its cost; all of the key is there again at `full`.
    pub(super) fn granted(self, granted: Ticks, (full, now): (Ticks, Ticks)) {
        self.lease(|lease, need| {
            let left = if lease.is_good(now) { lease.left } else { 0 };
            let more = left.saturating_add(granted.saturating_sub(need.cost));
            (lease.left, lease.spent) = (more.min(need.most.saturating_sub(need.cost)), need.cost);
            lease.until = now.saturating_add(granted.max(ticks(SHORTEST)));
            (lease.full, lease.told) = (full, now);
        });
    }

    /// The store gave nothing; all of the key is there again at `full`.
    pub(super) fn refused(self, (full, now): (Ticks, Ticks)) {
        self.lease(|lease, _| (lease.full, lease.told) = (full, now));
    }

    fn lease(&self, change: impl FnOnce(&mut Lease, &Need)) {
        let mut shard = self.of.shard(&self.key).lock();
        // The rate may have changed meanwhile.
        let interval = self.need.pace.interval();
        if let Some(lease) = shard.get_mut(&self.key).filter(|lease| lease.interval == interval) {
            change(lease, &self.need);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.lease(|lease, _| lease.is_asking = false);
    }
}
