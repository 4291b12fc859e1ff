//! User names and passwords (RFC 7617).

use super::{Attempt, Outcome, Refusal};
use crate::identity::passwords::{Checked, Passwords, Refused};
use crate::identity::presented::{HeaderPlace, Places, Presented, TokenPlace};
use crate::identity::{Identity, Principal};
use crate::policy::context::PolicyContext;
use crate::policy::shared::strip;
use crate::values::{ConfigPath, Finding, Problem};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The longest that is looked at, in bytes of base64.
const LONGEST: usize = 4096;

/// A user name with a password, as browsers and `curl -u` send it (RFC 7617): whoever can read the
/// connection can read it, so let it come over TLS alone. A consumer has it by a credential
/// `{ basic: { user: …, hash: … } }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BasicConfig {
    /// What browsers show to whom they ask for a password. Default `tollgate`.
    pub realm: String,
    /// Whether the upstream gets the password too. Default true.
    pub forward: bool,
}

impl Default for BasicConfig {
    fn default() -> Self {
        Self { realm: "tollgate".to_owned(), forward: true }
    }
}

/// [`BasicConfig`], compiled.
#[derive(Debug)]
pub(super) struct Basic {
    places: Places,
    passwords: Passwords,
    challenge: HeaderValue,
    forward: bool,
}

impl Basic {
    pub(super) fn compile(config: &BasicConfig, identity: &Identity) -> Result<Self, Vec<Finding>> {
        let at = ConfigPath::root().key("realm");
        let is_plain = |c: u8| (c.is_ascii_graphic() || c == b' ') && !matches!(c, b'"' | b'\\');
        let text = format!("Basic realm=\"{}\", charset=\"UTF-8\"", config.realm);
        let challenge = HeaderValue::try_from(text).ok().filter(|_| config.realm.bytes().all(is_plain));
        let challenge = challenge.ok_or_else(|| {
            let problem = Problem::new("a realm is plain ASCII, without quotes and backslashes");
            vec![Finding::error(at, problem.remedy("write one such as `orders`"))]
        })?;
        let scheme = Some("Basic".to_owned());
        let place = TokenPlace::Header(HeaderPlace { name: "authorization".to_owned(), scheme });
        let places = Places::compile(&[place])?;
        Ok(Self { places, passwords: identity.passwords(), challenge, forward: config.forward })
    }

    pub(super) fn attempt<'a>(&'a self, head: &RequestHeader, cx: &PolicyContext) -> Attempt<'a> {
        let token = match self.places.find(head) {
            Presented::Nothing => return Attempt::Absent,
            Presented::Token(token) => token,
            Presented::Ambiguous => {
                return Attempt::Refused(Refusal::new("ambiguous", "several credentials"));
            }
        };
        let Some((user, password)) = parse(&token) else {
            return Attempt::Refused(Refusal::new("malformed", "not a user name and a password"));
        };
        match self.passwords.check(&user, password, cx.client) {
            Checked::Known(whose) => match whose {
                Ok(principal) => Attempt::Admitted(principal.into()),
                Err(refused) => Attempt::Refused(refusal(refused)),
            },
            Checked::Wait(whose) => Attempt::Wait(Box::pin(async move { outcome(whose.await) })),
        }
    }

    pub(super) fn challenge(&self) -> HeaderValue {
        self.challenge.clone()
    }

    /// Keeps the password from the upstream, if it shall not have it.
    pub(super) fn strip(&self, head: &RequestHeader, cx: &mut PolicyContext) {
        if !self.forward {
            strip::token(&self.places, head, cx);
        }
    }
}

fn outcome(whose: Result<Arc<Principal>, Refused>) -> Outcome {
    match whose {
        Ok(principal) => Outcome::Admitted(principal.into()),
        Err(refused) => Outcome::Refused(refusal(refused)),
    }
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Wrong => Refusal::new("wrong_password", "no such user, or another password"),
        Refused::Busy => Refusal {
            unavailable: true,
            ..Refusal::new("passwords_busy", "too many passwords wait to be compared")
        },
    }
}

/// A user name and a password (RFC 7617, section 2): base64 in its one form, UTF-8 before the first
/// colon, no control character anywhere.
pub fn parse(token: &str) -> Option<(String, Zeroizing<Vec<u8>>)> {
    if token.len() > LONGEST {
        return None;
    }
    let mut plain = Zeroizing::new(STANDARD.decode(token).ok()?);
    if plain.iter().any(u8::is_ascii_control) {
        return None;
    }
    let colon = plain.iter().position(|byte| *byte == b':')?;
    let password = Zeroizing::new(plain.get(colon + 1..)?.to_vec());
    plain.truncate(colon);
    let user = String::from_utf8(std::mem::take(&mut *plain)).ok().filter(|user| !user.is_empty())?;
    Some((user, password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(plain: &[u8]) -> Option<(String, Vec<u8>)> {
        parse(&STANDARD.encode(plain)).map(|(user, password)| (user, password.to_vec()))
    }

    #[test]
    fn what_is_a_user_name_and_a_password() {
        // The examples of RFC 7617, sections 2 and 2.1.
        let (user, password) = parse("QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
        assert_eq!((user.as_str(), password.as_slice()), ("Aladdin", &b"open sesame"[..]));
        assert_eq!(parse("dGVzdDoxMjPCow==").unwrap().1.as_slice(), "123\u{a3}".as_bytes());
        assert_eq!(parsed(b"a:"), Some(("a".into(), vec![])));
        assert_eq!(parsed(b"a:b:c"), Some(("a".into(), b"b:c".to_vec())));
        for plain in [&b""[..], b"alice", b":secret", b"a\0:b", b"a:b\n", b"a:\x7f", b"\xff:b"] {
            assert_eq!(parsed(plain), None, "{plain:?}");
        }
        for token in
            ["", "=", "YTpi=", "YTp", "YTpiIA", "YT pi", "YTpi\n", "YTpj YTpj", "YTo_", &"YTpi".repeat(2000)]
        {
            assert!(parse(token).is_none(), "{token}");
        }
    }

    proptest! {
        #[test]
        fn what_was_sent_comes_out(user in "[^:\\p{Cc}]{1,20}", password in "\\P{Cc}{0,40}") {
            let (ours, theirs) = parse(&STANDARD.encode(format!("{user}:{password}"))).unwrap();
            prop_assert_eq!((ours.as_str(), &*theirs), (user.as_str(), &password.as_bytes().to_vec()));
        }

        #[test]
        fn nothing_breaks_it(token in any::<String>(), plain in proptest::collection::vec(any::<u8>(), 0..60)) {
            for token in [token, STANDARD.encode(plain)] {
                if let Some((user, password)) = parse(&token) {
                    // Base64 has one form: what we read is what was sent.
                    let whole = [user.as_bytes(), b":", &password].concat();
                    prop_assert_eq!(STANDARD.encode(whole), token);
                }
            }
        }
    }
}
