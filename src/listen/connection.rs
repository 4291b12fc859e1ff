use super::conn_info::{ConnInfo, HeaderState, Origin};
use super::counters::{Refusal, Unseen};
use super::edge::{Edge, Protocol, Timer, timer};
use super::http2::Http2App;
use super::listeners::{OpenConnection, Shared};
use super::observer::Observer;
use super::proxy_protocol;
use super::slot::{Handshake, Settings};
use super::tls::Failed;
use super::transport::Transport;
use futures_util::future::{FusedFuture, FutureExt as _};
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Shutdown;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

/// How long an idle connection may still send a request when we are going away: its client has not
/// been told, and what it writes while we close would be lost. The answer tells it.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What the connections of all listeners share.
pub(super) struct Server<A> {
    pub(super) app: Arc<A>,
    pub(super) shared: Arc<Shared>,
    pub(super) observer: Arc<dyn Observer>,
}

/// A connection that was just accepted, and what it is counted by.
pub(super) struct Accepted {
    pub(super) open: OpenConnection,
    /// On a connection that does not begin with a request.
    pub(super) handshake: Option<Handshake>,
    pub(super) settings: Arc<Settings>,
    pub(super) tcp: TcpStream,
    pub(super) peer: SocketAddr,
}

/// A connection on which requests may begin.
enum Established {
    Plain(Box<Edge<TcpStream>>),
    Tls(Box<Edge<TlsStream<TcpStream>>>),
}

/// Serves a connection to its end.
pub(super) async fn run<A>(server: Arc<Server<A>>, accepted: Box<Accepted>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Accepted { mut open, handshake, settings, tcp, peer } = unboxed(accepted);
    // Whatever thread serves connections does so until the process ends.
    #[cfg(feature = "mimalloc")]
    crate::allocator::keep_blocks();
    let Ok(local) = tcp.local_addr() else { return };
    // Pingora writes whole messages; waiting for more would only delay them.
    let _ = tcp.set_nodelay(true);
    let origin = open.slot().origin(settings.config.clone(), local, peer);
    if handshake.is_none() {
        drop(settings);
        let Some(edge) = plain(tcp, origin) else { return };
        return serve(&server, &open, edge).await;
    }
    // On its own: a handshake's state is large, and would stay in this task for the connection's life.
    let established = Box::pin(establish(&server, &mut open, settings, tcp, origin)).await;
    drop(handshake);
    match established {
        Some(Established::Plain(edge)) => serve(&server, &open, edge).await,
        Some(Established::Tls(edge)) => serve(&server, &open, edge).await,
        None => {}
    }
}

/// The box is given back now: taken apart where it is, it would stay for as long as what takes it apart.
#[expect(clippy::boxed_local, reason = "it comes in a box")]
fn unboxed<T>(boxed: Box<T>) -> T {
    *boxed
}

fn plain(tcp: TcpStream, origin: Origin) -> Option<Box<Edge<TcpStream>>> {
    let fd = tcp.as_raw_fd();
    Edge::new(tcp, fd, Arc::new(ConnInfo::new(origin, None))).ok().map(Box::new)
}

/// Reads what comes before the first request: the PROXY header, the TLS handshake. None if it came to
/// nothing.
async fn establish<A>(
    server: &Server<A>,
    open: &mut OpenConnection,
    settings: Arc<Settings>,
    mut tcp: TcpStream,
    mut origin: Origin,
) -> Option<Established> {
    if let Some(spoken) = settings.config.proxy_protocol.as_ref()
        && settings.is_balancer(origin.peer.ip())
    {
        let named = introduce(open, &settings, &mut tcp, &mut origin, spoken.time.get()).await;
        if let Err(cause) = named {
            open.slot().counters.refused(cause);
            server.observer.refused(&origin.name, origin.peer, cause);
            return None;
        }
    }
    let Some(tls) = &settings.tls else { return plain(tcp, origin).map(Established::Plain) };
    let fd = tcp.as_raw_fd();
    match tls.handshake(tcp).await {
        Ok((stream, client)) => {
            let info = ConnInfo::new(origin, Some(client));
            Edge::new(stream, fd, Arc::new(info)).ok().map(|edge| Established::Tls(Box::new(edge)))
        }
        Err(Failed { cause, detail }) => {
            open.slot().counters.handshake_failed(cause);
            server.observer.handshake_failed(&origin.name, origin.peer, cause, &detail);
            None
        }
    }
}

/// Reads the PROXY header and puts the client that it names in the balancer's place.
async fn introduce(
    open: &mut OpenConnection,
    settings: &Settings,
    tcp: &mut TcpStream,
    origin: &mut Origin,
    time: Duration,
) -> Result<(), Refusal> {
    let Ok(Ok(named)) = pingora_timeout::timeout(time, proxy_protocol::read(tcp)).await else {
        return Err(Refusal::ProxyProtocol);
    };
    if let Some(client) = named {
        origin.peer = client;
        open.count_for(client.ip(), settings)?;
    }
    Ok(())
}

async fn serve<A, S>(server: &Server<A>, open: &OpenConnection, mut edge: Box<Edge<S>>)
where
    A: HttpServerApp + Send + Sync + 'static,
    S: Transport,
{
    let mut leave = open.slot().leave_watch();
    let settled = edge.protocol();
    let may_be_http2 = match edge.info().tls() {
        Some(_) => settled == Protocol::Http2,
        None => edge.info().config().h2c,
    };
    if !may_be_http2 {
        return http1(server, open, edge, leave).await;
    }
    // By TLS, too, the preface must come in time: the h2 crate would wait for it for ever.
    let came = {
        let mut idle = IdleTimer::new(edge.info());
        let told = pin!(told(leave.clone()).fuse());
        wait_for_data(&mut edge, told, &mut idle, true).await
    };
    if !came {
        return part(server, open, edge, Before::default()).await;
    }
    // Both on their own: a connection's task is as large as the largest thing that it may wait for, and nearly all
    // wait for requests of HTTP/1.
    match (settled, Box::pin(sniff_in_time(&mut edge, &mut leave)).await) {
        (_, Some(Ok(Protocol::Http2))) => Box::pin(http2(server, open, edge)).await,
        (Protocol::Http1, Some(Ok(Protocol::Http1))) => http1(server, open, edge, leave).await,
        _ => part(server, open, edge, Before::default()).await,
    }
}

async fn http2<A, S>(server: &Server<A>, open: &OpenConnection, edge: Box<Edge<S>>)
where
    A: HttpServerApp + Send + Sync + 'static,
    S: Transport,
{
    let info = edge.info().clone();
    // The header's deadline is HTTP/1's; from here on the idle time of HTTP/2 bounds a silent client.
    info.header_complete();
    let app = Arc::new(Http2App::new(server.app.clone(), info.limits()));
    // A connection's own word to leave: the listener's, or that of its age.
    let (retire, retired) = watch::channel(false);
    let leave = open.slot().leave_watch();
    tokio::select! {
        // Once over, the connection cannot be used again.
        _ = app.process_new(edge, &retired) => {}
        () = async {
            tokio::select! {
                () = told(leave) => {}
                () = pingora_timeout::sleep(info.limits().max_age.get()) => {}
            }
            retire.send_replace(true);
            silent(&info).await;
        } => {}
    }
}

/// Resolves when nothing has moved on a connection, which was told to go away, for a whole idle time.
/// Pingora would wait for ever for a client that has gone without a word.
async fn silent(info: &ConnInfo) {
    loop {
        let before = (info.received(), info.sent());
        pingora_timeout::sleep(info.limits().idle.get()).await;
        if before == (info.received(), info.sent()) {
            return;
        }
    }
}

async fn http1<A, S>(server: &Server<A>, open: &OpenConnection, mut edge: Box<Edge<S>>, leave: ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
    S: Transport,
{
    let info = edge.info().clone();
    let mut reuses_left = info.limits().requests.saturating_sub(1);
    let mut before = Before::default();
    let mut carried = None;
    let mut fresh = true;
    let mut idle = IdleTimer::new(&info);
    let mut told = pin!(told(leave.clone()).fuse());
    loop {
        if !wait_for_data(&mut edge, told.as_mut(), &mut idle, fresh).await {
            return part(server, open, edge, before).await;
        }
        let reuses = if idle.is_aged() { 0 } else { reuses_left };
        let served = begin(server, edge, (carried, reuses), &info, &leave);
        let Some(reused) = served.await else { return note_unseen(server, open, &info, before) };
        let (stream, settings) = reused.consume();
        let Ok(same) = stream.into_any().downcast::<Edge<S>>() else { return };
        edge = same;
        edge.between_requests();
        before = Before { received: info.received(), sent: info.sent() };
        carried = settings;
        fresh = false;
        reuses_left = reuses_left.saturating_sub(1);
    }
}

/// A request of HTTP/1, from its first byte. On its own: a session that is made in a task has a place in it for the
/// connection's life, beside the one in the future that it is given to.
fn begin<'a, A, S>(
    server: &'a Server<A>,
    edge: Box<Edge<S>>,
    (carried, reuses): (Option<HttpPersistentSettings>, u32),
    info: &ConnInfo,
    leave: &'a ShutdownWatch,
) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'a>>
where
    A: HttpServerApp + Send + Sync + 'static,
    S: Transport,
{
    let mut session = ServerSession::new_http1(edge);
    prepare(&mut session, carried, info, *leave.borrow());
    session.set_keepalive_reuses_remaining(Some(reuses));
    server.app.process_new_http(session, leave)
}

/// Gives a session what the one before it left, and the time that it may wait for more of a header.
fn prepare(
    session: &mut ServerSession,
    carried: Option<HttpPersistentSettings>,
    info: &ConnInfo,
    leaving: bool,
) {
    let reused = carried.is_some();
    if let Some(carried) = carried {
        carried.apply_to_session(session);
    }
    // Without keep-alive Pingora would wait by another clock; it forgets this one at each request.
    let may_keep_alive = !reused || session.get_keepalive().is_some();
    let idle = info.limits().idle.get().as_millis().div_ceil(1000).max(1);
    session.set_keepalive((may_keep_alive && !leaving).then(|| u64::try_from(idle).unwrap_or(u64::MAX)));
}

/// True when the client has sent something, or has closed; false when it is idle for too long, or
/// when we are going away. Nothing but the connection itself is kept in memory meanwhile.
async fn wait_for_data<S: Transport>(
    edge: &mut Edge<S>,
    told: Pin<&mut (impl FusedFuture<Output = ()> + Send)>,
    idle: &mut IdleTimer,
    fresh: bool,
) -> bool {
    idle.begin();
    let gone = async {
        if !told.is_terminated() {
            told.await;
        }
        pingora_timeout::sleep(LAST_WORD).await;
    };
    tokio::select! {
        biased;
        // A connection that was registered just now may be called readable although nothing came.
        () = poll_fn(|cx| edge.poll_data(cx, fresh)) => true,
        () = gone => false,
        () = idle.over() => false,
    }
}

/// Resolves when we are going away. It lives as long as its connection: to ask the watch anew for each
/// request costs three locks.
async fn told(mut leave: ShutdownWatch) {
    let _ = leave.wait_for(|leaving| *leaving).await;
}

/// The bounds on how long a connection may be idle, and on its age. A busy one would set a timer and
/// take it back for each request; this one is left to run, and looks at the clock when it has. Its age
/// needs no timer: it matters when a request begins.
struct IdleTimer {
    limit: Duration,
    /// When the connection is too old.
    aged: Instant,
    /// When the wait began.
    since: Instant,
    running: Option<Timer>,
}

impl IdleTimer {
    fn new(info: &ConnInfo) -> Self {
        let since = Instant::now();
        let aged = since + info.limits().max_age.get();
        Self { limit: info.limits().idle.get(), aged, since, running: None }
    }

    /// Another wait begins.
    fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// Whether the connection was too old when the last wait began. The request that ends it is told
    /// so: to close without a word might lose one that is on its way.
    fn is_aged(&self) -> bool {
        self.since >= self.aged
    }

    /// Resolves when nothing else has for the whole limit.
    async fn over(&mut self) {
        let mut left = self.limit;
        while !left.is_zero() {
            self.running.get_or_insert_with(|| timer(left)).await;
            self.running = None;
            left = self.limit.saturating_sub(self.since.elapsed());
        }
    }
}

/// Finds out the protocol. None: the client has sent nothing for too long, or we are going away.
/// [`wait_for_data`] may have ended in vain, so the wait for the first byte is bounded here, too.
async fn sniff_in_time<S: Transport>(
    edge: &mut Edge<S>,
    leave: &mut ShutdownWatch,
) -> Option<std::io::Result<Protocol>> {
    let info = edge.info().clone();
    let gone = async {
        let _ = leave.wait_for(|leaving| *leaving).await;
        pingora_timeout::sleep(LAST_WORD).await;
    };
    let silent = async {
        tokio::select! {
            () = pingora_timeout::sleep(info.limits().idle.get()) => {}
            () = gone => {}
        }
        if info.header_state() != HeaderState::Idle {
            // The header's own deadline runs.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        found = edge.sniff() => Some(found),
        () = silent => None,
    }
}

/// Ends a connection whose next request has not come.
async fn part<A, S: Transport>(
    server: &Server<A>,
    open: &OpenConnection,
    mut edge: Box<Edge<S>>,
    before: Before,
) {
    note_unseen(server, open, edge.info(), before);
    edge.shutdown().await;
}

/// The counts of a connection when a request began.
#[derive(Clone, Copy, Default)]
struct Before {
    received: u64,
    sent: u64,
}

/// Counts and tells that a request came to nothing, if it did not reach the app.
fn note_unseen<A>(server: &Server<A>, open: &OpenConnection, info: &ConnInfo, before: Before) {
    let cause = match info.header_state() {
        HeaderState::Complete => return,
        HeaderState::TimedOut => Unseen::TimedOut,
        _ if info.sent() > before.sent => Unseen::Malformed,
        _ if info.received() > before.received => Unseen::Aborted,
        _ => Unseen::Idle,
    };
    open.slot().counters.went_unseen(cause);
    server.observer.unseen(info, cause);
}
