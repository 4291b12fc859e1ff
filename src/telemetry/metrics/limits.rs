use super::sharded::Sharded;
use std::fmt;
use std::sync::Arc;

/// Where a limit stands, and its name.
pub(super) type Key = (Arc<str>, Arc<str>);

/// How often a limit decided what.
pub struct LimitMetrics {
    key: Key,
    counts: Sharded,
}

impl fmt::Debug for LimitMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitMetrics").field(&self.key).finish()
    }
}

impl LimitMetrics {
    const OUTCOMES: [&'static str; 4] = ["admitted", "refused", "would_refuse", "store_failed"];

    pub(super) fn new(key: Key, shards: usize) -> Self {
        Self { key, counts: Sharded::new(Self::OUTCOMES.len(), shards) }
    }

    /// Counters that no scrape sees, for what is compiled outside of a gateway.
    pub fn unseen() -> Self {
        Self::new(("".into(), "".into()), 1)
    }

    /// A request had what it asked for.
    pub fn admitted(&self) {
        self.counts.add(0, 1);
    }

    /// A request was refused by this limit.
    pub fn refused(&self) {
        self.counts.add(1, 1);
    }

    /// A request would have been refused, if the limit did more than count.
    pub fn would_refuse(&self) {
        self.counts.add(2, 1);
    }

    /// The store that decides did not answer in time.
    pub fn store_failed(&self) {
        self.counts.add(3, 1);
    }

    pub(super) fn labels(&self) -> (&str, &str) {
        (&self.key.0, &self.key.1)
    }

    /// Each outcome that there was, with how often.
    pub(super) fn sums(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = Self::OUTCOMES.into_iter().enumerate().map(|(at, name)| (name, self.counts.sum(at)));
        counts.filter(|(_, count)| *count > 0)
    }
}
