use super::connection::{self, Accepted, Server};
use super::counters::Refusal;
use super::listeners::{Gate, OpenConnection};
use super::slot::{Handshake, Settings, Slot};
use pingora_core::apps::HttpServerApp;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long accepting rests when the kernel has no file descriptor or memory for a connection.
/// The connection stays in the queue, so without a rest the loop would spin.
const REST: Duration = Duration::from_millis(100);
/// Connections that are still taken from the queue of a socket that closes. More are reset by the
/// kernel: a flood must not keep a listener alive.
const LAST_CALL: usize = 1024;

/// Where connections come from: a listening socket.
pub(super) trait Door: Sync {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Door for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        TcpListener::accept(self)
    }
}

/// Accepts on one duplicate of a listener's socket until the listener or the gate closes.
pub(super) async fn run<A>(server: Arc<Server<A>>, slot: Arc<Slot>, socket: std::net::TcpListener)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            log::error!("cannot accept: listener={} error=\"{error}\"", slot.name);
            return;
        }
    };
    accept_while_open(&server, &slot, &listener).await;
    // Clients in the queue believe to be connected: serve them rather than have them reset.
    let Ok(socket) = listener.into_std() else { return };
    for _ in 0..LAST_CALL {
        let Ok((stream, peer)) = socket.accept() else { break };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            serve(&server, &slot, stream, peer);
        }
    }
}

pub(super) async fn accept_while_open<A>(server: &Arc<Server<A>>, slot: &Arc<Slot>, listener: &impl Door)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut gate = server.shared.gate.subscribe();
    let mut leave = slot.leave_watch();
    let mut reported = false;
    let mut failing = false;
    loop {
        let state = *gate.borrow_and_update();
        match state {
            Gate::Closed => return,
            Gate::Paused => {
                tokio::select! {
                    _ = gate.changed() => continue,
                    _ = leave.wait_for(|leaving| *leaving) => return,
                }
            }
            Gate::Open if !reported => {
                reported = true;
                slot.report_accepting();
                server.shared.wake();
            }
            Gate::Open => {}
        }
        let accepted = tokio::select! {
            biased;
            _ = gate.changed() => continue,
            _ = leave.wait_for(|leaving| *leaving) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                serve(server, slot, stream, peer);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                slot.counters.accept_failed();
                if !failing {
                    failing = true;
                    log::error!("accepting rests: listener={} error=\"{error}\"", slot.name);
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn serve<A>(server: &Arc<Server<A>>, slot: &Arc<Slot>, tcp: TcpStream, peer: SocketAddr)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    match admit(server, slot, peer) {
        Ok((open, handshake, settings)) => {
            slot.counters.accept();
            // Boxed: what it begins with would be carried along for the connection's whole life.
            let accepted = Box::new(Accepted { open, handshake, settings, tcp, peer });
            // On this worker: the socket belongs to its reactor.
            tokio::spawn(connection::run(server.clone(), accepted));
        }
        Err(cause) => {
            // Reset, which leaves nothing behind in the kernel either.
            let _ = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
            slot.counters.refused(cause);
            server.observer.refused(&slot.name, peer, cause);
        }
    }
}

/// Counts a connection in under every bound that is known to hold for it by now.
fn admit<A>(
    server: &Server<A>,
    slot: &Arc<Slot>,
    peer: SocketAddr,
) -> Result<(OpenConnection, Option<Handshake>, Arc<Settings>), Refusal> {
    let settings = slot.settings();
    let limits = settings.limits();
    let mut open = OpenConnection::enter(&server.shared, slot, limits)?;
    open.count_for(peer.ip(), &settings)?;
    let handshake = match settings.tls.is_some() || settings.is_balancer(peer.ip()) {
        true => Some(Handshake::begin(slot, limits.handshakes).ok_or(Refusal::Handshakes)?),
        false => None,
    };
    Ok((open, handshake, settings))
}

/// The client is gone already; the next connection is another matter (accept(2)).
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
