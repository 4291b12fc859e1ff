//! A provider of logins: one issuer, one client of it, one set of cookies.

use super::cookies::{Jar, Purpose};
use super::issuer::{Grant, Issuer};
use super::lately::Lately;
use super::return_to::ReturnTo;
use super::seal::Sealer;
use super::session::{Id, Lifetimes, Seen, Session, Standing};
use super::{issuer, page};
use crate::identity::flights::Flights;
use crate::values::ServiceUrl;
use bytes::Bytes;
use http::header::HeaderMap;
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// How many refreshed sessions are kept for requests that come late with the cookies from before.
const MOST_REFRESHED: usize = 8192;

/// How many answered states are remembered.
const MOST_STATES: usize = 65_536;

/// How many sessions are remembered that were logged out when there was no room among the revocations: a copy
/// of an older one's cookies would hold until the session is too old.
const MOST_ENDED: usize = 262_144;
const SHARDS: usize = 16;

/// What a provider remembers beyond configurations.
#[derive(Debug)]
pub struct Memory {
    pub(super) issuer: Arc<issuer::Known>,
    /// States that were answered. Whoever replays one that had to make room still needs its cookie.
    pub(super) answered: Lately<Box<str>, ()>,
    /// Refreshes under way.
    pub(super) refreshes: Arc<Flights<(Id, u32), Refreshed>>,
    /// Sessions that were logged out and found no room among the revocations; split, so that workers seldom wait for each other.
    ended: [Lately<Id, ()>; SHARDS],
    /// What refreshes brought.
    pub(super) refreshed: Lately<(Id, u32), Refreshed>,
    /// Makes this gateway refresh at other times than others do.
    pub(super) spread: ahash::RandomState,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            issuer: Arc::default(),
            answered: Lately::new(MOST_STATES),
            refreshes: Arc::default(),
            ended: std::array::from_fn(|_| Lately::new(MOST_ENDED / SHARDS)),
            refreshed: Lately::new(MOST_REFRESHED),
            spread: ahash::RandomState::new(),
        }
    }
}

impl Memory {
    /// Where it is remembered that a session was ended.
    pub(super) fn ended(&self, id: Id) -> &Lately<Id, ()> {
        &self.ended[id.shard(SHARDS)]
    }
}

/// How a refresh ended: with the session that follows and its cookies, or with a reason.
pub type Refreshed = Result<(Arc<Session>, Vec<HeaderValue>), issuer::Failed>;

/// A provider of logins, compiled.
pub struct Oidc {
    /// Its name in `identity.providers`.
    pub name: Arc<str>,
    /// The issuer.
    pub issuer: Arc<Issuer>,
    pub(super) redirect_uri: ServiceUrl,
    /// The path of `redirect_uri`.
    pub(super) callback: Box<str>,
    /// The origin of `redirect_uri`.
    pub(super) origin: Box<str>,
    /// The host of `redirect_uri`: cookies hold for it alone.
    pub(super) host: Box<str>,
    pub(super) scope: Box<str>,
    pub(super) parameters: Box<[(Box<str>, Box<str>)]>,
    pub(super) claims: Option<Box<[Box<str>]>>,
    pub(super) jar: Jar,
    pub(super) sealer: Sealer,
    pub(super) lifetimes: Lifetimes,
    /// How long a login may take, in seconds.
    pub(super) login_time: u64,
    pub(super) logout: Option<Logout>,
    pub(super) memory: Arc<Memory>,
}

/// Where a session is ended.
#[derive(Debug)]
pub(super) struct Logout {
    pub path: Box<str>,
    pub return_to: ServiceUrl,
    pub provider: bool,
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc")
            .field("name", &self.name)
            .field("issuer", &self.issuer.name)
            .finish_non_exhaustive()
    }
}

/// What a request is to a provider of logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The issuer sent the browser back.
    Callback,
    /// Somebody wants to log out.
    Logout,
    /// It is for the application.
    Application,
}

/// What cookies say of a caller.
#[derive(Debug)]
pub enum Caller {
    /// Nothing.
    Nobody,
    /// There was a session, and it does not count, for this reason.
    Over(&'static str),
    /// This session; and the cookie that says when it was last used, if it is time for a new one.
    Known(Arc<Session>, Option<HeaderValue>),
    /// This session, which has to be refreshed first.
    Due(Arc<Session>),
}

/// An answer that a login or logout gives by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Where the browser goes.
    pub location: Option<HeaderValue>,
    /// Cookies to be set.
    pub cookies: Vec<HeaderValue>,
    /// A page; empty where the browser goes elsewhere.
    pub page: Bytes,
    /// A stable word for the log.
    pub cause: &'static str,
    /// What happened, for the log alone.
    pub detail: Box<str>,
}

impl Answer {
    pub(super) fn redirect(to: &str, cookies: Vec<HeaderValue>, cause: &'static str) -> Self {
        let location = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
        let (page, detail) = (Bytes::new(), Box::default());
        Self { status: StatusCode::FOUND, location: Some(location), cookies, page, cause, detail }
    }

    pub(super) fn failed(status: StatusCode, cause: &'static str, sentence: &str, again: &ReturnTo) -> Self {
        let page = page::failed(sentence, again);
        Self { status, location: None, cookies: Vec::new(), page, cause, detail: Box::default() }
    }

    pub(super) fn detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = detail.into();
        self
    }

    pub(super) fn with(mut self, cookies: impl IntoIterator<Item = HeaderValue>) -> Self {
        self.cookies.extend(cookies);
        self
    }
}

impl Oidc {
    /// What a request for this normalised path is.
    pub fn place(&self, path: &str) -> Place {
        if path == &*self.callback {
            return Place::Callback;
        }
        match &self.logout {
            Some(logout) if path == &*logout.path => Place::Logout,
            _ => Place::Application,
        }
    }

    /// True for the host of `redirect_uri`: a login that begins elsewhere could not end, since cookies
    /// hold for one host.
    pub fn is_at(&self, host: &str) -> bool {
        self.host.eq_ignore_ascii_case(host)
    }

    /// Tells a person who came by another name where to go. No redirect: where names are changed on
    /// the way to the gateway, it would never end.
    pub fn elsewhere(&self, to: &ReturnTo) -> Answer {
        let page = page::elsewhere(&format!("{}{to}", self.origin));
        let (status, cookies) = (StatusCode::MISDIRECTED_REQUEST, Vec::new());
        Answer { status, location: None, cookies, page, cause: "login_elsewhere", detail: Box::default() }
    }

    /// The names of its cookies.
    pub fn jar(&self) -> &Jar {
        &self.jar
    }

    /// Who a request's cookies say that calls.
    pub fn caller(&self, headers: &HeaderMap, now: u64) -> Caller {
        if !self.jar.has_session(headers) {
            return Caller::Nobody;
        }
        let Some(session) = self.session(headers) else { return Caller::Over("session_unreadable") };
        if self.memory.ended(session.id).get(&session.id, now).is_some() {
            return Caller::Over("session_ended");
        }
        let seen = self.jar.read(&self.sealer, Purpose::Seen, headers);
        let seen = seen.as_deref().and_then(Seen::from_cookie).filter(|seen| seen.session == session.id);
        let spread = self.memory.spread.hash_one(session.id) as u8;
        match session.standing(seen.map(|seen| seen.at), now, &self.lifetimes, spread) {
            Standing::Over(why) => Caller::Over(why),
            Standing::Due => Caller::Due(session),
            Standing::Good => {
                let stale = seen.is_some_and(|seen| seen.is_stale(now, &self.lifetimes));
                let renewed = stale.then(|| self.seen(&session, now)).flatten();
                Caller::Known(session, renewed)
            }
        }
    }

    /// The session in a request's cookies, however it stands.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<Arc<Session>> {
        let text = self.jar.session_text(headers)?;
        Session::from_cookie(&self.jar.open_session(&self.sealer, &text)?).map(Arc::new)
    }

    /// The cookie that says that a session was used now.
    pub(super) fn seen(&self, session: &Session, now: u64) -> Option<HeaderValue> {
        let plain = Seen { session: session.id, at: now }.to_cookie();
        self.jar.write(&self.sealer, Purpose::Seen, &plain, self.lifetimes.idle).ok()
    }

    /// The cookies of a session. `headers` are those of the request that brings it: what they hold of
    /// an earlier session goes.
    ///
    /// # Errors
    /// The session does not fit into cookies, or could not be sealed.
    pub(super) fn write(
        &self,
        session: &mut Session,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<Vec<HeaderValue>, &'static str> {
        let left = session.left(now, &self.lifetimes);
        let write =
            |session: &Session| self.jar.write_session(&self.sealer, &session.to_cookie(), left, headers);
        let mut cookies = write(&*session).map_err(|_| "seal_failed")?;
        if cookies.is_none() && session.id_token.take().is_some() {
            // Without the hint an issuer asks before it logs out.
            cookies = write(&*session).map_err(|_| "seal_failed")?;
        }
        let mut cookies = cookies.ok_or("session_too_large")?;
        cookies.extend(self.seen(session, now));
        Ok(cookies)
    }

    /// The session that begins with what the issuer gave.
    pub(super) fn begin(&self, grant: Grant, nonce: Box<str>, now: u64) -> Result<Session, &'static str> {
        let Grant { claims, tokens, fresh_until } = grant;
        Ok(Session {
            id: Id::random().map_err(|_| "no_randomness")?,
            round: 0,
            started: now,
            issued: now,
            fresh_until,
            nonce,
            claims: self.kept(claims.unwrap_or_default()),
            scope: Some(tokens.scope.unwrap_or_else(|| self.scope.clone())),
            refresh_token: tokens.refresh_token,
            id_token: tokens.id_token.filter(|_| self.wants_hint()),
        })
    }

    /// The session that follows this one after a refresh (RFC 6749 section 6, OpenID Connect Core
    /// section 12.2): what the issuer did not give anew stays.
    pub(super) fn follow(&self, session: &Session, grant: Grant, now: u64) -> Session {
        let Grant { claims, tokens, fresh_until } = grant;
        let id_token = tokens.id_token.filter(|_| self.wants_hint());
        Session {
            id: session.id,
            round: session.round.saturating_add(1),
            started: session.started,
            issued: now,
            fresh_until,
            nonce: session.nonce.clone(),
            claims: claims.map_or_else(|| session.claims.clone(), |claims| self.kept(claims)),
            scope: tokens.scope.or_else(|| session.scope.clone()),
            refresh_token: tokens.refresh_token.or_else(|| session.refresh_token.clone()),
            id_token: id_token.or_else(|| session.id_token.clone()),
        }
    }

    fn wants_hint(&self) -> bool {
        self.logout.as_ref().is_some_and(|logout| logout.provider)
    }

    /// The claims that a session keeps.
    fn kept(&self, mut claims: Value) -> Value {
        if let (Some(list), Some(claims)) = (&self.claims, claims.as_object_mut()) {
            claims.retain(|name, _| name == "sub" || list.iter().any(|kept| **kept == *name));
        }
        claims
    }
}
