use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// What a test does with a whole connection of [`Streams`].
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// GOAWAY, and the streams that were begun end.
    GoAway,
    /// GOAWAY with an error, at once.
    Abort,
    /// The connection is cut.
    Cut,
}

/// A request on a stream, and what may be done with it.
pub struct Exchange {
    /// The request; its body can be read.
    pub request: Request<RecvStream>,
    answer: SendResponse<Bytes>,
    fate: mpsc::UnboundedSender<Fate>,
}

impl Exchange {
    /// The path of the request.
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// Answers with a head, and leaves the body open.
    pub fn begin(&mut self, status: u16, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        self.head(status, fields, false)
    }

    /// Answers with a head alone.
    pub fn head_only(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.head(status, fields, true);
    }

    /// A whole answer.
    pub fn answer(&mut self, body: &str) {
        let mut stream = self.begin(200, &[]);
        stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    }

    /// Ends the stream with an error.
    pub fn reset(&mut self, reason: h2::Reason) {
        self.answer.send_reset(reason);
    }

    /// Waits until the gateway has reset the stream.
    pub async fn is_reset(&mut self) -> h2::Reason {
        std::future::poll_fn(|cx| self.answer.poll_reset(cx)).await.expect("the connection has ended")
    }

    /// Does something with the connection.
    pub fn connection(&self, fate: Fate) {
        let _ = self.fate.send(fate);
    }

    /// The next piece of the request's body; `None` at its end.
    pub async fn read(&mut self) -> Option<Bytes> {
        let piece = self.request.body_mut().data().await?.ok()?;
        let _ = self.request.body_mut().flow_control().release_capacity(piece.len());
        Some(piece)
    }

    fn head(&mut self, status: u16, fields: &[(&str, &str)], end: bool) -> SendStream<Bytes> {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        self.answer.send_response(response.body(()).unwrap(), end).unwrap()
    }
}

/// Trailers of these fields.
pub fn trailers(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

/// An HTTP/2 server in the clear whose streams a test answers as it likes. Ends when it is dropped.
pub struct Streams {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Streams {
    /// Answers each request with what `answer` does.
    pub fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Exchange) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    let (fate, mut fates) = mpsc::unbounded_channel();
                    loop {
                        tokio::select! {
                            accepted = connection.accept() => {
                                let Some(Ok((request, respond))) = accepted else { return };
                                let exchange = Exchange { request, answer: respond, fate: fate.clone() };
                                tokio::spawn(answer(exchange));
                            }
                            Some(fate) = fates.recv() => match fate {
                                Fate::GoAway => connection.graceful_shutdown(),
                                Fate::Abort => connection.abrupt_shutdown(h2::Reason::INTERNAL_ERROR),
                                Fate::Cut => return,
                            }
                        }
                    }
                });
            }
        });
        Self { address, connections, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}
