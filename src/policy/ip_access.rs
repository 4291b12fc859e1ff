//! Which client addresses are let in.

use crate::values::Network;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which client addresses are let in. A denied network wins over an allowed one; with `allow`
/// given, whoever is in none of its networks is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IpAccessConfig {
    /// Networks that are let in, such as `10.0.0.0/8` or `192.0.2.7/32`. Default: all.
    pub allow: Vec<Network>,
    /// Networks that are refused. Default: none.
    pub deny: Vec<Network>,
}
