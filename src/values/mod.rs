//! Leaves of the configuration: newtypes that are checked while they are parsed, so that nobody
//! checks them again, and [`Problem`], what is wrong and what to do about it.

mod address;
pub mod digits;
mod finding;
mod id;
mod importance;
mod name;
mod network;
pub mod pem;
mod percent;
mod problem;
mod quota;
mod rate;
mod secret;
mod sha256;
mod size;
mod time;
mod unit;
mod url;
mod zone;

pub use address::EndpointAddress;
pub use finding::{ConfigPath, Finding, Severity, Step};
pub use id::{ListenerId, RouteId};
pub use importance::Importance;
pub use name::Name;
pub use network::Network;
pub use percent::Percent;
pub use problem::{Problem, nearest};
pub use quota::{Period, Quota};
pub use rate::Rate;
pub use secret::Secret;
pub use sha256::Sha256;
pub use size::ByteSize;
pub use time::Duration;
pub use url::ServiceUrl;
pub use zone::Zone;

/// Gives a newtype with `FromStr<Err = Problem>` and `Display` its serde and schema sides.
///
/// A bare number is refused with the type's own remedy: a value says its unit.
macro_rules! text_value {
    ($type:ident, $schema_pattern:expr, $description:expr, $examples:expr) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($description)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": $schema_pattern,
                    "description": $description,
                    "examples": $examples,
                })
            }
        }
    };
}
use text_value;
