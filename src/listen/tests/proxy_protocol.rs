use super::certificates::Authority;
use super::*;

const PROXY: &str = "proxy_protocol: { from: [127.0.0.1], time: 300ms }";
const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4660 80\r\n";
const WHO: &str = "GET /who HTTP/1.1\r\nhost: a\r\n\r\n";

/// Version 2, from 192.0.2.9, port 8, with what nobody here knows behind the addresses.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x09\xc6\x33\x64\x01\0\x08\0\x50\xee\0\x01x";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn refused(bench: &Bench, cause: Refusal, count: u64) {
    let counters = bench.listeners.counters()[0].1.clone();
    patiently(async {
        while counters.refusals(cause) < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(counters.refusals(cause), count);
}

async fn who(address: SocketAddr, header: &[u8]) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(header).await.unwrap();
    let mut client = Client::over(tcp);
    client.send(WHO).await;
    let body = client.receive().await.body;
    assert_eq!(client.get("/who").await.body, body, "for all requests of the connection");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_that_the_header_names_is_the_peer() {
    let bench = Bench::start();
    let address = bench.add(0, listener(PROXY), None);
    for (header, peer) in [
        (V1.as_bytes(), "peer=192.0.2.7:4660 "),
        (V2, "peer=192.0.2.9:8 "),
        (V2_LOCAL, "peer=127.0.0.1:"),
        (b"PROXY UNKNOWN\r\n", "peer=127.0.0.1:"),
    ] {
        let answer = who(address, header).await;
        assert!(answer.contains(peer), "{}: {answer}", header.escape_ascii());
    }
    let mut pieces = Client::connect(address).await;
    for byte in V1.as_bytes().chunks(3) {
        pieces.0.get_mut().write_all(byte).await.unwrap();
        tokio::task::yield_now().await;
    }
    pieces.send(WHO).await;
    assert!(pieces.receive().await.body.contains("peer=192.0.2.7:4660 "));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_comes_before_tls_and_before_http_2() {
    let authority = Authority::new();
    let issued = authority.issue("a", &["a.example"]);
    let bench = Bench::start();
    let tls = serde_yaml::from_str(&format!("certificates: [{issued}]")).unwrap();
    let setup = Arc::new(TlsSetup::compile(&tls).unwrap().0);
    let address = bench.add(0, listener(PROXY), Some(setup));
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(V2).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(authority.client_config()));
    let mut client = Client::over(patiently(connector.connect(name, tcp)).await.unwrap());
    let answer = client.get("/who").await.body;
    assert!(answer.contains("peer=192.0.2.9:8 ") && answer.contains("sni=Some(\"a.example\")"), "{answer}");
    drop(client);

    let clear = bench.add(1, listener(&format!("{PROXY}\nh2c: true")), None);
    let mut tcp = TcpStream::connect(clear).await.unwrap();
    tcp.write_all(V1.as_bytes()).await.unwrap();
    let answer = super::http2::get(tcp, "/who").await;
    assert!(answer.contains("peer=192.0.2.7:4660 ") && answer.contains("http2=true"), "{answer}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_header_a_balancer_gets_nothing() {
    let bench = Bench::start();
    let address = bench.add(0, listener(PROXY), None);
    let mut plain = Client::connect(address).await;
    plain.send(WHO).await;
    plain.closed().await;
    Client::connect(address).await.closed().await;
    let mut slow = Client::connect(address).await;
    slow.send(&V1[..20]).await;
    slow.closed().await;
    refused(&bench, Refusal::ProxyProtocol, 3).await;
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Client::over(patiently(other.connect(address)).await.unwrap());
    assert!(other.get("/who").await.body.contains("peer=127.0.0.2:"), "a client of its own needs none");
    other.send(&format!("{V1}{WHO}")).await;
    assert_eq!(other.receive().await.status, 400, "and may not give another name than its own");
    patiently(bench.listeners.drained()).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_are_for_the_client_that_is_named() {
    let bench = Bench::start();
    let address = bench.add(0, listener(&format!("{PROXY}\nlimits: {{ client_connections: 1 }}")), None);
    let mut first = Client::connect(address).await;
    first.send(&format!("{V1}{WHO}")).await;
    assert_eq!(first.receive().await.status, 200);
    let mut second = Client::connect(address).await;
    second.send(V1).await;
    second.closed().await;
    refused(&bench, Refusal::Client, 1).await;
    assert!(who(address, V2).await.contains("192.0.2.9"), "another client by the same balancer");
    assert!(who(address, V2_LOCAL).await.contains("127.0.0.1"));
    assert_eq!(first.get("/").await.status, 200);
    drop(first);
    patiently(bench.listeners.drained()).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_handshakes_are_bounded() {
    let bench = Bench::start();
    let yaml = "proxy_protocol: { from: [127.0.0.1], time: 1h }\nlimits: { handshakes: 1 }";
    let address = bench.add(0, listener(yaml), None);
    let mut pending = Client::connect(address).await;
    pending.send("PROXY").await;
    let counters = bench.listeners.counters()[0].1.clone();
    let counted = async {
        while counters.accepted() == 0 {
            tokio::task::yield_now().await;
        }
    };
    patiently(counted).await;
    turned_away(address).await;
    refused(&bench, Refusal::Handshakes, 1).await;
    pending.send(&format!("{}{WHO}", &V1[5..])).await;
    assert_eq!(pending.receive().await.status, 200);
    drop(pending);
    patiently(bench.listeners.drained()).await;
    assert!(who(address, V2).await.contains("192.0.2.9"), "whoever is through makes room");
    bench.stop().await;
}
