//! Counters that each worker keeps for itself and a scrape sums.

use crate::telemetry::worker;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A cache line of counters, so that two workers never write to the same one.
#[repr(align(64))]
#[derive(Default)]
struct Line([AtomicU64; 8]);

/// A fixed number of counters, once for each worker.
pub(super) struct Sharded {
    lines: Box<[Line]>,
    lines_per_shard: usize,
    shard_mask: usize,
}

impl Sharded {
    /// `slots` counters at zero for each of `shards` workers; `shards` is a power of two.
    pub(super) fn new(slots: usize, shards: usize) -> Self {
        let lines_per_shard = slots.div_ceil(8);
        let lines = (0..shards * lines_per_shard).map(|_| Line::default()).collect();
        Self { lines, lines_per_shard, shard_mask: shards - 1 }
    }

    /// Adds to this worker's counter.
    pub(super) fn add(&self, slot: usize, amount: u64) {
        let first = (worker::number() & self.shard_mask) * self.lines_per_shard;
        self.lines[first + slot / 8].0[slot % 8].fetch_add(amount, Ordering::Relaxed);
    }

    /// What all workers counted.
    pub(super) fn sum(&self, slot: usize) -> u64 {
        self.lines
            .chunks_exact(self.lines_per_shard)
            .map(|shard| shard[slot / 8].0[slot % 8].load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }
}

/// Counters by a word of the code, such as a rejection's. The words are constants, so there are as
/// many as the code has.
pub(super) struct Coded {
    cells: ArcSwap<Vec<(&'static str, Arc<Sharded>)>>,
    shards: usize,
}

impl Coded {
    pub(super) fn new(shards: usize) -> Self {
        Self { cells: ArcSwap::default(), shards }
    }

    /// Counts one more of `code`.
    pub(super) fn count(&self, code: &'static str) {
        loop {
            if let Some((_, cell)) = self.cells.load().iter().find(|(known, _)| *known == code) {
                return cell.add(0, 1);
            }
            self.cells.rcu(|cells| {
                let mut cells = Vec::clone(cells);
                if !cells.iter().any(|(known, _)| *known == code) {
                    cells.push((code, Arc::new(Sharded::new(1, self.shards))));
                }
                cells
            });
        }
    }

    /// Each code that was counted, with how often.
    pub(super) fn sums(&self) -> Vec<(&'static str, u64)> {
        self.cells.load().iter().map(|(code, cell)| (*code, cell.sum(0))).collect()
    }
}

/// A number that goes up and down, once for each worker. Each worker's part is an `Arc` of its own,
/// so that a guard can hold it without all workers counting references in one place.
pub(super) struct Levels(Box<[Arc<Level>]>);

#[repr(align(64))]
#[derive(Default)]
struct Level(AtomicI64);

/// One unit of a [`Levels`], until it is dropped; on whichever thread that is.
pub(super) struct LevelGuard(Arc<Level>);

impl Levels {
    /// Nothing, for `shards` workers, a power of two.
    pub(super) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Arc::default()).collect())
    }

    /// One more, until the guard goes.
    pub(super) fn enter(&self) -> LevelGuard {
        let level = Arc::clone(&self.0[worker::number() & (self.0.len() - 1)]);
        level.0.fetch_add(1, Ordering::Relaxed);
        LevelGuard(level)
    }

    /// How many there are. A guard may begin and end on different workers; only the sum has a meaning.
    pub(super) fn sum(&self) -> i64 {
        self.0.iter().map(|level| level.0.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for LevelGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
