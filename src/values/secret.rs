use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de};
use std::{fmt, path::PathBuf};
use subtle::ConstantTimeEq as _;

/// A secret: given in place (usually as `${NAME}`) or as `{ file: path }`. It prints as `***`
/// everywhere, is wiped from memory when dropped, and compares in constant time.
#[derive(Clone)]
pub enum Secret {
    /// The secret itself.
    Text(SecretString),
    /// The file whose contents, less one trailing line break, are the secret. `config` reads it
    /// and puts [`Secret::Text`] in its place.
    File(PathBuf),
}

impl Secret {
    /// A secret given in place.
    pub fn new(text: impl Into<String>) -> Self {
        Self::Text(SecretString::from(text.into()))
    }

    /// The secret in clear; empty as long as its file has not been read.
    pub fn expose(&self) -> &str {
        match self {
            Self::Text(text) => text.expose_secret(),
            Self::File(_) => "",
        }
    }

    /// True if there is nothing to keep secret.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    /// Compares in time that depends on the lengths alone. An empty secret matches nothing.
    pub fn matches(&self, presented: &[u8]) -> bool {
        !self.is_empty() && bool::from(self.expose().as_bytes().ct_eq(presented))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => {
                bool::from(a.expose_secret().as_bytes().ct_eq(b.expose_secret().as_bytes()))
            }
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct FromFile {
            file: PathBuf,
        }
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret: text such as `${NAME}`, or `{ file: path }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
                FromFile::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|from| Secret::File(from.file))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A secret: text such as ${NAME}, or { file: path }. Never printed.",
            "writeOnly": true,
            "anyOf": [
                { "type": "string" },
                { "type": "object", "properties": { "file": { "type": "string" } }, "required": ["file"], "additionalProperties": false },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_prints() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap()),
            "*** *** \"***\""
        );
    }

    #[test]
    fn an_empty_secret_matches_nothing() {
        assert!(!Secret::new("").matches(b""));
        assert!(Secret::new("a").matches(b"a"));
        assert!(!Secret::new("a").matches(b"b"));
    }
}
