//! Flights: a request that is nobody's client's, made of the first client's, through the same hooks.

use super::failed;
use super::kept::{self, Known};
use super::told::Fill;
use super::{Guest, policy};
use crate::cache::rules::directives::RequestDirectives;
use crate::cache::rules::freshness::Exchange;
use crate::cache::rules::key::{self, Key};
use crate::cache::rules::storing::{self, Asked, Storable, storable};
use crate::cache::rules::{date, update};
use crate::cache::store::Store;
use crate::cache::store::body::{End, Filling, Follower, Writer};
use crate::cache::store::flight::{Failure, Seat, Stage};
use crate::cache::store::object::{self, Body, Object};
use crate::cache::store::urls::Mark;
use crate::listen::ConnInfo;
use crate::policy::cache::Settings;
use crate::policy::context::PolicyContext;
use crate::proxy::{RequestContext, reply};
use crate::runtime::Snapshot;
use crate::values::RouteId;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::subrequest::server::SubrequestHandle;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::subrequest::Ctx;
use pingora_proxy::{PreparedSubrequest, Session};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many pieces of a private answer wait for its client.
const AHEAD: usize = 4;

/// What a flight begins with, on its way into its own context.
struct Luggage {
    fill: Arc<Fill>,
    snapshot: Arc<Snapshot>,
    route: RouteId,
    conn: Option<Arc<ConnInfo>>,
    authority: Box<str>,
    believed: bool,
    trace: Option<crate::telemetry::trace::TraceContext>,
    policy: PolicyContext,
    head: RequestHeader,
}

/// A flight that is to begin.
pub(super) struct Order {
    pub(super) seat: Option<Seat>,
    /// What is asked about, if something is kept.
    pub(super) known: Option<Arc<Object>>,
    store: Arc<Store>,
    key: Arc<Key>,
    /// What makes it invalid while it comes is remembered.
    _mark: Mark,
    flight_key: Vec<u8>,
    personal: bool,
    directives: RequestDirectives,
    /// The client's fields, for what varies.
    request: HeaderMap,
}

/// What comes of a flight, for the client that began it.
#[derive(Debug)]
pub enum Event {
    /// An interim answer (RFC 9110 section 15.2).
    Interim(Box<ResponseHeader>),
    /// An answer for all, with its client's place in the body if that is on its way.
    Shared(Arc<Object>, Option<Follower>),
    /// The head of one for this client alone.
    Head(Box<ResponseHeader>),
    /// A piece of its body.
    Piece(Bytes),
    /// Its end. Without it, it broke off.
    End,
}

/// What has come first.
pub(super) enum Arrival {
    /// An answer for all.
    Shared(Arc<Object>, Option<Follower>),
    /// The head of one for this client alone.
    Private(Box<ResponseHeader>),
    /// Nothing.
    Lost,
}

impl Order {
    pub(super) fn new(guest: &Guest, request: &RequestHeader, flight_key: Vec<u8>) -> Self {
        Self {
            seat: None,
            known: None,
            store: Arc::clone(&guest.store),
            key: Arc::clone(&guest.key),
            _mark: guest.store.mark(&guest.key),
            flight_key,
            personal: guest.personal,
            directives: guest.directives.clone(),
            request: request.headers.clone(),
        }
    }
}

/// One that never begins, or ends in whatever way, lets nobody wait for it.
impl Drop for Order {
    fn drop(&mut self) {
        let Some(seat) = &self.seat else { return };
        self.store.flights.leave(seat);
        if matches!(seat.flight.stage(), Stage::Asking) {
            seat.flight.set(Stage::Failed(Failure::default()));
        }
    }
}

/// Begins a flight. None, if that cannot be.
pub(super) fn start(
    session: &mut Session,
    cx: &RequestContext,
    order: Order,
) -> Option<(Arc<Fill>, mpsc::Receiver<Event>)> {
    let settings = policy(&cx.snapshot, cx)?.settings.clone();
    let known = order.known.as_ref().filter(|_| kept::is_wanted(cx));
    let known = known.map(|object| Known {
        store: Arc::clone(&order.store),
        key: Arc::clone(&order.key),
        object: Arc::clone(object),
    });
    let fill = Arc::new(Fill::asking_about(known));
    let luggage = Luggage {
        fill: Arc::clone(&fill),
        snapshot: Arc::clone(&cx.snapshot),
        route: cx.route?,
        conn: cx.conn.clone(),
        authority: authority(cx).into(),
        believed: cx.believed,
        trace: cx.trace,
        policy: cx.policy.for_fill(),
        head: head(session.req_header(), cx, (&settings, order.known.as_deref()))?,
    };
    let ctx = Ctx::builder().user_ctx(Box::new(Mutex::new(Some(luggage)))).build();
    let (prepared, handle) = subrequest(session, ctx)?;
    let (events, receiver) = mpsc::channel(AHEAD);
    let exchange = Exchange { asked: date::now(), answered: date::now() };
    let born = order.store.stamp();
    let landing = Landing { order, settings, fill: Arc::clone(&fill), exchange, born };
    tokio::spawn(async move {
        tokio::join!(prepared.run(), landing.drive(handle, events));
    });
    Some((fill, receiver))
}

/// The request of a flight: a GET of the whole, of what is keyed, asking about what is kept.
fn head(
    client: &RequestHeader,
    cx: &RequestContext,
    (settings, known): (&Settings, Option<&Object>),
) -> Option<RequestHeader> {
    let mut target = cx.policy.path(client).to_owned();
    if let Some(query) = key::query(client.uri.query(), &settings.query) {
        target.push('?');
        target.push_str(&query);
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::GET;
    parts.uri = target.parse().ok()?;
    parts.headers = client.headers.clone();
    for name in [EXPECT, CONTENT_LENGTH, TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    update::fetch_whole(&mut parts.headers);
    if let Some(known) = known {
        update::ask_about(&mut parts.headers, &known.head.headers);
    }
    parts.headers.insert(HOST, HeaderValue::from_str(&authority(cx)).ok()?);
    Some(parts.into())
}

/// The subrequest of a flight. A subrequest reads its head as HTTP/1, and Pingora writes that of an HTTP/2 client out
/// as `HTTP/2`, which it then refuses; so it gets another one. What it asks for is in its luggage.
fn subrequest(session: &mut Session, ctx: Ctx) -> Option<(PreparedSubrequest, SubrequestHandle)> {
    let mut head = RequestHeader::build(Method::GET, b"/", Some(0)).ok()?;
    let spawner = session.subrequest_spawner.take()?;
    std::mem::swap(session.req_header_mut(), &mut head);
    let made = spawner.create_subrequest(session.as_downstream(), ctx);
    *session.req_header_mut() = head;
    session.subrequest_spawner = Some(spawner);
    Some(made)
}

/// The authority as its key has it.
pub(super) fn authority(cx: &RequestContext) -> String {
    let mut text = String::with_capacity(cx.authority.len());
    key::push_authority(&mut text, cx.policy.scheme(), &cx.authority);
    text
}

/// Takes over what a flight begins with, if the session is one's. True if it is.
pub fn adopt(session: &mut Session, cx: &mut RequestContext) -> bool {
    let luggage = session.subrequest_ctx.as_mut().and_then(|ctx| {
        let held = ctx.user_ctx_mut()?.downcast_mut::<Mutex<Option<Luggage>>>()?;
        held.get_mut().take()
    });
    let Some(luggage) = luggage else { return false };
    *session.req_header_mut() = luggage.head;
    cx.fill = Some(luggage.fill);
    cx.snapshot = luggage.snapshot;
    cx.route = Some(luggage.route);
    cx.conn = luggage.conn;
    cx.authority = luggage.authority;
    cx.believed = luggage.believed;
    cx.trace = luggage.trace;
    cx.policy = luggage.policy;
    true
}

/// Waits for what comes first; interim answers go to the client.
pub(super) async fn arrival(
    session: &mut Session,
    events: &mut mpsc::Receiver<Event>,
    patience: Duration,
) -> Result<Arrival> {
    loop {
        // The flight has a time of its own; this only holds where it forgets it.
        let event = tokio::time::timeout(patience + Duration::from_secs(5), events.recv()).await;
        match event.ok().flatten() {
            Some(Event::Interim(head)) => {
                session.as_downstream_mut().set_close_on_response_before_downstream_finish(false);
                reply::pass_on(session, HttpTask::Header(head, false)).await?;
                session.as_downstream_mut().set_close_on_response_before_downstream_finish(true);
            }
            Some(Event::Shared(object, place)) => return Ok(Arrival::Shared(object, place)),
            Some(Event::Head(head)) => return Ok(Arrival::Private(head)),
            Some(Event::Piece(_) | Event::End) | None => return Ok(Arrival::Lost),
        }
    }
}

/// The end of a flight: it takes what comes.
struct Landing {
    order: Order,
    settings: Settings,
    fill: Arc<Fill>,
    exchange: Exchange,
    born: u64,
}

/// Where the body goes.
enum Goes {
    Shared(Arc<Object>, Writer),
    Private,
}

impl Landing {
    async fn drive(mut self, mut handle: SubrequestHandle, events: mpsc::Sender<Event>) {
        let (head, mut ended) = loop {
            match handle.rx.recv().await {
                Some(HttpTask::Header(head, _)) if head.status.is_informational() => {
                    let _ = events.send(Event::Interim(head)).await;
                }
                Some(HttpTask::Header(head, end)) => break (head, end),
                Some(_) => {}
                None => return,
            }
        };
        self.exchange.answered = date::now();
        if head.status == StatusCode::NOT_MODIFIED && self.order.known.is_some() {
            self.confirm(&head, &events).await;
            return;
        }
        let body = self.decide(head, &events).await;
        while let Some(task) = handle.rx.recv().await {
            match task {
                HttpTask::Body(Some(piece), end) => {
                    let goes_on = match &body {
                        Goes::Shared(_, writer) => writer.0.push(&piece).await,
                        Goes::Private => events.send(Event::Piece(piece)).await.is_ok(),
                    };
                    if !goes_on {
                        return;
                    }
                    ended |= end;
                }
                HttpTask::Body(None, end) => ended |= end,
                HttpTask::Done | HttpTask::Trailer(_) => ended = true,
                HttpTask::Failed(_) => break,
                _ => {}
            }
        }
        let is_whole = ended && !self.fill.is_broken();
        match body {
            Goes::Private if is_whole => drop(events.send(Event::End).await),
            Goes::Private => {}
            Goes::Shared(object, writer) => self.keep(&object, &writer.0, is_whole),
        }
    }

    /// What an answer is: for all, or for one.
    async fn decide(&self, head: Box<ResponseHeader>, events: &mpsc::Sender<Event>) -> Goes {
        let has_no_body = matches!(head.status.as_u16(), 204 | 304);
        if self.fill.stands_in() {
            // It would be taken for the upstream's word long after that is well again.
            self.land(match self.fill.stands_in_by_kept() {
                Some(code) => Stage::StandIn(code),
                None => Stage::Failed(self.fill.failure(head.status)),
            });
            let _ = events.send(Event::Head(head)).await;
            return Goes::Private;
        }
        match self.storable((head.status, &head.headers)) {
            Some(storable) => {
                let declared = if has_no_body { Some(0) } else { storing::content_length(&head.headers) };
                let budget = Arc::clone(&self.order.store.flights.budget);
                let filling = Arc::new(Filling::new(declared, self.settings.largest, budget));
                let tags = object::tags(&head.headers, self.settings.tags_from.as_ref());
                let body = Body::Filling(Arc::clone(&filling));
                let object = Arc::new(Object::new(storable, &self.order.request, body, (tags, self.born)));
                // Its client holds on to the beginning before anything can go by.
                let place = filling.follow();
                let _ = events.send(Event::Shared(Arc::clone(&object), place)).await;
                self.land(if object.head.terms.is_shared() {
                    self.order.store.flights.note_worthwhile(&self.order.flight_key);
                    Stage::Answer(Arc::clone(&object))
                } else {
                    self.note_in_vain();
                    Stage::Private
                });
                Goes::Shared(object, Writer(filling))
            }
            None => {
                let status = head.status;
                if status.is_server_error() {
                    self.land(Stage::Failed(failed::answered(status)));
                } else {
                    self.note_in_vain();
                    self.land(Stage::Private);
                }
                let _ = events.send(Event::Head(head)).await;
                Goes::Private
            }
        }
    }

    fn storable(&self, (status, headers): (StatusCode, &HeaderMap)) -> Option<Storable> {
        let asked = Asked {
            method: &Method::GET,
            directives: &self.order.directives,
            is_personal: self.order.personal,
        };
        storable(asked, (status, headers), self.exchange, &self.settings).ok().map(|(storable, _)| storable)
    }

    /// What is kept is still good (RFC 9111 section 4.3.3).
    async fn confirm(&self, head: &ResponseHeader, events: &mpsc::Sender<Event>) {
        let Some(known) = self.order.known.clone() else { return };
        if !update::is_about(&head.headers, &known.head.headers) {
            self.order.store.replace(&self.order.key, &known, None);
            return;
        }
        let mut headers = HeaderMap::clone(&known.head.headers);
        // An Age that the 304 does not have is not the old one's.
        headers.remove(http::header::AGE);
        update::merge(&mut headers, &head.headers);
        let renewed = self.storable((known.head.status, &headers));
        let Some(Storable { headers, terms, .. }) = renewed else {
            // It may not be kept any longer; this client gets it all the same.
            self.order.store.replace(&self.order.key, &known, None);
            let _ = events.send(Event::Shared(known, None)).await;
            self.land(Stage::Private);
            return;
        };
        let object = Arc::new(known.renewed(headers, terms, self.born));
        self.order.store.renew(&self.order.key, &known, Arc::clone(&object), date::now());
        let _ = events.send(Event::Shared(Arc::clone(&object), None)).await;
        let is_shared = object.head.terms.is_shared();
        self.land(if is_shared { Stage::Answer(object) } else { Stage::Private });
    }

    fn keep(&self, object: &Object, filling: &Filling, is_whole: bool) {
        let end = if is_whole { End::Whole } else { End::Broken };
        let Some(whole) = filling.finish(end) else {
            if filling.is_passing() {
                // Too large to be kept, and so too large to wait for.
                self.note_in_vain();
            }
            return;
        };
        let object = Arc::new(object.with_body(Body::Whole(whole)));
        self.order.store.put(&self.order.key, object, date::now());
    }

    fn note_in_vain(&self) {
        self.order.store.flights.note_in_vain(&self.order.flight_key, date::now());
    }

    fn land(&self, stage: Stage) {
        if let Some(seat) = &self.order.seat {
            if matches!(stage, Stage::Failed(_)) {
                // Who tries again does not follow this one.
                self.order.store.flights.leave(seat);
            }
            seat.flight.set(stage);
        }
    }
}
