//! File descriptors that run out: what is kept for whom, and that nothing spins.

use crate::harness::{Client, Origin, Process, get, quiet_port, turned_away, wait_until};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct World {
    process: Process,
    web: SocketAddr,
    admin: SocketAddr,
    _origin: Origin,
    _folder: TempDir,
}

impl World {
    /// A gateway that may have `most` descriptors, if there is a bound.
    fn start(most: Option<u64>) -> Self {
        let folder = TempDir::new().unwrap();
        let origin = Origin::saying("in");
        let [web, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], quiet_port())));
        let path = config(folder.path(), web, admin, origin.address());
        let process = Process::run_limited(&path, admin.port(), most);
        Self { process, web, admin, _origin: origin, _folder: folder }
    }

    /// Over the connection of this client of the admin listener, which is there already.
    fn metric(client: &mut Client, series: &str) -> f64 {
        let text = client.get("admin", "/metrics", "").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The time on a processor that it has had.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        // utime and stime, in ticks of a hundredth of a second on Linux (proc_pid_stat(5)).
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn descriptors(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count() as u64
    }
}

fn config(folder: &Path, web: SocketAddr, admin: SocketAddr, origin: SocketAddr) -> PathBuf {
    let path = folder.join("gateway.yaml");
    let text = format!(
        "version: 1\nprocess: {{ workers: 1, upstream_connections: 8, overload: {{ descriptors: 100% }} }}\nadmin: {{ address: \"{admin}\" }}\n\
         telemetry: {{ access_log: off }}\nlisteners: {{ web: {{ address: \"{web}\" }} }}\n\
         upstreams: {{ origin: {{ endpoints: [\"{origin}\"] }} }}\n\
         routes: {{ all: {{ match: {{ path: /* }}, to: origin }} }}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// Clients get what is left: 2 listening sockets and as many accept tasks, 64 of the admin's, 64 others and 8 of
/// upstreams are kept.
#[test]
fn clients_cannot_take_the_descriptors_of_others() {
    let (limit, kept) = (180, 4 + 64 + 64 + 8);
    let world = World::start(Some(limit));
    let most = (limit - kept) as usize;
    let mut clients: Vec<Client> = Vec::new();
    let mut admin = Client::new(world.admin);
    let refused = "tollgate_connections_refused_total{listener=\"web\",cause=\"descriptors\"}";
    for _ in 0..most {
        let mut client = Client::new(world.web);
        assert_eq!(client.get("a", "/", "").status, 200);
        clients.push(client);
    }
    assert_eq!(World::metric(&mut admin, refused), 0.0);
    let before = (world.cpu(), Instant::now());
    let mut turned_away = Vec::new();
    for count in 1..=50 {
        turned_away.push(TcpStream::connect(world.web));
        wait_until("it is refused", || World::metric(&mut admin, refused) >= f64::from(count));
    }
    assert!(world.descriptors() < limit);
    // Whoever is in is served, by an upstream, and the admin listener takes further connections.
    for client in &mut clients {
        assert_eq!(client.get("a", "/", "").status, 200);
    }
    assert_eq!(world.process.admin("GET", "/readyz").status, 200);
    assert_eq!(World::metric(&mut admin, "tollgate_accept_errors_total{listener=\"web\"}"), 0.0);
    println!("50 refusals and {most} requests: {:?} of {:?}", world.cpu() - before.0, before.1.elapsed());
    drop(clients);
    wait_until("there is room again", || Client::new(world.web).get("a", "/", "").status == 200);
}

/// What matters least goes first, health checks never.
#[test]
fn an_overloaded_gateway_takes_on_what_matters() {
    let folder = TempDir::new().unwrap();
    let origin = Origin::saying("in");
    let [web, health, admin] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], quiet_port())));
    let path = folder.path().join("gateway.yaml");
    let write = |share: &str| {
        let text = format!(
            "version: 1\nprocess: {{ workers: 1, upstream_connections: 8, overload: {{ descriptors: {share}, delay: 0s }} }}\n\
             admin: {{ address: \"{admin}\", token: secret }}\ntelemetry: {{ access_log: off }}\n\
             listeners: {{ web: {{ address: \"{web}\" }}, health: {{ address: \"{health}\", limits: {{ spare: true }} }} }}\n\
             upstreams: {{ origin: {{ endpoints: [\"{}\"] }} }}\n\
             routes:\n  low: {{ match: {{ path: /low }}, to: origin, importance: low }}\n\
             \x20 plain: {{ match: {{ path: /plain }}, to: origin }}\n\
             \x20 high: {{ match: {{ path: /high }}, to: origin, importance: high }}\n\
             \x20 ok: {{ match: {{ path: /ok }}, to: {{ respond: {{ status: 204 }} }} }}\n",
            origin.address()
        );
        std::fs::write(&path, text).unwrap();
    };
    write("60%");
    // As above, with one more listener of two sockets: there is room for 38 clients.
    let process = Process::run_limited(&path, admin.port(), Some(180));
    let mut scrape = Client::new(admin);
    let mut level = || World::metric(&mut scrape, "tollgate_overload_level");
    let mut client = Client::new(web);
    let mut ask = move || ["/low", "/plain", "/high", "/ok"].map(|path| client.get("a", path, "").status);
    let mut others: Vec<Client> = (0..21).map(|_| Client::new(web)).collect();
    for other in &mut others {
        assert_eq!(other.get("a", "/low", "").status, 200, "as long as all is well");
    }
    assert_eq!((level(), ask()), (0.0, [200, 200, 200, 204]));

    others.extend((0..3).map(|_| Client::new(web)));
    wait_until("there are too many", || level() == 1.0);
    assert_eq!(ask(), [503, 200, 200, 204]);
    let refused = others[0].get("a", "/low", "");
    assert_eq!((refused.code().as_str(), refused.field("retry-after")), ("overloaded", Some("1")));
    assert!(turned_away(web), "no new connections");
    assert_eq!(
        (get(health, "/low").status, get(health, "/ok").status),
        (200, 204),
        "health checks are spared"
    );
    assert_eq!(process.admin("GET", "/readyz").status, 200);
    let series = "tollgate_connections_refused_total{listener=\"web\",cause=\"overload\"}";
    assert!(World::metric(&mut Client::new(admin), series) >= 1.0);

    write("10%");
    assert_eq!(process.admin("POST", "/reload").status, 200);
    wait_until("there are far too many", || level() == 2.0);
    assert_eq!(ask(), [503, 503, 200, 204]);

    drop(others);
    wait_until("it is over", || level() == 0.0);
    assert_eq!(ask(), [200, 200, 200, 204]);
    assert_eq!(get(web, "/low").status, 200, "new connections too");
}

/// Without a descriptor the connection stays in the queue, and asking again at once would spin.
#[test]
fn accepting_rests_while_there_is_no_descriptor() {
    let world = World::start(None);
    let mut admin = Client::new(world.admin);
    assert_eq!(admin.get("admin", "/readyz", "").status, 200);
    let mut inside = Client::new(world.web);
    assert_eq!(inside.get("a", "/", "").status, 200);
    let pid = Pid::from_raw(world.process.id() as i32).unwrap();
    let own = getrlimit(Resource::Nofile);
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(3), ..own }).unwrap();
    let waiting: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(world.web).unwrap()).collect();
    let errors = "tollgate_accept_errors_total{listener=\"web\"}";
    wait_until("there is none", || World::metric(&mut admin, errors) >= 1.0);

    let (cpu, began, count) = (world.cpu(), Instant::now(), World::metric(&mut admin, errors));
    wait_until("it has asked again", || {
        std::thread::park_timeout(Duration::from_millis(50));
        World::metric(&mut admin, errors) >= count + 10.0
    });
    let (cpu, wall) = (world.cpu() - cpu, began.elapsed());
    println!("ten attempts: {cpu:?} of {wall:?}");
    assert!(cpu < wall / 2, "it spins: {cpu:?} of {wall:?}");
    assert_eq!(inside.get("a", "/", "").status, 200, "who is in is served");

    prlimit(Some(pid), Resource::Nofile, own).unwrap();
    assert_eq!(get(world.web, "/").status, 200, "it goes on by itself");
    drop(waiting);
}
