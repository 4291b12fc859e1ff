//! Fetches that fail while others wait for them: how often the upstream is asked, and what those get that waited.

use crate::harness::{Answer, Client, Gate, Gateway, Origin, Received, answer, wait_until};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const CLIENTS: usize = 60;

/// An origin that holds the first request until its gate opens; how often it was asked.
struct Held {
    origin: Origin,
    gate: Arc<Mutex<Arc<Gate>>>,
    asked: Arc<AtomicUsize>,
}

impl Held {
    /// `act` gets the request and its number. True keeps the connection.
    fn new(act: impl Fn(&Received, usize, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let gate = Arc::new(Mutex::new(Arc::<Gate>::default()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (gates, counter) = (Arc::clone(&gate), Arc::clone(&asked));
        let origin = Origin::start(move |request, stream| {
            let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
            let gate = Arc::clone(&gates.lock().unwrap());
            gate.pass();
            act(request, number, stream)
        });
        Self { origin, gate, asked }
    }

    /// What so many clients get that all ask before the first fetch is answered, each with its number in `x-number`, and
    /// how often the origin was asked for it.
    fn herd(&self, gateway: &Gateway, target: &str) -> (Vec<Answer>, usize) {
        *self.gate.lock().unwrap() = Arc::default();
        self.asked.store(0, Ordering::SeqCst);
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let mut client = Client::new(gateway.web());
            client.write(format!("GET {target} HTTP/1.1\r\nhost: a\r\nx-number: {number}\r\n\r\n"));
            clients.push(client);
            if number == 0 {
                wait_until("the first one is asked for", || self.asked.load(Ordering::SeqCst) == 1);
            }
        }
        let in_flight = || gateway.metric("tollgate_http_in_flight{listener=\"web\"}");
        wait_until("all are in flight", || in_flight() >= CLIENTS as f64);
        let gate = Arc::clone(&self.gate.lock().unwrap());
        gate.open();
        let answers = clients.into_iter().map(|mut client| client.read(false)).collect();
        wait_until("all have ended", || in_flight() == 0.0);
        (answers, self.asked.load(Ordering::SeqCst))
    }
}

fn gateway(held: &Held, route: &str) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         caches: {{ default: {{ memory: 8MiB }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'], retry: {{ attempts: 1 }} }} }}\n\
         routes: {{ all: {{ policies: {{ cache: {{ }} }}, to: origin{route} }} }}\n",
        held.origin.address(),
    ))
}

fn count(answers: &[Answer], wanted: impl Fn(&Answer) -> bool) -> usize {
    answers.iter().filter(|answer| wanted(answer)).count()
}

/// One fetch fails, one of those that waited tries again for all, and then the upstream is left alone.
#[test]
fn an_upstream_in_need_is_asked_twice_for_all_that_wait() {
    let held = Held::new(|request, _, stream| {
        let bytes = match request.target() {
            "/reset" => return false,
            "/fault" => answer("500 Internal Server Error", "", "fault"),
            _ => answer("503 Service Unavailable", "", "away"),
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&held, "");
    // A reset first: on a connection that was used before it would be tried again.
    for (target, status, own) in [("/reset", 502, 0), ("/down", 503, 2), ("/fault", 500, 2)] {
        let (answers, asked) = held.herd(&gateway, target);
        assert_eq!((asked, count(&answers, |answer| answer.status == status)), (2, CLIENTS), "{target}");
        // The upstream's words are for the two alone that asked for them.
        let is_upstreams = |answer: &Answer| matches!(answer.text().as_str(), "away" | "fault");
        assert_eq!(count(&answers, is_upstreams), own, "{target}");
        let is_shared = |answer: &Answer| !is_upstreams(answer) && answer.code() == "fetch_failed";
        assert_eq!(count(&answers, is_shared), CLIENTS - 2, "{target}");
        // The next one tries anew.
        Client::new(gateway.web()).get("a", target, "");
        assert_eq!(held.asked.load(Ordering::SeqCst), 3, "{target}");
    }
}

/// What failed may have been the first one's own: the others get what the second one does.
#[test]
fn who_makes_a_fetch_fail_fails_alone() {
    let held = Held::new(|request, _, stream| {
        let is_first = request.field("x-number") == Some("0");
        let bytes = match request.target() {
            "/resets" if is_first => return false,
            _ if is_first => answer("500 Internal Server Error", "", "fault"),
            _ => answer("200 OK", "cache-control: max-age=60\r\n", "well"),
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&held, "");
    for (target, status) in [("/resets", 502), ("/faults", 500)] {
        let (answers, asked) = held.herd(&gateway, target);
        assert_eq!((answers[0].status, asked), (status, 2), "{target}");
        assert_eq!(count(&answers, |answer| answer.text() == "well"), CLIENTS - 1, "{target}");
    }
}

/// RFC 5861 section 4 names four statuses. Another error says that this request cannot be served, not that the upstream
/// is in need: each gets its own, and nothing stale.
#[test]
fn an_error_that_is_no_failure_is_each_ones_own() {
    let held = Held::new(|_, number, stream| {
        let fields = "cache-control: max-age=10, stale-if-error=600\r\nage: 11\r\n";
        let bytes = match number {
            0 | 1 => answer("200 OK", fields, "old"),
            _ => answer("501 Not Implemented", "", "not here"),
        };
        stream.write_all(&bytes).is_ok()
    });
    held.gate.lock().unwrap().open();
    let gateway = gateway(&held, "");
    assert_eq!(Client::new(gateway.web()).get("a", "/", "").text(), "old");
    let kept = || gateway.metric("tollgate_cache_stored_total{cache=\"default\"}");
    wait_until("it is kept", || kept() == 1.0);
    *held.gate.lock().unwrap() = Arc::default();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::new(gateway.web());
            client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            client
        })
        .collect();
    let in_flight = || gateway.metric("tollgate_http_in_flight{listener=\"web\"}");
    wait_until("all are in flight", || in_flight() >= CLIENTS as f64);
    held.gate.lock().unwrap().open();
    for client in &mut clients {
        let answer = client.read(false);
        assert_eq!((answer.status, answer.text().as_str()), (501, "not here"));
    }
    assert_eq!(held.asked.load(Ordering::SeqCst), 1 + CLIENTS);
}

/// What is stale, or what the route has for such a case, is for each of them.
#[test]
fn those_that_wait_get_what_stands_in() {
    let held = Held::new(|request, number, stream| {
        let bytes = match (request.target(), number) {
            ("/stale", 1) if request.field("x-number").is_none() => {
                let fields = "cache-control: max-age=10, stale-if-error=600\r\nage: 11\r\n";
                answer("200 OK", fields, "old")
            }
            _ => answer("503 Service Unavailable", "", "away"),
        };
        stream.write_all(&bytes).is_ok()
    });
    held.gate.lock().unwrap().open();
    let gateway = gateway(&held, ", fallback: { to: [{ respond: { status: 203, body: sorry } }] }");
    assert_eq!(Client::new(gateway.web()).get("a", "/stale", "").text(), "old");
    let kept = || gateway.metric("tollgate_cache_stored_total{cache=\"default\"}");
    wait_until("it is kept", || kept() == 1.0);
    let (answers, asked) = held.herd(&gateway, "/stale");
    let stale = count(&answers, |answer| answer.status == 200 && answer.text() == "old");
    // The one that fetched has what its route says.
    assert_eq!((stale, asked), (CLIENTS - 1, 1));
    let (answers, asked) = held.herd(&gateway, "/new");
    let substituted = |answer: &Answer| {
        answer.status == 203
            && answer.text() == "sorry"
            && answer.field("tollgate-fallback") == Some("respond")
    };
    assert_eq!((count(&answers, substituted), asked), (CLIENTS, 2));
}
