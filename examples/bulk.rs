//! Large bodies for load tests, over HTTP/1.1 or HTTP/2 with prior knowledge: an origin and a client,
//! neither of which ever has more than a few pieces in memory.
//!
//! ```text
//! bulk serve LISTEN                                 GET /N answers with N bytes, PUT with how many came
//! bulk get|put http1|http2 ADDRESS BYTES [RATE]     RATE: the most MiB a second that `get` reads
//! ```

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;

const PIECE: usize = 64 << 10;
const SEND_BUFFER: usize = 256 << 10;
const USAGE: &str = "usage: bulk serve LISTEN | bulk get|put http1|http2 ADDRESS BYTES [RATE]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", address] => serve(address).await,
        [method @ ("get" | "put"), protocol @ ("http1" | "http2"), address, bytes, ref rate @ ..] => {
            let rate = rate.first().map(|rate| rate.parse()).transpose()?;
            ask(method == "put", protocol == "http2", address, bytes.parse()?, Pace::new(rate)).await
        }
        _ => Err(USAGE.into()),
    }
}

async fn serve(address: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    // What nobody reads stays here unmade: the kernel would take 4 MiB for each client, and make them at once.
    socket2::SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER)?;
    loop {
        let (stream, _) = listener.accept().await?;
        // Or a window's update waits for the acknowledgement of the one before, which takes 40 ms.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Bulk>, Infallible> {
    if request.method() == Method::PUT {
        let (came, status) = match count(request.into_body(), &mut Pace::new(None)).await {
            Ok(came) => (came.to_string(), StatusCode::OK),
            Err(_) => (String::new(), StatusCode::BAD_REQUEST),
        };
        let mut answer = Response::new(Bulk { left: came.len() as u64, piece: came.into() });
        *answer.status_mut() = status;
        return Ok(answer);
    }
    let left = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
    Ok(Response::new(Bulk { left, piece: vec![b'b'; PIECE].into() }))
}

async fn ask(upload: bool, modern: bool, address: &str, bytes: u64, mut pace: Pace) -> Result<(), Failure> {
    let uri = if modern { format!("http://{address}/{bytes}") } else { format!("/{bytes}") };
    let request = Request::builder().method(if upload { Method::PUT } else { Method::GET }).uri(uri);
    let request = if modern { request } else { request.header(header::HOST, address) };
    let left = if upload { bytes } else { 0 };
    let request = request.body(Bulk { left, piece: vec![b'b'; PIECE].into() })?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(stream);
    let answer = if modern {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let status = answer.status();
    let came = if upload {
        String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()).parse()?
    } else {
        count(answer.into_body(), &mut pace).await?
    };
    if status != StatusCode::OK || came != bytes {
        return Err(format!("{status}: {came} of {bytes} bytes came").into());
    }
    Ok(())
}

async fn count(mut body: Incoming, pace: &mut Pace) -> Result<u64, hyper::Error> {
    let mut came = 0;
    while let Some(frame) = body.frame().await {
        came += frame?.data_ref().map_or(0, Bytes::len) as u64;
        pace.keep(came).await;
    }
    Ok(came)
}

/// Holds a reader back.
struct Pace {
    bytes_a_second: Option<f64>,
    began: Instant,
}

impl Pace {
    fn new(mebibytes_a_second: Option<f64>) -> Self {
        Self {
            bytes_a_second: mebibytes_a_second.map(|rate| rate * f64::from(1 << 20)),
            began: Instant::now(),
        }
    }

    async fn keep(&mut self, came: u64) {
        let Some(rate) = self.bytes_a_second else { return };
        let due = Duration::from_secs_f64(came as f64 / rate);
        tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
    }
}

/// A body of a declared length, made as it goes.
struct Bulk {
    left: u64,
    piece: Bytes,
}

impl Body for Bulk {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.piece.len());
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(self.piece.slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
