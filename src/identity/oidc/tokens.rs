//! The token endpoint: what is asked of it (RFC 6749 sections 4.1.3 and 6), and what it answers.

use http::StatusCode;
use serde::{Deserialize, Deserializer};
use std::fmt;

/// The longest token that is taken.
const LONGEST: usize = 16 << 10;
/// The longest that a token is believed to hold, in seconds: a day.
const LONGEST_LIFE: u64 = 86_400;

/// A request to the token endpoint.
#[derive(Clone, Copy)]
pub enum TokenRequest<'a> {
    /// Asks for tokens for a code.
    Code {
        /// The code.
        code: &'a str,
        /// What it is worth nothing without.
        verifier: &'a str,
        /// Where the code was sent to.
        redirect_uri: &'a str,
    },
    /// Asks for new tokens.
    Refresh(&'a str),
}

/// Names alone: what goes with them is secret.
impl fmt::Debug for TokenRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields().iter().map(|(name, _)| name)).finish()
    }
}

impl<'a> TokenRequest<'a> {
    /// The fields of its form, but for who asks.
    pub fn fields(self) -> Vec<(&'static str, &'a str)> {
        match self {
            Self::Code { code, verifier, redirect_uri } => vec![
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", redirect_uri),
                ("code_verifier", verifier),
            ],
            Self::Refresh(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token)],
        }
    }
}

/// What a token endpoint gave.
#[derive(PartialEq, Eq, Deserialize)]
pub struct Tokens {
    /// For the issuer's own services.
    pub access_token: Box<str>,
    token_type: Box<str>,
    /// Who logged in.
    pub id_token: Option<Box<str>>,
    /// For new tokens.
    pub refresh_token: Option<Box<str>>,
    /// The scopes, where they are others than those that were asked for.
    pub scope: Option<Box<str>>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(***)")
    }
}

/// Why there are no tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTokens {
    /// The issuer says no, and will again: the code or the refresh token is no good any more.
    Refused(Box<str>),
    /// Something else is wrong, for the log.
    Failed(Box<str>),
}

impl fmt::Display for NoTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Some issuers write numbers as text.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_u64().or_else(|| value.as_f64().map(|f| f as u64)).or_else(|| value.as_str()?.parse().ok()))
}

impl Tokens {
    /// Reads an answer of a token endpoint (RFC 6749 sections 5.1 and 5.2).
    ///
    /// # Errors
    /// It refused, or is no such answer.
    pub fn parse(status: StatusCode, body: &[u8]) -> Result<Self, NoTokens> {
        if status != StatusCode::OK {
            return Err(refusal(status, body));
        }
        let failed = |why: &str| NoTokens::Failed(why.into());
        // The error would tell of the tokens.
        let tokens: Self = serde_json::from_slice(body).map_err(|_| failed("the answer holds no tokens"))?;
        if !tokens.token_type.eq_ignore_ascii_case("bearer") {
            return Err(failed("the tokens are of an unknown type"));
        }
        let all = [Some(&tokens.access_token), tokens.id_token.as_ref(), tokens.refresh_token.as_ref()];
        if tokens.access_token.is_empty() || all.into_iter().flatten().any(|token| token.len() > LONGEST) {
            return Err(failed("a token is empty or too long"));
        }
        Ok(tokens)
    }

    /// When they expire, for tokens that came at `now`; the ID token's own end (`exp`) where nothing
    /// is said of the access token.
    pub fn fresh_until(&self, now: u64, id_token_ends: Option<u64>) -> u64 {
        let latest = now.saturating_add(LONGEST_LIFE);
        let said = self.expires_in.map(|seconds| now.saturating_add(seconds));
        said.or(id_token_ends).unwrap_or(now).min(latest)
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> NoTokens {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let Ok(Refusal { error }) = serde_json::from_slice(body) else {
        return NoTokens::Failed(format!("status {}", status.as_u16()).into());
    };
    let shown: String = error.chars().take(100).collect();
    // What a configuration or the issuer can mend is no word about this session.
    if status.is_client_error() && shown == "invalid_grant" {
        NoTokens::Refused(shown.into())
    } else {
        NoTokens::Failed(format!("status {}: {shown:?}", status.as_u16()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_are_read() {
        let body =
            br#"{"access_token":"a","token_type":"bearer","expires_in":"60","id_token":"i","more":{}}"#;
        let tokens = Tokens::parse(StatusCode::OK, body).unwrap();
        assert_eq!((&*tokens.access_token, tokens.id_token.as_deref()), ("a", Some("i")));
        assert_eq!(tokens.fresh_until(100, Some(500)), 160);
        for (life, ends, until) in [
            ("60", None, 160),
            ("60.7", None, 160),
            ("null", Some(130), 130),
            ("null", None, 100),
            ("-1", Some(130), 100),
            ("1e99", None, 86_500),
            ("18446744073709551615", None, 86_500),
            ("{}", Some(130), 130),
        ] {
            let body = format!(r#"{{"access_token":"a","token_type":"Bearer","expires_in":{life}}}"#);
            let tokens = Tokens::parse(StatusCode::OK, body.as_bytes()).unwrap();
            assert_eq!(tokens.fresh_until(100, ends), until, "{life} {ends:?}");
        }
    }

    #[test]
    fn refusals_are_told_from_failures() {
        let parse =
            |status, body: &str| Tokens::parse(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        let refused = parse(400, r#"{"error":"invalid_grant","error_description":"x"}"#).unwrap_err();
        assert_eq!(refused, NoTokens::Refused("invalid_grant".into()));
        let long = format!(r#"{{"access_token":"{}","token_type":"bearer"}}"#, "a".repeat(LONGEST + 1));
        for (status, body) in [
            (400, r#"{"error":"invalid_client"}"#),
            (401, r#"{"error":"invalid_client"}"#),
            (500, r#"{"error":"invalid_grant"}"#),
            (503, "<html>"),
            (302, ""),
            (200, ""),
            (200, "[]"),
            (200, r#"{"access_token":"a"}"#),
            (200, r#"{"access_token":"a","token_type":"mac"}"#),
            (200, r#"{"access_token":"","token_type":"bearer"}"#),
            (200, r#"{"access_token":7,"token_type":"bearer"}"#),
            (200, &long),
        ] {
            assert!(matches!(parse(status, body), Err(NoTokens::Failed(_))), "{status} {body}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(status in 200_u16..600, body: Vec<u8>) {
            let _ = Tokens::parse(StatusCode::from_u16(status).unwrap(), &body);
        }
    }
}
