use super::caps::Clients;
use super::conn_info::Origin;
use super::counters::Counters;
use super::tls::TlsSetup;
use crate::config::model::listener::{Limits, Listener};
use crate::values::{ListenerId, Name};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use socket2::SockRef;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// How many bytes the kernel may keep for a client before it has sent them, beside those on their way. Without a
/// bound it keeps up to 4 MiB (`net.ipv4.tcp_wmem`) for each client that does not read.
const UNSENT: u32 = 256 << 10;

/// A listener at run time.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: ListenerId,
    pub(super) name: Name,
    pub(super) address: SocketAddr,
    pub(super) counters: Arc<Counters>,
    pub(super) clients: Clients,
    /// Connections in the TLS handshake or before it.
    handshakes: AtomicUsize,
    settings: ArcSwap<Settings>,
    /// Ours until the listener goes; accept tasks work on duplicates, which share its queue.
    socket: Mutex<Option<TcpListener>>,
    /// How many accept tasks have asked for a connection at least once.
    accepting: AtomicUsize,
    leaving: watch::Sender<bool>,
    /// Never marked as seen, so that whoever clones it late is told all the same.
    leave: ShutdownWatch,
}

/// What a new connection is served by. Existing connections keep what they have.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) config: Arc<Listener>,
    pub(super) tls: Option<Arc<TlsSetup>>,
}

/// A connection that is in the TLS handshake or before it.
#[derive(Debug)]
pub(super) struct Handshake(Arc<Slot>);

/// A listener to be added: what it is called, what it is to do, and the socket it does it on.
#[derive(Debug)]
pub struct ListenerSpec {
    /// Its number for the life of the process.
    pub id: ListenerId,
    /// Its name in the configuration.
    pub name: Name,
    /// Its configuration.
    pub config: Arc<Listener>,
    /// Bound by [`bind`](super::bind), or inherited.
    pub socket: TcpListener,
    /// Its TLS, compiled from `config.tls`. Without it the listener speaks in the clear.
    pub tls: Option<Arc<TlsSetup>>,
}

impl Settings {
    pub(super) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Whether connections from this address begin with a PROXY header.
    pub(super) fn is_balancer(&self, address: IpAddr) -> bool {
        self.config
            .proxy_protocol
            .as_ref()
            .is_some_and(|spoken| spoken.from.iter().any(|network| network.contains(address)))
    }

    /// Whether the connections of this address are counted together: it speaks for itself alone.
    pub(super) fn is_one_client(&self, address: IpAddr) -> bool {
        !self.is_balancer(address)
            && !self.config.trusted_proxies.iter().any(|network| network.contains(address))
    }
}

impl Handshake {
    /// Counts one in; `None` if there are `most` already.
    pub(super) fn begin(slot: &Arc<Slot>, most: u32) -> Option<Self> {
        let before = slot.handshakes.fetch_add(1, Ordering::AcqRel);
        // Dropped, it counts itself out.
        let handshake = Self(slot.clone());
        (before < most as usize).then_some(handshake)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Slot {
    pub(super) fn new(spec: ListenerSpec) -> std::io::Result<Self> {
        let ListenerSpec { id, name, config, socket, tls } = spec;
        socket.set_nonblocking(true)?;
        // Its connections inherit it.
        let _ = SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT);
        let (leaving, leave) = watch::channel(false);
        Ok(Self {
            id,
            name,
            address: socket.local_addr()?,
            counters: Arc::default(),
            clients: Clients::default(),
            handshakes: AtomicUsize::new(0),
            settings: ArcSwap::from_pointee(Settings { config, tls }),
            socket: Mutex::new(Some(socket)),
            accepting: AtomicUsize::new(0),
            leaving,
            leave,
        })
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    pub(super) fn update(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// A duplicate of the listening socket; `None` if the listener has gone.
    pub(super) fn duplicate(&self) -> std::io::Result<Option<TcpListener>> {
        self.socket.lock().as_ref().map(TcpListener::try_clone).transpose()
    }

    /// Closes our socket. The queue goes when the last duplicate does.
    pub(super) fn close_socket(&self) {
        self.socket.lock().take();
    }

    /// Tells the accept tasks to end and the connections to close when they are idle.
    pub(super) fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Turns true when the listener goes. A fresh clone sees a change that happened before.
    pub(super) fn leave_watch(&self) -> ShutdownWatch {
        self.leave.clone()
    }

    pub(super) fn report_accepting(&self) {
        self.accepting.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn accepting(&self) -> usize {
        self.accepting.load(Ordering::Acquire)
    }

    pub(super) fn origin(&self, config: Arc<Listener>, local: SocketAddr, peer: SocketAddr) -> Origin {
        let leave = self.leave_watch();
        Origin { listener: self.id, name: self.name.clone(), config, local, peer, leave }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_keeps_little_for_clients_that_do_not_read() {
        let config: Listener = serde_yaml::from_str("address: 127.0.0.1:0").unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let (id, name) = (ListenerId(0), "web".parse().unwrap());
        let slot = Slot::new(ListenerSpec { id, name, config: Arc::new(config), socket, tls: None }).unwrap();
        let client = std::net::TcpStream::connect(slot.address).unwrap();
        let queue = slot.duplicate().unwrap().unwrap();
        queue.set_nonblocking(false).unwrap();
        let (accepted, peer) = queue.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), UNSENT);
    }
}
