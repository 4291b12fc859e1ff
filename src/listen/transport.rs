use std::fmt::Debug;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What an [`Edge`](super::Edge) stands on: a TCP connection, or TLS on one.
pub trait Transport: AsyncRead + AsyncWrite + Debug + Unpin + Send + Sync + 'static {
    /// Ready when a read is worth a try: there are bytes, or the connection ended. It needs no
    /// buffer, so an idle connection can wait without one. It may say so in vain.
    fn poll_data(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Transport for TcpStream {
    fn poll_data(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is found again by the read.
        let _ = ready!(self.poll_read_ready(cx));
        Poll::Ready(())
    }
}

impl Transport for TlsStream<TcpStream> {
    fn poll_data(&self, cx: &mut Context<'_>) -> Poll<()> {
        let (tcp, session) = self.get_ref();
        // What rustls has decrypted already would wake nobody.
        if !session.wants_read() {
            return Poll::Ready(());
        }
        tcp.poll_data(cx)
    }
}
