//! What gateways share: a real Redis server that comes and goes, hangs and asks for a password.

use crate::harness::{Authority, Gateway, PATIENCE, Redis, wait_until};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tollgate::outbound::Outbound;
use tollgate::outbound::redis::{Script, Store, StoreFailure, cmd, pipe};
use tollgate::values::Name;

/// A store that is kept connected, as the service does it.
struct Kept {
    runtime: Runtime,
    store: Store,
    task: JoinHandle<()>,
}

impl Kept {
    fn new(yaml: &str) -> Self {
        let outbound = Outbound::default();
        let config = serde_json::from_value(serde_json::json!({ "redis": serde_yaml(yaml) })).unwrap();
        let name: Name = "main".parse().unwrap();
        let (store, _) = outbound.store(&name, &config).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let task = runtime.spawn(store.keeping().keep());
        let kept = Self { runtime, store, task };
        kept.runtime.block_on(kept.store.keeping().settled());
        kept
    }

    fn calls(&self, outcome: &str) -> u64 {
        self.store.count().calls.iter().find(|(word, _)| *word == outcome).unwrap().1
    }

    fn ping(&self) -> Result<String, StoreFailure> {
        self.runtime.block_on(self.store.query(&cmd("PING")))
    }

    fn connects(&self) {
        wait_until("the store is connected", || self.store.is_connected());
    }
}

fn serde_yaml(yaml: &str) -> serde_json::Value {
    serde_saphyr::from_str(yaml).unwrap()
}

/// Patient: this machine may be busy.
fn at(redis: &Redis, more: &str) -> String {
    format!("{{ address: '{}', timeout: 10s, connect_timeout: 10s{more} }}", redis.address())
}

#[test]
fn commands_and_scripts_are_carried_out() {
    let redis = Redis::start();
    let kept = Kept::new(&at(&redis, ", prefix: here, database: 3"));
    let store = kept.store.clone();
    assert_eq!(store.key("limit", "a b"), "here:limit:a b");
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    kept.runtime.block_on(async {
        let mut call = script.prepare_invoke();
        call.key(store.key("n", 1)).arg(40);
        // The server does not know the script yet, then it does.
        assert_eq!(store.run::<i64>(&call).await, Ok(40));
        assert_eq!(store.run::<i64>(&call).await, Ok(80));
        let mut both = pipe();
        both.cmd("GET").arg(store.key("n", 1)).cmd("STRLEN").arg(store.key("n", 1));
        assert_eq!(store.query_all::<(i64, i64)>(&both).await, Ok((80, 2)));
        let refused = store.query::<i64>(cmd("LPOP").arg(store.key("n", 1))).await.unwrap_err();
        assert!(matches!(&refused, StoreFailure::Refused(why) if why.contains("WRONGTYPE")), "{refused}");
        // Many at once do not wait for each other, and get their own answers.
        let many = (0..500).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { (n, store.query::<u32>(cmd("ECHO").arg(n)).await) })
        });
        for answer in futures_util::future::join_all(many).await {
            let (n, answer) = answer.unwrap();
            assert_eq!(answer, Ok(n));
        }
    });
    redis.ask(&["SCRIPT", "FLUSH"]);
    let mut call = script.prepare_invoke();
    call.key(store.key("n", 1)).arg(1);
    assert_eq!(kept.runtime.block_on(store.run::<i64>(&call)), Ok(81), "what was forgotten is told again");
    assert_eq!((kept.calls("answered"), kept.calls("refused")), (504, 1));
    assert_eq!(redis.ask(&["INFO", "keyspace"]).lines().filter(|line| line.starts_with("db3:")).count(), 1);
}

#[test]
fn a_server_that_goes_is_missed_at_once_and_found_again() {
    let mut redis = Redis::start();
    let kept = Kept::new(&at(&redis, ""));
    assert_eq!(kept.ping().as_deref(), Ok("PONG"));
    redis.stop();
    wait_until("the loss is noticed", || !kept.store.is_connected());
    let began = Instant::now();
    for _ in 0..1000 {
        assert_eq!(kept.ping(), Err(StoreFailure::Down));
    }
    assert!(began.elapsed() < PATIENCE, "nothing waits for a deadline of 10 s");
    wait_until("it is looked for in vain", || kept.store.count().connect_failures > 0);
    redis.restart();
    kept.connects();
    assert_eq!(kept.ping().as_deref(), Ok("PONG"));
    assert_eq!(kept.calls("down"), 1000);
    assert_eq!(clients(&redis).len(), 1, "one connection, however many calls failed");
}

#[test]
fn a_server_that_hangs_costs_a_deadline_and_then_nothing() {
    let redis = Redis::start();
    let kept = Kept::new(&at(&redis, ""));
    let store = kept.store.within(Duration::from_millis(5));
    redis.pause();
    let call = || kept.runtime.block_on(store.query::<String>(&cmd("PING")));
    let mut outcomes = Vec::new();
    wait_until("it counts as lost", || {
        outcomes.push(call().unwrap_err());
        outcomes.last() == Some(&StoreFailure::Down)
    });
    assert!(outcomes.len() > 16, "a few slow answers are not yet a loss: {}", outcomes.len());
    assert!(outcomes[..16].iter().all(|one| *one == StoreFailure::Timeout(Duration::from_millis(5))));
    redis.resume();
    kept.connects();
    assert_eq!(kept.ping().as_deref(), Ok("PONG"));
}

#[test]
fn whoever_keeps_it_no_longer_leaves_it_unconnected() {
    let redis = Redis::start();
    let kept = Kept::new(&at(&redis, ""));
    assert!(kept.store.is_connected());
    kept.task.abort();
    wait_until("it is let go", || !kept.store.is_connected());
    wait_until("the connection is closed", || clients(&redis).is_empty());
}

#[test]
fn it_logs_in_and_is_turned_away_with_a_wrong_password() {
    let redis =
        Redis::with(&["--user", "gate", "on", ">hunter22", "~*", "+@all", "--user", "default", "off"]);
    let kept = Kept::new(&at(&redis, ", username: gate, password: hunter22"));
    assert_eq!(kept.ping().as_deref(), Ok("PONG"));
    let wrong = Kept::new(&at(&redis, ", username: gate, password: hunter23"));
    assert!(!wrong.store.is_connected());
    assert_eq!(wrong.ping(), Err(StoreFailure::Down));
}

#[test]
fn it_speaks_tls_to_the_server_that_it_means() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::within(folder.path());
    authority.issue(folder.path(), "redis", &["redis.internal"]);
    authority.issue(folder.path(), "gateway", &["gateway.internal"]);
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key, ca) = (file("redis.pem"), file("redis.key"), file("ca.pem"));
    let redis = Redis::with(&[
        "--port",
        "0",
        "--tls-port",
        "PORT",
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ]);
    let pair = format!("{{ certificate: '{}', key: '{}' }}", file("gateway.pem"), file("gateway.key"));
    let named = |name: &str| format!(", tls: {{ ca: '{ca}', server_name: {name}, client: {pair} }}");
    let kept = Kept::new(&at(&redis, &named("redis.internal")));
    assert_eq!(kept.ping().as_deref(), Ok("PONG"));
    let anonymous = format!(", tls: {{ ca: '{ca}', server_name: redis.internal }}");
    for tls in [named("other.internal"), anonymous, String::new()] {
        let wrong = Kept::new(&at(&redis, &tls).replace("connect_timeout: 10s", "connect_timeout: 3s"));
        assert_eq!(wrong.ping(), Err(StoreFailure::Down), "{tls}");
    }
}

#[test]
fn a_socket_will_do() {
    let redis = Redis::with(&["--unixsocket", "FOLDER/redis.sock"]);
    let path = redis.path("redis.sock");
    let kept =
        Kept::new(&format!("{{ address: 'unix:{}', timeout: 10s, connect_timeout: 10s }}", path.display()));
    assert_eq!(kept.ping().as_deref(), Ok("PONG"));
}

fn yaml(redis: &Redis, more: &str, rest: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         stores: {{ main: {{ redis: {{ address: '{}', connect_timeout: 10s{more} }} }} }}\n\
         routes: {{ all: {{ to: {{ echo: {{}} }} }} }}\n{rest}",
        redis.address()
    )
}

/// The number and the database of each connection but that of the question.
fn clients(redis: &Redis) -> Vec<(String, String)> {
    let list = redis.ask(&["CLIENT", "LIST"]);
    let others = list.lines().filter(|line| !line.contains("cmd=client"));
    let word = |line: &str, name: &str| {
        line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    others.map(|line| (word(line, "id="), word(line, "db="))).collect()
}

#[test]
fn a_gateway_is_connected_when_it_is_ready_and_a_reload_keeps_that() {
    let mut redis = Redis::start();
    let gateway = Gateway::start(&yaml(&redis, "", ""));
    assert_eq!(gateway.metric("tollgate_store_connected{store=\"main\"}"), 1.0);
    let first = clients(&redis);
    assert_eq!((first.len(), first[0].1.as_str()), (1, "0"));
    // A deadline and a prefix are no other connection.
    gateway.rewrite(&yaml(&redis, ", timeout: 20ms, prefix: other", ""));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(clients(&redis), first);
    // Another database is, and it is there when the reload is done.
    gateway.rewrite(&yaml(&redis, ", database: 5", ""));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(gateway.metric("tollgate_store_connected{store=\"main\"}"), 1.0);
    wait_until("the old one is closed", || {
        let now = clients(&redis);
        now.len() == 1 && now[0].1 == "5"
    });
    redis.stop();
    wait_until("the loss shows", || gateway.metric("tollgate_store_connected{store=\"main\"}") == 0.0);
    let failures = "tollgate_store_connect_failures_total{store=\"main\"}";
    wait_until("it is looked for in vain", || gateway.metric(failures) > 0.0);
    redis.restart();
    wait_until("it is back", || gateway.metric("tollgate_store_connected{store=\"main\"}") == 1.0);
}

#[test]
fn a_gateway_starts_without_its_store() {
    let mut redis = Redis::start();
    redis.stop();
    let gateway = Gateway::start(&yaml(&redis, "", ""));
    assert_eq!(gateway.metric("tollgate_store_connected{store=\"main\"}"), 0.0);
    redis.restart();
    wait_until("it is connected", || gateway.metric("tollgate_store_connected{store=\"main\"}") == 1.0);
}

#[test]
fn its_password_is_shown_to_nobody() {
    let redis = Redis::with(&["--requirepass", "hunter22"]);
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("password"), "hunter22\n").unwrap();
    let gateway = Gateway::start_in(folder, &yaml(&redis, ", password: { file: password }", ""));
    assert_eq!(gateway.metric("tollgate_store_connected{store=\"main\"}"), 1.0);
    gateway.rewrite(&yaml(&redis, ", password: hunter22", ""));
    assert_eq!(gateway.reload().status, 200);
    let shown = gateway.admin("GET", "/config", "authorization: Bearer secret\r\n").text();
    assert!(shown.contains("password: '***'") && !shown.contains("hunter22"), "{shown}");
}
