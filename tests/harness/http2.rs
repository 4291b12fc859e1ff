use super::{Answer, Authority, PATIENCE};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// A client's HTTP/2 connection.
pub struct Http2 {
    runtime: Option<Runtime>,
    sender: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<()>,
    streams: Arc<AtomicUsize>,
}

/// A request whose answer has not been read.
pub struct Pending {
    answer: ResponseFuture,
    body: h2::SendStream<Bytes>,
}

impl Http2 {
    /// Connects in the clear, with prior knowledge.
    pub fn clear(address: SocketAddr) -> Self {
        Self::over(async move { TcpStream::connect(address).await.unwrap() })
    }

    /// Connects over TLS, asking for `name` and, by ALPN, for HTTP/2.
    ///
    /// # Panics
    /// If another protocol is chosen.
    pub fn tls(address: SocketAddr, name: &str, authority: &Authority) -> Self {
        let config = authority.client(&["h2", "http/1.1"]);
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        Self::over(async move {
            let tcp = TcpStream::connect(address).await.unwrap();
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            stream
        })
    }

    fn over<S>(stream: impl Future<Output = S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, mut connection) =
            runtime.block_on(async { h2::client::handshake(stream.await).await }).unwrap();
        let streams = Arc::<AtomicUsize>::default();
        let allowed = streams.clone();
        let connection = runtime.spawn(std::future::poll_fn(move |cx| {
            let ended = std::pin::Pin::new(&mut connection).poll(cx);
            allowed.store(connection.max_concurrent_send_streams(), Ordering::SeqCst);
            ended.map(drop)
        }));
        Self { runtime: Some(runtime), sender, connection, streams }
    }

    /// A GET and its answer.
    pub fn get(&self, uri: &str) -> Answer {
        self.send(http::Request::get(uri), &[])
    }

    /// A request whose body comes in these frames, and its answer. The last frame ends the stream;
    /// without any, the head does.
    pub fn send(&self, request: http::request::Builder, frames: &[&[u8]]) -> Answer {
        let pending = self.begin(request, frames, true);
        self.finish(pending)
    }

    /// Sends a request with these frames and, unless `whole`, leaves its body unfinished.
    pub fn begin(&self, request: http::request::Builder, frames: &[&[u8]], whole: bool) -> Pending {
        let request = request.body(()).unwrap();
        self.wait(async {
            let mut sender = self.sender.clone().ready().await.unwrap();
            let (answer, mut body) = sender.send_request(request, whole && frames.is_empty()).unwrap();
            for (at, frame) in frames.iter().enumerate() {
                // A stream that the gateway has ended takes nothing more; its answer tells why.
                let _ = body.send_data(Bytes::copy_from_slice(frame), whole && at + 1 == frames.len());
            }
            Pending { answer, body }
        })
    }

    /// Reads the answer.
    pub fn finish(&self, pending: Pending) -> Answer {
        let Pending { answer, body: _open } = pending;
        self.wait(read(answer))
    }

    /// Reads the answer, and then waits for the reset of the stream, whose body goes on for ever.
    pub fn finish_and_reset(&self, pending: Pending) -> (Answer, h2::Reason) {
        let Pending { answer, mut body } = pending;
        self.wait(async {
            let answer = read(answer).await;
            let reason = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
            (answer, reason.expect("the connection has ended"))
        })
    }

    /// Reads the answer while the body goes on, a byte at a time.
    pub fn finish_dripping(&self, pending: Pending) -> Answer {
        let Pending { answer, mut body } = pending;
        let drip = async move {
            while body.send_data(Bytes::from_static(b"x"), false).is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await;
        };
        self.wait(async {
            tokio::select! {
                answer = read(answer) => answer,
                () = drip => unreachable!("it never ends"),
            }
        })
    }

    /// Begins to talk: the answer's head is there, and both bodies are open.
    pub fn talk(&self, pending: Pending) -> Talk<'_> {
        let Pending { answer, body } = pending;
        let answer = self.wait(answer).expect("no answer");
        Talk { client: self, ask: body, answer: answer.into_body() }
    }

    /// Waits for the end of the connection, which the gateway has announced: GOAWAY, without an error.
    pub fn says_goodbye(&self) {
        let refused = self.wait(async { self.sender.clone().ready().await.err() });
        let refused = refused.or_else(|| {
            // It has not come yet: a stream that comes now is told.
            self.wait(async {
                let mut sender = self.sender.clone();
                let request = http::Request::get("http://localhost/").body(()).unwrap();
                let (answer, _) = sender.send_request(request, true).ok()?;
                answer.await.err()
            })
        });
        let error = refused.expect("a stream was served");
        assert!(error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR), "{error:?}");
    }

    /// How many streams the gateway has said that it serves at a time.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    /// Waits until the gateway has closed the connection.
    pub fn closed(mut self) {
        let runtime = self.runtime.take().unwrap();
        let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, &mut self.connection).await });
        assert!(ended.is_ok(), "the connection stays open");
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let runtime = self.runtime.as_ref().unwrap();
        runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("it hangs") })
    }
}

/// A stream whose both directions are open.
pub struct Talk<'a> {
    client: &'a Http2,
    ask: h2::SendStream<Bytes>,
    answer: h2::RecvStream,
}

impl Talk<'_> {
    /// Sends a piece of the request's body.
    pub fn say(&mut self, piece: &[u8], end: bool) {
        self.ask.send_data(Bytes::copy_from_slice(piece), end).unwrap();
    }

    /// The next piece of the answer's body; `None` at its end, or if it broke off.
    pub fn hear(&mut self) -> Option<Vec<u8>> {
        let piece = self.client.wait(self.answer.data())?.ok()?;
        let _ = self.answer.flow_control().release_capacity(piece.len());
        Some(piece.to_vec())
    }

    /// Takes all that has come, without making room for more; true if the answer breaks off.
    pub fn breaks_off(&mut self) -> bool {
        loop {
            match self.client.wait(self.answer.data()) {
                Some(Ok(_)) => {}
                Some(Err(_)) => return true,
                None => return false,
            }
        }
    }

    /// The lines of the trailers.
    pub fn trailers(&mut self) -> Vec<String> {
        lines(&self.client.wait(self.answer.trailers()).unwrap_or_default().unwrap_or_default())
    }
}

impl Pending {
    /// Gives the request up.
    pub fn reset(mut self) {
        self.body.send_reset(h2::Reason::CANCEL);
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

fn lines(headers: &http::HeaderMap) -> Vec<String> {
    headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

async fn read(answer: ResponseFuture) -> Answer {
    let mut read = Answer::default();
    let Ok(answer) = answer.await else {
        read.cut = true;
        return read;
    };
    read.status = answer.status().as_u16();
    read.fields = lines(answer.headers());
    let mut body = answer.into_body();
    read.headers_only = body.is_end_stream();
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else {
            read.cut = true;
            return read;
        };
        let _ = body.flow_control().release_capacity(chunk.len());
        read.body.extend_from_slice(&chunk);
    }
    match body.trailers().await {
        Ok(trailers) => read.trailers = lines(&trailers.unwrap_or_default()),
        Err(_) => read.cut = true,
    }
    read
}
