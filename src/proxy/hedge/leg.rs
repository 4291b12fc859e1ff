//! One of the connections of an exchange that may be hedged: what Pingora does on its own ways for HTTP/1 and
//! HTTP/2, for a request without a body.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_core::protocols::http::v2::client::Http2Session as Http2;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::{Digest, UniqueID as _, UniqueIDType};
use pingora_core::upstreams::peer::{HttpPeer, Peer as _};
use pingora_error::{Error, ErrorType, OrErr as _, Result, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};
use std::pin::Pin;
use std::time::Duration;

/// Something that is under way.
type Coming<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A connection, or a stream of one, that carries the request.
pub struct Leg {
    wire: Wire,
    peer: HttpPeer,
    is_reused: bool,
}

enum Wire {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

impl Leg {
    /// A new connection to this peer, or one of the pool.
    ///
    /// # Errors
    /// There is none.
    pub fn connect(connector: &Connector, peer: HttpPeer) -> Coming<'_, Self> {
        Box::pin(Self::connecting(connector, peer))
    }

    async fn connecting(connector: &Connector, peer: HttpPeer) -> Result<Self> {
        let (session, is_reused) = connector.get_http_session(&peer).await?;
        let wire = match session {
            HttpSession::H1(session) => Wire::Http1(Box::new(session)),
            HttpSession::H2(session) => Wire::Http2(Box::new(session)),
            HttpSession::Custom(()) => {
                return Error::e_explain(ErrorType::InternalError, "a protocol that nobody asked for");
            }
        };
        let mut leg = Self { wire, peer, is_reused };
        leg.set_read_timeout(leg.peer.options.read_timeout);
        leg.set_write_timeout(leg.peer.options.write_timeout);
        Ok(leg)
    }

    /// Whether it was found in the pool.
    pub const fn is_reused(&self) -> bool {
        self.is_reused
    }

    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        match &mut self.wire {
            Wire::Http1(session) => session.read_timeout = timeout,
            Wire::Http2(session) => session.read_timeout = timeout,
        }
    }

    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        match &mut self.wire {
            Wire::Http1(session) => session.write_timeout = timeout,
            Wire::Http2(session) => session.write_timeout = timeout,
        }
    }

    /// Sends the request, with this Host if one is given.
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn write(&mut self, head: &RequestHeader, host: Option<&HeaderValue>) -> Result<()> {
        let mut head = Box::new(head.clone());
        if let Some(host) = host {
            head.insert_header(HOST, host)?;
        }
        match &mut self.wire {
            Wire::Http1(session) => {
                head.set_version(Version::HTTP_11);
                session.write_request_header(head).await?;
                session.finish_body().await?;
                Ok(())
            }
            Wire::Http2(session) => {
                for_http2(&mut head, self.peer.is_tls())?;
                session.write_request_header(head, true)
            }
        }
    }

    /// Waits for the next head of the answer, an interim one included.
    ///
    /// # Errors
    /// None came.
    pub async fn read_head(&mut self, connector: &Connector) -> Result<StatusCode> {
        match &mut self.wire {
            Wire::Http1(session) => {
                session.read_response().await?;
            }
            Wire::Http2(session) => {
                if session.response_header().is_some() {
                    return Error::e_explain(ErrorType::H2Error, "another head after the head");
                }
                if let Err(error) = session.read_response_header().await {
                    return Err(self.judged(connector, error));
                }
            }
        }
        let head = self.head().ok_or_else(|| Error::explain(ErrorType::InternalError, "no head was read"))?;
        Ok(head.status)
    }

    /// An error of HTTP/2, with what follows from it: who asks for HTTP/1.1, or does not know HTTP/2's rules, gets
    /// HTTP/1.1 from now on if it may; who is silent gets no more streams on this connection.
    fn judged(&self, connector: &Connector, mut error: Box<Error>) -> Box<Error> {
        self.suspect(&error);
        if matches!(error.etype(), ErrorType::H2Downgrade | ErrorType::InvalidH2) {
            match self.peer.get_alpn().is_none_or(|alpn| alpn.get_min_http_version() == 1) {
                true => connector.prefer_h1(&self.peer),
                false => error.retry = false.into(),
            }
        }
        error
    }

    fn suspect(&self, error: &Error) {
        if let (Wire::Http2(session), ErrorType::ReadTimedout) = (&self.wire, error.etype()) {
            session.conn.mark_shutdown();
        }
    }

    /// The last head that came.
    pub fn head(&self) -> Option<&ResponseHeader> {
        match &self.wire {
            Wire::Http1(session) => session.resp_header(),
            Wire::Http2(session) => session.response_header(),
        }
    }

    /// The next piece of the body; none at its end.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let piece = match &mut self.wire {
            Wire::Http1(session) => session.read_body_bytes().await,
            Wire::Http2(session) => session.read_response_body().await,
        };
        piece.inspect_err(|error| self.suspect(error))
    }

    /// Trailers, after the body. Those of HTTP/1 are dropped by Pingora.
    pub async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        match &mut self.wire {
            Wire::Http1(_) => Ok(None),
            Wire::Http2(session) => session.read_trailers().await,
        }
    }

    /// Whether the answer has ended.
    ///
    /// # Errors
    /// It has, before it was whole.
    pub fn check_end(&mut self, after_head: bool) -> Result<bool> {
        let session = match &mut self.wire {
            Wire::Http1(session) => return Ok(session.is_body_done()),
            Wire::Http2(session) => session,
        };
        let ended = session.check_response_end_or_error()?;
        let has_no_body = session.request_header().is_some_and(|head| head.method == Method::HEAD);
        // The `h2` crate does not count where no DATA comes at all (RFC 9113 section 8.1.1).
        if ended && after_head && !has_no_body && session.response_header().is_some_and(promises_body) {
            return Error::e_explain(ErrorType::H2Error, "a length, and no body");
        }
        Ok(ended)
    }

    /// Whether the answer has ended, as far as is known.
    pub fn is_finished(&self) -> bool {
        match &self.wire {
            // HTTP/1 tells only whoever may read on.
            Wire::Http1(_) => false,
            Wire::Http2(session) => session.response_finished(),
        }
    }

    /// Gives it back to the pool if the answer was read to its end, or ends it: HTTP/1 closes the connection, HTTP/2
    /// resets the stream.
    pub async fn release(self, connector: &Connector) {
        let idle = self.peer.options.idle_timeout;
        let session: HttpSession = match self.wire {
            Wire::Http1(session) => HttpSession::H1(*session),
            Wire::Http2(session) => HttpSession::H2(*session),
        };
        connector.release_http_session(session, &self.peer, idle).await;
    }

    /// Ends it at once. A connection of HTTP/1 is closed without a word of TLS, for which nobody has to wait.
    pub async fn end(self, connector: &Connector) {
        if matches!(self.wire, Wire::Http2(_)) {
            self.release(connector).await;
        }
    }

    pub fn digest(&self) -> Option<&Digest> {
        match &self.wire {
            Wire::Http1(session) => Some(session.digest()),
            Wire::Http2(session) => session.digest(),
        }
    }

    pub fn digest_mut(&mut self) -> Option<&mut Digest> {
        match &mut self.wire {
            Wire::Http1(session) => Some(session.digest_mut()),
            Wire::Http2(session) => session.digest_mut(),
        }
    }

    pub fn server_addr(&self) -> Option<&SocketAddr> {
        match &self.wire {
            Wire::Http1(session) => session.server_addr(),
            Wire::Http2(session) => session.server_addr(),
        }
    }

    pub fn client_addr(&self) -> Option<&SocketAddr> {
        match &self.wire {
            Wire::Http1(session) => session.client_addr(),
            Wire::Http2(session) => session.client_addr(),
        }
    }

    pub fn fd(&self) -> UniqueIDType {
        match &self.wire {
            Wire::Http1(session) => session.id(),
            Wire::Http2(session) => session.fd(),
        }
    }
}

/// Whether it is nobody's failure: the connection had ended in the pool.
pub fn is_of_pool(error: &Error, is_reused: bool) -> bool {
    is_reused && matches!(error.retry, RetryType::ReusedOnly)
}

fn promises_body(head: &ResponseHeader) -> bool {
    !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && head.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes().iter().any(|c| *c != b'0'))
}

/// The head as HTTP/2 has it: the authority in the place of Host (RFC 9113 section 8.3.1).
fn for_http2(head: &mut RequestHeader, tls: bool) -> Result<()> {
    if !head.raw_path_is_utf8() {
        return Error::e_explain(ErrorType::InvalidHTTPHeader, "HTTP/2 cannot carry such a target");
    }
    head.set_version(Version::HTTP_2);
    let Some(host) = head.remove_header(&HOST) else { return Ok(()) };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let uri = http::uri::Builder::new()
        .scheme(if tls { "https" } else { "http" })
        .authority(host.as_bytes())
        .path_and_query(target)
        .build();
    head.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "no authority for HTTP/2")?);
    Ok(())
}
