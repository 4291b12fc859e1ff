//! Whether what is kept may be used for a request (RFC 9111 section 4).

use super::directives::RequestDirectives;
use super::storing::Terms;
use std::time::Duration;

/// What becomes of a request that finds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It gets it.
    Fresh,
    /// It gets it though it is stale: the client said that it may (RFC 9111 section 5.2.1.2).
    Stale,
    /// It gets it, and a new one is fetched (RFC 5861 section 3).
    Meanwhile,
    /// It waits until the upstream has been asked.
    Validate {
        /// Whether it may have it if the upstream fails (RFC 5861 section 4).
        or_stale: bool,
    },
}

impl Terms {
    /// How old it is (RFC 9111 section 4.2.3).
    pub fn age(&self, now: Duration) -> Duration {
        self.initial_age.saturating_add(now.saturating_sub(self.answered))
    }

    /// How long it is still fresh; negative as the time since it has been stale.
    pub fn left(&self, now: Duration) -> Result<Duration, Duration> {
        let age = self.age(now);
        if age < self.lifetime { Ok(self.lifetime - age) } else { Err(age - self.lifetime) }
    }

    /// What becomes of a request; `aged` if a purge has made it stale before its time.
    pub fn usable(&self, request: &RequestDirectives, now: Duration, aged: bool) -> Use {
        let left = if aged { Err(self.left(now).err().unwrap_or_default()) } else { self.left(now) };
        let stale_for = left.err().unwrap_or_default();
        let bound = self
            .stale_if_error
            .max(request.stale_if_error.filter(|_| !self.must_revalidate).unwrap_or_default());
        let or_stale = left.is_err() && !self.no_cache && stale_for <= bound && !bound.is_zero();
        let validate = Use::Validate { or_stale };
        if self.no_cache || request.no_cache {
            return validate;
        }
        if request.max_age.is_some_and(|most| self.age(now) > most) && request.max_stale.is_none() {
            return validate;
        }
        match left {
            Ok(left) if request.min_fresh.is_none_or(|least| left >= least) => Use::Fresh,
            Ok(_) => validate,
            Err(_) if request.min_fresh.is_some() => validate,
            Err(stale_for)
                if !self.must_revalidate && request.max_stale.is_some_and(|most| stale_for <= most) =>
            {
                Use::Stale
            }
            Err(_) if request.max_age.is_some() => validate,
            Err(stale_for) if stale_for <= self.grace && !self.grace.is_zero() => Use::Meanwhile,
            Err(_) => validate,
        }
    }

    /// True if it may be served in the place of an upstream that failed, up to `most` after it was fresh: where the
    /// answer itself does not forbid it (RFC 9111 section 4.2.4).
    pub fn may_stand_in(&self, now: Duration, most: Duration) -> bool {
        !self.no_cache && !self.must_revalidate && self.left(now).err().unwrap_or_default() <= most
    }

    /// True if it can serve more than the one request that fetched it, so that others may wait for it.
    pub const fn is_shared(&self) -> bool {
        !self.no_cache && !self.lifetime.is_zero()
    }

    /// When it is of no use any more, not even as something to validate: how long after it came.
    pub fn useful_for(&self, has_validator: bool) -> Duration {
        /// A stale answer that can be validated saves its body.
        const VALIDATED: Duration = Duration::from_secs(86_400);
        let kept = self.grace.max(self.stale_if_error);
        let kept = if has_validator { kept.max(VALIDATED) } else { kept };
        self.lifetime.saturating_sub(self.initial_age).saturating_add(kept)
    }
}
