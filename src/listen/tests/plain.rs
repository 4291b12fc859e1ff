use super::*;

const SHORT: &str = "limits: { header_time: 100ms, idle: 1h }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_serves_one_request_after_the_other() {
    let bench = Bench::start();
    let address = bench.add(7, listener(""), None);
    let mut client = Client::connect(address).await;
    for _ in 0..3 {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        assert!(!answer.closes(), "{}", answer.head);
    }
    let who = client.get("/who").await.body;
    assert!(who.starts_with("listener=listener-7 id=7 peer=127.0.0.1:"), "{who}");
    assert_eq!(bench.listeners.connections(), 1);
    let counters = bench.listeners.counters();
    assert_eq!((counters[0].1.accepted(), counters[0].1.open()), (1, 1));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_both_ways() {
    let bench = Bench::start();
    let address = bench.add(0, listener(""), None);
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/large").await.body.len(), LARGE);
    let body = "y".repeat(LARGE);
    client.send(&format!("POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n{body}")).await;
    assert_eq!(client.receive().await.body, LARGE.to_string());
    assert_eq!(client.get("/").await.body, "hello", "the connection is in order after large bodies");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_after_its_number_of_requests() {
    let bench = Bench::start();
    let address = bench.add(0, listener("limits: { requests: 3 }"), None);
    let mut client = Client::connect(address).await;
    assert!(!client.get("/").await.closes());
    assert!(!client.get("/").await.closes());
    assert!(client.get("/").await.closes(), "the third of three says that it is the last");
    client.closed().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_header_is_answered_with_408() {
    let bench = Bench::start();
    let address = bench.add(0, listener(SHORT), None);
    let mut first = Client::connect(address).await;
    first.send("GET / HTTP/1.1\r\nhost").await;
    assert_eq!(first.receive().await.status, 408);
    first.closed().await;
    let mut reused = Client::connect(address).await;
    assert_eq!(reused.get("/").await.status, 200);
    reused.send("G").await;
    let answer = reused.receive().await;
    assert_eq!(answer.status, 408, "a reused connection has the limit, too");
    assert!(answer.closes());
    reused.closed().await;
    patiently(bench.listeners.drained()).await;
    assert_eq!(bench.unseen.causes(), [Unseen::TimedOut, Unseen::TimedOut]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trickle_does_not_outrun_the_header_limit() {
    let bench = Bench::start();
    let address = bench.add(0, listener(SHORT), None);
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let trickle = tokio::spawn(async move {
        write.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        // Ends when the server closes.
        while write.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut answer = vec![0; 12];
    patiently(read.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    drop(read);
    patiently(trickle).await.unwrap();
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_limit_spares_a_slow_body_and_a_slow_answer() {
    let bench = Bench::start();
    let address = bench.add(0, listener(SHORT), None);
    let mut client = Client::connect(address).await;
    client.send("POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n").await;
    client.send("a").await;
    // Longer than the limit: there is nothing to wait for but time.
    tokio::time::sleep(Duration::from_millis(250)).await;
    client.send("b").await;
    assert_eq!(client.receive().await.body, "2");
    client.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").await;
    bench.app.entered().await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    bench.app.release();
    assert_eq!(client.receive().await.body, "held");
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(client.get("/").await.status, 200, "nor does it run between requests");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed() {
    let bench = Bench::start();
    let address = bench.add(0, listener("limits: { idle: 50ms }"), None);
    Client::connect(address).await.closed().await;
    let mut used = Client::connect(address).await;
    assert_eq!(used.get("/").await.status, 200);
    used.closed().await;
    patiently(bench.listeners.drained()).await;
    assert_eq!(bench.unseen.causes(), [Unseen::Idle, Unseen::Idle]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_app_never_saw_is_told_with_its_cause() {
    let bench = Bench::start();
    let address = bench.add(0, listener(""), None);
    let mut malformed = Client::connect(address).await;
    malformed.send("GET /\u{1}\u{2} HTTP/9.9\r\n\r\n").await;
    assert_eq!(malformed.receive().await.status, 400);
    malformed.closed().await;
    patiently(bench.listeners.drained()).await;
    let mut aborted = Client::connect(address).await;
    aborted.send("GET / HT").await;
    drop(aborted);
    while bench.unseen.causes().len() < 2 {
        tokio::task::yield_now().await;
    }
    drop(Client::connect(address).await);
    while bench.unseen.causes().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.unseen.causes(), [Unseen::Malformed, Unseen::Aborted, Unseen::Idle]);
    let counters = &bench.listeners.counters()[0].1;
    assert_eq!(Unseen::ALL.map(|cause| counters.unseen(cause)), [1, 0, 1, 1]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_accepts_nothing_is_let_go() {
    let bench = Bench::start();
    let address = bench.add(0, listener("limits: { write_time: 100ms }"), None);
    let mut client = Client::connect(address).await;
    client.send("GET /huge HTTP/1.1\r\nhost: a\r\n\r\n").await;
    while bench.listeners.counters()[0].1.accepted() == 0 {
        tokio::task::yield_now().await;
    }
    patiently(bench.listeners.drained()).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_connection_ends_with_a_request_that_is_told_so() {
    let bench = Bench::start();
    let address = bench.add(0, listener("h2c: true\nlimits: { max_age: 1ms }"), None);
    let mut old = Client::connect(address).await;
    // It may be new yet when the first requests come.
    let told = patiently(async {
        loop {
            let answer = old.get("/").await;
            assert_eq!(answer.status, 200);
            if answer.closes() {
                break answer;
            }
        }
    })
    .await;
    assert_eq!(told.body, "hello");
    old.closed().await;

    let stream = patiently(TcpStream::connect(address)).await.unwrap();
    let (sender, connection) = patiently(h2::client::handshake(stream)).await.unwrap();
    // GOAWAY ends it without an error, though the client would stay.
    patiently(connection).await.unwrap();
    drop(sender);
    patiently(bench.listeners.drained()).await;
    bench.stop().await;
}
