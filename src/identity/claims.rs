//! What is claimed of a caller, checked against what a provider expects (RFC 7519 section 4.1, RFC 8725
//! section 3).

use super::audiences::Audiences;
use super::cause::{Cause, Refused};
use serde_json::{Map, Value};

/// What a provider expects of its tokens.
#[derive(Debug)]
pub(super) struct Expected {
    pub issuer: Option<Box<str>>,
    pub audiences: Audiences,
    pub required: Box<[Box<str>]>,
    /// Seconds.
    pub leeway: u64,
    /// Seconds.
    pub max_age: Option<u64>,
}

/// When a token counts: from the first second on, until before the second, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: u64,
    pub until: u64,
}

impl Span {
    pub const fn contains(self, now: u64) -> bool {
        self.from <= now && now < self.until
    }
}

impl Expected {
    /// Checks the claims, and says when they count.
    pub fn claims(&self, claims: &Map<String, Value>, now: u64) -> Result<Span, Refused> {
        match (claims.get("iss"), &self.issuer) {
            (Some(Value::String(said)), Some(wanted)) if **said != **wanted => {
                return Err(Cause::WrongIssuer.with(format!("iss={said:?}")));
            }
            (Some(Value::String(_)), _) | (None, None) => {}
            (Some(_), _) => return Err(Cause::Malformed.with("`iss` is no text")),
            (None, Some(_)) => return Err(Cause::ClaimMissing.with("`iss` is missing")),
        }
        self.check_audience(claims.get("aud"))?;
        for name in ["sub", "jti"] {
            if claims.get(name).is_some_and(|value| !value.is_string()) {
                return Err(Cause::Malformed.with(format!("`{name}` is no text")));
            }
        }
        let span = self.span(claims)?;
        if let Some(name) = self.required.iter().find(|name| claims.get(&***name).is_none_or(Value::is_null))
        {
            return Err(Cause::ClaimMissing.with(format!("`{name}` is missing")));
        }
        if now >= span.until {
            let detail = format!("it ended at {}, it is {now}", span.until);
            let too_old =
                date(claims, "exp")?.is_none_or(|exp| now < second(exp).saturating_add(self.leeway));
            return Err(if too_old { Cause::TooOld } else { Cause::Expired }.with(detail));
        }
        if now < span.from {
            return Err(Cause::NotYetValid.with(format!("it begins at {}, it is {now}", span.from)));
        }
        Ok(span)
    }

    fn check_audience(&self, audience: Option<&Value>) -> Result<(), Refused> {
        let wanted = |said: &str| match &self.audiences {
            Audiences::Any => true,
            Audiences::Of(list) => list.iter().any(|one| one == said),
        };
        let fits = match audience {
            None => self.audiences == Audiences::Any,
            Some(Value::String(one)) => wanted(one),
            Some(Value::Array(list)) => {
                if !list.iter().all(Value::is_string) {
                    return Err(Cause::Malformed.with("`aud` is no list of texts"));
                }
                list.iter().filter_map(Value::as_str).any(wanted)
            }
            Some(_) => return Err(Cause::Malformed.with("`aud` is no text")),
        };
        if fits { Ok(()) } else { Err(Cause::WrongAudience.with("none of our audiences is in `aud`")) }
    }

    fn span(&self, claims: &Map<String, Value>) -> Result<Span, Refused> {
        let (exp, nbf, iat) = (date(claims, "exp")?, date(claims, "nbf")?, date(claims, "iat")?);
        let mut span = Span { from: 0, until: u64::MAX };
        if let Some(exp) = exp {
            span.until = second(exp).saturating_add(self.leeway);
        }
        if let Some(nbf) = nbf {
            span.from = second(nbf).saturating_sub(self.leeway);
        }
        if let Some(most) = self.max_age {
            let iat = iat.ok_or_else(|| Cause::ClaimMissing.with("`iat` is missing"))?;
            // One that was issued in the future would outlive its age.
            span.from = span.from.max(second(iat).saturating_sub(self.leeway));
            span.until = span.until.min(second(iat).saturating_add(most).saturating_add(self.leeway));
        }
        Ok(span)
    }
}

/// A `NumericDate`: a number of seconds since 1970, possibly with a fraction (RFC 7519, section 2).
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Refused> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64()),
        Some(_) => Err(Cause::Malformed.with(format!("`{name}` is no number"))),
    }
}

/// The first whole second that is not before. Times before 1970 count as 1970, those beyond all
/// reason as the end of time.
fn second(date: f64) -> u64 {
    date.ceil() as u64
}

/// A claim in whole seconds, for what is only told.
pub(super) fn seconds(claims: &Map<String, Value>, name: &str) -> Option<u64> {
    claims.get(name).and_then(Value::as_f64).map(second)
}
