//! Another service is asked whether a request may pass.
//!
//! It is told what the gateway knows of the request and the fields that it shall see, and it answers with
//! a status. Nobody gets in while it is down, too slow, or asked about too much at a time. What it said of
//! somebody counts again only where the configuration says so, and only for the very same question.

mod compile;
mod config;

pub use config::{ForwardCacheConfig, ForwardConfig, RefusalsConfig};

use super::introspection::BreakerConfig;
use super::introspection::breaker::Breaker;
use super::oidc::Jar;
use super::tokens::{Id, Seed};
use super::waiting::WaitingRoom;
use super::{Consumers, Method, Principal};
use crate::message::cookies;
use crate::outbound::{Answer, Call, Client, Failure};
use crate::values::{ServiceUrl, Sha256};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora_http::RequestHeader;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the memory of an answer is besides its fields, in bytes.
const OVERHEAD: usize = 512;

/// A service that is asked about requests, compiled.
#[derive(Debug)]
pub struct Forward {
    name: Arc<str>,
    url: ServiceUrl,
    client: Client,
    send: Box<[HeaderName]>,
    credentials: Box<[HeaderName]>,
    take: Box<[HeaderName]>,
    subject: Option<HeaderName>,
    refusals: Refusals,
    cache: Option<Duration>,
    breaker: BreakerConfig,
    in_flight: usize,
    consumers: Arc<Consumers>,
    /// Of all of the above that comes from the configuration.
    expects: Sha256,
    state: Arc<State>,
}

/// What of refusals the client sees.
#[derive(Debug)]
struct Refusals {
    statuses: Box<[StatusCode]>,
    headers: Box<[HeaderName]>,
    body: bool,
}

/// What outlives a configuration.
struct State {
    seed: Seed,
    known: Cache<Id, Arc<Known>, Weight>,
    breaker: Breaker,
    room: Arc<WaitingRoom>,
}

#[derive(Debug)]
struct Known {
    allowed: Allowed,
    until: Instant,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Id, Arc<Known>> for Weight {
    fn weight(&self, _: &Id, known: &Arc<Known>) -> u64 {
        let fields = known.allowed.fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
        (OVERHEAD + fields.sum::<usize>()) as u64
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

/// What is known of a request that is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Its head.
    pub head: &'a RequestHeader,
    /// Whose cookies are the gateway's own: the service could use them as its own.
    pub jars: &'a [Jar],
    /// The one path that is matched, authorised and forwarded.
    pub path: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Whom it is addressed to.
    pub host: &'a str,
    /// Who sends it.
    pub client: IpAddr,
    /// Its id in logs.
    pub id: &'a str,
}

/// A question, ready to be asked.
#[derive(Debug)]
pub struct Question {
    fields: HeaderMap,
    id: Option<HeaderValue>,
    client: IpAddr,
}

/// Somebody who is let in.
#[derive(Clone, Debug)]
pub struct Allowed {
    subject: Box<str>,
    /// What the upstream gets.
    pub fields: Box<[(HeaderName, HeaderValue)]>,
}

/// What a service said.
#[derive(Debug)]
pub enum Told {
    /// This is let in.
    Allowed(Allowed),
    /// It is not, and the client sees this.
    Passed(StatusCode, HeaderMap, Bytes),
    /// It is not. Its status, for the log and for 403.
    Refused(StatusCode),
    /// It is, but it is not said who it is.
    Nameless,
    /// The service did not answer, or is left alone.
    Down,
    /// It is asked about too many others.
    Busy,
}

impl Forward {
    /// The provider's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The fields that nobody but the service can give the upstream.
    pub fn taken(&self) -> &[HeaderName] {
        &self.take
    }

    /// True if the request has a credential that the service is to be asked about.
    pub fn is_asked_about(&self, head: &RequestHeader) -> bool {
        self.credentials.is_empty() || self.credentials.iter().any(|name| head.headers.contains_key(name))
    }

    /// What the service is asked. Nothing in it is the client's word but the fields that it shall see.
    pub fn question(&self, asking: &Asking<'_>) -> Question {
        let mut fields = HeaderMap::with_capacity(self.send.len() + 6);
        let is_own = |name: &[u8]| asking.jars.iter().any(|jar| jar.owns(name));
        for name in &self.send {
            if *name == COOKIE
                && let Some(rest) = cookies::without(&asking.head.headers, is_own)
            {
                fields.extend(rest.map(|rest| (COOKIE, rest)));
                continue;
            }
            for value in asking.head.headers.get_all(name) {
                fields.append(name.clone(), value.clone());
            }
        }
        let mut tell = |name: HeaderName, text: &str| {
            // What cannot stand in a field was refused at the door.
            if let Ok(value) = HeaderValue::from_str(text) {
                fields.insert(name, value);
            }
        };
        tell(X_FORWARDED_METHOD, asking.head.method.as_str());
        tell(X_FORWARDED_PROTO, asking.scheme);
        tell(X_FORWARDED_HOST, asking.host);
        match asking.head.uri.query() {
            Some(query) => tell(X_FORWARDED_URI, &format!("{}?{query}", asking.path)),
            None => tell(X_FORWARDED_URI, asking.path),
        }
        tell(X_FORWARDED_FOR, &asking.client.to_string());
        let id = HeaderValue::from_str(asking.id).ok().filter(|id| !id.is_empty());
        Question { fields, id, client: asking.client }
    }

    /// What was said to the very same question, if that counts again.
    pub fn known(&self, question: &Question) -> Option<Allowed> {
        self.cache?;
        let known = self.state.known.get(&self.id(question))?;
        (Instant::now() < known.until).then(|| known.allowed.clone())
    }

    /// Asks. Whoever has the most questions under way makes room for those of others.
    pub async fn ask(&self, question: Question) -> Told {
        let place = self.state.room.enter(question.client, self.in_flight);
        let Some(mut place) = place else { return Told::Busy };
        tokio::select! {
            told = self.exchange(&question) => told,
            () = place.lost() => Told::Busy,
        }
    }

    async fn exchange(&self, question: &Question) -> Told {
        let (breaker, pause) = (&self.state.breaker, self.breaker.open_for.get());
        let Some(pass) = breaker.enter(Instant::now(), pause) else { return Told::Down };
        let mut call = Call::get(self.url.clone());
        for (name, value) in &question.fields {
            call = call.header(name.clone(), value.clone());
        }
        if let Some(id) = &question.id {
            call = call.header(X_REQUEST_ID, id.clone());
        }
        let why = match self.client.call(call).await {
            Ok(answer) if answer.status.is_server_error() => format!("status {}", answer.status.as_u16()),
            Ok(answer) => {
                pass.succeeded();
                return self.read(answer, question);
            }
            // It is there, and whoever asks can make it talk so much.
            Err(failure @ Failure::TooLarge(_)) => {
                pass.succeeded();
                log::debug!("forward authentication failed provider={} cause=\"{failure}\"", self.name);
                return Told::Down;
            }
            Err(failure) => failure.to_string(),
        };
        if pass.failed(Instant::now(), self.breaker.failures.get().into(), pause) {
            log::warn!("forward authentication left alone provider={} cause={why:?}", self.name);
        } else {
            log::debug!("forward authentication failed provider={} cause={why:?}", self.name);
        }
        Told::Down
    }

    fn read(&self, mut answer: Answer, question: &Question) -> Told {
        let status = answer.status;
        if !status.is_success() {
            if !self.refusals.statuses.contains(&status) {
                return Told::Refused(status);
            }
            let mut headers = HeaderMap::new();
            let content_type = self.refusals.body.then_some(CONTENT_TYPE);
            for name in self.refusals.headers.iter().chain(&content_type) {
                // Each once, however often it is named.
                if headers.contains_key(name) {
                    continue;
                }
                for value in answer.headers.get_all(name) {
                    headers.append(name.clone(), value.clone());
                }
            }
            let body = if self.refusals.body { std::mem::take(&mut answer.body) } else { Bytes::new() };
            return Told::Passed(status, headers, body);
        }
        let subject = match &self.subject {
            None => Box::default(),
            Some(name) => {
                let mut values = answer.headers.get_all(name).iter();
                match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
                    (Some(text), None) if !text.is_empty() => text.into(),
                    _ => return Told::Nameless,
                }
            }
        };
        let all = |name: &HeaderName| {
            // Copies: a value as it came holds on to all that was read with it, unweighed.
            let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
            let values = answer.headers.get_all(name).iter();
            values.filter_map(|value| Some((name.clone(), copy(value)?))).collect::<Vec<_>>()
        };
        let allowed = Allowed { subject, fields: self.take.iter().flat_map(all).collect() };
        let time =
            self.cache.map(|most| answer.max_age().map_or(most, |age| most.min(Duration::from_secs(age))));
        if let Some(time) = time.filter(|time| !time.is_zero()) {
            let known = Known { allowed: allowed.clone(), until: Instant::now() + time };
            self.state.known.insert(self.id(question), Arc::new(known));
        }
        Told::Allowed(allowed)
    }

    /// By what an answer is found again: all that the service was told, and all that is made of it here.
    fn id(&self, question: &Question) -> Id {
        let mut text = String::with_capacity(512);
        for (name, value) in &question.fields {
            let value: String = value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
            // A value has no line break, so nothing passes for something else.
            text.push_str(name.as_str());
            text.push(':');
            text.push_str(&value);
            text.push('\n');
        }
        self.state.seed.prefix(self.expects.bytes()).id(&text)
    }

    /// Somebody who is let in, as policies see it.
    pub fn principal(&self, allowed: &Allowed) -> Principal {
        let mut claims = Map::new();
        for (name, value) in &allowed.fields {
            let Ok(text) = value.to_str() else { continue };
            match claims.get_mut(name.as_str()) {
                // Several values are one list to whoever reads fields (RFC 9110, section 5.2).
                Some(Value::String(known)) => *known = format!("{known}, {text}"),
                _ => drop(claims.insert(name.as_str().to_owned(), Value::String(text.to_owned()))),
            }
        }
        let consumer = match &*allowed.subject {
            "" => None,
            subject => self.consumers.by_subject(&self.name, subject).map(Arc::clone),
        };
        Principal {
            provider: Some(Arc::clone(&self.name)),
            consumer,
            claims: Value::Object(claims),
            ..Principal::new(Method::Forward, &*allowed.subject)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Building, TokenCache};
    use crate::outbound::Outbound;
    use crate::retained::Retained;

    fn provider(config: &str) -> Forward {
        let config: ForwardConfig = serde_json::from_str(config).unwrap();
        let (retained, outbound) = (Retained::default(), Outbound::default());
        let (tokens, consumers) = (Arc::new(TokenCache::new(1 << 20)), Arc::default());
        let building =
            Building { retained: &retained, outbound: &outbound, tokens: &tokens, consumers: &consumers };
        Forward::compile("check", &config, &building).unwrap()
    }

    #[tokio::test]
    async fn a_flood_of_one_client_takes_nobody_elses_place() {
        // It never answers.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let provider = provider(&format!(r#"{{"url":"http://{address}/","in_flight":2}}"#));
        let ask = |client: u8| {
            let client = IpAddr::from([192, 0, 2, client]);
            Box::pin(provider.ask(Question { fields: HeaderMap::new(), id: None, client }))
        };
        let (mut first, mut second, mut other) = (ask(1), ask(1), ask(2));
        assert!(
            futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending()
        );
        assert!(matches!(ask(1).await, Told::Busy), "it has the most itself");
        assert!(futures_util::poll!(&mut other).is_pending());
        assert!(matches!(first.await, Told::Busy), "it made room");
        assert!(futures_util::poll!(&mut second).is_pending());
    }

    #[test]
    fn cookies_of_the_gateways_own_are_told_nobody() {
        let provider = provider(r#"{"url":"http://127.0.0.1:1/"}"#);
        let jars = [Jar::new("session", false)];
        let told = |cookies: &[&str]| {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            for cookie in cookies {
                head.append_header(COOKIE, *cookie).unwrap();
            }
            let (head, client) = (&head, IpAddr::from([192, 0, 2, 1]));
            let asking =
                Asking { head, jars: &jars, path: "/", scheme: "https", host: "a.example", client, id: "" };
            let values = provider.question(&asking).fields;
            let values = values.get_all(COOKIE).iter().map(|value| value.to_str().unwrap().to_owned());
            values.collect::<Vec<_>>()
        };
        assert_eq!(told(&["a=1; session=x; session.seen=y; b=2"]), ["a=1; b=2"]);
        assert_eq!(told(&["session=x", "a=1"]), ["a=1"]);
        assert_eq!(told(&["a=1", "sessions=z"]), ["a=1", "sessions=z"]);
        assert!(told(&["session=x"]).is_empty());
    }
}
