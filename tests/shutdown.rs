//! How the real binary ends: everybody is told, nobody is cut within the drain time, and it goes with the
//! last connection.

use crate::harness::{Answer, Client, Http2, Process, get, quiet_port, send, wait_until};
use crate::upgrade::load::{Origin, WebSocket};
use nix::sys::signal::Signal;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Instant;
use tempfile::TempDir;

/// Longer than any test waits: what ends before did not sleep it out.
const LONG: &str = "1h";

struct Gateway {
    process: Process,
    origin: Origin,
    web: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Gateway {
    fn start(drain: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let origin = Origin::start();
        let [web, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], quiet_port())));
        let text = format!(
            "version: 1\nprocess: {{ workers: 2, drain: {drain} }}\nadmin: {{ address: \"{admin}\" }}\n\
             telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
             listeners: {{ web: {{ address: \"{web}\", h2c: true }} }}\n\
             upstreams: {{ origin: {{ endpoints: [\"{}\"], timeouts: {{ read: 1h }} }} }}\n\
             routes: {{ all: {{ match: {{ path: /* }}, to: origin }} }}\n",
            origin.address()
        );
        let path = folder.path().join("gateway.yaml");
        std::fs::write(&path, text).unwrap();
        let process = Process::run(&path, admin.port(), &[]);
        Self { process, origin, web, admin, folder }
    }

    fn readiness(&self) -> Answer {
        send(self.admin, "GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
    }

    /// How many requests are under way.
    fn in_flight(&self) -> usize {
        let text =
            send(self.admin, "GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").text();
        let value =
            text.lines().find_map(|line| line.strip_prefix("tollgate_http_in_flight{listener=\"web\"} "));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Lets the origin go on with what it holds back.
    fn more(&self) {
        assert_eq!(get(self.origin.address(), "/more").status, 204);
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }
}

#[test]
fn sigterm_cuts_nothing_and_ends_with_the_last_connection() {
    let mut gateway = Gateway::start(LONG);
    let mut idle = Client::new(gateway.web);
    assert_eq!(idle.get("localhost", "/", "").status, 200);
    let mut waiting = Client::new(gateway.web);
    waiting.write("GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let http2 = Http2::clear(gateway.web);
    let stream = http2.begin(http::Request::get("http://localhost/wait"), &[], true);
    let mut socket = WebSocket::open(gateway.web);
    wait_until("all are under way", || gateway.in_flight() == 3);

    gateway.process.signal(Signal::SIGTERM);
    wait_until("readiness is red", || gateway.readiness().status == 503);
    let refused =
        || TcpStream::connect(gateway.web).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    wait_until("the gate is closed", refused);
    assert!(idle.is_closed(), "nothing is under way there");
    assert!(socket.echoes("still here"), "a WebSocket goes on within the drain time");
    assert_eq!(gateway.in_flight(), 3);

    gateway.more();
    let answer = waiting.read(false);
    assert_eq!((answer.status, answer.text().as_str(), answer.cut), (200, "waited", false));
    assert!(answer.closes() && waiting.is_closed(), "HTTP/1.1 is told: {answer:?}");
    let answer = http2.finish(stream);
    assert_eq!((answer.status, answer.text().as_str(), answer.cut), (200, "waited", false));
    http2.says_goodbye();

    assert!(socket.echoes("and still"), "the process waits for the last one");
    drop(socket);
    assert_eq!(gateway.process.wait().code(), Some(0));
    let lines = std::fs::read_to_string(gateway.log()).unwrap();
    let paths =
        lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].clone());
    let mut paths: Vec<_> = paths.map(|path| path.as_str().unwrap().to_owned()).collect();
    paths.sort();
    assert_eq!(paths, ["/", "/socket", "/wait", "/wait"], "all is in the log");
}

#[test]
fn what_outlives_the_drain_time_is_cut() {
    let mut gateway = Gateway::start("300ms");
    let mut socket = Client::new(gateway.web);
    let fields = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                  sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(socket.get("localhost", "/socket", fields).status, 101);
    let mut endless = Client::new(gateway.web);
    endless.write("GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n");
    endless.wait_for_bytes();
    let http2 = Http2::clear(gateway.web);
    let mut stream = http2.talk(http2.begin(http::Request::get("http://localhost/endless"), &[], true));
    gateway.process.signal(Signal::SIGTERM);
    // RFC 6455 section 7.4.1: going away.
    assert_eq!(socket.try_read_bytes(4).as_deref(), Some(&[0x88, 2, 3, 0xe9][..]));
    let answer = endless.read(false);
    assert!(answer.cut && answer.status == 200, "it must not look whole");
    assert!(stream.breaks_off(), "it must not look whole");
    assert_eq!(gateway.process.wait().code(), Some(0));
}

#[test]
fn a_second_word_and_sigint_end_it_at_once() {
    for words in
        [&[Signal::SIGTERM, Signal::SIGTERM][..], &[Signal::SIGTERM, Signal::SIGINT], &[Signal::SIGINT]]
    {
        let mut gateway = Gateway::start(LONG);
        let mut waiting = Client::new(gateway.web);
        waiting.write("GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n");
        wait_until("it is under way", || gateway.in_flight() == 1);
        for (at, word) in words.iter().enumerate() {
            gateway.process.signal(*word);
            if at + 1 < words.len() {
                wait_until("it drains", || gateway.readiness().status == 503);
            }
        }
        assert_eq!(gateway.process.wait().code(), Some(0), "{words:?}");
        assert!(waiting.is_closed(), "{words:?}");
    }
}

/// It waits for nothing: neither for the drain time nor for a client. How long it takes is printed.
#[test]
fn an_idle_process_ends_at_once() {
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut gateway = Gateway::start(LONG);
        let began = Instant::now();
        gateway.process.signal(Signal::SIGTERM);
        assert_eq!(gateway.process.wait().code(), Some(0));
        times.push(began.elapsed());
    }
    times.sort();
    println!("from SIGTERM to the end, idle: {times:?}");
}
