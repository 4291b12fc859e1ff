use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_in_the_queue_while_the_gate_is_paused() {
    let bench = Bench::start_paused();
    let address = bench.add(0, listener(""), None);
    let mut client = Client::connect(address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(bench.listeners.connections(), 0);
    bench.listeners.open();
    assert_eq!(client.receive().await.status, 200);
    patiently(bench.listeners.ready()).await;

    bench.listeners.pause();
    assert_eq!(client.get("/").await.status, 200, "open connections go on");
    let mut waiting = Client::connect(address).await;
    waiting.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    bench.listeners.open();
    assert_eq!(waiting.receive().await.status, 200);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_waits_for_every_listener() {
    let bench = Bench::start_paused();
    bench.add(0, listener(""), None);
    bench.add(1, listener(""), None);
    let listeners = bench.listeners.clone();
    let ready = listeners.ready();
    tokio::pin!(ready);
    assert!(futures_util::poll!(&mut ready).is_pending(), "nobody accepts behind a shut gate");
    bench.listeners.open();
    patiently(ready).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_come_and_go_at_run_time() {
    let bench = Bench::start();
    let first = bench.add(0, listener(""), None);
    assert_eq!(Client::connect(first).await.get("/").await.status, 200);
    let second = bench.add(1, listener(""), None);
    let mut idle = Client::connect(second).await;
    assert_eq!(idle.get("/").await.status, 200);
    assert!(bench.listeners.remove(ListenerId(1)));
    idle.closed().await;
    assert!(!bench.listeners.remove(ListenerId(1)));
    patiently(async { while TcpStream::connect(second).await.is_ok() {} }).await;
    assert_eq!(Client::connect(first).await.get("/").await.status, 200);
    let third = bench.add(1, listener(""), None);
    assert_eq!(Client::connect(third).await.get("/").await.status, 200, "a number can be used again");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_listener_lets_its_request_finish() {
    let bench = Bench::start();
    let address = bench.add(0, listener(""), None);
    let mut client = Client::connect(address).await;
    client.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").await;
    bench.app.entered().await;
    bench.listeners.remove(ListenerId(0));
    assert_eq!(bench.listeners.connections(), 1);
    bench.app.release();
    let answer = client.receive().await;
    assert_eq!(answer.body, "held");
    assert!(answer.closes(), "and says that it is the last: {}", answer.head);
    client.closed().await;
    patiently(bench.listeners.drained()).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_accepted_a_moment_ago_may_still_ask() {
    let bench = Bench::start();
    let address = bench.add(0, listener(""), None);
    patiently(bench.listeners.ready()).await;
    let mut client = Client::connect(address).await;
    bench.listeners.shutdown();
    let answer = client.get("/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.closes());
    client.closed().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_change_for_new_connections_only() {
    let bench = Bench::start();
    let address = bench.add(0, listener(""), None);
    let mut before = Client::connect(address).await;
    assert!(!before.get("/").await.closes());
    let stricter = Arc::new(listener("limits: { requests: 1 }"));
    assert!(bench.listeners.update(ListenerId(0), stricter, None));
    assert!(Client::connect(address).await.get("/").await.closes());
    assert!(!before.get("/").await.closes(), "an open connection keeps what it has");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_listeners_cannot_share_a_number() {
    let bench = Bench::start();
    bench.add(3, listener(""), None);
    let config = listener("");
    let socket = bind(config.address).unwrap();
    let name = "other".parse().unwrap();
    let spec = ListenerSpec { id: ListenerId(3), name, config: Arc::new(config), socket, tls: None };
    let problem = bench.listeners.add(spec).unwrap_err();
    assert_eq!(problem.what, "listener `other` has the number of listener `listener-3`");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_handed_over_share_the_queue() {
    let bench = Bench::start();
    let address = bench.add(0, listener(""), None);
    let mut sockets = bench.listeners.sockets().unwrap();
    let (name, bound, socket) = sockets.pop().unwrap();
    assert_eq!((name.as_str(), bound), ("listener-0", address));
    bench.stop().await;

    let successor = Bench::start();
    let config = Arc::new(listener(""));
    successor.listeners.add(ListenerSpec { id: ListenerId(0), name, config, socket, tls: None }).unwrap();
    assert_eq!(Client::connect(address).await.get("/").await.status, 200);
    successor.stop().await;
}

#[test]
fn an_address_that_cannot_be_bound_is_explained() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    let problem = bind(address).unwrap_err();
    assert_eq!(problem.what, format!("address {address} is in use"));
    let problem = bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert_eq!(problem.what, "address 192.0.2.1:0 is not this machine's");
    assert!(problem.remedy.unwrap().contains("0.0.0.0"));
}

#[test]
fn it_runs_in_pingoras_server() {
    use pingora_core::server::configuration::ServerConf;
    use pingora_core::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};

    struct OnDrain(Listeners);
    #[async_trait]
    impl ShutdownSignalWatch for OnDrain {
        async fn recv(&self) -> ShutdownSignal {
            self.0.ready().await;
            let address = self.0.address(ListenerId(0)).unwrap();
            let mut client = Client::connect(address).await;
            assert_eq!(client.get("/").await.status, 200);
            self.0.shutdown();
            patiently(self.0.drained()).await;
            client.closed().await;
            ShutdownSignal::GracefulTerminate
        }
    }

    let listeners = Listeners::new();
    let config = Arc::new(listener(""));
    let socket = bind(config.address).unwrap();
    let name = "served".parse().unwrap();
    // Before the start, and with the gate open.
    listeners.add(ListenerSpec { id: ListenerId(0), name, config, socket, tls: None }).unwrap();
    listeners.open();
    let app = Arc::new(TestApp { entered: Semaphore::new(0), release: Semaphore::new(0) });
    let conf = ServerConf {
        threads: 2,
        listener_tasks_per_fd: 2,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(5),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.add_service(Service::new("listen", listeners.clone(), app));
    server.run(RunArgs { shutdown_signal: Box::new(OnDrain(listeners.clone())) });
    assert_eq!(listeners.connections(), 0);
}

/// What an idle connection costs is, beside the kernel's part, its task and its edge.
#[test]
fn an_idle_connection_is_small() {
    fn size_of_answer<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let task = size_of_answer(crate::listen::connection::run::<TestApp>);
    assert!(task <= 1408, "a connection's task is {task} bytes");
    let edge = size_of::<crate::listen::Edge<TcpStream>>();
    assert!(edge <= 384, "an edge is {edge} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_does_not_keep_its_listener() {
    let bench = Bench::start();
    for (id, settings) in [(0, ""), (1, "h2c: true")] {
        let address = bench.add(id, listener(settings), None);
        let silent = Client::connect(address).await;
        patiently(async {
            while bench.listeners.connections() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(bench.listeners.remove(ListenerId(id)));
        silent.closed().await;
        patiently(bench.listeners.drained()).await;
    }
    bench.stop().await;
}

/// Each idle connection has a task of this size for as long as it lasts. Tokio adds some 60 bytes, and the whole is
/// aligned to 128.
#[test]
fn the_task_of_a_connection_is_small() {
    fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let size = size(crate::listen::connection::run::<super::TestApp>);
    assert!(size <= 960, "{size} bytes");
}
