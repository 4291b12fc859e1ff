//! Every pair of protocols, by libraries that are not the gateway's own: random exchanges arrive to the
//! byte, ranges pass, and a side that does not read stops the other one.

use super::bodies::digest;
use crate::harness::{Gateway, PATIENCE, wait_until};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tollgate::policy::shared::coding::{Bounds, decode};

/// How the upstreams are spoken to: the name of each, which is the first segment of its paths, and the
/// rest of its section.
const UPSTREAMS: [(&str, &str); 2] = [("http1", ""), ("http2", "protocol: http2")];
const CLIENTS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// A body in pieces, with what is said of it beforehand and after it.
#[derive(Clone, Debug, Default)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// Whether its length is declared.
    declared: bool,
    /// Whether the last piece says that it is the last.
    tight: bool,
}

impl Pieces {
    /// No body. One that only turns out to be empty is one all the same, and a server that does not
    /// read it may close its connection.
    fn none() -> Self {
        Self { tight: true, ..Self::default() }
    }

    fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    fn whole(&self) -> Vec<u8> {
        self.pieces.iter().flatten().copied().collect()
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front().map(Frame::data);
        Poll::Ready(piece.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.tight && self.pieces.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.declared { SizeHint::with_exact(self.len()) } else { SizeHint::default() }
    }
}

type AnyBody = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// An origin that speaks HTTP/1.1 and HTTP/2 with prior knowledge, and the runtime of all that is here.
struct World {
    runtime: Runtime,
    gateway: Gateway,
}

impl World {
    fn new<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<AnyBody>> + Send + 'static,
    {
        Self::under("content_digest: {}", answer)
    }

    /// Under these policies.
    fn under<F>(
        policies: &str,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<AnyBody>> + Send + 'static,
    {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let mut upstreams = String::new();
        let mut routes = String::new();
        for (name, section) in UPSTREAMS {
            upstreams += &format!("  {name}: {{ endpoints: ['{address}'], {section} }}\n");
            routes += &format!(
                "  {name}: {{ match: {{ path: '/{name}/*' }}, policies: {{ {policies} }}, to: {name} }}\n"
            );
        }
        let gateway = Gateway::start(&format!(
            "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, limits: {{ body: 1GiB }} }} }}\n\
             upstreams:\n{upstreams}routes:\n{routes}"
        ));
        Self { runtime, gateway }
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("it hangs") })
    }
}

/// A client's connection.
enum Connection<B> {
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>),
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    async fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        if version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            Self::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            Self::Http1(sender)
        }
    }

    async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, String> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await.map_err(|error| format!("the connection was not kept: {error}"))?;
                sender.send_request(request).await.map_err(|error| error.to_string())
            }
            Self::Http2(sender) => {
                sender.clone().send_request(request).await.map_err(|error| error.to_string())
            }
        }
    }
}

/// Absolute on HTTP/2, where the authority comes from there.
fn request<B>(version: Version, method: Method, target: &str, body: B) -> Request<B> {
    let uri =
        if version == Version::HTTP_2 { format!("http://a.example{target}") } else { target.to_owned() };
    let builder = Request::builder().method(method).uri(uri);
    let builder =
        if version == Version::HTTP_2 { builder } else { builder.header(header::HOST, "a.example") };
    builder.body(body).unwrap()
}

#[derive(Clone, Debug)]
struct Exchange {
    upstream: &'static str,
    method: Method,
    path: String,
    status: StatusCode,
    /// Whether the gateway has to hold the request's body to check its digest.
    is_held: bool,
    fields: [Vec<(&'static str, String)>; 2],
    bodies: [Pieces; 2],
}

fn pieces() -> impl Strategy<Value = Pieces> {
    let size = prop_oneof![4 => 1_usize..200, 2 => 1_usize..20_000, 1 => select(vec![16_384, 65_535, 65_536, 65_537, 150_000])];
    let piece = (size, any::<u8>()).prop_map(|(size, seed)| {
        (0..size).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<u8>>().into()
    });
    (vec(piece, 0..6), any::<bool>(), any::<bool>()).prop_map(|(pieces, declared, tight)| Pieces {
        pieces: pieces.into(),
        trailers: None,
        declared,
        tight,
    })
}

fn fields() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    vec((select(vec!["x-a", "x-b", "x-long-name-of-a-field"]), "[!-~]([ -~]{0,30}[!-~])?"), 0..5)
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let methods = vec![
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let statuses = vec![200, 200, 200, 201, 204, 304, 400, 404, 418, 500];
    let parts = (select(UPSTREAMS.to_vec()), select(methods), "[a-z0-9]{1,8}(/[a-z0-9]{1,8})?");
    (parts, select(statuses), [fields(), fields()], [pieces(), pieces()], [any::<bool>(), any::<bool>()])
        .prop_map(|(((upstream, _), method, path), status, fields, mut bodies, [trailers, is_held])| {
            // Without a length the client's library sends no body with GET.
            bodies[0].declared |= method == Method::GET;
            if method == Method::HEAD {
                bodies[0] = Pieces::none();
            }
            if matches!(status, 204 | 304) {
                bodies[1] = Pieces::none();
            } else if trailers && !bodies[1].declared && method != Method::HEAD {
                bodies[1].trailers = Some(
                    [(header::HeaderName::from_static("x-sum"), "1".parse().unwrap())].into_iter().collect(),
                );
            }
            let path = format!("/{upstream}/{path}?q={status}&a=%20");
            Exchange {
                is_held,
                upstream,
                method,
                path,
                status: StatusCode::from_u16(status).unwrap(),
                fields,
                bodies,
            }
        })
}

/// What the origin got of a request.
struct Got {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

fn compare(
    what: &str,
    sent: &Pieces,
    fields: &[(&str, String)],
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), String> {
    for name in ["x-a", "x-b", "x-long-name-of-a-field"] {
        let expected: Vec<String> =
            fields.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.clone()).collect();
        if values(headers, name) != expected {
            return Err(format!("{what}: {name}: {:?} instead of {expected:?}", values(headers, name)));
        }
    }
    if body != sent.whole() {
        return Err(format!("{what}: {} bytes instead of {}, or others", body.len(), sent.len()));
    }
    let length = values(headers, "content-length");
    if sent.declared && sent.len() > 0 && length != [sent.len().to_string()] {
        return Err(format!("{what}: content-length {length:?} instead of {}", sent.len()));
    }
    Ok(())
}

type Plans = Arc<Mutex<HashMap<String, (Exchange, Option<Got>)>>>;

async fn carry_out(
    mut connection: Connection<Pieces>,
    version: Version,
    plans: Plans,
    exchanges: Vec<(String, Exchange)>,
) -> Result<(), String> {
    for (id, exchange) in exchanges {
        let mut request =
            request(version, exchange.method.clone(), &exchange.path, exchange.bodies[0].clone());
        request.headers_mut().insert("x-plan", id.parse().unwrap());
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        if exchange.is_held {
            let digest = digest(&exchange.bodies[0].whole());
            request.headers_mut().insert("content-digest", digest.parse().unwrap());
        }
        for (name, value) in &exchange.fields[0] {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let answer = connection.send(request).await?;
        let (head, body) = answer.into_parts();
        let collected = body.collect().await.map_err(|error| format!("the answer broke off: {error}"))?;
        let trailers = collected.trailers().cloned();
        let body = collected.to_bytes();
        let (_, got) = plans.lock().unwrap().remove(&id).unwrap();
        let got = got.ok_or_else(|| format!("answered with {} by another one", head.status))?;
        if (&got.method, got.target.as_str()) != (&exchange.method, exchange.path.as_str()) {
            return Err(format!("{} {} arrived", got.method, got.target));
        }
        compare("request", &exchange.bodies[0], &exchange.fields[0], &got.headers, &got.body)?;
        if head.status != exchange.status {
            return Err(format!("{} instead of {}", head.status, exchange.status));
        }
        let mut sent = exchange.bodies[1].clone();
        if exchange.method == Method::HEAD {
            sent.pieces.clear();
        }
        compare("answer", &sent, &exchange.fields[1], &head.headers, &body)?;
        // HTTP/1 trailers are dropped, as Pingora does.
        let carries = version == Version::HTTP_2 && exchange.upstream == "http2";
        if trailers.is_some() != (carries && sent.trailers.is_some()) {
            return Err(format!("trailers: {trailers:?}"));
        }
    }
    Ok(())
}

/// RFC 9110: whatever is between them, one side gets what the other one sent.
#[test]
fn random_exchanges_arrive_to_the_byte() {
    let plans = Plans::default();
    let known = plans.clone();
    let world = World::new(move |request| {
        let known = known.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
            let id = values(&head.headers, "x-plan").remove(0);
            let target = head.uri.path_and_query().unwrap().to_string();
            let mut known = known.lock().unwrap();
            let (exchange, got) = known.get_mut(&id).unwrap();
            // On HTTP/2 the server's library would send a body all the same.
            let is_head = head.method == Method::HEAD;
            let content = if is_head { Pieces::none() } else { exchange.bodies[1].clone() };
            *got = Some(Got { method: head.method, target, headers: head.headers, body });
            let mut answer = Response::new(content.boxed());
            *answer.status_mut() = exchange.status;
            for (name, value) in &exchange.fields[1] {
                answer.headers_mut().append(*name, value.parse().unwrap());
            }
            answer
        }
    });
    let next = AtomicU64::new(0);
    let case = (select(CLIENTS.to_vec()), vec(vec(exchange(), 1..4), 1..4));
    let mut runner = TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&case, |(version, groups)| {
        let named = groups.into_iter().map(|group| {
            let named: Vec<(String, Exchange)> = group
                .into_iter()
                .map(|exchange| (next.fetch_add(1, Ordering::SeqCst).to_string(), exchange))
                .collect();
            plans
                .lock()
                .unwrap()
                .extend(named.iter().map(|(id, exchange)| (id.clone(), (exchange.clone(), None))));
            named
        });
        let named: Vec<_> = named.collect();
        let web = world.gateway.web();
        // Groups at a time: on HTTP/1.1 each on its own connection, on HTTP/2 as streams of one.
        let outcome = world.wait(async {
            let first = Connection::open(web, version).await;
            let mut work = Vec::new();
            let mut first = Some(first);
            for group in named {
                let connection = match &first {
                    Some(Connection::Http2(sender)) => Connection::Http2(sender.clone()),
                    _ => match first.take() {
                        Some(connection) => connection,
                        None => Connection::open(web, version).await,
                    },
                };
                work.push(carry_out(connection, version, plans.clone(), group));
            }
            join_all(work).await.into_iter().collect::<Result<Vec<()>, String>>()
        });
        outcome.map(drop).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn ranges_pass_through() {
    let world = World::new(|request| async move {
        let range = values(request.headers(), "range").join(",");
        let if_range = values(request.headers(), "if-range").join(",");
        let body =
            Pieces { pieces: [Bytes::from_static(b"cdef")].into(), declared: true, ..Pieces::default() };
        Response::builder()
            .status(206)
            .header("content-range", "bytes 2-5/26")
            .header("x-saw", format!("{range} {if_range}"))
            .body(body.boxed())
            .unwrap()
    });
    for version in CLIENTS {
        for (upstream, _) in UPSTREAMS {
            let (status, headers, body) = world.wait(async {
                let mut connection = Connection::open(world.gateway.web(), version).await;
                let mut request = request(version, Method::GET, &format!("/{upstream}/"), Pieces::none());
                request.headers_mut().insert("range", "bytes=2-5".parse().unwrap());
                request.headers_mut().insert("if-range", "\"v1\"".parse().unwrap());
                let (head, body) = connection.send(request).await.unwrap().into_parts();
                (head.status, head.headers, body.collect().await.unwrap().to_bytes())
            });
            let saw =
                ["x-saw", "content-range", "content-length"].map(|name| values(&headers, name).join(","));
            assert_eq!((status.as_u16(), &body[..]), (206, &b"cdef"[..]), "{version:?} {upstream}");
            assert_eq!(saw, ["bytes=2-5 \"v1\"", "bytes 2-5/26", "4"], "{version:?} {upstream}");
        }
    }
}

/// What a coder still holds when a body ends with trailers must not be lost.
#[test]
fn a_coded_answer_is_whole_though_trailers_follow() {
    let world = World::under("compress: {}", |_| async {
        let mut body =
            Pieces { pieces: vec![Bytes::from_static(b"again and "); 1000].into(), ..Pieces::default() };
        body.trailers =
            Some(HeaderMap::from_iter([(header::HeaderName::from_static("x-sum"), "1".parse().unwrap())]));
        Response::builder().header("content-type", "text/plain").body(body.boxed()).unwrap()
    });
    for version in CLIENTS {
        for (upstream, _) in UPSTREAMS {
            for coding in ["", "gzip", "br", "zstd"] {
                let (coded, collected) = world.wait(async {
                    let mut connection = Connection::open(world.gateway.web(), version).await;
                    let mut request = request(version, Method::GET, &format!("/{upstream}/"), Pieces::none());
                    request.headers_mut().insert("accept-encoding", coding.parse().unwrap());
                    let (head, body) = connection.send(request).await.unwrap().into_parts();
                    (values(&head.headers, "content-encoding").join(""), body.collect().await.unwrap())
                });
                let has_trailers = collected.trailers().is_some();
                let carries = coding.is_empty() && version == Version::HTTP_2 && upstream == "http2";
                assert_eq!((coded.as_str(), has_trailers), (coding, carries), "{version:?} {upstream}");
                let bounds = Bounds { size: 1 << 20, ratio: 1 << 20 };
                let body = decode([coding.as_bytes()], &collected.to_bytes(), bounds).unwrap();
                assert_eq!(body, "again and ".repeat(1000), "{version:?} {upstream} {coding}");
            }
        }
    }
}

/// A body that counts how much of it was asked for.
struct Flood {
    left: usize,
    given: Arc<AtomicUsize>,
    piece: Bytes,
}

const FLOOD: usize = 128 << 20;
/// Sockets have some megabytes of their own on each hop, and HTTP/2 has its windows.
const MOST_ON_THE_WAY: usize = 48 << 20;

impl Flood {
    fn new(given: &Arc<AtomicUsize>) -> Self {
        given.store(0, Ordering::SeqCst);
        Self { left: FLOOD, given: given.clone(), piece: vec![b'x'; 64 << 10].into() }
    }
}

impl Body for Flood {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.piece.slice(..self.piece.len().min(self.left));
        self.left -= piece.len();
        self.given.fetch_add(piece.len(), Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// Waits until nothing moves any more, and tells how much went before.
fn held_up(given: &AtomicUsize) -> usize {
    let mut last = (0, Instant::now());
    wait_until("nothing moves any more", || {
        let now = given.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_secs(1)
    });
    last.0
}

async fn read_away(mut body: Incoming) -> usize {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    read
}

/// A client that reads nothing of an answer stops the origin, and gets all of it once it reads.
fn download(version: Version) {
    let given = Arc::<AtomicUsize>::default();
    let counter = given.clone();
    let world = World::new(move |_| {
        let flood = Flood::new(&counter);
        async move { Response::new(flood.boxed()) }
    });
    for (upstream, _) in UPSTREAMS {
        let answer = world.wait(async {
            let mut connection = Connection::open(world.gateway.web(), version).await;
            let request = request(version, Method::GET, &format!("/{upstream}/"), Pieces::none());
            (connection.send(request).await.unwrap(), connection)
        });
        let taken = held_up(&given);
        assert!(taken < MOST_ON_THE_WAY, "{upstream}: {taken} bytes were taken for a client that reads none");
        assert_eq!(world.wait(read_away(answer.0.into_body())), FLOOD, "{upstream}");
    }
}

/// An origin that reads nothing of a request stops the client, and gets all of it once it reads.
fn upload(version: Version) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = gate.clone();
    let world = World::new(move |request| {
        let opened = opened.clone();
        async move {
            opened.acquire().await.unwrap().forget();
            let read = read_away(request.into_body()).await;
            let pieces = [Bytes::from(read.to_string())].into();
            Response::new(Pieces { pieces, ..Pieces::default() }.boxed())
        }
    });
    for (upstream, _) in UPSTREAMS {
        let given = Arc::<AtomicUsize>::default();
        let body = Flood::new(&given);
        let web = world.gateway.web();
        let answer = world.runtime.spawn(async move {
            let mut connection = Connection::open(web, version).await;
            let answer = connection.send(request(version, Method::PUT, &format!("/{upstream}/"), body)).await;
            answer.unwrap().into_body().collect().await.unwrap().to_bytes()
        });
        let taken = held_up(&given);
        assert!(
            taken < MOST_ON_THE_WAY,
            "{upstream}: {taken} bytes were taken for an origin that reads none"
        );
        gate.add_permits(1);
        assert_eq!(world.wait(answer).unwrap(), FLOOD.to_string(), "{upstream}");
    }
}

/// Clients that read nothing cost those nothing who share an upstream's connection with them.
#[test]
fn slow_clients_stop_nobody_else() {
    let given = Arc::<AtomicUsize>::default();
    let counter = given.clone();
    let quick = || Pieces { pieces: vec![vec![b'q'; 10_000].into(); 10].into(), ..Pieces::default() };
    let world = World::new(move |request| {
        let flood = request.uri().path().ends_with("/flood").then(|| Flood::new(&counter));
        async move { Response::new(flood.map_or_else(|| quick().boxed(), BodyExt::boxed)) }
    });
    let ask = |path| {
        world.wait(async {
            let mut connection = Connection::open(world.gateway.web(), Version::HTTP_11).await;
            let answer = connection.send(request(Version::HTTP_11, Method::GET, path, Pieces::none())).await;
            (answer.unwrap(), connection)
        })
    };
    let slow: Vec<_> = (0..16).map(|_| ask("/http2/flood")).collect();
    held_up(&given);
    for _ in 0..8 {
        let (answer, _connection) = ask("/http2/quick");
        assert_eq!(world.wait(read_away(answer.into_body())), 100_000);
    }
    drop(slow);
}

#[test]
fn a_slow_http_1_client_stops_the_origin() {
    download(Version::HTTP_11);
}

#[test]
fn a_slow_http_2_client_stops_the_origin() {
    download(Version::HTTP_2);
}

#[test]
fn a_slow_origin_stops_an_http_1_client() {
    upload(Version::HTTP_11);
}

#[test]
fn a_slow_origin_stops_an_http_2_client() {
    upload(Version::HTTP_2);
}
