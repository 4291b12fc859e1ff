//! A gateway whose only worker cannot keep up, in a process of its own.

use crate::harness::{Client, Origin, Process, get, quiet_port, turned_away, wait_until};
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// Programs that each want the whole of one core, ended with this. They leave the worker a turn in forty.
struct Crowd(Vec<Child>);

impl Crowd {
    fn on(core: &str) -> Self {
        let one = || {
            let busy = ["-c", core, "sh", "-c", "while :; do :; done"];
            Command::new("taskset").args(busy).stdin(Stdio::null()).spawn().unwrap()
        };
        Self((0..40).map(|_| one()).collect())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Says that it is over, also where a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The threads that serve, by their number.
fn workers(process: &Process) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let tasks = tasks.map(|task| task.unwrap().path());
    let serves = |task: &std::path::PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "public")
    };
    tasks.filter(serves).map(|task| task.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The cores that this process may use, as `taskset` has them.
fn cores() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    line.trim().to_owned()
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).stdout(Stdio::null()).status().unwrap();
    assert!(done.success(), "{program} {arguments:?}");
}

/// The level, and how long the worker takes to come to a new task, in seconds.
fn pressure(process: &Process) -> (f64, f64) {
    let text = process.admin("GET", "/metrics").text();
    let metric = |name: &str| -> f64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    };
    (metric("tollgate_overload_level"), metric("tollgate_worker_delay_seconds"))
}

#[test]
fn a_worker_that_cannot_keep_up_takes_on_what_matters() {
    let origin = Origin::saying("in");
    let folder = TempDir::new().unwrap();
    let (web, health, admin) = (quiet_port(), quiet_port(), quiet_port());
    let path = folder.path().join("gateway.yaml");
    let config = format!(
        "version: 1
process: {{ workers: 1, overload: {{ delay: 5ms }} }}
admin: {{ address: '127.0.0.1:{admin}', token: secret }}
telemetry: {{ access_log: off }}
listeners:
  web: {{ address: '127.0.0.1:{web}', limits: {{ requests: 1000000 }} }}
  health: {{ address: '127.0.0.1:{health}', limits: {{ spare: true }} }}
upstreams: {{ origin: {{ endpoints: ['{}'] }} }}
routes:
  high: {{ match: {{ path: /high }}, importance: high, to: origin }}
  low: {{ match: {{ path: /low }}, importance: low, to: origin }}
  healthz: {{ match: {{ path: /healthz }}, to: {{ respond: {{ status: 204 }} }} }}
",
        origin.address()
    );
    fs::write(&path, config).unwrap();
    let process = Process::run(&path, admin, &[]);
    let (web, health) = (SocketAddr::from(([127, 0, 0, 1], web)), SocketAddr::from(([127, 0, 0, 1], health)));
    let mut low = Client::new(web);
    wait_until("it is calm", || low.get("a", "/low", "").status == 200);
    let workers = workers(&process);
    assert!(!workers.is_empty());
    let (cores, done) = (cores(), AtomicBool::new(false));
    let one = cores.split([',', '-']).next().unwrap();
    std::thread::scope(|scope| {
        let _over = Over(&done);
        // All are connected before it is too much, and keep it busy all the time.
        let clients: Vec<Client> = (0..8).map(|_| Client::new(web)).collect();
        for mut client in clients {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(client.get("a", "/high", "").status, 200, "what matters is answered, if late");
                }
            });
        }
        let crowd = Crowd::on(one);
        for worker in &workers {
            run("taskset", &["-p", "-c", one, worker]);
        }
        // One quick answer among ten is enough for it to be calm again, so that each is waited for by itself.
        wait_until("it says so", || {
            let (level, delay) = pressure(&process);
            level >= 1.0 && delay >= 0.005
        });
        wait_until("what matters less is refused", || {
            let answer = low.get("a", "/low", "");
            answer.status == 503 && answer.code() == "overloaded"
        });
        wait_until("new connections are refused", || turned_away(web));
        assert_eq!(get(health, "/healthz").status, 204, "the balancer gets in");
        for worker in &workers {
            run("taskset", &["-p", "-c", &cores, worker]);
        }
        drop(crowd);
    });
    wait_until("it is calm again", || pressure(&process).0 == 0.0);
    assert_eq!(get(web, "/low").status, 200);
}
