//! Stores of answers, for the policy `cache`.

use crate::values::{ByteSize, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A store of answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheStore {
    /// How much it may hold in memory, what is being fetched aside, for which there is half as much again.
    /// At least 1MiB. Default 256MiB.
    pub memory: ByteSize,
    /// A tier on disk, for what is to outlive the memory and the process. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<CacheDisk>,
    /// The store, by its name in `stores`, by which gateways pass purges on to each other: those that the admin
    /// listener and `PURGE` ask for. Caches of one name that name the same store belong together. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_purges: Option<Name>,
}

impl Default for CacheStore {
    fn default() -> Self {
        Self { memory: ByteSize::mib(256), disk: None, share_purges: None }
    }
}

/// A folder in which a store of answers keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheDisk {
    /// The folder, for this store alone. It is made if it is not there.
    pub path: PathBuf,
    /// How much it may hold, in whole blocks of 4KiB. At least 1MiB. Default 1GiB.
    #[serde(default = "one_gibibyte")]
    pub size: ByteSize,
    /// How many answers it may hold. Each takes about 200 bytes of memory, and counts as its share of `size` at
    /// least. Default 1000000.
    #[serde(default = "one_million")]
    #[schemars(range(min = 100, max = 100_000_000))]
    pub objects: u32,
}

const fn one_gibibyte() -> ByteSize {
    ByteSize::mib(1024)
}

const fn one_million() -> u32 {
    1_000_000
}
