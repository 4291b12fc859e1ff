//! Real sockets, through `Service::start_service`, against a small app.

mod caps;
mod certificates;
mod edge;
mod http2;
mod lifecycle;
mod plain;
mod proxy_protocol;
mod tls;

use super::tls::TlsSetup;
use super::{ConnInfo, ListenerSpec, Listeners, Observer, Refusal, Service, Unseen, bind};
use crate::config::model::listener::Listener;
use crate::values::ListenerId;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::Service as _;
use pingora_http::ResponseHeader;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// No test waits longer for anything: what hangs is red, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const LARGE: usize = 1 << 20;

/// Answers by path; see `answer`.
#[derive(Debug)]
pub(super) struct TestApp {
    entered: Semaphore,
    release: Semaphore,
}

/// A running service, and what the tests do to it.
pub(super) struct Bench {
    pub(super) listeners: Listeners,
    pub(super) app: Arc<TestApp>,
    pub(super) unseen: Arc<Record>,
    stop: watch::Sender<bool>,
    service: JoinHandle<()>,
}

#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Vec<Unseen>>);

impl Observer for Record {
    fn unseen(&self, _connection: &ConnInfo, cause: Unseen) {
        self.0.lock().push(cause);
    }
}

impl Record {
    pub(super) fn causes(&self) -> Vec<Unseen> {
        self.0.lock().clone()
    }
}

impl TestApp {
    /// Waits until a request for `/hold` is inside.
    pub(super) async fn entered(&self) {
        patiently(self.entered.acquire()).await.unwrap().forget();
    }

    /// Lets one request for `/hold` go on.
    pub(super) fn release(&self) {
        self.release.add_permits(1);
    }

    async fn answer(&self, session: &mut ServerSession) -> Bytes {
        let info = session.digest().and_then(ConnInfo::of).unwrap().clone();
        info.header_complete();
        match session.req_header().uri.path() {
            "/hold" => {
                self.entered.add_permits(1);
                self.release.acquire().await.unwrap().forget();
                "held".into()
            }
            "/count" => {
                let mut count = 0;
                while let Some(chunk) = session.read_request_body().await.unwrap() {
                    count += chunk.len();
                }
                count.to_string().into()
            }
            "/large" => vec![b'x'; LARGE].into(),
            // More than the kernel's buffers of both sides take.
            "/huge" => vec![b'x'; 64 * LARGE].into(),
            "/who" => {
                let tls = info.tls();
                let certificate = tls.and_then(|tls| tls.certificate.as_ref());
                format!(
                    "listener={} id={} peer={} sni={:?} http2={} subject={:?} names={:?}",
                    info.listener_name(),
                    info.listener().0,
                    info.peer_addr(),
                    tls.and_then(|tls| tls.sni.as_deref()),
                    session.is_http2(),
                    certificate.map(|certificate| certificate.subject.as_str()),
                    certificate.map(|certificate| &certificate.dns),
                )
                .into()
            }
            _ => "hello".into(),
        }
    }
}

#[async_trait]
impl HttpServerApp for TestApp {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        match session.read_request().await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                if error.etype() == &pingora_core::ErrorType::InvalidHTTPHeader {
                    session.respond_error(400).await.ok()?;
                }
                session.shutdown().await;
                return None;
            }
        }
        let body = self.answer(&mut session).await;
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("content-length", body.len()).unwrap();
        session.write_response_header(Box::new(head)).await.ok()?;
        session.write_response_body(body, true).await.ok()?;
        let settings = HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }
}

impl Bench {
    /// A service without a listener, with the gate open.
    pub(super) fn start() -> Self {
        let bench = Self::start_paused();
        bench.listeners.open();
        bench
    }

    pub(super) fn start_paused() -> Self {
        let listeners = Listeners::new();
        let app = Arc::new(TestApp { entered: Semaphore::new(0), release: Semaphore::new(0) });
        let unseen = Arc::new(Record::default());
        let (stop, stopping) = watch::channel(false);
        let mut service = Service::new("test", listeners.clone(), app.clone()).observed_by(unseen.clone());
        let service = tokio::spawn(async move { service.start_service(None, stopping, 1).await });
        Self { listeners, app, unseen, stop, service }
    }

    /// Adds a listener on a port of the system's choice.
    pub(super) fn add(&self, id: u16, config: Listener, tls: Option<Arc<TlsSetup>>) -> SocketAddr {
        let socket = bind(config.address).unwrap();
        let address = socket.local_addr().unwrap();
        let name = format!("listener-{id}").parse().unwrap();
        self.listeners
            .add(ListenerSpec { id: ListenerId(id), name, config: Arc::new(config), socket, tls })
            .unwrap();
        address
    }

    /// Stops the service, which must end by itself.
    pub(super) async fn stop(self) {
        self.stop.send(true).unwrap();
        patiently(self.service).await.unwrap();
        assert_eq!(self.listeners.connections(), 0, "no connection outlives the service");
    }
}

/// A configuration from YAML, on a loopback port of the system's choice.
pub(super) fn listener(yaml: &str) -> Listener {
    serde_yaml::from_str(&format!("address: 127.0.0.1:0\n{yaml}")).unwrap()
}

pub(super) async fn patiently<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it hangs")
}

/// An answer on HTTP/1.1.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn closes(&self) -> bool {
        self.head.to_ascii_lowercase().contains("connection: close")
    }
}

/// A client that speaks HTTP/1.1 by hand.
pub(super) struct Client<S>(pub(super) BufReader<S>);

impl Client<TcpStream> {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::over(patiently(TcpStream::connect(address)).await.unwrap())
    }
}

/// Connects in vain: the connection is reset, which the client learns while it connects or later.
pub(super) async fn turned_away(address: SocketAddr) {
    if let Ok(stream) = patiently(TcpStream::connect(address)).await {
        Client::over(stream).closed().await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn over(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.try_send(text).await.unwrap();
    }

    pub(super) async fn try_send(&mut self, text: &str) -> std::io::Result<()> {
        patiently(self.0.get_mut().write_all(text.as_bytes())).await?;
        patiently(self.0.get_mut().flush()).await
    }

    pub(super) async fn receive(&mut self) -> Answer {
        patiently(self.try_receive()).await.expect("an answer, not an end")
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n")).await;
        self.receive().await
    }

    /// Waits until the server closes, which it does without a word.
    pub(super) async fn closed(mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = patiently(self.0.read_to_end(&mut rest)).await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    pub(super) async fn try_receive(&mut self) -> std::io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, length)| length.parse().expect("a length"));
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        Ok(Answer { status, head, body: String::from_utf8(body).unwrap() })
    }
}
