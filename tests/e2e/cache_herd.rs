//! Thousands of clients that want the same at the same moment, each on a connection of its own.

use crate::harness::{Answer, Client, Gate, Gateway, Origin, answer, wait_until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

/// So many clients.
const HERD: usize = 5_000;

/// So many wait for an answer that turns out to be for one: each of them has a thread at the origin then.
const LARGE: usize = 300;

/// Clients whose connections stay.
struct Herd(Vec<TcpStream>);

impl Herd {
    /// So many; both ends of their connections are in this process.
    fn new(gateway: &Gateway, count: usize) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect(gateway.web()).unwrap();
            stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
            stream
        };
        Self((0..count).map(connect).collect())
    }

    /// All ask.
    fn ask(&self, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        for mut stream in &self.0 {
            stream.write_all(request.as_bytes()).unwrap();
        }
    }

    /// All read.
    fn answers(&self) -> impl Iterator<Item = Answer> {
        self.0.iter().map(|stream| Client::from(stream.try_clone().unwrap()).read(false))
    }
}

/// Lets this process have descriptors for both ends of so many connections, before a gateway looks how
/// many there are.
fn make_room(connections: usize) {
    let wanted = connections as u64 * 2 + 1_000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        hard >= wanted,
        "this test needs {wanted} file descriptors, and {hard} are the most (ulimit -Hn)"
    );
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).unwrap();
    }
}

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         caches: {{ default: {{ memory: 8MiB }} }}\n\
         process: {{ workers: 2, drain: 10s, overload: {{ descriptors: 100% }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', limits: {{ client_connections: 6000, idle: 10m }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'], timeouts: {{ connect: 30s, read: 1m, total: 2m }} }} }}\n\
         routes: {{ all: {{ policies: {{ cache: {{ }} }}, to: origin }} }}\n",
        origin.address(),
    ))
}

fn in_flight(gateway: &Gateway) -> usize {
    gateway.metric("tollgate_http_in_flight{listener=\"web\"}") as usize
}

fn outcome(gateway: &Gateway, outcome: &str) -> usize {
    let labels = format!("{{route=\"all\",outcome=\"{outcome}\"}}");
    gateway.metric(&format!("tollgate_cache_requests_total{labels}")) as usize
}

fn kept(gateway: &Gateway) -> f64 {
    gateway.metric("tollgate_cache_stored_total{cache=\"default\"}")
}

/// The answers to `/same` do not change; of others there is a newer one.
fn versions(gate: &Arc<Gate>) -> Origin {
    let waits = Arc::clone(gate);
    Origin::start(move |request, stream| {
        let is_first = request.field("if-none-match").is_none();
        if !is_first {
            waits.pass();
        }
        // The first ones are stale from the beginning: an upstream's cache had them for long.
        let meanwhile = if request.target() == "/meanwhile" { ", stale-while-revalidate=600" } else { "" };
        let old = format!("cache-control: max-age=10{meanwhile}\r\netag: \"1\"\r\nage: 11\r\n");
        let bytes = match (is_first, request.target()) {
            (true, _) => answer("200 OK", &old, "old"),
            (false, "/same") => {
                b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncache-control: max-age=600\r\n\r\n".to_vec()
            }
            (false, _) => answer("200 OK", "cache-control: max-age=600\r\n", "new"),
        };
        stream.write_all(&bytes).is_ok()
    })
}

/// All want what has expired while the origin is held: what they get, and that there is one fetch.
#[track_caller]
fn five_thousand_want(target: &str, body: &str, is_waited_for: bool) {
    make_room(HERD);
    let gate = Arc::<Gate>::default();
    let origin = versions(&gate);
    let gateway = gateway(&origin);
    assert_eq!(Client::new(gateway.web()).get("a", target, "").text(), "old");
    wait_until("it is kept", || kept(&gateway) == 1.0);
    let herd = Herd::new(&gateway, HERD);
    herd.ask(target);
    if is_waited_for {
        wait_until("all are in flight", || in_flight(&gateway) >= HERD);
        gate.open();
    }
    for (at, answer) in herd.answers().enumerate() {
        assert_eq!((answer.status, answer.text().as_str(), answer.cut), (200, body, false), "{at}");
    }
    wait_until("one asks", || origin.received().len() == 2);
    // If nobody waits, the origin was of no need to anybody: it still waits.
    gate.open();
    wait_until("what came is kept", || kept(&gateway) == 2.0);
    wait_until("all have ended", || in_flight(&gateway) == 0);
    let [fresh, stale, waited] = ["hit", "stale", "coalesced"].map(|what| outcome(&gateway, what));
    // Who looked when the answer was there already did not wait for it.
    assert_eq!((fresh + waited, stale), if is_waited_for { (HERD - 1, 0) } else { (0, HERD) });
    assert_eq!(origin.received().len(), 2, "one fetch for all");
}

#[test]
fn five_thousand_clients_cost_one_fetch() {
    five_thousand_want("/changed", "new", true);
}

#[test]
fn five_thousand_clients_cost_one_validation() {
    five_thousand_want("/same", "old", true);
}

/// RFC 5861 section 3.
#[test]
fn five_thousand_clients_get_what_is_stale_and_wait_for_nobody() {
    five_thousand_want("/meanwhile", "old", false);
}

/// Whoever waits for an answer that is for one alone goes on at once: at the origin each waits for all the
/// others, for ever if they come one after the other.
#[test]
fn an_answer_for_one_lets_hundreds_go_on_at_once() {
    make_room(LARGE * 2);
    let gate = Arc::new(Gate::default());
    let (waits, count) = (Arc::clone(&gate), AtomicUsize::new(0));
    let others = Barrier::new(LARGE - 1);
    let origin = Origin::start(move |_, stream| {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => waits.pass(),
            _ => drop(others.wait()),
        }
        stream.write_all(&answer("200 OK", "cache-control: private\r\n", "mine")).is_ok()
    });
    let gateway = gateway(&origin);
    let herd = Herd::new(&gateway, LARGE);
    herd.ask("/x");
    wait_until("all are in flight", || in_flight(&gateway) >= LARGE);
    wait_until("one is asked for", || origin.received().len() == 1);
    gate.open();
    for answer in herd.answers() {
        assert_eq!((answer.status, answer.text().as_str()), (200, "mine"));
    }
    assert_eq!(origin.received().len(), LARGE);
}
