use super::*;
use crate::listen::accept::{Door, accept_while_open};
use crate::listen::connection::Server;
use crate::listen::slot::Slot;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

fn refusals(bench: &Bench, cause: Refusal) -> u64 {
    bench.listeners.counters()[0].1.refusals(cause)
}

async fn until(mut condition: impl FnMut() -> bool) {
    patiently(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_has_its_number_of_connections() {
    let bench = Bench::start();
    let address = bench.add(0, listener("limits: { connections: 2 }"), None);
    let mut first = Client::connect(address).await;
    let mut second = Client::connect(address).await;
    assert_eq!(first.get("/").await.status, 200);
    assert_eq!(second.get("/").await.status, 200);
    turned_away(address).await;
    assert_eq!(refusals(&bench, Refusal::Listener), 1);
    assert_eq!(first.get("/").await.status, 200, "those that are in stay in");
    drop(first);
    until(|| bench.listeners.connections() == 1).await;
    assert_eq!(Client::connect(address).await.get("/").await.status, 200, "a place is free again");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_address_has_its_number_of_connections() {
    let bench = Bench::start();
    let address = bench.add(0, listener("limits: { client_connections: 1 }"), None);
    let mut first = Client::connect(address).await;
    assert_eq!(first.get("/").await.status, 200);
    turned_away(address).await;
    assert_eq!(refusals(&bench, Refusal::Client), 1);
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Client::over(patiently(other.connect(address)).await.unwrap());
    assert_eq!(other.get("/").await.status, 200, "another address has its own");
    drop(first);
    until(|| bench.listeners.connections() == 1).await;
    assert_eq!(Client::connect(address).await.get("/").await.status, 200);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_for_others_is_not_one_client() {
    let bench = Bench::start();
    let yaml = "trusted_proxies: [127.0.0.0/8]\nlimits: { client_connections: 1 }";
    let address = bench.add(0, listener(yaml), None);
    let mut clients = [Client::connect(address).await, Client::connect(address).await];
    for client in &mut clients {
        assert_eq!(client.get("/").await.status, 200);
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_listeners_share_what_there_are_descriptors_for() {
    let bench = Bench::start();
    bench.listeners.limit_connections(1);
    let address = bench.add(0, listener(""), None);
    let mut first = Client::connect(address).await;
    assert_eq!(first.get("/").await.status, 200);
    turned_away(address).await;
    assert_eq!(refusals(&bench, Refusal::Descriptors), 1);
    assert_eq!(first.get("/").await.status, 200);
    bench.listeners.limit_connections(2);
    assert_eq!(Client::connect(address).await.get("/").await.status, 200, "as a reload may say");
    bench.stop().await;
}

/// Accepts nothing for want of file descriptors, so many times; then what a real socket has.
struct Poor {
    socket: tokio::net::TcpListener,
    errors: Vec<i32>,
    asked: AtomicUsize,
}

impl Door for Poor {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.errors.get(self.asked.fetch_add(1, Ordering::SeqCst)) {
            Some(error) => Err(io::Error::from_raw_os_error(*error)),
            None => self.socket.accept().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_accepting_rests_and_goes_on() {
    let bench = Bench::start();
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let config = Arc::new(listener(""));
    let name = "poor".parse().unwrap();
    let spec =
        ListenerSpec { id: ListenerId(9), name, config, socket: socket.try_clone().unwrap(), tls: None };
    let slot = Arc::new(Slot::new(spec).unwrap());
    let server = Arc::new(Server {
        app: bench.app.clone(),
        shared: bench.listeners.shared().clone(),
        observer: bench.unseen.clone(),
    });
    let errors = vec![libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ECONNABORTED];
    let socket = tokio::net::TcpListener::from_std(socket).unwrap();
    let door = Arc::new(Poor { socket, errors, asked: AtomicUsize::new(0) });
    let began = std::time::Instant::now();
    let (accepting, asked) = (slot.clone(), door.clone());
    let task = tokio::spawn(async move { accept_while_open(&server, &accepting, &*asked).await });
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/").await.status, 200, "who waits in the queue is served in the end");
    assert!(began.elapsed() >= Duration::from_millis(300), "three rests, no busy loop");
    assert!(door.asked.load(Ordering::SeqCst) <= 6, "asked no oftener than there were answers");
    assert_eq!(slot.counters.accept_errors(), 3, "a client that left early is no want of descriptors");
    slot.leave();
    patiently(task).await.unwrap();
    client.closed().await;
    bench.stop().await;
}
