//! A session: what a login left with the browser, sealed, and how long it holds.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A session's name: random, another one for each login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "&str", into = "String")]
pub struct Id(u128);

impl Id {
    /// A fresh one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<Self, Unspecified> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    /// Which of so many parts it belongs to.
    pub const fn shard(self, count: usize) -> usize {
        (self.0 % count as u128) as usize
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

impl TryFrom<&str> for Id {
    type Error = std::num::ParseIntError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// What a session's cookie keeps.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: Id,
    /// How often it was refreshed.
    pub round: u32,
    /// When its login was, in Unix seconds.
    pub started: u64,
    /// When its tokens came.
    pub issued: u64,
    /// When its tokens expire.
    pub fresh_until: u64,
    /// What its ID tokens have to hold.
    pub nonce: Box<str>,
    /// Who it is.
    pub claims: Value,
    /// What is left of the scopes that were asked for, where the issuer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Box<str>>,
    /// What new tokens are given for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Box<str>>,
    /// What the issuer knows the session by at logout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<Box<str>>,
}

/// Claims may be private and tokens are secret.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("round", &self.round).finish_non_exhaustive()
    }
}

/// How long sessions hold, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// From the login on, whatever happens.
    pub absolute: u64,
    /// Without a request.
    pub idle: u64,
    /// How long before its tokens expire a session is refreshed.
    pub refresh_before: u64,
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Good,
    /// It has to be refreshed; until its tokens expire it holds all the same.
    Due,
    /// It is over, for this reason.
    Over(&'static str),
}

impl Session {
    /// What a cookie kept, opened.
    pub fn from_cookie(plain: &[u8]) -> Option<Self> {
        let session: Self = serde_json::from_slice(plain).ok()?;
        session.claims.is_object().then_some(session)
    }

    /// What the cookie keeps.
    pub fn to_cookie(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Who it is, as the issuer has it.
    pub fn subject(&self) -> &str {
        self.claims["sub"].as_str().unwrap_or_default()
    }

    /// What it may be used for.
    pub fn scopes(&self) -> Box<[Box<str>]> {
        self.scope.as_deref().unwrap_or_default().split_ascii_whitespace().map(Into::into).collect()
    }

    /// How it stands now, when it was last used at `seen`. `spread`, in 1/256 of half the time
    /// before expiry, sets apart when several gateways find it due, so that they seldom spend one
    /// refresh token twice.
    pub fn standing(&self, seen: Option<u64>, now: u64, lifetimes: &Lifetimes, spread: u8) -> Standing {
        if now >= self.started.saturating_add(lifetimes.absolute) {
            return Standing::Over("session_too_old");
        }
        if seen.is_none_or(|seen| now >= seen.saturating_add(lifetimes.idle)) {
            return Standing::Over("session_idle");
        }
        if self.refresh_token.is_none() {
            return if now < self.fresh_until { Standing::Good } else { Standing::Over("session_expired") };
        }
        // Never before half of the tokens' life, or short-lived ones would be refreshed each time.
        let half = self.fresh_until.saturating_sub(self.issued) / 2;
        let before = lifetimes.refresh_before.min(half);
        let apart = (before / 2).saturating_mul(u64::from(spread)) / 256;
        if now.saturating_add(before - apart) < self.fresh_until { Standing::Good } else { Standing::Due }
    }

    /// True if the tokens hold still.
    pub fn is_fresh(&self, now: u64) -> bool {
        now < self.fresh_until
    }

    /// Seconds that are left of it at most.
    pub fn left(&self, now: u64, lifetimes: &Lifetimes) -> u64 {
        self.started.saturating_add(lifetimes.absolute).saturating_sub(now)
    }
}

/// When a session was last used, as its cookie keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which session.
    pub session: Id,
    /// Unix seconds.
    pub at: u64,
}

impl Seen {
    /// What a cookie kept, opened.
    pub fn from_cookie(plain: &[u8]) -> Option<Self> {
        let (session, at) = str::from_utf8(plain).ok()?.rsplit_once(' ')?;
        Some(Self { session: session.try_into().ok()?, at: at.parse().ok()? })
    }

    /// What the cookie keeps.
    pub fn to_cookie(self) -> Vec<u8> {
        format!("{} {}", self.session, self.at).into_bytes()
    }

    /// True if it is time to write it anew: not with each answer, but often enough that the idle
    /// time is an eighth too short at most.
    pub fn is_stale(self, now: u64, lifetimes: &Lifetimes) -> bool {
        now.saturating_sub(self.at) > lifetimes.idle / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIFETIMES: Lifetimes = Lifetimes { absolute: 1000, idle: 100, refresh_before: 60 };

    fn session(refresh: bool) -> Session {
        Session {
            id: Id(7),
            round: 0,
            started: 10_000,
            issued: 10_000,
            fresh_until: 10_300,
            nonce: "n".into(),
            claims: serde_json::json!({ "sub": "ann" }),
            scope: None,
            refresh_token: refresh.then(|| "r".into()),
            id_token: None,
        }
    }

    #[test]
    fn how_a_session_stands() {
        use Standing::{Due, Good, Over};
        for (refresh, seen, now, expected) in [
            (false, Some(10_000), 10_000, Good),
            (false, Some(10_299), 10_299, Good),
            (false, Some(10_299), 10_300, Over("session_expired")),
            (true, Some(10_239), 10_239, Good),
            (true, Some(10_239), 10_240, Due),
            (true, Some(10_399), 10_400, Due),
            (true, Some(10_000), 10_099, Good),
            (true, Some(10_000), 10_100, Over("session_idle")),
            (true, None, 10_000, Over("session_idle")),
            (true, Some(10_999), 10_999, Due),
            (true, Some(10_999), 11_000, Over("session_too_old")),
            (true, Some(20_000), 9_000, Good),
            (true, Some(u64::MAX), u64::MAX, Over("session_too_old")),
        ] {
            let standing = session(refresh).standing(seen, now, &LIFETIMES, 0);
            assert_eq!(standing, expected, "refresh {refresh} seen {seen:?} now {now}");
        }
    }

    #[test]
    fn gateways_find_it_due_at_different_times() {
        let due = |spread| {
            (10_000..)
                .find(|now| session(true).standing(Some(*now), *now, &LIFETIMES, spread) == Standing::Due)
        };
        assert_eq!((due(0), due(128), due(255)), (Some(10_240), Some(10_255), Some(10_269)));
    }

    #[test]
    fn short_lived_tokens_are_not_refreshed_each_time() {
        let session = Session { fresh_until: 10_020, ..session(true) };
        assert_eq!(session.standing(Some(10_000), 10_000, &LIFETIMES, 0), Standing::Good);
        assert_eq!(session.standing(Some(10_000), 10_010, &LIFETIMES, 0), Standing::Due);
        let session = Session { fresh_until: 10_000, ..session };
        assert_eq!(session.standing(Some(10_000), 10_000, &LIFETIMES, 9), Standing::Due);
    }

    #[test]
    fn cookies_keep_what_they_got() {
        let session = session(true);
        assert_eq!(Session::from_cookie(&session.to_cookie()), Some(session.clone()));
        assert_eq!(session.subject(), "ann");
        for text in ["", "{}", "null", "[]", "{\"id\":\"\",\"claims\":{}}"] {
            assert_eq!(Session::from_cookie(text.as_bytes()), None, "{text}");
        }
        let seen = Seen { session: Id(7), at: 7 };
        assert_eq!(Seen::from_cookie(&seen.to_cookie()), Some(seen));
        assert!(
            seen.is_stale(20, &LIFETIMES) && !seen.is_stale(19, &LIFETIMES) && !seen.is_stale(0, &LIFETIMES)
        );
        for text in ["", "7", "7 -1", "7 99999999999999999999", "7 x", " 7", "x 7"] {
            assert_eq!(Seen::from_cookie(text.as_bytes()), None, "{text}");
        }
        assert!(!format!("{session:?}").contains("ann"), "a log tells nobody who it is");
    }

    proptest! {
        #[test]
        fn no_session_outlives_its_bounds(
            started: u64, issued: u64, fresh_until: u64, seen: Option<u64>, now: u64, refresh: bool,
            absolute: u64, idle: u64, refresh_before: u64, spread: u8,
        ) {
            let session = Session { started, issued, fresh_until, ..session(refresh) };
            let lifetimes = Lifetimes { absolute, idle, refresh_before };
            let standing = session.standing(seen, now, &lifetimes, spread);
            if !matches!(standing, Standing::Over(_)) {
                prop_assert!(now < started.saturating_add(absolute));
                prop_assert!(now < seen.unwrap().saturating_add(idle));
            }
            if standing == Standing::Good {
                prop_assert!(now < fresh_until);
            }
        }
    }
}
