//! Upgraded connections: WebSocket above all, what may go wrong with one, and what is none.

use crate::harness::{Authority, Client, Gateway, Origin, answer, wait_until};
use futures_util::{SinkExt as _, StreamExt as _};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame};

const IN_FLIGHT: &str = "tollgate_http_in_flight{listener=\"web\"}";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// RFC 6455 section 1.3.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HANDSHAKE: &str = "GET /chat?room=1 HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// A close frame with the code 1001: a server's.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// A gateway before an origin; `limits` are the listener's, `route` is more of the route.
fn gateway(origin: &Origin, limits: &str, route: &str) -> Gateway {
    gateway_within(origin, "30s", limits, route)
}

/// As [`gateway`]; `total` is how long an exchange may take.
fn gateway_within(origin: &Origin, total: &str, limits: &str, route: &str) -> Gateway {
    Gateway::start_in(
        TempDir::new().unwrap(),
        &format!(
            "process: {{ workers: 2, drain: 300ms }}\n\
             telemetry: {{ access_log: {{ to: {{ file: access.log }} }} }}\n\
             admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
             listeners: {{ web: {{ address: '127.0.0.1:PORT_web', limits: {{ {limits} }} }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{}'], timeouts: {{ read: 20s, total: {total} }} }} }}\n\
             routes: {{ all: {{ {route} to: origin }} }}\n",
            origin.address()
        ),
    )
}

/// An origin that answers each connection's first request with what `answer` writes, and then does
/// what `after` does.
fn origin(says: &'static str, after: impl Fn(TcpStream) + Send + Sync + 'static) -> Origin {
    Origin::raw(move |mut stream, _| {
        read_head(&mut stream);
        let _ = stream.write_all(says.as_bytes());
        after(stream);
    })
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Gives back what comes, until nothing does.
fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn upgraded(gateway: &Gateway) -> Client {
    let mut client = Client::new(gateway.web());
    let answer = client.send(HANDSHAKE);
    assert_eq!((answer.status, answer.field("sec-websocket-accept")), (101, Some(ACCEPT)), "{answer:?}");
    client
}

/// A short text as a client's frame; its mask is zero.
fn frame(text: &str) -> Vec<u8> {
    [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// The only line of the access log, once it is there.
fn log_line(gateway: &Gateway) -> serde_json::Value {
    let log = || std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    wait_until("it is logged", || log().ends_with('\n'));
    serde_json::from_str(log().lines().next_back().unwrap()).unwrap()
}

#[test]
fn a_websocket_passes_both_ways_for_longer_than_an_exchange_may_take() {
    let heads = Arc::<std::sync::Mutex<String>>::default();
    let seen = heads.clone();
    let origin = Origin::raw(move |mut stream, _| {
        *seen.lock().unwrap() = read_head(&mut stream);
        let _ = stream.write_all(SWITCHED.as_bytes());
        echo(stream);
    });
    let gateway = gateway_within(&origin, "2s", "", "");
    let mut client = upgraded(&gateway);
    let began = std::time::Instant::now();
    let mut said = 0;
    // `total` is for exchanges that have an end.
    while said < 3 || began.elapsed() < Duration::from_millis(2500) {
        said += 1;
        client.write(frame("ping"));
        assert_eq!(client.try_read_bytes(10), Some(frame("ping")), "after {said}");
    }
    assert_eq!(gateway.metric(IN_FLIGHT), 1.0);
    client.close();
    wait_until("the tunnel is gone", || gateway.metric(IN_FLIGHT) == 0.0);
    let line = log_line(&gateway);
    assert_eq!((line["status"].as_u64(), line["upstream"].as_str()), (Some(101), Some("origin")), "{line}");
    assert_eq!(
        (line["bytes_received"].as_u64(), line["bytes_sent"].as_u64()),
        (Some(said * 10), Some(said * 10))
    );
    assert!(line["duration_ms"].as_f64() >= Some(2500.0), "{line}");
    let head = heads.lock().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /chat?room=1 http/1.1\r\n"), "{head}");
    for field in [
        "\r\nhost: a\r\n",
        "\r\nconnection: upgrade\r\n",
        "\r\nupgrade: websocket\r\n",
        "\r\nx-forwarded-for: ",
    ] {
        assert_eq!(head.matches(field).count(), 1, "{field:?} in {head}");
    }
}

/// An upstream that answers before it has read the request ends one tunnel of thirty on Pingora's
/// own way (its issue 946).
#[test]
fn a_101_that_comes_at_once_ends_no_tunnel() {
    let origin = Origin::raw(|mut stream, _| {
        let _ = stream.write_all(SWITCHED.as_bytes());
        read_head(&mut stream);
        echo(stream);
    });
    let gateway = gateway(&origin, "", "");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                for round in 0..100 {
                    let mut client = upgraded(gateway);
                    client.write(frame("ping"));
                    assert_eq!(client.try_read_bytes(10), Some(frame("ping")), "{worker}: {round}");
                }
            });
        }
    });
    wait_until("the tunnels are gone", || gateway.metric(IN_FLIGHT) == 0.0);
}

#[test]
fn what_comes_early_is_kept() {
    let origin = Origin::raw(|mut stream, _| {
        read_head(&mut stream);
        let _ = stream.write_all([SWITCHED.as_bytes(), b"\x81\x05hello"].concat().as_slice());
        echo(stream);
    });
    let gateway = gateway(&origin, "", "");
    for gap in [false, true] {
        let mut client = Client::new(gateway.web());
        if gap {
            client.write(HANDSHAKE);
            client.write(frame("early"));
            client.write(frame("bird"));
        } else {
            client.write([HANDSHAKE.as_bytes(), &frame("early"), &frame("bird")].concat());
        }
        assert_eq!(client.read(false).status, 101);
        assert_eq!(client.try_read_bytes(7).as_deref(), Some(&b"\x81\x05hello"[..]));
        assert_eq!(client.try_read_bytes(21), Some([frame("early"), frame("bird")].concat()), "{gap}");
    }
}

#[test]
fn a_refusal_is_an_answer_like_any_other() {
    let origin = Origin::start(|request, stream| {
        let said = match request.target() {
            "/forbidden" => {
                answer("403 Forbidden", "x-why: no\r\nconnection: x-inner\r\nx-inner: 1\r\n", "not you")
            }
            "/version" => answer("426 Upgrade Required", "sec-websocket-version: 13\r\n", ""),
            "/chunked" => {
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                    .to_vec()
            }
            "/hints" => {
                [&b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"[..], &answer("200 OK", "", "in")].concat()
            }
            "/until-closed" => b"HTTP/1.1 200 OK\r\n\r\nto the end".to_vec(),
            "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec(),
            _ => answer("200 OK", "", "plain"),
        };
        stream.write_all(&said).is_ok() && !matches!(request.target(), "/until-closed" | "/cut")
    });
    let gateway = gateway(&origin, "", "");
    let mut client = Client::new(gateway.web());
    let mut ask = |target: &str| client.send(HANDSHAKE.replace("/chat?room=1", target));
    let forbidden = ask("/forbidden");
    assert_eq!(
        (forbidden.status, forbidden.text().as_str(), forbidden.field("x-why")),
        (403, "not you", Some("no"))
    );
    assert_eq!(forbidden.field("x-inner"), None);
    let version = ask("/version");
    assert_eq!((version.status, version.field("sec-websocket-version")), (426, Some("13")));
    assert_eq!(ask("/chunked").text(), "abcde");
    assert_eq!(ask("/hints").text(), "in");
    assert_eq!(ask("/until-closed").text(), "to the end");
    assert!(ask("/cut").cut, "half an answer is no whole one");
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
}

#[test]
fn a_101_that_is_none_opens_nothing() {
    let sent = Arc::<AtomicUsize>::default();
    let received = sent.clone();
    let origin = Origin::raw(move |mut stream, _| {
        let head = read_head(&mut stream);
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
        let fields = match head.split(' ').nth(1).unwrap_or_default() {
            "/without" => String::new(),
            "/other" => "connection: upgrade\r\nupgrade: h2c\r\n".to_owned(),
            "/key" => format!("{upgrade}sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"),
            "/body" => format!("{upgrade}sec-websocket-accept: {ACCEPT}\r\ncontent-length: 9\r\n"),
            _ => format!("{upgrade}sec-websocket-accept: {ACCEPT}\r\n"),
        };
        let _ = stream.write_all(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n").as_bytes());
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        received.fetch_add(rest.len(), Ordering::SeqCst);
    });
    let gateway = gateway(&origin, "", "");
    for target in ["/without", "/other", "/key", "/body"] {
        let mut client = Client::new(gateway.web());
        client.write(HANDSHAKE.replace("/chat?room=1", target) + "GET /smuggled HTTP/1.1\r\nhost: b\r\n\r\n");
        let answer = client.read(false);
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"), "{target}");
    }
    // Nobody asked for it.
    for plain in [
        "GET /plain HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "POST /plain HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        "GET /plain HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ] {
        let answer = Client::new(gateway.web()).send(plain);
        assert_eq!(answer.status, 502, "{plain}");
    }
    wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
    assert_eq!(sent.load(Ordering::SeqCst), 2, "no byte passed but the two of a body");
}

#[test]
fn a_route_says_what_may_be_upgraded_to() {
    let says = |request: &crate::harness::Received| match request.field("upgrade") {
        Some("websocket") => SWITCHED.to_owned(),
        Some(other) => {
            format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {other}\r\n\r\n")
        }
        None => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain".to_owned(),
    };
    let origin = Origin::start(move |request, stream| {
        let _ = stream.write_all(says(request).as_bytes());
        request.field("upgrade").is_none() || {
            echo(stream.try_clone().unwrap());
            false
        }
    });
    let chat = HANDSHAKE.replace("upgrade: websocket", "upgrade: chat/2");
    for (upgrades, websocket, other) in
        [("", 101, 200), ("upgrades: [],", 200, 200), ("upgrades: ['CHAT/2'],", 200, 101)]
    {
        let gateway = gateway(&origin, "", upgrades);
        assert_eq!(Client::new(gateway.web()).send(HANDSHAKE).status, websocket, "{upgrades}");
        let mut client = Client::new(gateway.web());
        assert_eq!(client.send(&chat).status, other, "{upgrades}");
        if other == 101 {
            client.write("hello");
            assert_eq!(client.try_read_bytes(5).as_deref(), Some(&b"hello"[..]));
        }
    }
}

/// The end that an origin saw of a tunnel: all that came after the handshake.
fn recording() -> (Origin, Arc<std::sync::Mutex<Vec<u8>>>, Arc<AtomicBool>) {
    let (got, over) = (Arc::<std::sync::Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default());
    let (seen, ended) = (got.clone(), over.clone());
    let origin = origin(SWITCHED, move |mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            seen.lock().unwrap().extend(&buffer[..count]);
        }
        ended.store(true, Ordering::SeqCst);
    });
    (origin, got, over)
}

/// The payload of a client's close frame at the end of `bytes`.
fn close_code(bytes: &[u8]) -> Option<u16> {
    let [0x88, 0x82, a, b, _, _, high, low] = bytes.last_chunk::<8>()? else { return None };
    Some(u16::from_be_bytes([high ^ a, low ^ b]))
}

#[test]
fn a_tunnel_ends_when_it_is_idle_or_old() {
    for (bounds, cause, talks) in [("idle: 300ms", "tunnel_idle", false), ("age: 500ms", "tunnel_aged", true)]
    {
        let (origin, got, over) = recording();
        let gateway = gateway(&origin, &format!("upgraded: {{ {bounds} }}"), "");
        let mut client = upgraded(&gateway);
        let mut writer = client.another();
        let stop = Arc::new(AtomicBool::new(!talks));
        let stopped = stop.clone();
        let talker = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) && writer.try_write(frame("x")) {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        assert_eq!(client.try_read_bytes(4).as_deref(), Some(&GOING_AWAY[..]), "{cause}");
        stop.store(true, Ordering::SeqCst);
        talker.join().unwrap();
        client.close();
        wait_until("the origin saw the end", || over.load(Ordering::SeqCst));
        assert_eq!(close_code(&got.lock().unwrap()), Some(1001), "{cause}");
        wait_until("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
        assert_eq!(log_line(&gateway)["cause"], cause);
    }
}

#[test]
fn a_gateway_that_stops_says_so() {
    let (origin, got, over) = recording();
    let gateway = gateway(&origin, "", "");
    let log = gateway.folder().join("access.log");
    let mut client = upgraded(&gateway);
    let mut half = upgraded(&gateway);
    // In the middle of a frame there is no place for a word of ours.
    half.write(&frame("half")[..7]);
    let kept = std::fs::File::open(&log).unwrap();
    let stopping = std::thread::spawn(move || gateway.stop());
    assert_eq!(client.try_read_bytes(4).as_deref(), Some(&GOING_AWAY[..]));
    client.write([0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]);
    client.close();
    assert_eq!(half.try_read_bytes(4).as_deref(), Some(&GOING_AWAY[..]));
    stopping.join().unwrap();
    assert!(over.load(Ordering::SeqCst));
    assert_eq!(got.lock().unwrap().windows(8).filter(|end| close_code(end) == Some(1001)).count(), 1);
    let lines = std::io::read_to_string(kept).unwrap();
    assert!(
        lines.lines().count() == 2 && lines.lines().all(|line| line.contains("\"going_away\"")),
        "{lines}"
    );
}

#[test]
fn close_codes_are_untouched_and_each_side_may_end_first() {
    // The origin says goodbye first; the client answers.
    let got = Arc::<std::sync::Mutex<Vec<u8>>>::default();
    let seen = got.clone();
    let first = origin(SWITCHED, move |mut stream| {
        let _ = stream.write_all(&[0x88, 2, 0x0f, 0xa5]);
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        *seen.lock().unwrap() = rest;
    });
    let one = gateway(&first, "", "");
    let mut client = upgraded(&one);
    assert_eq!(client.try_read_bytes(4).as_deref(), Some(&[0x88, 2, 0x0f, 0xa5][..]), "4005");
    assert!(client.is_closed(), "the end came through");
    client.write([0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa5]);
    client.close();
    wait_until("the answer is there", || got.lock().unwrap().len() == 8);
    wait_until("nothing is in flight", || one.metric(IN_FLIGHT) == 0.0);
    assert_eq!(log_line(&one)["cause"], serde_json::Value::Null);

    // The client has said all, and still hears all.
    let last = origin(SWITCHED, |mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = stream.write_all(&all);
    });
    let two = gateway(&last, "", "");
    let mut client = upgraded(&two);
    client.write(frame("all"));
    client.finish();
    assert_eq!(client.try_read_bytes(9), Some(frame("all")));
    assert!(client.is_closed());
    wait_until("nothing is in flight", || two.metric(IN_FLIGHT) == 0.0);
}

#[test]
fn whoever_breaks_off_ends_it_for_both() {
    let (origin, _, over) = recording();
    let one = gateway(&origin, "", "");
    let client = upgraded(&one);
    client.abort();
    wait_until("the origin sees the end", || over.load(Ordering::SeqCst));
    wait_until("nothing is in flight", || one.metric(IN_FLIGHT) == 0.0);
    assert_eq!(log_line(&one)["cause"], "client_gone");

    let aborting = self::origin(SWITCHED, |mut stream| {
        let _ = stream.read(&mut [0; 3]);
        crate::harness::abort(&stream);
    });
    let two = gateway(&aborting, "", "");
    let mut client = upgraded(&two);
    client.write(frame("x"));
    assert!(client.is_closed());
    client.close();
    wait_until("nothing is in flight", || two.metric(IN_FLIGHT) == 0.0);
    assert_eq!(log_line(&two)["cause"], "upstream_failed");

    // While the upstream has not answered yet.
    let silent = self::origin("", |mut stream| {
        let _ = stream.read(&mut [0]);
    });
    let three = gateway(&silent, "", "");
    let mut client = Client::new(three.web());
    client.write(HANDSHAKE);
    wait_until("it is in flight", || three.metric(IN_FLIGHT) == 1.0);
    client.close();
    wait_until("nothing is in flight", || three.metric(IN_FLIGHT) == 0.0);
}

/// Sixteen megabytes wait for a client that reads nothing yet, while what it sends passes.
#[test]
fn one_direction_does_not_hold_up_the_other() {
    const FLOOD: usize = 16 << 20;
    let got = Arc::<AtomicUsize>::default();
    let seen = got.clone();
    let origin = origin(SWITCHED, move |mut stream| {
        let mut writer = stream.try_clone().unwrap();
        let flood = std::thread::spawn(move || writer.write_all(&vec![7; FLOOD]));
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            seen.fetch_add(count, Ordering::SeqCst);
        }
        let _ = flood.join();
    });
    let gateway = gateway(&origin, "", "upgrades: [websocket],");
    let mut client = upgraded(&gateway);
    let chunk = vec![9; 1 << 20];
    for _ in 0..FLOOD >> 20 {
        assert!(client.try_write(&chunk));
    }
    wait_until("all that the client sent is there", || got.load(Ordering::SeqCst) == FLOOD);
    assert!(client.try_read_bytes(FLOOD).is_some_and(|flood| flood.iter().all(|byte| *byte == 7)));
}

#[test]
fn another_endpoint_is_tried_and_a_dead_upstream_is_a_502() {
    let origin = origin(SWITCHED, echo);
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams:\n\
         \x20 some: {{ endpoints: ['{dead}', '{}'] }}\n\
         \x20 none: {{ endpoints: ['{dead}'] }}\n\
         routes:\n\
         \x20 some: {{ to: some }}\n\
         \x20 none: {{ match: {{ path: /none }}, to: none }}\n",
        origin.address()
    ));
    for _ in 0..4 {
        let mut client = upgraded(&gateway);
        client.write(frame("ping"));
        assert_eq!(client.try_read_bytes(10), Some(frame("ping")));
    }
    let answer = Client::new(gateway.web()).send(HANDSHAKE.replace("/chat?room=1", "/none"));
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"));
}

/// By a library, as client and as server: messages of many sizes, fragments, pings, over TLS.
#[test]
fn messages_of_all_sizes_pass_over_tls() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let origin = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await.unwrap();
                    }
                }
            });
        }
    });
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let certificate = authority.issue(folder.path(), "web", &["a.example"]);
    let gateway = Gateway::start_in(
        folder,
        &format!(
            "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', tls: {{ certificates: [{certificate}] }} }} }}\n\
             upstreams: {{ origin: {{ endpoints: ['{origin}'] }} }}\n\
             routes: {{ all: {{ to: origin }} }}\n"
        ),
    );
    let (address, config) = (gateway.web(), authority.client(&["http/1.1"]));
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
        let (mut socket, answer) = tokio_tungstenite::client_async("wss://a.example/", stream).await.unwrap();
        assert_eq!(answer.status(), 101);
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 8 << 20] {
            let message = Message::binary((0..size).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
            socket.send(Message::Ping(b"are you there"[..].into())).await.unwrap();
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(b"are you there"[..].into()));
            assert!(socket.next().await.unwrap().unwrap() == message, "{size}");
        }
        let goodbye = CloseFrame { code: 4321.into(), reason: "enough".into() };
        socket.close(Some(goodbye.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(goodbye)));
        assert!(matches!(socket.next().await, None | Some(Err(tungstenite::Error::ConnectionClosed))));
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    assert_eq!(tollgate::message::websocket::accept_for(KEY.as_bytes()), ACCEPT);
}
