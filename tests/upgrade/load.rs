//! Clients that never stop, and an origin for them.

use crate::harness::{Authority, Client, PATIENCE};
use bytes::Bytes;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What `/slow` answers, in two halves.
const SLOW: usize = 256 << 10;

/// Answers at once; `/slow` in two halves, the second when somebody asks for `/more`; `/wait` all of it then,
/// and `/endless` never comes to an end; `/socket` is an
/// echo behind an upgrade.
pub struct Origin {
    address: SocketAddr,
}

impl Origin {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let more = Arc::<AtomicUsize>::default();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let more = more.clone();
                std::thread::spawn(move || serve(stream, &more));
            }
        });
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(mut stream: TcpStream, more: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        match head.split(' ').nth(1)? {
            "/slow" => {
                let before = more.load(Ordering::SeqCst);
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {SLOW}\r\n\r\n").ok()?;
                stream.write_all(&vec![b'a'; SLOW / 2]).ok()?;
                while more.load(Ordering::SeqCst) == before {
                    std::thread::park_timeout(std::time::Duration::from_millis(2));
                }
                stream.write_all(&vec![b'b'; SLOW / 2]).ok()?;
            }
            "/wait" => {
                let before = more.load(Ordering::SeqCst);
                while more.load(Ordering::SeqCst) == before {
                    std::thread::park_timeout(std::time::Duration::from_millis(2));
                }
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nwaited").ok()?;
            }
            "/endless" => {
                write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").ok()?;
                loop {
                    write!(stream, "3\r\nyet\r\n").ok()?;
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                }
            }
            "/more" => {
                more.fetch_add(1, Ordering::SeqCst);
                write!(stream, "HTTP/1.1 204 No Content\r\n\r\n").ok()?;
            }
            "/socket" => {
                let head =
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
                write!(stream, "{head}sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").ok()?;
                let mut chunk = [0; 1024];
                loop {
                    let read = reader.read(&mut chunk).ok().filter(|read| *read > 0)?;
                    stream.write_all(&chunk[..read]).ok()?;
                }
            }
            _ => write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok()?,
        }
    }
}

/// Clients over HTTP/1.1, over HTTP/2 in the clear and over HTTP/2 and TLS, each sending one request
/// after the other.
pub struct Load {
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    counts: Vec<Arc<AtomicUsize>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(web: SocketAddr, tls: SocketAddr, authority: &Authority) -> Self {
        let mut load =
            Self { stop: Arc::default(), failures: Arc::default(), counts: Vec::new(), threads: Vec::new() };
        for _ in 0..2 {
            load.spawn(move |client| http1(web, client));
        }
        load.spawn(move |client| http2(client, async || TcpStreamOf(web).connect().await));
        let config = authority.client(&["h2"]);
        load.spawn(move |client| {
            http2(client, async || {
                let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
                let tcp = TcpStreamOf(tls).connect().await;
                tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp).await.unwrap()
            });
        });
        load
    }

    fn spawn(&mut self, run: impl FnOnce(&Caller) + Send + 'static) {
        let count = Arc::<AtomicUsize>::default();
        let caller =
            Caller { stop: self.stop.clone(), failures: self.failures.clone(), count: count.clone() };
        self.counts.push(count);
        self.threads.push(std::thread::spawn(move || run(&caller)));
    }

    /// Ends, and looks at what went wrong: nothing.
    pub fn stop(self) {
        let counts: Vec<usize> = self.counts.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} failed beside {counts:?}: {failures:?}", failures.len());
        assert!(counts.iter().all(|count| *count > 10), "hardly any load: {counts:?}");
        println!("answered: {counts:?}");
    }
}

struct Caller {
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
}

impl Caller {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    fn failed(&self, why: String) {
        self.failures.lock().unwrap().push(why);
    }

    fn answered(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection is given up only where the gateway has said that it ends.
fn http1(address: SocketAddr, caller: &Caller) {
    let mut client = Client::new(address);
    while caller.goes_on() {
        let answer = client.get("localhost", "/", "");
        if answer.status == 200 && answer.text() == "ok" && !answer.cut {
            caller.answered();
            if !answer.closes() {
                continue;
            }
        } else {
            caller.failed(format!("HTTP/1.1: {answer:?}"));
        }
        client = Client::new(address);
    }
}

struct TcpStreamOf(SocketAddr);

impl TcpStreamOf {
    async fn connect(&self) -> tokio::net::TcpStream {
        tokio::net::TcpStream::connect(self.0).await.unwrap()
    }
}

/// After GOAWAY a new connection is opened, and only a stream above the last one that the gateway names
/// is repeated (RFC 9113 section 6.8): to the others it owes an answer.
fn http2<S>(caller: &Caller, connect: impl AsyncFn() -> S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        while caller.goes_on() {
            let (sender, connection) = h2::client::handshake(connect().await).await.unwrap();
            let connection = tokio::spawn(connection);
            loop {
                let Ok(mut ready) = sender.clone().ready().await else { break };
                if !caller.goes_on() {
                    break;
                }
                let request = http::Request::get("http://localhost/").body(()).unwrap();
                let Ok((answer, _)) = ready.send_request(request, true) else { break };
                match tokio::time::timeout(PATIENCE, whole(answer)).await {
                    Ok(Ok(body)) if body == "ok" => caller.answered(),
                    Ok(Err(error)) if is_unseen(&error) => break,
                    other => {
                        caller.failed(format!("HTTP/2: {other:?}"));
                        break;
                    }
                }
            }
            drop(sender);
            let _ = tokio::time::timeout(PATIENCE, connection).await;
        }
    });
}

/// What the gateway has said it never looked at.
fn is_unseen(error: &h2::Error) -> bool {
    (error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
        || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

async fn whole(answer: h2::client::ResponseFuture) -> Result<Bytes, h2::Error> {
    let mut body = answer.await?.into_body();
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        let _ = body.flow_control().release_capacity(chunk.len());
        all.extend_from_slice(&chunk);
    }
    Ok(all.into())
}

/// A WebSocket's connection; what flows on it is not looked at on the way.
pub struct WebSocket(Client);

impl WebSocket {
    pub fn open(address: SocketAddr) -> Self {
        let mut client = Client::new(address);
        let fields = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                      sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let answer = client.get("localhost", "/socket", fields);
        assert_eq!(answer.status, 101, "{answer:?}");
        let mut socket = Self(client);
        assert!(socket.echoes("hello"));
        socket
    }

    pub fn echoes(&mut self, word: &str) -> bool {
        self.0.try_write(word) && self.0.try_read_bytes(word.len()).as_deref() == Some(word.as_bytes())
    }
}

/// A download that is half done.
pub struct Download {
    address: SocketAddr,
    client: JoinHandle<crate::harness::Answer>,
}

impl Download {
    pub fn begin(address: SocketAddr) -> Self {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let client = std::thread::spawn(move || {
            let mut client = Client::new(address);
            client.write("GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n");
            client.wait_for_bytes();
            begun.send(()).unwrap();
            client.read(false)
        });
        has_begun.recv().unwrap();
        Self { address, client }
    }

    /// Lets it come to its end, and checks every byte.
    pub fn finish(self) {
        while !self.client.is_finished() {
            assert_eq!(crate::harness::get(self.address, "/more").status, 204);
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        let answer = self.client.join().unwrap();
        assert!(answer.status == 200 && !answer.cut, "{}", answer.status);
        let (a, b) = answer.body.split_at(SLOW / 2);
        assert!(a.iter().all(|c| *c == b'a') && b.len() == SLOW / 2 && b.iter().all(|c| *c == b'b'));
    }
}
