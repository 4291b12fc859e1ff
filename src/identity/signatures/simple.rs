//! A scheme that a shell script can sign with: a shared secret, the date, and the body's digest.
//!
//! ```text
//! authorization: HMAC-SHA256 keyid="partner", signature="BASE64"
//! ```
//!
//! What is signed are five lines, each with a line feed at its end: the method, the request target as it is
//! sent, the host in lower case, the value of `date`, and the value of `content-digest` (empty without a
//! body).

use super::base::authority_of;
use super::{CONTENT_DIGEST, Message, Refused, Rules, Signatures, Signed};
use crate::identity::presented::after_scheme;
use crate::values::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::{AUTHORIZATION, DATE};
use jiff::fmt::rfc2822::DateTimeParser;

/// The scheme's name.
pub const SCHEME: &str = "HMAC-SHA256";

/// The longest credential, in bytes.
const LONGEST: usize = 1024;

impl Signatures {
    /// Checks a request that is signed by the simple scheme; nothing if it is not. The time is in seconds
    /// since 1970.
    pub fn check_simple(
        &self,
        rules: &Rules,
        message: Message<'_>,
        now: u64,
    ) -> Option<Result<Signed, Refused>> {
        let mut ours = message.head.headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
            // What is no text may be anybody's.
            after_scheme(value.to_str().unwrap_or_default(), SCHEME)
        });
        let credential = ours.next()?;
        if ours.next().is_some() {
            return Some(Err(Refused::new("ambiguous", "several signatures")));
        }
        Some(self.check_credential(rules, message, credential, now))
    }

    fn check_credential(
        &self,
        rules: &Rules,
        message: Message<'_>,
        credential: &str,
        now: u64,
    ) -> Result<Signed, Refused> {
        let wrong = |detail: &'static str| Refused::new("signature_malformed", detail);
        let (id, signature) = read(credential).ok_or_else(|| wrong("not a keyid and a signature"))?;
        let signature = STANDARD.decode(signature).map_err(|_| wrong("a signature that is not base64"))?;
        let date = single(message, &DATE)?.ok_or_else(|| wrong("no date"))?;
        let signed_at =
            DateTimeParser::new().parse_timestamp(date).map_err(|_| wrong("a date that is none"))?;
        let signed_at = u64::try_from(signed_at.as_second()).map_err(|_| wrong("a date before 1970"))?;
        rules.counts(signed_at, None, now)?;
        let digest = single(message, &CONTENT_DIGEST)?;
        let (principal, key) = self.key(id)?;
        if !key.is_secret() {
            return Err(Refused::new("signature_algorithm", "its key is no secret"));
        }
        let base = base(message, date, digest.unwrap_or_default());
        if !key.verify(base.as_bytes(), &signature) {
            return Err(Refused::new("signature_wrong", "not of this request by this key"));
        }
        let by = Sha256::of_parts(&[b"simple", id.as_bytes(), base.as_bytes()]);
        self.once(message, &principal, (by, signed_at), now)?;
        Ok(Signed { principal, digest: digest.is_some(), id: by })
    }
}

/// The text that is signed.
pub(super) fn base(message: Message<'_>, date: &str, digest: &str) -> String {
    let (head, host) = (message.head, authority_of(message));
    format!("{}\n{}\n{host}\n{date}\n{digest}\n", head.method, super::base::target(head))
}

/// `keyid` and `signature`, each once and quoted.
fn read(credential: &str) -> Option<(&str, &str)> {
    if credential.len() > LONGEST {
        return None;
    }
    let (mut id, mut signature) = (None, None);
    for pair in credential.split(',') {
        let (name, value) = pair.trim_matches(' ').split_once('=')?;
        let value =
            value.strip_prefix('"')?.strip_suffix('"').filter(|value| !value.contains(['"', '\\']))?;
        let slot = match name {
            "keyid" => &mut id,
            "signature" => &mut signature,
            _ => return None,
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    id.zip(signature)
}

/// The value of a field that may be there once.
fn single<'a>(message: Message<'a>, name: &HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = message.head.headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refused::new("ambiguous", "a signed field that is there twice"));
    }
    let value = value
        .to_str()
        .map_err(|_| Refused::new("signature_malformed", "a signed field that is not ASCII"))?;
    Ok(Some(value.trim()))
}
