//! Endpoints that are found: by a real name server on loopback, and in a file.

use crate::harness::{Client, Dns, Gateway, answer, get, wait_until};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use tempfile::TempDir;

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Two servers with one port between them, which say which of them they are.
fn twins() -> u16 {
    loop {
        let first = TcpListener::bind((ONE, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind((TWO, port)) {
            serve(first, "one");
            serve(second, "two");
            return port;
        }
    }
}

/// Says its name; after `/slow` only when it is told to, by the path of another request.
fn serve(listener: TcpListener, name: &'static str) {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Arc::new(std::sync::Mutex::new(released));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (release, released) = (release.clone(), released.clone());
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                loop {
                    let head: Vec<String> =
                        lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                    match head.first().and_then(|line| line.split(' ').nth(1)) {
                        None => return,
                        Some("/slow") => drop(released.lock().unwrap().recv()),
                        Some("/release") => drop(release.send(())),
                        Some(_) => {}
                    }
                    let body = format!("{name} {}", head.join("|").to_lowercase());
                    if stream.write_all(&answer("200 OK", "", &body)).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn configuration(dns: &Dns, upstream: &str) -> String {
    format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         dns: {{ nameservers: ['{}'], min_ttl: 20ms, timeout: 500ms, family: ipv4 }}\n\
         upstreams: {{ origin: {{ {upstream} }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        dns.address()
    )
}

fn who(gateway: &Gateway) -> String {
    let answer = get(gateway.web(), "/");
    let text = answer.text();
    if answer.status == 200 { text.split(' ').next().unwrap().to_owned() } else { answer.code() }
}

const FAILURES: &str = "tollgate_discovery_failures_total{upstream=\"origin\"}";
const ENDPOINTS: &str = "tollgate_upstream_endpoints{upstream=\"origin\"}";

#[test]
fn a_name_is_followed_and_its_last_answer_kept() {
    let (dns, port) = (Dns::new(), twins());
    dns.addresses("orders.test", 0, &[ONE]);
    let discover = format!("discover: {{ dns: 'orders.test:{port}' }}");
    let gateway = Gateway::start(&configuration(&dns, &discover));
    assert_eq!(who(&gateway), "one", "found before the first request");

    // An endpoint that goes ends what it has begun.
    let mut slow = Client::new(gateway.web());
    slow.write("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("it has begun", || gateway.admin("GET", "/upstreams", "").text().contains("\"in_flight\": 1"));
    dns.addresses("orders.test", 0, &[TWO]);
    wait_until("the other one gets requests", || who(&gateway) == "two");
    for _ in 0..5 {
        assert_eq!(who(&gateway), "two");
    }
    get(format!("127.0.0.1:{port}").parse().unwrap(), "/release");
    let answer = slow.read(false);
    assert!(answer.status == 200 && answer.text().starts_with("one"), "{}", answer.text());

    dns.fail(true);
    let before = gateway.metric(FAILURES);
    wait_until("the name server has failed", || gateway.metric(FAILURES) > before);
    assert_eq!(who(&gateway), "two");
    let shown = gateway.admin("GET", "/upstreams", "").json();
    assert_eq!(shown[0]["discover"]["source"], format!("dns:orders.test:{port}"));
    dns.addresses("orders.test", 0, &[ONE, TWO]);
    dns.fail(false);
    wait_until("both are there", || gateway.metric(ENDPOINTS) == 2.0);
}

#[test]
fn the_time_to_live_is_respected() {
    let (dns, port) = (Dns::new(), twins());
    dns.addresses("orders.test", 3600, &[ONE]);
    let discover = format!("discover: {{ dns: 'orders.test:{port}' }}");
    let gateway = Gateway::start(&configuration(&dns, &discover));
    assert_eq!(who(&gateway), "one");
    let asked = dns.asked();
    dns.addresses("orders.test", 3600, &[TWO]);
    for _ in 0..20 {
        assert_eq!(who(&gateway), "one");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    assert_eq!(dns.asked(), asked, "nobody asks again before the time is over");
}

#[test]
fn a_name_without_an_answer_is_waited_for() {
    let (dns, port) = (Dns::new(), twins());
    let discover = format!("discover: {{ dns: 'later.test:{port}' }}");
    let gateway = Gateway::start(&configuration(&dns, &discover));
    assert_eq!(who(&gateway), "no_endpoint");
    dns.addresses("later.test", 1, &[ONE]);
    wait_until("it is found", || who(&gateway) == "one");
    // One that a reload brings is there when the reload is done.
    dns.addresses("new.test", 60, &[TWO]);
    gateway.rewrite(&configuration(&dns, &format!("discover: {{ dns: 'new.test:{port}' }}")));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(who(&gateway), "two");
}

#[test]
fn services_bring_their_ports_and_weights() {
    let (dns, first, second) = (Dns::new(), twins(), twins());
    dns.addresses("a.test", 60, &[ONE]);
    dns.addresses("b.test", 60, &[TWO]);
    dns.services(
        "_http._tcp.orders.test",
        60,
        &[(1, 3, first, "a.test"), (1, 1, second, "b.test"), (2, 9, second, "a.test")],
    );
    let gateway =
        Gateway::start(&configuration(&dns, "discover: { srv: _http._tcp.orders.test }, host: endpoint"));
    let mut client = Client::new(gateway.web());
    let texts: Vec<String> = (0..8).map(|_| client.get("x", "/", "").text()).collect();
    let count = |name: &str| texts.iter().filter(|text| text.starts_with(name)).count();
    assert_eq!((count("one"), count("two")), (6, 2), "by weight, of the most preferred alone");
    assert!(texts.iter().any(|text| text.contains(&format!("host: a.test:{first}"))), "{texts:?}");
}

#[test]
fn a_file_is_followed_without_a_reload() {
    let (dns, port) = (Dns::new(), twins());
    let folder = TempDir::new().unwrap();
    let write = |folder: &std::path::Path, text: &str| {
        std::fs::write(folder.join("fresh.tmp"), text).unwrap();
        std::fs::rename(folder.join("fresh.tmp"), folder.join("endpoints.json")).unwrap();
    };
    write(folder.path(), &format!("[\"127.0.0.1:{port}\"]"));
    let gateway = Gateway::start_in(folder, &configuration(&dns, "discover: { file: endpoints.json }"));
    assert_eq!(who(&gateway), "one");
    write(gateway.folder(), &format!("[\"127.0.0.2:{port}\"]"));
    wait_until("the other one gets requests", || who(&gateway) == "two");
    let before = gateway.metric(FAILURES);
    write(gateway.folder(), "[\"nonsense\"]");
    wait_until("the mistake is noticed", || gateway.metric(FAILURES) > before);
    assert_eq!(who(&gateway), "two", "what was found last is kept");
    assert_eq!(gateway.reload().status, 422, "and a reload says what is wrong");
    let applied = gateway.metric("tollgate_reloads_total{outcome=\"applied\"}");
    write(gateway.folder(), &format!("[\"127.0.0.1:{port}\", \"127.0.0.2:{port}\"]"));
    wait_until("both are there", || gateway.metric(ENDPOINTS) == 2.0);
    assert_eq!(
        gateway.metric("tollgate_reloads_total{outcome=\"applied\"}"),
        applied,
        "nothing was reloaded"
    );
}
