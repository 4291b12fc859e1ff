use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a token may be signed (RFC 7518 section 3.1, RFC 8037, RFC 9864). `none` is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Algorithm {
    ES256,
    ES384,
    ES512,
    EdDSA,
    /// What `EdDSA` means with the one curve that it is used with here.
    Ed25519,
    PS256,
    PS384,
    PS512,
    RS256,
    RS384,
    RS512,
    HS256,
    HS384,
    HS512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
        Self::Ed25519,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::HS256,
        Self::HS384,
        Self::HS512,
    ];

    /// As tokens and keys name it. Case counts (RFC 7515, section 4.1.1).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// As tokens and keys name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
            Self::Ed25519 => "Ed25519",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
        }
    }

    /// True where whoever checks a token could sign one as well.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }

    /// The shortest secret in bytes, as long as the hash (RFC 7518, section 3.2); 0 for public keys.
    pub const fn shortest_secret(self) -> usize {
        match self {
            Self::HS256 => 32,
            Self::HS384 => 48,
            Self::HS512 => 64,
            _ => 0,
        }
    }
}
