//! Upgraded connections: a tunnel between a client and an upstream, of our own and not Pingora's,
//! which may end one at once whose upstream answers before it has seen that the request has no body.
//!
//! Nothing that the client sends reaches the upstream before its 101 is known to be the answer to
//! this request. An upstream that refuses is relayed like any other answer.

mod ends;
mod pump;

use super::phases::{body, connect, forward, respond};
use super::{Gateway, RequestContext, reply};
use crate::message::hop_by_hop::{self, Keep};
use crate::message::websocket;
use ends::{Client, Upstream};
use futures_util::FutureExt as _;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Version};
use pingora_core::protocols::http::v1::client::HttpSession as Http1Upstream;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use pump::{Outcome, Pump};

/// Serves a request that asks to be upgraded to `protocol`, to the end of the tunnel or of the
/// answer that refuses it.
///
/// # Errors
/// The upstream could not be reached, broke off before its answer was whole, or answered with a 101
/// that is none; or the client left.
pub async fn run(
    gateway: &Gateway,
    session: &mut Session,
    cx: &mut RequestContext,
    protocol: &str,
) -> Result<()> {
    let mut upstream = connect_to_upstream(gateway, session, cx).await?;
    let request = upstream_request(gateway, session, cx, protocol)?;
    upstream.write_request_header(Box::new(request)).await.map_err(Error::into_up)?;
    loop {
        let HttpTask::Header(head, end) = next_task(session, &mut upstream).await? else {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "an answer without a head")
                .map_err(Error::into_up);
        };
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return switch(gateway, session, cx, upstream, head).await;
        }
        let is_last = !head.status.is_informational();
        relay(session, cx, &mut upstream, (head, end)).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// A connection of its own: one that is to become a tunnel does not come from the pool, and speaks
/// HTTP/1.1 whatever the upstream speaks otherwise.
async fn connect_to_upstream(
    gateway: &Gateway,
    session: &Session,
    cx: &mut RequestContext,
) -> Result<Http1Upstream> {
    loop {
        let mut peer = connect::peer(session.req_header(), cx).await?;
        peer.options.set_http_version(1, 1);
        match gateway.connector.new_stream(&*peer).await {
            Ok(stream) => {
                connect::connected(cx, false);
                let mut upstream = Http1Upstream::new_with_options(stream, &*peer);
                upstream.read_timeout = peer.options.read_timeout;
                upstream.write_timeout = peer.options.write_timeout;
                return Ok(upstream);
            }
            Err(error) => {
                let error = connect::failed(cx, error.into_up());
                if !error.retry() {
                    return Err(error);
                }
            }
        }
    }
}

fn upstream_request(
    gateway: &Gateway,
    session: &Session,
    cx: &mut RequestContext,
    protocol: &str,
) -> Result<RequestHeader> {
    let mut request = session.req_header().clone();
    hop_by_hop::strip_request(&mut request);
    request.remove_header(&header::EXPECT);
    request.set_version(Version::HTTP_11);
    forward::request(gateway, session, &mut request, cx)?;
    request.insert_header(header::CONNECTION, HeaderValue::from_static("upgrade"))?;
    request.insert_header(header::UPGRADE, protocol)?;
    Ok(request)
}

/// The next piece of the upstream's answer, unless the client leaves before it comes. What the
/// client sends meanwhile waits.
async fn next_task(session: &mut Session, upstream: &mut Http1Upstream) -> Result<HttpTask> {
    tokio::select! {
        biased;
        task = upstream.read_response_task() => task.map_err(Error::into_up),
        left = session.as_downstream_mut().read_body_or_idle(true) => match left {
            Err(error) => Err(error.into_down()),
            Ok(_) => Error::e_explain(ErrorType::ConnectionClosed, "the client sent on after its request")
                .map_err(Error::into_down),
        },
    }
}

/// Passes an interim answer on, or a whole one.
async fn relay(
    session: &mut Session,
    cx: &mut RequestContext,
    upstream: &mut Http1Upstream,
    (mut head, end): (Box<ResponseHeader>, bool),
) -> Result<()> {
    respond::from_upstream(session, &mut head, cx)?;
    let is_framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .iter()
        .any(|name| head.headers.contains_key(name));
    let has_body = !end && session.req_header().method != Method::HEAD && !head.status.is_informational();
    if has_body && !is_framed {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    respond::to_client(session, &mut head, cx);
    let is_interim = head.status.is_informational();
    let mut done = reply::pass_on(session, HttpTask::Header(head, end)).await?;
    while !done && !is_interim {
        let mut task = next_task(session, upstream).await?;
        body::answer(session, task.is_end(), cx)?;
        match &mut task {
            HttpTask::Body(body, end) => drop(respond::body(body, *end, cx)?),
            HttpTask::Done => task = HttpTask::Body(respond::trailers(&HeaderMap::new(), cx)?, true),
            _ => {}
        }
        done = reply::pass_on(session, task).await?;
    }
    Ok(())
}

/// Switches protocols, and stays until the tunnel ends.
async fn switch(
    gateway: &Gateway,
    session: &mut Session,
    cx: &mut RequestContext,
    mut upstream: Http1Upstream,
    mut head: Box<ResponseHeader>,
) -> Result<()> {
    websocket::check_answer(session.req_header(), &head)
        .map_err(|what| Error::explain(ErrorType::InvalidHTTPHeader, what).into_up())?;
    let is_websocket = websocket::requested(session.req_header())
        .is_some_and(|protocol| protocol.eq_ignore_ascii_case(websocket::WEBSOCKET));
    hop_by_hop::strip_response(&mut head, Keep { trailers: false, upgrade: true });
    respond::policies(session.req_header(), &mut head, cx);
    reply::pass_on(session, HttpTask::Header(head, false)).await?;

    // Ready at once if something came along with the answer; otherwise there is nothing to lose.
    let early = upstream.read_body_bytes().now_or_never().transpose().map_err(Error::into_up)?;
    let early = early.flatten().filter(|early| !early.is_empty());
    let upstream = Upstream::new(upstream.into_inner(), early);
    let bounds = cx.conn.as_ref().map(|conn| conn.limits().upgraded.clone()).unwrap_or_default();
    let ServerSession::H1(client) = session.as_downstream_mut() else { return Ok(()) };
    // The tunnel's own bounds hold from here on.
    client.set_read_timeout(None);
    client.set_write_timeout(None);
    let mut stopping = gateway.stopping.clone();
    let outcome = Pump::new(Client(client), upstream, is_websocket).run(&bounds, &mut stopping).await;
    cx.cause = match outcome {
        Outcome::Done => None,
        Outcome::ClientBroke => Some("client_gone"),
        Outcome::UpstreamBroke => Some("upstream_failed"),
        Outcome::Idle => Some("tunnel_idle"),
        Outcome::Aged => Some("tunnel_aged"),
        Outcome::GoingAway => Some("going_away"),
    };
    Ok(())
}
