//! The cache under test: the rules and the store, put together as the gateway does it. It can be told to
//! forget one of its duties, to show that the model sees it.

use super::model::{Answer, Method, Request, Vary};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method as HttpMethod, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tollgate::cache::rules::directives::RequestDirectives;
use tollgate::cache::rules::freshness::Exchange;
use tollgate::cache::rules::key::{self, Key, Parts};
use tollgate::cache::rules::reuse::Use;
use tollgate::cache::rules::storing::{self, Asked, storable};
use tollgate::cache::rules::{date, update};
use tollgate::cache::store::body::Whole;
use tollgate::cache::store::object::{Body, Object};
use tollgate::cache::store::purge::{Purge, Target};
use tollgate::cache::store::{Found, Store};
use tollgate::policy::cache::Settings;
use tollgate::values::ByteSize;

/// A duty that the cache forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Variants,
    RequestDirectives,
    Purges,
    Invalidation,
    AgeOnArrival,
    NoCache,
    Authorization,
    MustRevalidate,
    Confirmation,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Given without asking: which answer, and the age on it.
    Reused(u64, u64),
    /// Given without asking, while the origin was asked: whether it said that it is still good.
    Meanwhile((u64, u64), bool),
    /// Given because the origin failed.
    InsteadOfError(u64, u64),
    /// Given because the origin said that it is still good.
    Confirmed(u64),
    /// What the origin sent.
    Forwarded,
    /// `only-if-cached`, and it is not.
    NotCached,
}

pub struct Cache {
    store: Store,
    settings: Settings,
    fault: Fault,
}

const ID: HeaderName = HeaderName::from_static("x-id");

impl Cache {
    pub fn new(settings: Settings, fault: Fault) -> Self {
        Self { store: Store::new(ByteSize::mib(4)), settings, fault }
    }

    pub fn purge(&self, url: Option<u8>, soft: bool) {
        if self.fault != Fault::Purges {
            let target = url.map_or(Target::All, |url| Target::Url(text(url).into()));
            self.store.purge(&Purge { target, soft });
        }
    }

    /// Handles a request at `now`; `answer`, numbered `id`, is what the origin says if it is asked.
    pub fn handle(&self, request: &Request, (id, answer): (u64, &Answer), now: u64) -> Outcome {
        let headers = fields(request);
        let seen = self.seen(&headers);
        let mut directives = RequestDirectives::of(&headers);
        if self.fault == Fault::RequestDirectives {
            directives = RequestDirectives::default();
        }
        if request.method == Method::Post {
            let status = StatusCode::from_u16(answer.status).unwrap();
            if update::invalidates(&HttpMethod::POST, status) && self.fault != Fault::Invalidation {
                self.store.purge(&Purge { target: Target::Url(text(request.url).into()), soft: false });
            }
            return Outcome::Forwarded;
        }
        let key = self.key(request, &headers);
        let at = Duration::from_secs(now);
        let mut found = None;
        let mut is_or_stale = false;
        if let Found::Object { object, aged } = self.store.find(key.as_str(), &seen) {
            let mut terms = object.head.terms;
            terms.no_cache &= self.fault != Fault::NoCache;
            terms.must_revalidate &= self.fault != Fault::MustRevalidate;
            let given = (number(&object), terms.age(at).as_secs());
            match terms.usable(&directives, at, aged) {
                Use::Fresh | Use::Stale => return Outcome::Reused(given.0, given.1),
                Use::Meanwhile => {
                    let came = self.fetch((request, &headers, &directives), (id, answer), now, Some(&object));
                    return Outcome::Meanwhile(given, came == Outcome::Confirmed(given.0));
                }
                Use::Validate { or_stale } => is_or_stale = or_stale,
            }
            found = Some((object, given));
        }
        if directives.only_if_cached {
            return Outcome::NotCached;
        }
        if request.method == Method::Head {
            return Outcome::Forwarded;
        }
        if is_or_stale
            && answer.status >= 500
            && let Some((_, (id, age))) = found
        {
            return Outcome::InsteadOfError(id, age);
        }
        self.fetch(
            (request, &headers, &directives),
            (id, answer),
            now,
            found.as_ref().map(|(object, _)| object),
        )
    }

    /// Asks the origin, which says that its answer with this tag is still good if it is asked about it.
    fn fetch(
        &self,
        (request, headers, directives): (&Request, &HeaderMap, &RequestDirectives),
        (id, answer): (u64, &Answer),
        now: u64,
        known: Option<&Arc<Object>>,
    ) -> Outcome {
        let key = self.key(request, headers);
        let born = self.store.stamp();
        let exchange = Exchange {
            asked: Duration::from_secs(now),
            answered: Duration::from_secs(
                now + if self.fault == Fault::AgeOnArrival { 0 } else { answer.delay },
            ),
        };
        let method = HttpMethod::GET;
        let is_personal = request.authorization && self.fault != Fault::Authorization;
        let asked = Asked { method: &method, directives, is_personal };
        let mut asks = HeaderMap::new();
        if let Some(known) = known {
            update::ask_about(&mut asks, &known.head.headers);
        }
        let tag = answer.etag.map(tag_of);
        let is_good = tag.is_some() && asks.get(header::IF_NONE_MATCH) == tag.as_ref();
        if let Some(known) = known.filter(|_| is_good || self.fault == Fault::Confirmation) {
            let said = said(answer, now + answer.delay, None);
            if !update::is_about(&said, &known.head.headers) && self.fault != Fault::Confirmation {
                self.store.replace(&key, known, None);
                return Outcome::Forwarded;
            }
            let mut headers = HeaderMap::clone(&known.head.headers);
            headers.remove(header::AGE);
            update::merge(&mut headers, &said);
            match storable(asked, (known.head.status, &headers), exchange, &self.settings) {
                Ok((new, _)) => {
                    let object = Arc::new(known.renewed(new.headers, new.terms, born));
                    self.store.put(&key, object, exchange.answered);
                }
                Err(_) => self.store.replace(&key, known, None),
            }
            return Outcome::Confirmed(number(known));
        }
        let status = StatusCode::from_u16(answer.status).unwrap();
        let said = said(answer, now + answer.delay, Some(id));
        if let Ok((storable, _)) = storable(asked, (status, &said), exchange, &self.settings) {
            let body = Body::Whole(Arc::new(Whole::new(&[id.to_string().into()])));
            let object = Object::new(storable, &self.seen(headers), body, (Box::default(), born));
            self.store.put(&key, Arc::new(object), exchange.answered);
        }
        Outcome::Forwarded
    }

    /// What of a request decides about variants.
    fn seen(&self, headers: &HeaderMap) -> HeaderMap {
        if self.fault == Fault::Variants { HeaderMap::new() } else { headers.clone() }
    }

    fn key(&self, request: &Request, headers: &HeaderMap) -> Arc<Key> {
        let path = format!("/{}", request.url);
        let parts = Parts {
            scheme: "https",
            authority: "a",
            path: &path,
            query: None,
            headers,
            realm: ["", "route"],
            caller: None,
        };
        Arc::new(Key::new(&parts, std::iter::empty(), &self.settings))
    }
}

fn text(url: u8) -> String {
    key::url("https", "a", &format!("/{url}"), None)
}

/// The number of an answer, which its field and its body agree on.
fn number(object: &Object) -> u64 {
    let id: u64 = object.head.headers[&ID].to_str().unwrap().parse().unwrap();
    let Body::Whole(whole) = &object.body else { panic!("it is still coming") };
    assert_eq!(whole.part(0, whole.length()).collect::<Vec<_>>().concat(), id.to_string().as_bytes());
    id
}

fn tag_of(etag: u8) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{etag}\"")).unwrap()
}

/// A request's fields.
fn fields(request: &Request) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(language) = request.language {
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(language));
    }
    if request.authorization {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic eDp5"));
    }
    if request.pragma {
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    }
    let mut list = List::default();
    list.flag("no-cache", request.no_cache);
    list.flag("no-store", request.no_store);
    list.flag("only-if-cached", request.only_if_cached);
    list.time("max-age", request.max_age);
    list.time("min-fresh", request.min_fresh);
    list.time("max-stale", request.max_stale.flatten());
    list.flag("max-stale", request.max_stale == Some(None));
    list.time("stale-if-error", request.if_error);
    list.put(&mut headers);
    headers
}

/// An answer's fields, when it comes at `now`; a 304's without a number.
fn said(answer: &Answer, now: u64, id: Option<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let instant = |at: u64| date::value(Duration::from_secs(at)).unwrap();
    let made = now - answer.date_back.unwrap_or(0);
    if answer.date_back.is_some() {
        headers.insert(header::DATE, instant(made));
    }
    if answer.age > 0 {
        storing::set_age(&mut headers, Duration::from_secs(answer.age));
    }
    if let Some(expires) = answer.expires {
        let value = expires
            .map_or(HeaderValue::from_static("0"), |after| instant(made.checked_add_signed(after).unwrap()));
        headers.insert(header::EXPIRES, value);
    }
    if let Some(back) = answer.modified {
        headers.insert(header::LAST_MODIFIED, instant(now - back));
    }
    if let Some(etag) = answer.etag {
        headers.insert(header::ETAG, tag_of(etag));
    }
    let vary = match answer.vary {
        Vary::Nothing => None,
        Vary::Language => Some("Accept-Language"),
        Vary::Everything => Some("*"),
    };
    if let Some(vary) = vary {
        headers.insert(header::VARY, HeaderValue::from_static(vary));
    }
    if let Some(id) = id {
        headers.insert(ID, id.into());
    }
    let mut list = List::default();
    list.flag("no-store", answer.no_store);
    list.flag("no-cache", answer.no_cache);
    list.flag("private", answer.private);
    list.flag("public", answer.public);
    list.flag("must-revalidate", answer.must_revalidate);
    list.flag("proxy-revalidate", answer.proxy_revalidate);
    list.time("max-age", answer.max_age);
    list.time("s-maxage", answer.s_maxage);
    list.time("stale-while-revalidate", answer.while_revalidate);
    list.time("stale-if-error", answer.if_error);
    list.put(&mut headers);
    headers
}

/// The members of a Cache-Control.
#[derive(Default)]
struct List(Vec<String>);

impl List {
    fn flag(&mut self, name: &str, is_there: bool) {
        self.0.extend(is_there.then(|| name.to_owned()));
    }

    fn time(&mut self, name: &str, seconds: Option<u64>) {
        self.0.extend(seconds.map(|seconds| format!("{name}={seconds}")));
    }

    fn put(self, headers: &mut HeaderMap) {
        if !self.0.is_empty() {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_str(&self.0.join(", ")).unwrap());
        }
    }
}
