//! Opaque tokens, whose meaning a server tells (RFC 7662). What it told is kept for a while; about one
//! token there is one call at a time, however many requests come with it.

pub(in crate::identity) mod breaker;
mod compile;
mod config;

pub use config::{BreakerConfig, IntrospectionConfig, WhenDown};

use super::cause::{Cause, Refused};
use super::claims::Expected;
use super::client_auth::Credentials;
use super::flights::Flights;
use super::presented::Places;
use super::principal::{Method, Principal};
use super::tokens::{Id, Prefix};
use super::waiting::WaitingRoom;
use super::{Consumers, claimed, json};
use crate::outbound::{Client, Failure};
use crate::values::ServiceUrl;
use breaker::{Breaker, is_about_the_question};
use futures_util::future::BoxFuture;
use http::StatusCode;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A provider that asks a server about tokens, compiled.
#[derive(Clone, Debug)]
pub struct Introspection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    url: ServiceUrl,
    credentials: Credentials,
    client: Client,
    expected: Expected,
    cache: Duration,
    negative: Duration,
    /// How long answers count beyond their time while the server is down.
    stale: Duration,
    breaker: BreakerConfig,
    in_flight: usize,
    max_size: usize,
    places: Places,
    forward: bool,
    consumers: Arc<Consumers>,
    prefix: Prefix,
    state: Arc<State>,
}

/// What a server told. Outlives configurations.
#[derive(Debug)]
pub struct State {
    seed: super::tokens::Seed,
    known: Cache<Id, Arc<Known>, Weight>,
    flights: Arc<Flights<Id, Told>>,
    /// The calls in flight, by whose they are.
    room: Arc<WaitingRoom>,
    breaker: Breaker,
}

/// What a server told of a token.
#[derive(Debug)]
struct Known {
    /// Whose it is, or why it does not count.
    whose: Result<Active, Refused>,
    fresh_until: Instant,
    length: usize,
}

#[derive(Clone, Debug)]
struct Active {
    principal: Arc<Principal>,
    /// The consumers that its own one was looked up among.
    consumers: Weak<Consumers>,
    /// When the token ends, in seconds since 1970.
    until: u64,
}

/// What came of asking: an answer, or none.
type Told = Result<Arc<Known>, Down>;

/// The server was not asked, or did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Down;

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Id, Arc<Known>> for Weight {
    fn weight(&self, _: &Id, known: &Arc<Known>) -> u64 {
        known.length as u64
    }
}

/// What the memory of an answer is besides its text, in bytes.
const OVERHEAD: usize = 512;
/// How much larger an answer is in memory than as text.
const GROWTH: usize = 4;

/// What is known of a token, or how to know more.
pub enum Looked<'a> {
    /// Whose it is, or why it does not count.
    Known(Result<Arc<Principal>, Refused>),
    /// The server has to be asked.
    Ask(BoxFuture<'a, Result<Arc<Principal>, Refused>>),
}

impl Introspection {
    /// The provider's name.
    pub fn name(&self) -> &Arc<str> {
        &self.inner.name
    }

    /// Where tokens are looked for.
    pub fn places(&self) -> &Places {
        &self.inner.places
    }

    /// Whether the upstream gets the token too.
    pub fn forward(&self) -> bool {
        self.inner.forward
    }

    /// Looks up a token of this client; the time by both clocks, and `clock` tells seconds since 1970
    /// later.
    pub fn look<'a>(
        &'a self,
        token: Cow<'a, str>,
        client: IpAddr,
        (now, clock): (Instant, fn() -> u64),
    ) -> Looked<'a> {
        let inner = &self.inner;
        if token.len() > inner.max_size {
            return Looked::Known(Err(Cause::TooLarge.with(format!("{} bytes", token.len()))));
        }
        let id = inner.prefix.id(&token);
        let known = inner.state.known.get(&id);
        match known.as_ref().filter(|known| now < known.fresh_until) {
            Some(known) => Looked::Known(inner.whose(id, known, clock())),
            None => Looked::Ask(Box::pin(self.ask((id, token, client), known, clock))),
        }
    }

    async fn ask(
        &self,
        (id, token, client): (Id, Cow<'_, str>, IpAddr),
        before: Option<Arc<Known>>,
        clock: fn() -> u64,
    ) -> Result<Arc<Principal>, Refused> {
        let inner = &self.inner;
        let call = || {
            let (inner, token) = (Arc::clone(inner), token.into_owned());
            async move {
                // Whoever has the most calls under way makes room for those of others. Whoever asked about
                // the same token meanwhile loses with it.
                let mut place = inner.state.room.enter(client, inner.in_flight).ok_or(Down)?;
                tokio::select! {
                    told = inner.call(id, &token, clock()) => told,
                    () = place.lost() => Err(Down),
                }
            }
        };
        // Those without a place end at once.
        let told = inner.state.flights.join(id, 2 * inner.in_flight, call).await.unwrap_or(Err(Down));
        let stale = |known: &Arc<Known>| Instant::now() < known.fresh_until + inner.stale;
        match (told, before) {
            (Ok(known), _) => inner.whose(id, &known, clock()),
            (Err(Down), Some(known)) if stale(&known) => inner.whose(id, &known, clock()),
            (Err(Down), _) => Err(Cause::ServerDown.into()),
        }
    }
}

impl Inner {
    async fn call(&self, id: Id, token: &str, now: u64) -> Told {
        let breaker = &self.state.breaker;
        let pause = self.breaker.open_for.get();
        let Some(pass) = breaker.enter(Instant::now(), pause) else { return Err(Down) };
        let form = self.credentials.form(&self.url, &[("token", token)]);
        let answered = self.client.call(form).await;
        let is_about_the_token = match &answered {
            Ok(answer) => is_about_the_question(answer.status),
            Err(failure) => matches!(failure, Failure::TooLarge(_)),
        };
        let answered = match answered {
            Ok(answer) if answer.status == StatusCode::OK => self.read(&answer.body, now),
            Ok(answer) => Err(format!("status {}", answer.status.as_u16())),
            Err(failure) => Err(failure.to_string()),
        };
        match answered {
            Ok(known) => {
                pass.succeeded();
                let known = Arc::new(known);
                self.state.known.insert(id, Arc::clone(&known));
                Ok(known)
            }
            Err(why) => {
                let (name, most) = (&self.name, self.breaker.failures.get().into());
                if is_about_the_token {
                    pass.succeeded();
                    log::debug!("introspection failed provider={name} cause={why:?}");
                } else if pass.failed(Instant::now(), most, pause) {
                    log::warn!("introspection left alone provider={name} cause={why:?}");
                } else {
                    log::debug!("introspection failed provider={name} cause={why:?}");
                }
                Err(Down)
            }
        }
    }

    /// What the server says (RFC 7662, section 2.2). What is no such answer is a failure of the server.
    fn read(&self, body: &[u8], now: u64) -> Result<Known, String> {
        let mut members = json::object(body)?;
        let length = OVERHEAD + body.len() * GROWTH;
        let asked = Instant::now();
        let refused = |refused: Refused| Known {
            whose: Err(refused),
            fresh_until: asked + self.negative,
            length: OVERHEAD,
        };
        match members.remove("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Ok(refused(Cause::Inactive.into())),
            _ => return Err("`active` is neither true nor false".to_owned()),
        }
        let span = match self.expected.claims(&members, now) {
            Ok(span) => span,
            Err(why) => return Ok(refused(why)),
        };
        let subject = ["sub", "username", "client_id"]
            .into_iter()
            .find_map(|name| members.get(name).and_then(Value::as_str))
            .unwrap_or_default()
            .into();
        let principal =
            claimed::principal((Method::Introspection, &self.name), subject, members, &self.consumers);
        let whose = Active {
            principal: Arc::new(principal),
            consumers: Arc::downgrade(&self.consumers),
            until: span.until,
        };
        Ok(Known { whose: Ok(whose), fresh_until: asked + self.cache, length })
    }

    /// Whose a token is by what is known of it.
    fn whose(&self, id: Id, known: &Known, now: u64) -> Result<Arc<Principal>, Refused> {
        let active = known.whose.as_ref().map_err(Refused::clone)?;
        if now >= active.until {
            return Err(Cause::Expired.into());
        }
        if active.consumers.as_ptr() == Arc::as_ptr(&self.consumers) {
            return Ok(Arc::clone(&active.principal));
        }
        let principal = claimed::among(&active.principal, &self.consumers);
        let consumers = Arc::downgrade(&self.consumers);
        let whose = Ok(Active { principal: Arc::clone(&principal), consumers, until: active.until });
        let known = Known { whose, fresh_until: known.fresh_until, length: known.length };
        self.state.known.insert(id, Arc::new(known));
        Ok(principal)
    }
}
