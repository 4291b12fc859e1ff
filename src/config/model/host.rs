//! How a host's paths are read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How a host's paths are read, where it differs from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// `merge` (the default) makes one slash of several; `keep` leaves them, for signed URLs.
    pub slashes: Slashes,
    /// `refuse` (the default) answers 400 to `%2f`, `%5c` and bytes that are not UTF-8; `keep`
    /// passes them on.
    pub escapes: Escapes,
    /// A file to answer with instead of our own words, by status.
    #[schemars(with = "BTreeMap<String, PathBuf>")]
    pub error_pages: BTreeMap<u16, PathBuf>,
}

/// What becomes of doubled slashes in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Slashes {
    /// One slash is made of several.
    #[default]
    Merge,
    /// They stay.
    Keep,
}

/// What becomes of escapes that can hide a separator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Escapes {
    /// 400.
    #[default]
    Refuse,
    /// They stay as they are.
    Keep,
}
