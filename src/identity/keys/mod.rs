//! The keys that tokens are verified with: from the configuration, or from their issuer.

mod key;
mod remote;
mod schedule;
mod set;
#[cfg(test)]
mod tests;

pub use key::{Key, Origin};
pub use remote::{Location, NoKey, RemoteKeys, Source, Wait};
pub use set::{KeySet, Read};

use std::sync::Arc;

/// Where a provider's keys are.
#[derive(Clone, Debug)]
pub enum Keys {
    /// They are in the configuration, and change with it.
    Fixed(Arc<KeySet>),
    /// Their issuer publishes them.
    Remote(Arc<RemoteKeys>, Wait),
}

impl Keys {
    /// The keys that are known now.
    pub fn current(&self) -> Arc<KeySet> {
        match self {
            Self::Fixed(set) => Arc::clone(set),
            Self::Remote(keys, _) => keys.current(),
        }
    }
}
