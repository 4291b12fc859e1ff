//! The only writer of our own answers: what a refusal says to the client, and whether the
//! connection outlives it.

use super::phases::cache::Event;
use super::phases::respond;
use super::{Gateway, RequestContext};
use crate::cache::store::body::{End, Follower, Next, Whole};
use crate::message::authority;
use crate::message::grpc::{self, Dialect};
use crate::policy::Reply;
use crate::rejection::Rejection;
use crate::runtime::pages::Page;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use pingora_core::protocols::http::HttpTask;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// An unread body up to this length is read away so that the connection can be kept.
const READ_AWAY: u64 = 64 << 10;
/// How long reading it away may take.
const READ_AWAY_TIME: Duration = Duration::from_millis(500);

/// What is written at once to a stream of HTTP/2, which has a time for each write whatever its length, or goes through
/// a policy, which does it in one go.
const SMALL: usize = 64 << 10;

/// When to come again after a 503 that knows no better, in seconds.
const SOON: HeaderValue = HeaderValue::from_static("1");

/// Answers with a refusal.
///
/// # Errors
/// The client is gone.
pub(super) async fn reject(
    gateway: &Gateway,
    session: &mut Session,
    cx: &mut RequestContext,
    rejection: &Rejection,
) -> Result<()> {
    cx.cause = Some(rejection.code);
    // An error, and nothing that stands in for the upstream.
    cx.exchange.substitute = None;
    gateway.metrics.rejected(rejection.code);
    if !rejection.detail.is_empty() {
        log::debug!(
            "refused request_id={} code={} detail={:?}",
            cx.policy.request_id(),
            rejection.code,
            rejection.detail
        );
    }
    if rejection.close {
        session.set_keepalive(None);
    }
    let reply = match grpc::dialect(&session.req_header().headers) {
        Some(dialect) => grpc(dialect, rejection),
        None => problem(session, cx, rejection),
    };
    send(session, cx, reply?).await
}

/// Answers.
///
/// # Errors
/// The client is gone.
pub(super) async fn send(session: &mut Session, cx: &mut RequestContext, reply: Reply) -> Result<()> {
    let Reply { mut head, mut body } = reply;
    if let Some(fill) = &cx.fill {
        fill.answer_ourselves(cx);
    }
    let bodiless = matches!(head.status.as_u16(), 204 | 304);
    if !bodiless {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    respond::policies(session.req_header(), &mut head, cx);
    if cx.policy.watches_answer && !bodiless {
        body = through_policies(body, cx)?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    settle_request_body(session).await;
    let without_body = bodiless || body.is_empty() || session.req_header().method == Method::HEAD;
    if without_body {
        // The one way that ends an HTTP/2 stream with its head, which is what gRPC asks for.
        return session.write_response_tasks(vec![HttpTask::Header(Box::new(head), true)]).await.map(drop);
    }
    session.write_response_header(Box::new(head), false).await?;
    session.write_response_body(Some(body), true).await?;
    if cx.fill.is_some() {
        // The end of a piece is not passed on to a flight, and after a failure Pingora does not end it either.
        session.as_downstream_mut().finish_body().await?;
    }
    Ok(())
}

/// What is sent of an answer that is kept, or comes.
pub(super) enum Content {
    /// No body, and nothing said of its length.
    None,
    /// All of this, from this piece on.
    Whole(Arc<Whole>, usize),
    /// These pieces.
    Pieces(std::vec::IntoIter<Bytes>),
    /// A body on its way.
    Following(Follower),
    /// A part of one.
    Part(Part),
    /// The same, for this client alone.
    Private(mpsc::Receiver<Event>),
}

/// A part of a body on its way.
pub(super) struct Part {
    follower: Follower,
    /// How many bytes come before it, and how many of it are still to come.
    skip: u64,
    left: u64,
}

impl Part {
    /// So many bytes from `first` on.
    pub(super) const fn new(follower: Follower, first: u64, count: u64) -> Self {
        Self { follower, skip: first, left: count }
    }

    /// The next piece of it; none at its end, and at the body's if that comes too soon.
    async fn next(&mut self) -> Option<Bytes> {
        while self.left > 0 {
            let Next::Piece(mut piece) = self.follower.next().await else { return None };
            let length = piece.len() as u64;
            let before = self.skip.min(length);
            self.skip -= before;
            let taken = (length - before).min(self.left);
            self.left -= taken;
            if taken > 0 {
                // Both are at most the length of a piece.
                drop(piece.split_to(before as usize));
                piece.truncate(taken as usize);
                return Some(piece);
            }
        }
        None
    }
}

impl Content {
    /// The same in small pieces, where it is there as a whole.
    fn in_small_pieces(self) -> Self {
        let pieces = match self {
            Self::Whole(whole, 0) if whole.pieces().iter().any(|piece| piece.len() > SMALL) => {
                whole.pieces().to_vec().into_iter()
            }
            Self::Pieces(pieces) => pieces,
            content => return content,
        };
        let cut = |piece: Bytes| {
            let starts = (0..piece.len()).step_by(SMALL);
            starts.map(move |from| piece.slice(from..piece.len().min(from + SMALL)))
        };
        Self::Pieces(pieces.flat_map(cut).collect::<Vec<_>>().into_iter())
    }

    /// The next piece; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let broken = || Error::explain(ErrorType::ReadError, "the answer broke off").into_up();
        match self {
            Self::None => Ok(None),
            Self::Whole(whole, at) => {
                let piece = whole.piece(*at);
                *at += 1;
                Ok(piece)
            }
            Self::Pieces(pieces) => Ok(pieces.next()),
            Self::Following(follower) => match follower.next().await {
                Next::Piece(piece) => Ok(Some(piece)),
                Next::End(End::Whole) => Ok(None),
                Next::End(End::Broken) => Err(broken()),
            },
            Self::Part(part) => match part.next().await {
                Some(piece) => Ok(Some(piece)),
                None if part.left == 0 => Ok(None),
                None => Err(broken()),
            },
            Self::Private(events) => match events.recv().await {
                Some(Event::Piece(piece)) => Ok(Some(piece)),
                Some(Event::End) => Ok(None),
                _ => Err(broken()),
            },
        }
    }
}

/// Sends an answer that is kept, or comes: its head with the status and fields that it has, its body in
/// pieces that are not copied.
///
/// # Errors
/// The client is gone, or the answer broke off.
pub(super) async fn send_kept(
    session: &mut Session,
    cx: &mut RequestContext,
    mut head: ResponseHeader,
    mut content: Content,
) -> Result<()> {
    let bodiless = matches!(head.status.as_u16(), 204 | 304) || matches!(content, Content::None);
    respond::policies(session.req_header(), &mut head, cx);
    if !bodiless && (cx.policy.watches_answer || !head.headers.contains_key(header::CONTENT_LENGTH)) {
        respond::frame_anew(session.req_header(), &mut head);
    }
    let is_old = session.req_header().version == http::Version::HTTP_10;
    if is_old && head.remove_header(&header::TRANSFER_ENCODING).is_some() {
        session.set_keepalive(None);
    }
    settle_request_body(session).await;
    if bodiless || session.req_header().method == Method::HEAD {
        return session.write_response_tasks(vec![HttpTask::Header(Box::new(head), true)]).await.map(drop);
    }
    if session.is_http2() || cx.policy.watches_answer {
        content = content.in_small_pieces();
    }
    session.write_response_header(Box::new(head), false).await?;
    loop {
        let mut piece = content.next().await?;
        // The last piece goes out with the end.
        let ends = match &content {
            Content::Whole(whole, at) => *at >= whole.pieces().len(),
            Content::Pieces(rest) => rest.len() == 0,
            _ => piece.is_none(),
        };
        if cx.policy.watches_answer {
            respond::body(&mut piece, ends, cx)?;
        }
        match piece {
            Some(piece) if ends || !piece.is_empty() => {
                session.write_response_body(Some(piece), ends).await?;
            }
            _ if ends => session.write_response_body(None, true).await?,
            _ => {}
        }
        if ends {
            return Ok(());
        }
    }
}

fn through_policies(body: Bytes, cx: &mut RequestContext) -> Result<Bytes> {
    let mut body = Some(body);
    match respond::pass_body(&mut body, true, cx) {
        Ok(()) => Ok(body.unwrap_or_default()),
        Err(rejection) => {
            cx.cause = Some(rejection.code);
            Error::e_explain(ErrorType::InternalError, rejection.detail.into_owned())
        }
    }
}

/// Passes a piece of an upstream's answer on that does not take Pingora's way. True after the last.
///
/// # Errors
/// The client is gone.
pub(super) async fn pass_on(session: &mut Session, piece: HttpTask) -> Result<bool> {
    session.write_response_tasks(vec![piece]).await.map_err(Error::into_down)
}

/// RFC 9457, or an error page where one is configured.
fn problem(session: &Session, cx: &RequestContext, rejection: &Rejection) -> Result<Reply> {
    let status = rejection.status;
    let mut head = ResponseHeader::build_no_case(status, Some(8))?;
    for (name, value) in &rejection.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    if status == StatusCode::SERVICE_UNAVAILABLE && !head.headers.contains_key(header::RETRY_AFTER) {
        head.insert_header(header::RETRY_AFTER, SOON)?;
    }
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    if let Some(page) = page(session.req_header(), cx, status) {
        head.insert_header(header::CONTENT_TYPE, page.content_type.clone())?;
        return Ok(Reply { head, body: page.body.clone() });
    }
    head.insert_header(header::CONTENT_TYPE, "application/problem+json")?;
    let problem = Problem {
        title: rejection.title,
        status: status.as_u16(),
        code: rejection.code,
        request_id: cx.policy.request_id(),
    };
    let body = serde_json::to_vec(&problem).map_err(|error| {
        Error::because(ErrorType::InternalError, "a problem that cannot be written", error)
    })?;
    Ok(Reply { head, body: body.into() })
}

/// The members of a problem (RFC 9457 section 3.1) and our own. Written from here and not as a `Value`, which is a
/// map with texts of its own: that was a tenth of what a refusal cost.
#[derive(Serialize)]
struct Problem<'a> {
    title: &'static str,
    status: u16,
    code: &'static str,
    request_id: &'a str,
}

/// The route's page, else the host's, else the listener's.
fn page<'a>(request: &RequestHeader, cx: &'a RequestContext, status: StatusCode) -> Option<&'a Page> {
    let status = status.as_u16();
    let of_route = cx.route().and_then(|route| route.pages.get(status));
    let of_host = || cx.host(authority::authority(request)).and_then(|host| host.pages.get(status));
    of_route.or_else(of_host).or_else(|| cx.listener().and_then(|listener| listener.pages.get(status)))
}

/// A gRPC caller gets the status in its own words, in a response of headers alone ("Responses" in
/// the gRPC over HTTP/2 specification), and in the dialect that it spoke.
fn grpc(dialect: Dialect, rejection: &Rejection) -> Result<Reply> {
    let mut head = ResponseHeader::build_no_case(StatusCode::OK, Some(4))?;
    head.insert_header(header::CONTENT_TYPE, dialect.content_type())?;
    head.insert_header(grpc::STATUS, grpc::code(rejection.status))?;
    head.insert_header(grpc::MESSAGE, rejection.title)?;
    Ok(Reply { head, body: Bytes::new() })
}

/// The head that the client got, once it is one that no other can follow: interim answers are none.
pub(super) fn answered(session: &Session) -> Option<&ResponseHeader> {
    let is_last =
        |status: StatusCode| !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS;
    session.response_written().filter(|head| is_last(head.status))
}

/// Ends a call that has begun to be answered with a status, if the caller speaks gRPC and its stream
/// can still take one. False if it cannot be told.
pub(super) async fn end_call(session: &mut Session, rejection: &Rejection) -> bool {
    let answers_grpc =
        session.response_written().is_some_and(|head| grpc::dialect(&head.headers) == Some(Dialect::Grpc));
    if !session.is_http2() || !answers_grpc {
        return false;
    }
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(grpc::STATUS, grpc::code(rejection.status).into());
    trailers.insert(grpc::MESSAGE, HeaderValue::from_static(rejection.title));
    session.write_response_tasks(vec![HttpTask::Trailer(Some(Box::new(trailers)))]).await.is_ok()
}

/// Decides what becomes of a body that nobody read: a short one is read away and the connection
/// kept, a long one closes it (RFC 9112 section 9.3). HTTP/2 resets its stream by itself.
async fn settle_request_body(session: &mut Session) {
    if session.is_http2() || session.get_keepalive().is_none() || session.is_body_done() {
        return;
    }
    let expects = session.req_header().headers.contains_key(header::EXPECT);
    let length = content_length(session.req_header());
    if expects || length.is_some_and(|length| length > READ_AWAY) {
        // A client that waits for `100 Continue` has not sent its body, and may or may not send it
        // after this answer (RFC 9110 section 10.1.1): the connection cannot be trusted.
        session.set_keepalive(None);
        return;
    }
    let read_away = async {
        let mut read = 0;
        while let Ok(Some(chunk)) = session.as_downstream_mut().read_request_body().await {
            read += chunk.len() as u64;
            if read > READ_AWAY {
                return false;
            }
        }
        session.is_body_done()
    };
    if !matches!(pingora_timeout::timeout(READ_AWAY_TIME, read_away).await, Ok(true)) {
        session.set_keepalive(None);
    }
}

/// Tells a client that waits with its body to go on (RFC 9110 section 10.1.1). HTTP/2 has no way to, in
/// Pingora's hands.
///
/// # Errors
/// The client is gone.
pub(super) async fn go_on(session: &mut Session) -> Result<()> {
    let expects = session.req_header().headers.contains_key(header::EXPECT);
    if !expects || session.is_http2() {
        return Ok(());
    }
    // Pingora takes it for an early answer, after which it would close.
    let client = session.as_downstream_mut();
    client.set_close_on_response_before_downstream_finish(false);
    let told = client.write_continue_response().await;
    client.set_close_on_response_before_downstream_finish(true);
    told.map_err(Error::into_down)
}

/// The declared length of a request's body.
pub(super) fn content_length(request: &RequestHeader) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
