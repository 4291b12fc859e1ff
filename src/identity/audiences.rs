use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de};
use std::fmt;

/// For whom tokens have to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audiences {
    /// For any of these.
    Of(Vec<String>),
    /// For anybody.
    Any,
}

impl<'de> Deserialize<'de> for Audiences {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Audiences;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of audiences, or the word `any`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Audiences, E> {
                match text {
                    "any" => Ok(Audiences::Any),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Audiences, A::Error> {
                let list = Vec::<String>::deserialize(de::value::SeqAccessDeserializer::new(seq))?;
                if list.is_empty() {
                    return Err(de::Error::custom("an empty list of audiences lets nobody in"));
                }
                Ok(Audiences::Of(list))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Audiences {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Of(list) => list.serialize(serializer),
            Self::Any => serializer.serialize_str("any"),
        }
    }
}

impl JsonSchema for Audiences {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Audiences".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                { "const": "any" },
            ],
        })
    }
}
