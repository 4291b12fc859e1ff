use super::conn_info::{ConnInfo, HeaderState};
use super::request_line::RequestLine;
use super::transport::Transport;
use super::write_buffer::WriteBuffer;
use crate::identity::certificate::ClientTls;
use async_trait::async_trait;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora_http::ResponseHeader;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// The most that is read at once while a head is not whole. What follows the head in the same read is
/// then less than Pingora's retry buffer, which `proxy` relies on where it holds bodies.
const HEAD_READ: u64 = 16 << 10;
/// What a connection writes before the others of its worker have their turn: two of the largest segments that the
/// kernel makes, about 20 us. Written at once, a MiB has others wait for as long as it takes, and takes twice as long:
/// its client cannot keep up, and by the time it reads, what was copied is in no cache (loadtest/RESULTS.md).
const TURN: usize = 2 * 65_483;
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// RFC 9113 section 3.4.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) type Timer = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

pub(super) fn timer(after: Duration) -> Timer {
    Box::pin(pingora_timeout::sleep(after))
}

/// A client's connection as Pingora reads and writes it.
///
/// Over the transport it adds: a write buffer that exists only while something is in it, counts of
/// bytes, a deadline for the whole header of an HTTP/1 request, and one for a client that accepts
/// nothing of what is written. Reads are not buffered: Pingora reads headers and bodies into
/// buffers of its own.
pub struct Edge<S> {
    transport: S,
    fd: RawFd,
    info: Arc<ConnInfo>,
    /// Bytes that were read to find out the protocol, and that the next reads get.
    replay: Vec<u8>,
    request_line: RequestLine,
    out: WriteBuffer,
    header_deadline: Option<Timer>,
    write_deadline: Option<Timer>,
    /// How many bytes of [`TURN`] an answer has written.
    turn: usize,
    /// The client was given up since it accepted nothing.
    stalled: bool,
    protocol: Option<ALPN>,
    accepted: SystemTime,
    proxy_digest: Arc<ProxyDigest>,
    socket_digest: Arc<SocketDigest>,
    ssl_digest: Option<Arc<SslDigest>>,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl<S: Transport> Edge<S> {
    pub(super) fn new(transport: S, fd: RawFd, info: Arc<ConnInfo>) -> io::Result<Self> {
        let head = ResponseHeader::build(200, Some(0)).map_err(io::Error::other)?;
        let proxy_digest = ProxyDigest::new(Box::new(head), Some(Box::new(info.clone())));
        let socket_digest = SocketDigest::from_raw_fd(fd);
        // Given now, or Pingora asks the kernel, for some of it at each request.
        let _ = socket_digest.peer_addr.set(Some(SocketAddr::Inet(info.peer_addr())));
        let _ = socket_digest.local_addr.set(Some(SocketAddr::Inet(info.local_addr())));
        let tls = info.tls();
        let ssl_digest = tls.map(|tls| Arc::new(ssl_digest(tls)));
        let protocol = tls.map(|tls| if tls.http2 { ALPN::H2 } else { ALPN::H1 });
        Ok(Self {
            transport,
            fd,
            replay: Vec::new(),
            request_line: RequestLine::default(),
            out: WriteBuffer::default(),
            header_deadline: None,
            write_deadline: None,
            turn: 0,
            stalled: false,
            protocol,
            accepted: SystemTime::now(),
            proxy_digest: Arc::new(proxy_digest),
            socket_digest: Arc::new(socket_digest),
            ssl_digest,
            info,
        })
    }

    pub(super) fn info(&self) -> &Arc<ConnInfo> {
        &self.info
    }

    /// The protocol that TLS settled; HTTP/1 unless it is HTTP/2.
    pub(super) fn protocol(&self) -> Protocol {
        if self.protocol == Some(ALPN::H2) { Protocol::Http2 } else { Protocol::Http1 }
    }

    /// Forgets the request that has ended.
    pub(super) fn between_requests(&mut self) {
        self.header_deadline = None;
        self.turn = 0;
        self.request_line = RequestLine::default();
        self.info.set_header_state(HeaderState::Idle);
    }

    /// See [`Transport::poll_data`]. What is not needed while waiting is freed.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>, sure: bool) -> Poll<()> {
        if !self.replay.is_empty() {
            return Poll::Ready(());
        }
        let ready = self.transport.poll_data(cx, sure);
        if ready.is_pending() {
            self.out.free();
        }
        ready
    }

    /// Reads until it is plain whether the client speaks HTTP/2 with prior knowledge, which is at
    /// the first byte that is not the preface's, and keeps what it read. The header's deadline
    /// bounds it.
    pub(super) async fn sniff(&mut self) -> io::Result<Protocol> {
        let mut seen = Vec::with_capacity(HTTP2_PREFACE.len());
        let protocol = loop {
            if seen.len() == HTTP2_PREFACE.len() {
                break Protocol::Http2;
            }
            let missing = (HTTP2_PREFACE.len() - seen.len()) as u64;
            let read = (&mut *self).take(missing).read_buf(&mut seen).await?;
            if read == 0 || !HTTP2_PREFACE.starts_with(&seen) {
                break Protocol::Http1;
            }
        };
        if protocol == Protocol::Http2 {
            self.protocol = Some(ALPN::H2);
        }
        self.replay = seen;
        Ok(protocol)
    }

    fn poll_header_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit = self.info.limits().header_time.get();
        let deadline = self.header_deadline.get_or_insert_with(|| timer(limit));
        ready!(deadline.as_mut().poll(cx));
        self.header_deadline = None;
        self.info.set_header_state(HeaderState::TimedOut);
        if self.protocol() == Protocol::Http1 {
            self.out.push(REQUEST_TIMEOUT);
            // What the client does not accept at once is lost: it is slow, and nobody waits for it.
            let _ = self.poll_write_out(cx);
        }
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the request header took too long"))
    }

    /// Bounds how long the client may accept nothing.
    fn or_stalled<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        self.turn = 0;
        if !self.stalled {
            let limit = self.info.limits().write_time.get();
            let deadline = self.write_deadline.get_or_insert_with(|| timer(limit));
            ready!(deadline.as_mut().poll(cx));
            self.stalled = true;
            // Or the kernel would keep what was not accepted, and try for minutes.
            self.transport.reset_when_dropped();
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client accepts nothing")))
    }

    /// Writes what is buffered.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = Pin::new(&mut self.transport).poll_write(cx, self.out.pending());
            let written = ready!(self.or_stalled(cx, written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.info.count_sent(written);
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Pending once the turn is over. The worker goes on with this task when it has looked whose connections have become
    /// ready, which it does when no task is, or after some dozens of them.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn < TURN {
            return Poll::Ready(());
        }
        self.turn = 0;
        pin!(tokio::task::yield_now()).poll(cx)
    }

    /// Writes what is buffered and then `bufs`, in one call where the transport can. Answers how
    /// many bytes of `bufs` went out.
    fn poll_write_through(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        /// As many as Pingora has ever been seen to pass, and the buffered bytes before them.
        const SLICES: usize = 16;
        loop {
            ready!(self.poll_turn(cx));
            let mut left = TURN - self.turn;
            let buffered = self.out.pending().len();
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0;
            let first = (buffered > 0).then(|| self.out.pending());
            for (slot, slice) in slices.iter_mut().zip(first.into_iter().chain(bufs.iter().map(|buf| &**buf)))
            {
                let part = &slice[..slice.len().min(left)];
                *slot = IoSlice::new(part);
                used += 1;
                left -= part.len();
                if left == 0 {
                    break;
                }
            }
            let written = Pin::new(&mut self.transport).poll_write_vectored(cx, &slices[..used]);
            let written = ready!(self.or_stalled(cx, written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.info.count_sent(written);
            self.turn += written;
            self.out.advance(written.min(buffered));
            if written > buffered {
                return Poll::Ready(Ok(written - buffered));
            }
        }
    }
}

impl<S: Transport> AsyncRead for Edge<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.replay.is_empty() {
            let count = this.replay.len().min(buf.remaining());
            buf.put_slice(&this.replay[..count]);
            this.replay.drain(..count);
            if this.replay.is_empty() {
                this.replay = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let state = this.info.header_state();
        match state {
            HeaderState::Complete => this.header_deadline = None,
            // A client that always has one more byte must not outrun a deadline that is armed.
            HeaderState::Partial if this.header_deadline.is_some() => {
                if let Poll::Ready(late) = this.poll_header_deadline(cx) {
                    return Poll::Ready(Err(late));
                }
            }
            _ => {}
        }
        let before = buf.filled().len();
        let in_header = matches!(state, HeaderState::Idle | HeaderState::Partial);
        let read = if in_header && buf.remaining() as u64 > HEAD_READ {
            Pin::new(&mut (&mut this.transport).take(HEAD_READ)).poll_read(cx, buf)
        } else {
            Pin::new(&mut this.transport).poll_read(cx, buf)
        };
        match read {
            // Armed at the first wait after the first byte: most headers come whole, without a timer.
            Poll::Pending if state == HeaderState::Partial => this.poll_header_deadline(cx).map(Err),
            Poll::Ready(Ok(())) => {
                let count = buf.filled().len() - before;
                this.info.count_received(count);
                if count > 0 && state == HeaderState::Idle {
                    this.info.set_header_state(HeaderState::Partial);
                }
                if in_header && !this.request_line.take(&buf.filled()[before..]) {
                    this.info.break_request_line();
                }
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl<S: Transport> AsyncWrite for Edge<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.out.has_room(buf.len()) {
            this.out.push(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        this.poll_write_through(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let total = bufs.iter().map(|buf| buf.len()).sum();
        if this.out.has_room(total) {
            for buf in bufs {
                this.out.push(buf);
            }
            return Poll::Ready(Ok(total));
        }
        this.poll_write_through(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(cx))?;
        let flushed = Pin::new(&mut this.transport).poll_flush(cx);
        this.or_stalled(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(cx))?;
        let closed = Pin::new(&mut this.transport).poll_shutdown(cx);
        this.or_stalled(cx, closed)
    }
}

impl<S> std::fmt::Debug for Edge<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge")
            .field("peer", &self.info.peer_addr())
            .field("listener", self.info.listener_name())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: Transport> Shutdown for Edge<S> {
    async fn shutdown(&mut self) {
        // The connection is over; a client that has gone needs no goodbye.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl<S: Transport> UniqueID for Edge<S> {
    fn id(&self) -> UniqueIDType {
        self.fd
    }
}

impl<S: Transport> Ssl for Edge<S> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.ssl_digest.clone()
    }

    /// Also `H2` in the clear, once [`Edge::sniff`] found it: Pingora then need not look itself.
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.protocol.clone()
    }
}

/// Not supported: [`Edge::sniff`] is done before Pingora gets the connection, within a deadline.
#[async_trait]
impl<S: Transport> Peek for Edge<S> {}

impl<S: Transport> GetTimingDigest for Edge<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.accepted, ..TimingDigest::default() })]
    }
}

impl<S: Transport> GetProxyDigest for Edge<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.proxy_digest.clone())
    }
}

impl<S: Transport> GetSocketDigest for Edge<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket_digest.clone())
    }
}

/// What TLS settled in Pingora's words. The digest must exist on a TLS connection: Pingora takes a
/// connection without one for one in the clear.
fn ssl_digest(tls: &ClientTls) -> SslDigest {
    let serial = tls.certificate.as_ref().map(|certificate| certificate.serial.to_string());
    SslDigest::new(tls.cipher, tls.version, None, serial, Vec::new())
}
