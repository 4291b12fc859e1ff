use socket2::SockRef;
use std::fmt::Debug;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What an [`Edge`](super::Edge) stands on: a TCP connection, or TLS on one.
pub trait Transport: AsyncRead + AsyncWrite + Debug + Unpin + Send + Sync + 'static {
    /// Ready when a read is worth a try: there are bytes, or the connection ended. It needs no
    /// buffer, so an idle connection can wait without one. It may say so in vain, which costs a
    /// buffer; `sure` says that it must not, and costs a look at the socket.
    fn poll_data(&self, cx: &mut Context<'_>, sure: bool) -> Poll<()>;

    /// Has the connection end in a reset: what was not sent by then is forgotten.
    fn reset_when_dropped(&self);
}

impl Transport for TcpStream {
    fn poll_data(&self, cx: &mut Context<'_>, sure: bool) -> Poll<()> {
        loop {
            // An error is found again by the read.
            let _ = ready!(self.poll_read_ready(cx));
            if !sure {
                return Poll::Ready(());
            }
            let mut byte = [MaybeUninit::uninit()];
            let look = || SockRef::from(self).peek(&mut byte);
            match self.try_io(Interest::READABLE, look) {
                // The reactor now knows better, and will wake us.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    fn reset_when_dropped(&self) {
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Transport for TlsStream<TcpStream> {
    fn poll_data(&self, cx: &mut Context<'_>, sure: bool) -> Poll<()> {
        let (tcp, session) = self.get_ref();
        // What rustls has decrypted already would wake nobody.
        if !session.wants_read() {
            return Poll::Ready(());
        }
        tcp.poll_data(cx, sure)
    }

    fn reset_when_dropped(&self) {
        self.get_ref().0.reset_when_dropped();
    }
}
