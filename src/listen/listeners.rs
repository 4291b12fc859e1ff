use super::caps::Client;
use super::counters::{Counters, Refusal};
use super::slot::{ListenerSpec, Settings, Slot};
use super::tls::TlsSetup;
use crate::config::model::listener::{Limits, Listener};
use crate::values::{ListenerId, Name, Problem};
use parking_lot::{Mutex, RwLock};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

/// Whether connections are accepted. While they are not, they wait in the kernel's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    Paused,
    /// For good: the sockets are closed.
    Closed,
}

/// The handle on all listeners. Its clones are the same handle.
///
/// Listeners can be added, updated and removed before and while the [`Service`](super::Service)
/// runs. The gate is paused at first: [`Listeners::open`] opens it.
#[derive(Clone, Debug)]
pub struct Listeners {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    slots: RwLock<Vec<Arc<Slot>>>,
    pub(super) gate: watch::Sender<Gate>,
    /// Connections of all listeners, those that are leaving included.
    connections: AtomicUsize,
    /// How many of them there may be.
    most: AtomicUsize,
    /// Whether new ones are refused, but on listeners that are spared.
    refusing: AtomicBool,
    /// Accept tasks that each listener is to have; 0 until the service runs.
    accept_tasks: AtomicUsize,
    /// Bumped when somebody who waits for a state should look again.
    changed: watch::Sender<()>,
    /// To the service.
    orders: mpsc::UnboundedSender<Order>,
    queue: Mutex<Option<mpsc::UnboundedReceiver<Order>>>,
}

/// What the service is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Begin to accept.
    Start(Arc<Slot>),
    /// Have a worker answer.
    Answer(oneshot::Sender<()>),
}

/// A connection, from accept to the end of its last task.
#[derive(Debug)]
pub(super) struct OpenConnection {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    /// Whom it counts for.
    client: Option<Client>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self::new()
    }
}

impl Listeners {
    /// No listener yet, and the gate paused.
    pub fn new() -> Self {
        let (orders, queue) = mpsc::unbounded_channel();
        let shared = Shared {
            slots: RwLock::default(),
            gate: watch::Sender::new(Gate::Paused),
            connections: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            refusing: AtomicBool::new(false),
            accept_tasks: AtomicUsize::new(0),
            changed: watch::Sender::new(()),
            orders,
            queue: Mutex::new(Some(queue)),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Adds a listener and, if the gate is open, begins to accept on it.
    ///
    /// # Errors
    /// The number is in use, the listeners are closed, or the socket is none.
    pub fn add(&self, spec: ListenerSpec) -> Result<(), Problem> {
        let name = spec.name.clone();
        if self.gate() == Gate::Closed {
            return Err(Problem::new(format!("listener `{name}` cannot be added: we are shutting down")));
        }
        let slot = Slot::new(spec)
            .map_err(|error| Problem::new(format!("listener `{name}` has no usable socket: {error}")))?;
        let slot = Arc::new(slot);
        let mut slots = self.shared.slots.write();
        if let Some(twin) = slots.iter().find(|other| other.id == slot.id) {
            return Err(Problem::new(format!(
                "listener `{name}` has the number of listener `{}`",
                twin.name
            )));
        }
        slots.push(slot.clone());
        drop(slots);
        // Without a receiver the service has ended, and nothing is accepted any more.
        let _ = self.shared.orders.send(Order::Start(slot));
        Ok(())
    }

    /// Swaps what new connections of a listener are served by. False if there is no such listener.
    pub fn update(&self, id: ListenerId, config: Arc<Listener>, tls: Option<Arc<TlsSetup>>) -> bool {
        let slot = self.shared.find(id);
        if let Some(slot) = &slot {
            slot.update(Settings { config, tls });
        }
        slot.is_some()
    }

    /// Removes a listener: its socket is closed, its idle connections end, the others end with
    /// their request (`Connection: close`, GOAWAY). False if there is no such listener.
    pub fn remove(&self, id: ListenerId) -> bool {
        let mut slots = self.shared.slots.write();
        let Some(at) = slots.iter().position(|slot| slot.id == id) else { return false };
        let slot = slots.remove(at);
        drop(slots);
        slot.close_socket();
        slot.leave();
        self.shared.wake();
        true
    }

    /// Begins to accept, or goes on after [`Listeners::pause`]. No effect after [`Listeners::close`].
    pub fn open(&self) {
        self.set_gate(Gate::Open);
    }

    /// Stops accepting for now: connections wait in the kernel's queue.
    pub fn pause(&self) {
        self.set_gate(Gate::Paused);
    }

    /// Stops accepting for good, and closes the sockets. Open connections go on.
    pub fn close(&self) {
        self.set_gate(Gate::Closed);
        for slot in self.shared.slots.read().iter() {
            slot.close_socket();
        }
    }

    /// Closes, and tells all connections to end: idle ones at once, the others with their request.
    pub fn shutdown(&self) {
        self.close();
        for slot in self.shared.slots.read().iter() {
            slot.leave();
        }
    }

    /// Waits until the service runs, so that only the gate keeps connections waiting.
    pub async fn started(&self) {
        self.shared.wait_until(|shared| shared.accept_tasks.load(Ordering::Acquire) > 0).await;
    }

    /// Waits until a worker of the service has done what it was given. Never ends once the service has.
    pub async fn alive(&self) {
        let (answer, answered) = oneshot::channel();
        let asked = self.shared.orders.send(Order::Answer(answer));
        if asked.is_err() || answered.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sets how many connections all listeners together may have; a further one is closed at once.
    /// No bound at first.
    pub fn limit_connections(&self, most: usize) {
        self.shared.most.store(most, Ordering::Release);
    }

    /// Refuses new connections from now on, or takes them again. Listeners with `limits.spare` take them always.
    pub fn refuse_new(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::Relaxed);
    }

    /// Connections open now, as a share of what [`Self::limit_connections`] allows.
    pub fn fullness(&self) -> f64 {
        self.connections() as f64 / self.shared.most.load(Ordering::Acquire).max(1) as f64
    }

    /// Waits until every accept task of every listener has asked for a connection.
    pub async fn ready(&self) {
        self.shared.wait_until(Shared::is_accepting).await;
    }

    /// Waits until no connection is open.
    pub async fn drained(&self) {
        self.shared.wait_until(|shared| shared.connections.load(Ordering::Acquire) == 0).await;
    }

    /// Connections open now, of removed listeners too.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// The counters of each listener, by name.
    pub fn counters(&self) -> Vec<(Name, Arc<Counters>)> {
        self.shared.slots.read().iter().map(|slot| (slot.name.clone(), slot.counters.clone())).collect()
    }

    /// The bound address of a listener.
    pub fn address(&self, id: ListenerId) -> Option<SocketAddr> {
        self.shared.find(id).map(|slot| slot.address)
    }

    /// Duplicates of the listening sockets, with name and bound address, to be handed to another
    /// process: both share one queue, so no connection is lost when one of them closes.
    ///
    /// # Errors
    /// There are no file descriptors left.
    pub fn sockets(&self) -> std::io::Result<Vec<(Name, SocketAddr, TcpListener)>> {
        let mut sockets = Vec::new();
        for slot in self.shared.slots.read().iter() {
            if let Some(socket) = slot.duplicate()? {
                sockets.push((slot.name.clone(), slot.address, socket));
            }
        }
        Ok(sockets)
    }

    fn gate(&self) -> Gate {
        *self.shared.gate.borrow()
    }

    fn set_gate(&self, gate: Gate) {
        self.shared.gate.send_if_modified(|current| {
            let change = *current != gate && *current != Gate::Closed;
            if change {
                *current = gate;
            }
            change
        });
    }
}

impl Shared {
    /// The orders; `None` the second time.
    pub(super) fn take_queue(&self) -> Option<mpsc::UnboundedReceiver<Order>> {
        self.queue.lock().take()
    }

    pub(super) fn set_accept_tasks(&self, count: usize) {
        self.accept_tasks.store(count, Ordering::Release);
    }

    /// Makes those who wait for a state look at it.
    pub(super) fn wake(&self) {
        self.changed.send_replace(());
    }

    fn find(&self, id: ListenerId) -> Option<Arc<Slot>> {
        self.slots.read().iter().find(|slot| slot.id == id).cloned()
    }

    fn is_accepting(&self) -> bool {
        let tasks = self.accept_tasks.load(Ordering::Acquire);
        tasks > 0 && self.slots.read().iter().all(|slot| slot.accepting() >= tasks)
    }

    async fn wait_until(&self, state: impl Fn(&Self) -> bool) {
        let mut changes = self.changed.subscribe();
        while !state(self) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl OpenConnection {
    /// Counts a connection in, if there is room for one.
    pub(super) fn enter(shared: &Arc<Shared>, slot: &Arc<Slot>, limits: &Limits) -> Result<Self, Refusal> {
        let of_all = shared.connections.fetch_add(1, Ordering::AcqRel);
        let of_listener = slot.counters.opened();
        // Dropped, it counts itself out.
        let open = Self { shared: shared.clone(), slot: slot.clone(), client: None };
        if of_all >= shared.most.load(Ordering::Acquire) {
            return Err(Refusal::Descriptors);
        }
        if shared.refusing.load(Ordering::Relaxed) && !limits.spare {
            return Err(Refusal::Overload);
        }
        if of_listener >= limits.connections as usize {
            return Err(Refusal::Listener);
        }
        Ok(open)
    }

    /// Counts it for the client at this address, if it is one client and may have another connection.
    pub(super) fn count_for(&mut self, address: IpAddr, settings: &Settings) -> Result<(), Refusal> {
        if !settings.is_one_client(address) {
            return Ok(());
        }
        let limits = settings.limits();
        let client = Client::of(address, limits.client_prefix);
        if !self.slot.clients.enter(client, limits.client_connections) {
            return Err(Refusal::Client);
        }
        self.client = Some(client);
        Ok(())
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.slot.clients.leave(client);
        }
        self.slot.counters.closed();
        if self.shared.connections.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.wake();
        }
    }
}
