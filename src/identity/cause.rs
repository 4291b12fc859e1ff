//! Why a token is refused.

use std::borrow::Cow;

/// Why a token is refused: a stable word for the log and the metric, never for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Cause {
    TooLarge,
    /// It has not three parts: an opaque token, perhaps, or the JSON serialisation.
    NotAToken,
    BadEncoding,
    Unsigned,
    Malformed,
    AlgorithmNotAllowed,
    Critical,
    WrongType,
    WrongIssuer,
    WrongAudience,
    ClaimMissing,
    Expired,
    NotYetValid,
    /// Issued longer ago than its provider allows.
    TooOld,
    BadSignature,
    UnknownKey,
    /// Its key is not known, and the issuer did not answer in time.
    KeysUnavailable,
    /// Its key is not known, and too many others wait for one.
    TooManyWaiting,
    /// Its server says so.
    Inactive,
    /// Its server was not there to be asked.
    ServerDown,
    /// A request has several tokens.
    Ambiguous,
}

impl Cause {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "token_too_large",
            Self::NotAToken => "token_not_jwt",
            Self::BadEncoding => "token_encoding",
            Self::Unsigned => "token_unsigned",
            Self::Malformed => "token_malformed",
            Self::AlgorithmNotAllowed => "token_algorithm",
            Self::Critical => "token_critical_header",
            Self::WrongType => "token_type",
            Self::WrongIssuer => "token_issuer",
            Self::WrongAudience => "token_audience",
            Self::ClaimMissing => "token_claim_missing",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::TooOld => "token_too_old",
            Self::BadSignature => "token_signature",
            Self::UnknownKey => "token_key_unknown",
            Self::KeysUnavailable => "token_keys_unavailable",
            Self::TooManyWaiting => "token_keys_busy",
            Self::Inactive => "token_inactive",
            Self::ServerDown => "token_server_down",
            Self::Ambiguous => "token_ambiguous",
        }
    }

    /// True if the token may be meant for another provider: it is none of this kind, or of another issuer.
    pub const fn is_of_another(self) -> bool {
        matches!(self, Self::NotAToken | Self::WrongIssuer)
    }

    /// True if nothing is known against the token: who would be asked about it is not there.
    pub const fn is_unavailable(self) -> bool {
        matches!(self, Self::ServerDown)
    }

    /// With what happened, for the log alone.
    pub fn with(self, detail: impl Into<Cow<'static, str>>) -> Refused {
        Refused { cause: self, detail: detail.into() }
    }
}

/// A refusal of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub cause: Cause,
    /// What happened, for the log alone.
    pub detail: Cow<'static, str>,
}

impl From<Cause> for Refused {
    fn from(cause: Cause) -> Self {
        cause.with("")
    }
}
