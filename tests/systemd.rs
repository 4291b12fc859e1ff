//! The real binary under a supervisor that is played by the test: what it is told, and the sockets that
//! it gives.

use crate::harness::{PATIENCE, Process, binary, get, quiet_port, send, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;
use tollgate::background::handover;

/// The supervisor's end of `NOTIFY_SOCKET`.
struct Supervisor {
    socket: UnixDatagram,
    name: String,
}

/// One message, by variable.
type Told = HashMap<String, String>;

impl Supervisor {
    fn at_path(folder: &Path) -> Self {
        let path = folder.join("notify.sock");
        Self::new(UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned())
    }

    fn abstract_() -> Self {
        let name = format!("tollgate-test-{}-{}", std::process::id(), quiet_port());
        let socket = UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
        Self::new(socket, format!("@{name}"))
    }

    fn new(socket: UnixDatagram, name: String) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, name }
    }

    fn hear(&self) -> Told {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("the supervisor is told nothing");
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        text.lines().map(|line| line.split_once('=').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
    }

    /// The next message, which has this line.
    fn hears(&self, line: &str) -> Told {
        let told = self.hear();
        let (name, value) = line.split_once('=').unwrap();
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{told:?}");
        told
    }
}

fn config(folder: &Path, web: SocketAddr, admin: SocketAddr, more: &str) -> PathBuf {
    let path = folder.join("gateway.yaml");
    std::fs::write(
        &path,
        format!(
            "version: 1\nprocess: {{ workers: 1, control: control.sock{more} }}\n\
             admin: {{ address: \"{admin}\", token: secret }}\ntelemetry: {{ access_log: off }}\n\
             listeners: {{ web: {{ address: \"{web}\" }} }}\n\
             routes: {{ all: {{ match: {{ path: /* }}, to: {{ respond: {{ status: 204 }} }} }} }}\n"
        ),
    )
    .unwrap();
    path
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], quiet_port()))
}

/// Now, by the clock that systemd compares with, in microseconds.
fn monotonic() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u128 * 1_000_000 + now.tv_nsec as u128 / 1000
}

fn tells_how_it_goes(supervisor: &Supervisor, folder: &Path) {
    let (web, admin) = (loopback(), loopback());
    let path = config(folder, web, admin, ", drain: 7s");
    let log = File::create(folder.join("errors.log")).unwrap();
    let mut command = binary();
    command.args(["run", "-c"]).arg(&path).env("NOTIFY_SOCKET", &supervisor.name);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut process = Started(command.spawn().unwrap());

    let told = supervisor.hears("READY=1");
    assert!(!told["STATUS"].is_empty());
    assert_eq!(get(web, "/").status, 204, "it said that it is ready");

    let before = monotonic();
    process.signal(Signal::SIGHUP);
    let told = supervisor.hears("RELOADING=1");
    let at: u128 = told["MONOTONIC_USEC"].parse().unwrap();
    assert!((before..=monotonic()).contains(&at), "{before} {at}");
    let told = supervisor.hears("READY=1");
    assert_eq!(told["STATUS"], "serving");
    // The changed file is noticed without a signal.
    std::fs::write(&path, "routes: [\n").unwrap();
    supervisor.hears("RELOADING=1");
    let told = supervisor.hears("READY=1");
    assert!(told["STATUS"].contains("rejected"), "{told:?}");
    process.signal(Signal::SIGHUP);
    process.signal(Signal::SIGTERM);
    let told = loop {
        let told = supervisor.hear();
        if told.contains_key("STOPPING") {
            break told;
        }
    };
    let longest: u64 = told["EXTEND_TIMEOUT_USEC"].parse().unwrap();
    assert!(longest >= 7_000_000, "{told:?}");
    assert!(process.0.wait().unwrap().success());
}

#[test]
fn a_supervisor_is_told_how_it_goes() {
    let folder = TempDir::new().unwrap();
    tells_how_it_goes(&Supervisor::at_path(folder.path()), folder.path());
    tells_how_it_goes(&Supervisor::abstract_(), folder.path());
}

#[test]
fn a_socket_that_is_none_is_an_error() {
    let folder = TempDir::new().unwrap();
    let path = config(folder.path(), loopback(), loopback(), "");
    let output = binary().args(["run", "-c"]).arg(path).env("NOTIFY_SOCKET", "nowhere").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("NOTIFY_SOCKET=nowhere"), "{said}");
}

#[test]
fn the_next_process_is_the_one_to_watch() {
    let folder = TempDir::new().unwrap();
    let supervisor = Supervisor::at_path(folder.path());
    let (web, admin) = (loopback(), loopback());
    let path = config(folder.path(), web, admin, "");
    // As systemd would: the watchdog is for the first process until another one is told of.
    let mut process = Started(
        Command::new("sh")
            .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""])
            .args([env!("CARGO_BIN_EXE_tollgate"), "run", "-c"])
            .arg(&path)
            .env("NOTIFY_SOCKET", &supervisor.name)
            .env("WATCHDOG_USEC", "200000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let beats = |wanted: &str| {
        loop {
            let told = supervisor.hear();
            if let Some(value) = told.get(wanted) {
                return value.clone();
            }
            assert!(told.contains_key("WATCHDOG"), "{told:?} before {wanted}");
        }
    };
    beats("READY");
    supervisor.hears("WATCHDOG=1");
    supervisor.hears("WATCHDOG=1");

    // What does not come to be takes nothing over, and says nothing.
    let wrong = folder.path().join("wrong.yaml");
    std::fs::write(&wrong, "version: 1\nlisteners: { web: {} }\n").unwrap();
    let control = folder.path().join("control.sock");
    let output =
        binary().args(["upgrade", "--control"]).arg(&control).arg("-c").arg(&wrong).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    supervisor.hears("WATCHDOG=1");

    let output = binary().args(["upgrade", "-c"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let next = handover::serves(&control).unwrap();
    let _next = Other(next);
    // The order of the two is not known: they are said by two processes.
    let mut seen = HashMap::new();
    while !(seen.contains_key("MAINPID") && seen.contains_key("READY")) {
        seen.extend(supervisor.hear());
        assert!(!seen.contains_key("STOPPING"), "the service does not end: {seen:?}");
    }
    assert_eq!(seen["MAINPID"], next.to_string());
    assert!(process.0.wait().unwrap().success());
    // The first one has gone, the next one goes on.
    for _ in 0..3 {
        supervisor.hears("WATCHDOG=1");
    }
    kill(Pid::from_raw(next as i32), Signal::SIGTERM).unwrap();
    beats("STOPPING");
}

/// Starts the binary with sockets as descriptors 3 and 4, as systemd would.
fn with_sockets(config: &Path, sockets: [OwnedFd; 2], names: &str) -> Command {
    let mut command = Command::new("sh");
    let script = "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 4<&1 0</dev/null 1>/dev/null";
    command.args(["-c", script]).args([env!("CARGO_BIN_EXE_tollgate"), "run", "-c"]).arg(config);
    command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names).env_remove("RUST_LOG");
    let [first, second] = sockets;
    command.stdin(first).stdout(second);
    command
}

fn bound() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn sockets_of_the_supervisor_are_used() {
    let folder = TempDir::new().unwrap();
    let ((web, web_at), (admin, admin_at)) = (bound(), bound());
    // The listener's port is whichever it is: the name finds it. The admin's is found by its address.
    let path = config(folder.path(), SocketAddr::from(([127, 0, 0, 1], 0)), admin_at, "");
    // Waits in the socket's queue before there is a process.
    let early = std::thread::spawn(move || get(web_at, "/").status);
    let mut command = with_sockets(&path, [web.into(), admin.into()], "web:whatever");
    let mut process = Started(command.spawn().unwrap());
    // Here alone is the socket from now on.
    drop(command);
    assert_eq!(early.join().unwrap(), 204);
    let ready = || send(admin_at, "GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").status;
    wait_until("it is ready", || ready() == 200);

    // They go over in an upgrade, and the variables do not.
    let output = binary().args(["upgrade", "-c"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let next = Other(handover::serves(&folder.path().join("control.sock")).unwrap());
    let environment = std::fs::read(format!("/proc/{}/environ", next.0)).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("PATH=") && !environment.contains("LISTEN_"), "{environment}");
    assert!(process.0.wait().unwrap().success());
    assert_eq!(get(web_at, "/").status, 204);
}

#[test]
fn sockets_that_fit_nothing_are_refused() {
    let folder = TempDir::new().unwrap();
    let admin = bound();
    let refused = |first: OwnedFd, web: SocketAddr, why: &str| {
        let path = config(folder.path(), web, admin.1, "");
        let second = admin.0.try_clone().unwrap().into();
        let output: Output =
            with_sockets(&path, [first, second], "web").stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why), "{why}: {said}");
    };
    let (stray, at) = bound();
    refused(stray.into(), loopback(), &at.to_string());
    refused(File::open("/dev/null").unwrap().into(), loopback(), "socket 3 (`web`)");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let web = udp.local_addr().unwrap();
    refused(udp.into(), web, "no TCP socket that listens");
    let unix = std::os::unix::net::UnixListener::bind(folder.path().join("unix.sock")).unwrap();
    refused(unix.into(), loopback(), "no TCP socket that listens");
    let (_listening, to) = bound();
    let connected = std::net::TcpStream::connect(to).unwrap();
    let web = connected.local_addr().unwrap();
    refused(connected.into(), web, "no TCP socket that listens");
}

#[test]
fn an_environment_for_another_process_is_not_ours() {
    let folder = TempDir::new().unwrap();
    let (web, admin) = (loopback(), loopback());
    let path = config(folder.path(), web, admin, "");
    let process = Process::run(&path, admin.port(), &[("LISTEN_FDS", "3"), ("LISTEN_PID", "1")]);
    assert_eq!(get(web, "/").status, 204);
    drop(process);
}

/// With the binary that was built, since systemd looks for it.
#[test]
fn the_unit_is_one() {
    let folder = TempDir::new().unwrap();
    let unit =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/tollgate.service"));
    let unit = unit.unwrap().replace("/usr/local/bin/tollgate", env!("CARGO_BIN_EXE_tollgate"));
    assert!(unit.contains("\nType=notify\n"));
    let verify = |unit: &str| {
        let path = folder.path().join("tollgate.service");
        std::fs::write(&path, unit).unwrap();
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
        let output = output.expect("systemd-analyze is installed (packaging/install-deps.sh test)");
        // What is unknown is told, and no failure.
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            if output.status.success() { "" } else { "failed" }
        )
    };
    assert_eq!(verify(&unit), "");
    assert_ne!(verify(&unit.replace("KillMode=", "KilMode=")), "", "a mistake would be told");
}

/// A process of the test's, killed when it is dropped.
struct Started(Child);

impl Started {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that is nobody's child here.
struct Other(u32);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0 as i32), Signal::SIGKILL);
    }
}
