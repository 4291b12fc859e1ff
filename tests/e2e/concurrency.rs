//! How many requests may be in flight, and that each is given back however it ends.

use crate::harness::{Client, Gateway, Http2, Origin, answer, wait_until};
use std::io::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// An origin that answers `/wait` when it is told to, and everything else at once.
fn slow() -> (Origin, Sender<()>, Receiver<()>) {
    let (go, gone) = channel::<()>();
    let (came, arrived) = channel();
    let gone = Arc::new(Mutex::new(gone));
    let origin = Origin::start(move |request, stream| {
        if request.line.contains("/wait") {
            came.send(()).unwrap();
            if gone.lock().unwrap().recv().is_err() {
                return false;
            }
        }
        stream.write_all(&answer("200 OK", "", "in")).is_ok()
    });
    (origin, go, arrived)
}

fn gateway(origin: &Origin, policies: &str, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, trusted_proxies: [127.0.0.0/8] }} }}\n\
         admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'], timeouts: {{ read: 2s }} }} }}\n\
         routes: {{ all: {{ policies: {{ {policies} }}, to: origin }} }}\n{rest}",
        origin.address()
    ))
}

fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metric("tollgate_concurrency_in_flight")
}

#[test]
fn so_many_are_in_flight_and_the_rest_is_refused_until_one_ends() {
    let (origin, go, arrived) = slow();
    let gateway = gateway(&origin, "concurrency: { max: 2 }", "");
    let mut waiting: Vec<Client> = (0..2).map(|_| Client::new(gateway.web())).collect();
    for client in &mut waiting {
        client.write("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n");
        arrived.recv().unwrap();
    }
    let mut client = Client::new(gateway.web());
    let refused = client.get("a", "/", "");
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_in_flight"));
    assert_eq!((refused.field("retry-after"), refused.closes()), (Some("1"), false));
    assert_eq!(client.get("a", "/", "x-forwarded-for: 192.0.2.1\r\n").status, 200, "another client");
    wait_until("that one has ended", || in_flight(&gateway) == 2.0);
    go.send(()).unwrap();
    wait_until("one has ended", || client.get("a", "/", "").status == 200);
    go.send(()).unwrap();
    for client in &mut waiting {
        assert_eq!(client.read(false).status, 200);
    }
    wait_until("all have ended", || in_flight(&gateway) == 0.0);
}

#[test]
fn whatever_happens_to_a_request_it_is_given_back() {
    let (origin, go, arrived) = slow();
    let gateway = gateway(&origin, "concurrency: { max: 1 }", "");
    let none_is_left = || wait_until("none is left", || in_flight(&gateway) == 0.0);
    // An answer may be there before what it held has been given back.
    let is_free = || {
        wait_until("it is given back", || Client::new(gateway.web()).get("a", "/", "").status == 200);
        none_is_left();
    };
    // The client goes.
    let mut client = Client::new(gateway.web());
    client.write("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n");
    arrived.recv().unwrap();
    drop(client);
    is_free();
    let _ = go.send(());
    // The upstream takes too long.
    let mut client = Client::new(gateway.web());
    client.write("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n");
    arrived.recv().unwrap();
    assert_eq!(client.read(false).status, 504);
    is_free();
    let _ = go.send(());
    // A policy that comes later refuses it, and a stream of HTTP/2 is one of many.
    for _ in 0..3 {
        assert_eq!(Http2::clear(gateway.web()).send(http::Request::get("http://a/"), &[]).status, 200);
        none_is_left();
    }
}

#[test]
fn plans_say_how_many_and_a_reload_counts_on() {
    let (origin, go, arrived) = slow();
    let policies = "authenticate: { any_of: [{ api_key: { header: x-api-key } }] }, concurrency: { name: plan, key: consumer, plan: true }";
    let rest = "plans: { gold: { concurrency: 2 } }\n\
                consumers: { acme: { plan: gold, credentials: [{ api_key: { key: key-of-acme-0123456789 } }] }, none: { credentials: [{ api_key: { key: key-of-none-0123456789 } }] } }\n";
    let gateway = gateway(&origin, policies, rest);
    let key = "x-api-key: key-of-acme-0123456789\r\n";
    let mut waiting = Client::new(gateway.web());
    waiting.write(format!("GET /wait HTTP/1.1\r\nhost: a\r\n{key}\r\n"));
    arrived.recv().unwrap();
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/", key).status, 200);
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.rewrite(&text.replace("concurrency: 2", "concurrency: 1"));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(client.get("a", "/", key).status, 429, "the one that waits still counts");
    assert_eq!(
        client.get("a", "/", "x-api-key: key-of-none-0123456789\r\n").status,
        200,
        "no plan, no bound"
    );
    go.send(()).unwrap();
    assert_eq!(waiting.read(false).status, 200);
    wait_until("it has ended", || client.get("a", "/", key).status == 200);
}
