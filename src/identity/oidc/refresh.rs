//! New tokens for a session, before the old ones expire.
//!
//! An issuer that rotates refresh tokens takes one that comes twice for stolen and ends the session
//! (RFC 9700 section 4.14.2). Here one is spent once: requests that find a session due together wait
//! for one refresh, and its result is kept for those that come late with the cookies from before.
//! Several gateways do not know of each other; they find a session due at different times, so that
//! all but the first see the cookies that the first one wrote. Where two meet all the same, the one
//! that the issuer refuses goes on with the tokens that it has until these expire.

use super::cookies;
use super::issuer::{Ask, Failed};
use super::provider::{Oidc, Refreshed};
use super::session::Session;
use super::tokens::TokenRequest;
use http::HeaderValue;
use http::header::HeaderMap;
use std::net::IpAddr;
use std::sync::Arc;

/// How long the result of a refresh is kept, in seconds: longer than any request with the cookies
/// from before may be under way.
const KEPT: u64 = 60;
/// How soon a refresh is tried again that failed for another reason than the token, in seconds.
const AGAIN: u64 = 2;
/// How many refreshes may be under way.
const MOST: usize = 1024;

impl Oidc {
    /// Refreshes a session that is due: the session to go on with, and cookies to be set.
    ///
    /// # Errors
    /// It is over, for this reason.
    pub async fn refresh(
        self: Arc<Self>,
        session: Arc<Session>,
        (client, headers): (IpAddr, HeaderMap),
        now: u64,
    ) -> Result<(Arc<Session>, Vec<HeaderValue>), Failed> {
        let key = (session.id, session.round);
        let known = &self.memory;
        let refreshed = match known.refreshed.get(&key, now) {
            Some(refreshed) => Some(refreshed),
            None => {
                let work = || Arc::clone(&self).ask_once(Arc::clone(&session), (client, headers), now);
                known.refreshes.join(key, MOST, work).await
            }
        };
        match refreshed {
            Some(Ok(refreshed)) => Ok(refreshed),
            Some(Err(_)) | None if session.is_fresh(now) => {
                let seen = self.seen(&session, now);
                Ok((session, seen.into_iter().collect()))
            }
            Some(Err(failed)) => Err(failed),
            None => Err(Failed { cause: "too_many_refreshes", detail: Box::default() }),
        }
    }

    /// Whoever looked for a result just before there was one comes here too late to spend the token.
    async fn ask_once(
        self: Arc<Self>,
        session: Arc<Session>,
        from: (IpAddr, HeaderMap),
        now: u64,
    ) -> Refreshed {
        let key = (session.id, session.round);
        if let Some(refreshed) = self.memory.refreshed.get(&key, now) {
            return refreshed;
        }
        let refreshed = self.ask(&session, from, now).await;
        let kept = match &refreshed {
            Err(failed) if failed.cause != Failed::REFUSED => AGAIN,
            _ => KEPT,
        };
        self.memory.refreshed.put(key, refreshed.clone(), now.saturating_add(kept), now);
        refreshed
    }

    async fn ask(&self, session: &Session, from: (IpAddr, HeaderMap), now: u64) -> Refreshed {
        let (client, headers) = from;
        let token = session.refresh_token.as_deref().unwrap_or_default();
        let request = TokenRequest::Refresh(token);
        let ask = Ask { request, nonce: &session.nonce, subject: Some(session.subject()), client };
        let granted = self.issuer.grant(ask, now).await;
        let grant = granted.inspect_err(|failed| {
            log::info!(
                "session not refreshed provider={} cause={} detail={:?}",
                self.name,
                failed.cause,
                failed.detail
            );
        })?;
        let mut next = self.follow(session, grant, now);
        let cookies = self
            .write(&mut next, &cookies::only(&headers), now)
            .map_err(|cause| Failed { cause, detail: Box::default() })?;
        Ok((Arc::new(next), cookies))
    }
}
