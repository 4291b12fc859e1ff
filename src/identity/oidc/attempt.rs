//! A login attempt: what is sent to the issuer with the browser (RFC 6749 section 4.1, with the
//! protections of RFC 7636, RFC 9207 and OpenID Connect Core section 3.1), and what has to come back.

use super::return_to::ReturnTo;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use url::Url;

/// How many attempts of one browser may be under way: a tab each.
pub const MOST: usize = 8;
/// The longest value of a parameter that an issuer may send back.
const LONGEST_PARAMETER: usize = 4096;

/// An attempt as its cookie keeps it. The state is the cookie's name, with which it is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What the ID token has to hold.
    pub nonce: Box<str>,
    /// What the code is worth nothing without (RFC 7636).
    pub verifier: Box<str>,
    /// Where the browser wanted to go.
    pub to: Box<str>,
    /// When it began, in Unix seconds.
    pub began: u64,
}

/// A random text of 128 bits.
///
/// # Errors
/// The system has no randomness.
pub fn random() -> Result<Box<str>, Unspecified> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

impl Attempt {
    /// An attempt that begins now and is to end at `to`, and its state.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn begin(to: &ReturnTo, now: u64) -> Result<(Box<str>, Self), Unspecified> {
        // A verifier has at least 43 characters (RFC 7636 section 4.1).
        let verifier = format!("{}{}", random()?, random()?);
        let attempt =
            Self { nonce: random()?, verifier: verifier.into(), to: to.as_str().into(), began: now };
        Ok((random()?, attempt))
    }

    /// What a cookie kept, opened.
    pub fn from_cookie(plain: &[u8]) -> Option<Self> {
        serde_json::from_slice(plain).ok()
    }

    /// What the cookie keeps.
    pub fn to_cookie(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Where the browser wanted to go.
    pub fn return_to(&self) -> ReturnTo {
        ReturnTo::parse(&self.to).unwrap_or_else(ReturnTo::root)
    }

    /// Where the browser goes to log in.
    pub fn location(&self, state: &str, request: &Request<'_>) -> Url {
        let mut url = request.endpoint.clone();
        url.query_pairs_mut()
            .extend_pairs(request.more)
            .append_pair("response_type", "code")
            .append_pair("client_id", request.client_id)
            .append_pair("redirect_uri", request.redirect_uri)
            .append_pair("scope", request.scope)
            .append_pair("state", state)
            .append_pair("nonce", &self.nonce)
            .append_pair("code_challenge", &challenge(&self.verifier))
            .append_pair("code_challenge_method", "S256");
        url
    }
}

/// What is asked of an issuer besides what an attempt brings.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The authorisation endpoint.
    pub endpoint: &'a Url,
    /// Who we are there.
    pub client_id: &'a str,
    /// Where the browser comes back.
    pub redirect_uri: &'a str,
    /// Scopes, a space between them.
    pub scope: &'a str,
    /// Parameters of the configuration.
    pub more: &'a [(Box<str>, Box<str>)],
}

/// RFC 7636 section 4.2.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// What an issuer sent the browser back with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Return {
    /// Which attempt it answers.
    pub state: Option<String>,
    /// What tokens are given for.
    pub code: Option<String>,
    /// Why not (RFC 6749 section 4.1.2.1).
    pub error: Option<String>,
    /// Who says so (RFC 9207).
    pub issuer: Option<String>,
}

impl Return {
    /// Reads a query. What is unknown is passed over (RFC 6749 section 4.1.2); None where a
    /// parameter comes twice or is too long.
    pub fn parse(query: &str) -> Option<Self> {
        let mut found = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "state" => &mut found.state,
                "code" => &mut found.code,
                "error" => &mut found.error,
                "iss" => &mut found.issuer,
                _ => continue,
            };
            if place.is_some() || value.len() > LONGEST_PARAMETER {
                return None;
            }
            *place = Some(value.into_owned());
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636 appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn an_attempt_says_all_that_it_must() {
        let to = ReturnTo::parse("/a?b=c").unwrap();
        let (state, attempt) = Attempt::begin(&to, 7).unwrap();
        assert!(super::super::cookies::is_login_id(&state));
        assert!((43..=128).contains(&attempt.verifier.len()));
        let more = [("prompt".into(), "login".into())];
        let request = Request {
            endpoint: &Url::parse("https://id.example/authorize?tenant=a").unwrap(),
            client_id: "me & you",
            redirect_uri: "https://app.example/callback",
            scope: "openid email",
            more: &more,
        };
        let url = attempt.location(&state, &request);
        let pairs: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let expected = [
            ("tenant", "a"),
            ("prompt", "login"),
            ("response_type", "code"),
            ("client_id", "me & you"),
            ("redirect_uri", "https://app.example/callback"),
            ("scope", "openid email"),
            ("state", &state),
            ("nonce", &attempt.nonce),
            ("code_challenge", &challenge(&attempt.verifier)),
            ("code_challenge_method", "S256"),
        ];
        assert_eq!(pairs, expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
        assert_eq!(Attempt::from_cookie(&attempt.to_cookie()), Some(attempt.clone()));
        assert_eq!(attempt.return_to(), to);
        let (other_state, other) = Attempt::begin(&to, 7).unwrap();
        assert!(other_state != state && other.nonce != attempt.nonce && other.verifier != attempt.verifier);
    }

    #[test]
    fn answers_are_read_once_or_not_at_all() {
        let some = |text: &str| Some(text.to_owned());
        for (query, expected) in [
            ("", Some(Return::default())),
            (
                "code=a%20b&state=s&session_state=x",
                Some(Return { code: some("a b"), state: some("s"), ..Return::default() }),
            ),
            (
                "error=access_denied&iss=https%3A%2F%2Fid",
                Some(Return {
                    error: some("access_denied"),
                    issuer: some("https://id"),
                    ..Return::default()
                }),
            ),
            ("code=a&code=b", None),
            ("state=a&code=c&state=a", None),
        ] {
            assert_eq!(Return::parse(query), expected, "{query}");
        }
        assert_eq!(Return::parse(&format!("code={}", "a".repeat(LONGEST_PARAMETER + 1))), None);
    }

    proptest! {
        #[test]
        fn no_query_and_no_cookie_panics(query: String, cookie: Vec<u8>) {
            let _ = (Return::parse(&query), Attempt::from_cookie(&cookie));
        }
    }
}
