//! How many requests may come in a period, over real sockets, and with real processes that are killed.

use crate::harness::{Client, Gateway, Origin, Process, quiet_port, wait_until};
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CALLERS: &str = "
consumers:
  acme: { plan: gold, credentials: [{ api_key: { key: key-of-acme-0123456789 } }] }
  solo: { plan: free, credentials: [{ api_key: { key: key-of-solo-0123456789 } }] }
";
const ACME: &str = "x-api-key: key-of-acme-0123456789\r\n";
const SOLO: &str = "x-api-key: key-of-solo-0123456789\r\n";
const KEY: &str = "authenticate: { any_of: [{ api_key: { header: x-api-key } }] }";

fn config(origin: &Origin, sections: &str) -> String {
    format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n{CALLERS}{sections}",
        origin.address()
    )
}

fn by_plan(plans: &str) -> String {
    let quota = "quota: { name: plan, key: consumer, plan: true, fields: always }";
    format!("plans: {plans}\nroutes: {{ all: {{ policies: {{ {KEY}, {quota} }}, to: origin }} }}\n")
}

fn statuses(client: &mut Client, fields: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| client.get("a", "/", fields).status).collect()
}

fn seconds_to_the_end_of_the_month() -> u64 {
    let now = jiff::Timestamp::now();
    let first = jiff::tz::TimeZone::UTC.to_datetime(now).date().last_of_month().tomorrow().unwrap();
    let end = jiff::tz::TimeZone::UTC.to_timestamp(first.at(0, 0, 0, 0)).unwrap();
    (end.as_second() - now.as_second()).try_into().unwrap()
}

/// What an operator reads of a caller.
fn used(gateway: &Gateway, of: &str) -> u64 {
    let answer = gateway.admin("GET", &format!("/quotas?for={of}"), "authorization: Bearer secret\r\n");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["quotas"][0]["used"].as_u64().unwrap_or_default()
}

#[test]
fn a_quota_by_plan_is_used_up_and_says_so() {
    let origin = Origin::saying("in");
    let plans = "{ gold: { quota: 3/month }, free: { quota: 1/day } }";
    let gateway = Gateway::start(&config(&origin, &by_plan(plans)));
    let mut client = Client::new(gateway.web());
    let first = client.get("a", "/", ACME);
    assert_eq!(first.status, 200);
    let left = first.field("ratelimit").unwrap().to_owned();
    assert!(left.starts_with("\"plan\";r=2;t="), "{left}");
    assert_eq!(statuses(&mut client, ACME, 3), [200, 200, 429]);
    let answer = client.get("a", "/", ACME);
    assert_eq!((answer.status, answer.code().as_str()), (429, "quota_exceeded"));
    assert!(!answer.closes());
    let told: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    let right = seconds_to_the_end_of_the_month();
    assert!(told.abs_diff(right) <= 1, "{told}, and {right} is right");
    assert!(answer.field("ratelimit").unwrap().starts_with(&format!("\"plan\";r=0;t={told}")));
    assert_eq!(statuses(&mut client, SOLO, 2), [200, 429]);
    assert_eq!(origin.received().len(), 4);
    assert_eq!((used(&gateway, "acme"), used(&gateway, "solo")), (3, 1));
    let closed = gateway.admin("GET", "/quotas", "");
    assert_eq!(closed.status, 401, "who calls is nobody else's business");
    assert_eq!(gateway.metric("tollgate_quota_keys"), 2.0);
    // Another number keeps what is used, and so does another plan with the same period.
    gateway.rewrite(&config(&origin, &by_plan("{ gold: { quota: 5/month }, free: { quota: 1/day } }")));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(statuses(&mut client, ACME, 3), [200, 200, 429]);
    // Another period counts by itself, and takes nothing away from the one before.
    for (quota, expected) in [("2/day", [200, 200, 429]), ("6/month", [200, 429, 429])] {
        let plans = format!("{{ gold: {{ quota: {quota} }}, free: {{ quota: 1/day }} }}");
        gateway.rewrite(&config(&origin, &by_plan(&plans)));
        assert_eq!(gateway.reload().status, 200);
        assert_eq!(statuses(&mut client, ACME, 3), expected, "{quota}");
    }
}

#[test]
fn whoever_is_refused_by_one_limit_uses_nothing_of_another() {
    let origin = Origin::saying("in");
    let policies = format!(
        "plans: {{ gold: {{}}, free: {{}} }}
routes:
  all:
    policies:
      {KEY}
      rate_limit: {{ name: pace, key: consumer, rate: 4/h, fields: always }}
      quota: [{{ max: 2/month, fields: always }}, {{ name: all, key: route, max: 100/month, fields: always }}]
      concurrency: {{ max: 50 }}
    to: origin
"
    );
    let gateway = Gateway::start(&config(&origin, &policies));
    let mut client = Client::new(gateway.web());
    assert_eq!(statuses(&mut client, ACME, 9), [200, 200, 429, 429, 429, 429, 429, 429, 429]);
    let answer = client.get("a", "/", ACME);
    assert_eq!(answer.code(), "quota_exceeded", "the rate has two left, as two have passed");
    let told = answer.fields("ratelimit").join(", ");
    assert!(
        told.contains("\"pace\";r=2") && told.contains("\"consumer\";r=0") && told.contains("\"all\";r=98"),
        "{told}"
    );
}

#[test]
fn what_is_in_flight_refuses_at_no_cost() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = parking_lot::Mutex::new(gone);
    let origin = Origin::start(move |asked, stream| {
        use std::io::Write as _;
        if asked.target() == "/hold" {
            let _ = gone.lock().recv();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let policies = "
plans: { gold: {}, free: {} }
routes:
  all:
    policies:
      rate_limit: { name: pace, rate: 50/h, fields: always }
      quota: { name: day, key: client_ip, max: 50/day, fields: always }
      concurrency: { max: 1 }
    to: origin
";
    let gateway = Gateway::start(&config(&origin, policies));
    let mut holding = Client::new(gateway.web());
    holding.write("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("it is in flight", || gateway.metric("tollgate_concurrency_in_flight") == 1.0);
    let mut client = Client::new(gateway.web());
    for _ in 0..5 {
        let answer = client.get("a", "/", "");
        assert_eq!(answer.code(), "too_many_in_flight");
        let told = answer.fields("ratelimit").join(", ");
        assert!(
            told.contains("\"pace\";r=49"),
            "{told}: the one in flight has cost one, those refused nothing"
        );
    }
    assert_eq!(used(&gateway, "127.0.0.1"), 1);
    go.send(()).unwrap();
    assert_eq!(holding.read(false).status, 200);
    wait_until("nothing is in flight", || gateway.metric("tollgate_concurrency_in_flight") == 0.0);
    let told = client.get("a", "/", "").fields("ratelimit").join(", ");
    assert!(told.contains("\"pace\";r=48") && told.contains("\"day\";r=48"), "{told}");
}

#[test]
fn an_answer_says_what_it_cost() {
    let origin = Origin::start(|asked, stream| {
        use std::io::Write as _;
        let cost = asked.target().trim_start_matches('/');
        let text = format!("HTTP/1.1 200 OK\r\nx-cost: {cost}\r\ncontent-length: 2\r\n\r\nok");
        stream.write_all(text.as_bytes()).is_ok()
    });
    let quota = "quota: { key: client_ip, max: 100/month, cost: { answer: x-cost } }";
    let policies = format!(
        "plans: {{ gold: {{}}, free: {{}} }}\nroutes: {{ all: {{ policies: {{ {quota} }}, to: origin }} }}\n"
    );
    let gateway = Gateway::start(&config(&origin, &policies));
    let mut client = Client::new(gateway.web());
    for (cost, sum) in [("30", 30), ("0", 30), ("none", 31), ("60", 91), ("500", 191)] {
        assert_eq!(client.get("a", &format!("/{cost}"), "").status, 200);
        assert_eq!(used(&gateway, "127.0.0.1"), sum, "after {cost}");
    }
    assert_eq!(client.get("a", "/1", "").status, 429, "in debt");
}

/// A configuration of its own for a process: its path, the ports of clients and of the admin listener.
fn process(folder: &Path, origin: &Origin, more: &str) -> (std::path::PathBuf, u16, u16) {
    let (web, admin) = (quiet_port(), quiet_port());
    let path = folder.join("gateway.yaml");
    let text = format!(
        "version: 1\nprocess: {{ workers: 2{more} }}\nadmin: {{ address: '127.0.0.1:{admin}', token: secret }}\n\
         telemetry: {{ access_log: off }}\nlisteners: {{ web: {{ address: '127.0.0.1:{web}' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ policies: {{ quota: {{ key: client_ip, max: 1000000/month }} }}, to: origin }} }}\n",
        origin.address()
    );
    std::fs::write(&path, text).unwrap();
    (path, web, admin)
}

fn used_of(process: &Process) -> u64 {
    process.admin("GET", "/quotas").json()["quotas"][0]["used"].as_u64().unwrap_or_default()
}

#[test]
fn a_restart_forgets_nothing() {
    let (folder, origin) = (TempDir::new().unwrap(), Origin::saying("in"));
    let (path, web, admin) = process(folder.path(), &origin, "");
    for round in 1..=2 {
        let mut process = Process::run(&path, admin, &[]);
        let mut client = Client::new(([127, 0, 0, 1], web).into());
        assert_eq!(statuses(&mut client, "", 20), [200; 20]);
        client.close();
        assert_eq!(used_of(&process), 20 * round);
        process.signal(Signal::SIGTERM);
        assert!(process.wait().success());
    }
}

#[test]
fn a_process_that_is_killed_loses_at_most_the_last_second() {
    let (folder, origin) = (TempDir::new().unwrap(), Origin::saying("in"));
    let (path, web, admin) = process(folder.path(), &origin, "");
    let mut killed = Process::run(&path, admin, &[]);
    let mut client = Client::new(([127, 0, 0, 1], web).into());
    // Each answer with its time, for longer than a second.
    let mut answered: Vec<Instant> = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(client.get("a", "/", "").status, 200);
        answered.push(Instant::now());
    }
    killed.signal(Signal::SIGKILL);
    let end = Instant::now();
    killed.wait();
    let older = answered.iter().filter(|at| end - **at > Duration::from_secs(1)).count() as u64;
    assert!(older > 0);
    let again = Process::run(&path, admin, &[]);
    let known = used_of(&again);
    assert!(known >= older, "{known} are known, and {older} are older than a second");
    assert!(known <= answered.len() as u64 + 1);
}

#[test]
fn a_folder_that_takes_nothing_stops_nobody() {
    let (folder, origin) = (TempDir::new().unwrap(), Origin::saying("in"));
    // No folder, for nobody: root may write in any folder that is one.
    std::fs::write(folder.path().join("blocked"), "").unwrap();
    let (path, web, admin) = process(folder.path(), &origin, ", state: blocked/state");
    let process = Process::run(&path, admin, &[]);
    let mut client = Client::new(([127, 0, 0, 1], web).into());
    assert_eq!(statuses(&mut client, "", 5), [200; 5]);
    wait_until("the log says so", || {
        let log = std::fs::read_to_string(folder.path().join("errors.log")).unwrap();
        log.contains("quotas") && log.contains("blocked/state")
    });
    assert_eq!(used_of(&process), 5);
    let failures = process.admin("GET", "/metrics").text();
    assert!(
        failures
            .lines()
            .any(|line| line.starts_with("tollgate_quota_save_failures_total ") && !line.ends_with(" 0"))
    );
}

#[test]
fn a_file_that_is_not_whole_is_put_aside_and_said() {
    let (folder, origin) = (TempDir::new().unwrap(), Origin::saying("in"));
    let (path, web, admin) = process(folder.path(), &origin, "");
    std::fs::create_dir(folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("state/quotas"), "{\"quotas\":1,\"at\":1}\n{\"key\":").unwrap();
    let process = Process::run(&path, admin, &[]);
    assert_eq!(statuses(&mut Client::new(([127, 0, 0, 1], web).into()), "", 3), [200; 3]);
    assert_eq!(used_of(&process), 3);
    assert!(folder.path().join("state/quotas.corrupt").exists());
    let log = std::fs::read_to_string(folder.path().join("errors.log")).unwrap();
    assert!(log.contains("is not whole") && log.contains("quotas.corrupt"), "{log}");
    wait_until("it is written anew", || folder.path().join("state/quotas").exists());
}
