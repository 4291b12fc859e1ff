//! A revocation, and how it is written.

use crate::identity::Principal;
use crate::values::{Problem, Sha256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest texts, in bytes.
const LONGEST: usize = 1024;

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The credential of this SHA-256 digest: an API key, or a client certificate's fingerprint.
    Key(Sha256),
    /// The token of this `jti`, or the login session of this id; of one provider or of any.
    Token { id: Box<str>, provider: Option<Box<str>> },
    /// All of a subject's, or of a consumer's where no provider is said, that was issued before then, in
    /// seconds since 1970, or does not say when.
    Subject { subject: Box<str>, provider: Option<Box<str>>, before: u64 },
}

/// Something that does not count any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub(super) target: Target,
    /// Until when this is remembered, in seconds since 1970.
    pub(super) until: u64,
    /// When it was said, in milliseconds since 1970: of two that differ the later one holds.
    pub(super) made: u64,
    /// It was taken back.
    pub(super) withdrawn: bool,
    /// Why, in words, for operators.
    pub(super) reason: Option<Box<str>>,
}

/// What a revocation is known by: of the same thing it is the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationId(u128);

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<u128> for RevocationId {
    fn from(id: u128) -> Self {
        Self(id)
    }
}

impl From<RevocationId> for u128 {
    fn from(id: RevocationId) -> Self {
        id.0
    }
}

impl FromStr for RevocationId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_hex = text.len() == 32 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| u128::from_str_radix(text, 16).map(Self).ok()).flatten().ok_or(())
    }
}

/// A revocation as text: in files, by the admin listener, in stores.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    withdrawn: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(is: &bool) -> bool {
    !*is
}

/// What holds where a text does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    /// Now, in milliseconds since 1970.
    pub now: u64,
    /// Until when one is remembered; none if it has to say so, or never ends.
    pub until: u64,
    /// Whether a subject's may leave out before when: it is now then.
    pub before_now: bool,
}

const FORM: &str = "write `{\"key\": SHA-256}`, `{\"token_id\": JTI}` or `{\"subject\": …, \"before\": TIME}`, \
                    with `provider`, `until` and `reason` beside them";

impl Written {
    /// Reads a text, without repeating what is in it: it may be a secret in the wrong place.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(text).map_err(|error| {
            let told = error.to_string();
            let what = match told.split_once(" at line ") {
                Some((what, _)) if what.starts_with("unknown field") => {
                    what.split(", expected").next().unwrap_or_default().to_owned()
                }
                _ => "this is no JSON object of a revocation".to_owned(),
            };
            Problem::new(what).remedy(FORM)
        })
    }

    /// True for a credential's that does not say until when: no key ends by itself, and a certificate ends
    /// late.
    pub const fn is_endless(&self) -> bool {
        self.key.is_some() && self.until.is_none()
    }

    /// The revocation that it stands for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(self, defaults: Defaults) -> Result<Revocation, Problem> {
        let text = |text: Option<String>, field: &str| match text {
            Some(text) if text.is_empty() || text.len() > LONGEST => {
                Err(Problem::new(format!("`{field}` has not 1 to {LONGEST} bytes")).remedy(FORM))
            }
            text => Ok(text.map(Box::<str>::from)),
        };
        let provider = text(self.provider, "provider")?;
        let reason = text(self.reason, "reason")?;
        let before = self.before.as_deref().map(|time| seconds(time, "before")).transpose()?;
        let until = self.until.as_deref().map(|time| seconds(time, "until")).transpose()?;
        let (token, subject) = (text(self.token_id, "token_id")?, text(self.subject, "subject")?);
        let target = match (self.key, token, subject) {
            (Some(key), None, None) if provider.is_none() && before.is_none() => {
                // Fingerprints are often written with colons.
                Target::Key(key.replace(':', "").parse()?)
            }
            (None, Some(id), None) if before.is_none() => Target::Token { id, provider },
            (None, None, Some(subject)) => {
                // All of this second: tokens do not say in which part of it they were issued.
                let now = defaults.before_now.then(|| defaults.now / 1000 + 1);
                let before = before.or(now).ok_or_else(|| {
                    Problem::new("`before` is missing").remedy("write a time, such as `2026-11-27T10:00:00Z`")
                })?;
                Target::Subject { subject, provider, before }
            }
            _ => {
                let what = "it is not one of `key`, `token_id` and `subject`, with what belongs to it";
                return Err(Problem::new(what).remedy(FORM));
            }
        };
        let made = self.made.unwrap_or(defaults.now);
        let until = until.unwrap_or(defaults.until);
        Ok(Revocation { target, until, made, withdrawn: self.withdrawn, reason })
    }
}

/// A time of RFC 3339 in whole seconds since 1970; a part of one counts as a whole.
fn seconds(text: &str, field: &str) -> Result<u64, Problem> {
    let wrong = || {
        let shown: String = text.chars().take(40).collect();
        Problem::new(format!("`{field}`: {shown:?} is no time")).remedy("write it as `2026-11-27T10:00:00Z`")
    };
    let time: Timestamp = text.parse().map_err(|_| wrong())?;
    let more = i64::from(time.subsec_nanosecond() > 0);
    u64::try_from(time.as_second() + more).map_err(|_| wrong())
}

fn shown(seconds: u64) -> Option<String> {
    let time = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(time.to_string())
}

impl Revocation {
    /// What it is known by.
    pub fn id(&self) -> RevocationId {
        let of = |kind: &[u8], name: &str, provider: &Option<Box<str>>| {
            let provider = provider.as_deref();
            let which = [u8::from(provider.is_some())];
            Sha256::of_parts(&[kind, name.as_bytes(), &which, provider.unwrap_or_default().as_bytes()])
        };
        let digest = match &self.target {
            Target::Key(key) => Sha256::of_parts(&[b"key", key.bytes()]),
            Target::Token { id, provider } => of(b"token", id, provider),
            Target::Subject { subject, provider, .. } => of(b"subject", subject, provider),
        };
        let mut first = [0; 16];
        first.copy_from_slice(digest.bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
        RevocationId(u128::from_be_bytes(first))
    }

    /// As it is written.
    pub(super) fn written(&self) -> Written {
        let mut written = Written {
            id: Some(self.id().to_string()),
            until: shown(self.until),
            reason: self.reason.as_deref().map(str::to_owned),
            made: Some(self.made),
            withdrawn: self.withdrawn,
            ..Written::default()
        };
        let own = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        match &self.target {
            Target::Key(key) => written.key = Some(key.to_string()),
            Target::Token { id, provider } => {
                (written.token_id, written.provider) = (Some(id.to_string()), own(provider));
            }
            Target::Subject { subject, provider, before } => {
                (written.subject, written.provider) = (Some(subject.to_string()), own(provider));
                written.before = shown(*before);
            }
        }
        written
    }

    /// What holds of two that are about the same thing. Each order of merging comes to the same.
    pub(super) fn merged(&self, other: &Self) -> Self {
        let order = |one: &Self| (one.made, one.withdrawn, one.reason.clone());
        let (earlier, later) = if order(self) <= order(other) { (self, other) } else { (other, self) };
        let mut merged = Self { until: earlier.until.max(later.until), ..later.clone() };
        // Of two that both hold, the one that revokes more.
        if let (Target::Subject { before, .. }, Target::Subject { before: known, .. }) =
            (&mut merged.target, &earlier.target)
            && earlier.withdrawn == later.withdrawn
        {
            *before = (*before).max(*known);
        }
        merged
    }

    /// The stricter of two that stand side by side in one file, where neither is later than the other.
    pub(super) fn stricter(&self, other: &Self) -> Self {
        let (mut strict, other) = if self.withdrawn { (other.clone(), self) } else { (self.clone(), other) };
        if strict.withdrawn == other.withdrawn {
            strict.until = strict.until.max(other.until);
            if let (Target::Subject { before, .. }, Target::Subject { before: known, .. }) =
                (&mut strict.target, &other.target)
            {
                *before = (*before).max(*known);
            }
        }
        strict
    }

    /// True if it is about this caller and holds at this time, in seconds since 1970.
    pub(super) fn refuses(&self, caller: &Principal, now: u64) -> bool {
        let of = |provider: &Option<Box<str>>| {
            provider.as_deref().is_none_or(|name| caller.provider.as_deref() == Some(name))
        };
        let holds = !self.withdrawn && now < self.until;
        holds
            && match &self.target {
                Target::Key(_) => false,
                Target::Token { id, provider } => caller.token_id.as_deref() == Some(&**id) && of(provider),
                Target::Subject { subject, provider, before } => {
                    let is_consumer = || caller.consumer.as_ref().is_some_and(|known| known.name == *subject);
                    (*caller.subject == **subject && of(provider) || provider.is_none() && is_consumer())
                        && caller.issued_at.is_none_or(|issued| issued < *before)
                }
            }
    }
}
