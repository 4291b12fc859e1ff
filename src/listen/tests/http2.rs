use super::*;

/// A GET over HTTP/2; the body of the answer.
pub(super) async fn get<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, path: &str) -> String {
    let (sender, connection) = patiently(h2::client::handshake(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sender = patiently(sender.ready()).await.unwrap();
    let request = http::Request::get(format!("http://a.example{path}")).body(()).unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    let answer = patiently(answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while let Some(chunk) = patiently(body.data()).await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        text.extend_from_slice(&chunk);
    }
    drop((sender, body));
    patiently(connection).await.unwrap().unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_and_http_2_share_a_port() {
    let bench = Bench::start();
    let address = bench.add(0, listener("h2c: true"), None);
    let stream = patiently(TcpStream::connect(address)).await.unwrap();
    assert!(get(stream, "/who").await.contains("http2=true"));
    let stream = patiently(TcpStream::connect(address)).await.unwrap();
    assert_eq!(get(stream, "/large").await.len(), LARGE);

    let mut short = Client::connect(address).await;
    short.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(short.receive().await.body, "hello", "18 bytes, fewer than the preface has");
    short.closed().await;

    let mut alike = Client::connect(address).await;
    alike.send("P").await;
    alike.send("RI").await;
    alike.send("NT / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(alike.receive().await.body, "hello", "a method that begins like the preface");
    assert_eq!(alike.get("/").await.body, "hello");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_preface_is_a_slow_header() {
    let bench = Bench::start();
    let address = bench.add(0, listener("h2c: true\nlimits: { header_time: 100ms }"), None);
    let mut client = Client::connect(address).await;
    client.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(client.receive().await.status, 408);
    client.closed().await;
    patiently(bench.listeners.drained()).await;
    assert_eq!(bench.unseen.causes(), [Unseen::TimedOut]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_http_2_connection_is_closed() {
    let bench = Bench::start();
    let address = bench.add(0, listener("h2c: true\nlimits: { idle: 100ms }"), None);
    let stream = patiently(TcpStream::connect(address)).await.unwrap();
    let (sender, connection) = patiently(h2::client::handshake(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let _: Result<(), h2::Error> = patiently(connection).await.unwrap();
    drop::<h2::client::SendRequest<Bytes>>(sender);
    patiently(bench.listeners.drained()).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_listener_lets_its_streams_finish() {
    let bench = Bench::start();
    let address = bench.add(0, listener("h2c: true"), None);
    let stream = patiently(TcpStream::connect(address)).await.unwrap();
    let request = tokio::spawn(get(stream, "/hold"));
    bench.app.entered().await;
    bench.listeners.remove(ListenerId(0));
    bench.app.release();
    assert_eq!(patiently(request).await.unwrap(), "held");
    patiently(bench.listeners.drained()).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_connection_are_limited() {
    let bench = Bench::start();
    let address = bench.add(0, listener("h2c: true\nlimits: { streams: 3 }"), None);
    let stream = patiently(TcpStream::connect(address)).await.unwrap();
    let (sender, connection) = patiently(h2::client::handshake(stream)).await.unwrap();
    let mut connection = connection;
    let mut sender = sender;
    // The server's settings have come with the first answer, at the latest.
    let request = http::Request::get("http://a.example/").body(()).unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    tokio::select! {
        answer = answer => assert_eq!(answer.unwrap().status(), 200),
        ended = &mut connection => panic!("{ended:?}"),
    }
    assert_eq!(connection.max_concurrent_send_streams(), 3);
    drop((sender, connection));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_told_to_go_and_is_silent_is_cut() {
    let bench = Bench::start();
    let address = bench.add(0, listener("h2c: true\nlimits: { idle: 200ms }"), None);
    let stream = patiently(TcpStream::connect(address)).await.unwrap();
    let (mut sender, connection) = patiently(h2::client::handshake(stream)).await.unwrap();
    let mut connection = Box::pin(connection);
    let request = http::Request::get("http://a.example/hold").body(()).unwrap();
    let (_answer, _) = sender.send_request(request, true).unwrap();
    // Its stream keeps it from being idle; and from then on nobody drives the client's side.
    tokio::select! {
        () = bench.app.entered() => {}
        ended = &mut connection => panic!("{ended:?}"),
    }
    bench.listeners.remove(ListenerId(0));
    patiently(bench.listeners.drained()).await;
    bench.app.release();
    bench.stop().await;
}
