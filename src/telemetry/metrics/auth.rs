use super::NONE;
use super::sharded::{Coded, Sharded};
use std::fmt;
use std::sync::Arc;

/// A method and a provider.
pub(super) type Key = (&'static str, Arc<str>);

/// How often a way to authenticate came to what.
pub struct AuthMetrics {
    key: Key,
    admitted: Sharded,
    others: Coded,
}

impl fmt::Debug for AuthMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthMetrics").field(&self.key).finish()
    }
}

impl AuthMetrics {
    pub(super) fn new(key: Key, shards: usize) -> Self {
        Self { key, admitted: Sharded::new(1, shards), others: Coded::new(shards) }
    }

    /// Counters that no scrape sees, for what is compiled outside of a gateway.
    pub fn unseen(method: &'static str) -> Self {
        Self::new((method, NONE.into()), 1)
    }

    /// A caller was let in.
    pub fn admitted(&self) {
        self.admitted.add(0, 1);
    }

    /// Something else came of it; the outcome is a constant.
    pub fn count(&self, outcome: &'static str) {
        self.others.count(outcome);
    }

    pub(super) fn labels(&self) -> (&'static str, &str) {
        (self.key.0, &self.key.1)
    }

    /// Each outcome that there was, with how often.
    pub(super) fn sums(&self) -> Vec<(&'static str, u64)> {
        let mut sums = self.others.sums();
        let admitted = self.admitted.sum(0);
        if admitted > 0 {
            sums.push(("admitted", admitted));
        }
        sums
    }
}
