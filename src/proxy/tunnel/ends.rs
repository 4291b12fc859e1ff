//! The two ends of a tunnel, each as what comes out of it and what goes into it. Nothing that they
//! do is lost where the future that does it is dropped.

use bytes::{Buf, Bytes};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::v1::server::HttpSession as Http1;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as is read at once. It is on the stack: an idle tunnel needs no buffer.
const READ: usize = 16 << 10;

/// An end broke off.
#[derive(Debug)]
pub(super) struct Broken;

/// One end of a tunnel.
pub(super) trait End {
    /// What came; `None` if nothing more will.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>>;
    /// Gives it bytes to send. Only when [`End::poll_sent`] was ready.
    fn send(&mut self, bytes: Bytes);
    /// Ready when all that it was given is sent.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;
    /// Says that nothing more will come. Only when [`End::poll_sent`] was ready.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A client of HTTP/1.1 that was told `101 Switching Protocols`.
pub(super) struct Client<'a>(pub(super) &'a mut Http1);

impl End for Client<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        pin!(self.0.read_body_bytes()).poll(cx).map_err(|_| Broken)
    }

    fn send(&mut self, bytes: Bytes) {
        self.0.send_proxy_task(HttpTask::UpgradedBody(Some(bytes), false));
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if !self.0.has_pending_proxy_tasks() {
            return Poll::Ready(Ok(()));
        }
        pin!(self.0.write_proxy_tasks()).poll(cx).map(|sent| sent.map(drop).map_err(|_| Broken))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        pin!(self.0.shutdown()).poll(cx)
    }
}

/// An upstream that said `101 Switching Protocols`.
pub(super) struct Upstream {
    stream: Stream,
    /// What came in one piece with its answer.
    early: Option<Bytes>,
    out: Bytes,
    unflushed: bool,
}

impl Upstream {
    pub(super) fn new(stream: Stream, early: Option<Bytes>) -> Self {
        Self { stream, early, out: Bytes::new(), unflushed: false }
    }
}

impl End for Upstream {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        if let Some(early) = self.early.take() {
            return Poll::Ready(Ok(Some(early)));
        }
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).map_err(|_| Broken)?;
        let came = buffer.filled();
        Poll::Ready(Ok((!came.is_empty()).then(|| Bytes::copy_from_slice(came))))
    }

    fn send(&mut self, bytes: Bytes) {
        self.out = bytes;
        self.unflushed = true;
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.out.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out)).map_err(|_| Broken)?;
            if sent == 0 {
                return Poll::Ready(Err(Broken));
            }
            self.out.advance(sent);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(|_| Broken)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.stream).poll_shutdown(cx).map(drop)
    }
}
