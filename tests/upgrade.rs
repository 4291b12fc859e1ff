//! The real binary hands over to the real binary, and every way in which that can fail.

pub mod load;
mod partner;
mod state;

use crate::harness::{Authority, Client, Process, binary, get, quiet_port, send, wait_until};
use load::{Load, Origin};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use partner::Partner;
use serde_json::json;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tollgate::background::handover;

/// A gateway that was started as a process, and all that came after it.
struct Fleet {
    folder: TempDir,
    /// The one that was started first.
    first: Process,
    web: SocketAddr,
    tls: SocketAddr,
    admin: SocketAddr,
    authority: Authority,
    origin: Origin,
}

impl Fleet {
    fn start(process: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let origin = Origin::start();
        let authority = Authority::within(folder.path());
        let certificate = authority.issue(folder.path(), "api", &["localhost"]);
        let [web, tls, admin] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], quiet_port())));
        let text = format!(
            "version: 1\n\
             process: {{ workers: 2, control: run/control.sock, {process} }}\n\
             admin: {{ address: \"{admin}\", token: secret }}\n\
             telemetry: {{ access_log: off }}\n\
             listeners:\n  web: {{ address: \"{web}\", h2c: true }}\n  \
               tls: {{ address: \"{tls}\", tls: {{ certificates: [{certificate}] }} }}\n\
             upstreams: {{ origin: {{ endpoints: [\"{}\"], timeouts: {{ read: 60s }} }} }}\n\
             routes: {{ all: {{ match: {{ path: /* }}, to: origin }} }}\n",
            origin.address()
        );
        std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
        let first = Process::run(&folder.path().join("gateway.yaml"), admin.port(), &[]);
        Self { folder, first, web, tls, admin, authority, origin }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("run/control.sock")
    }

    /// The process that serves now.
    fn serving(&self) -> u32 {
        handover::serves(&self.control()).expect("nobody serves")
    }

    fn upgrade(&self, more: &[&str]) -> Output {
        let mut command = binary();
        command.arg("upgrade").arg("-c").arg(self.config()).args(more).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// An executable of these lines of shell.
    fn script(&self, lines: &str) -> String {
        let path = self.folder.path().join("other-binary");
        std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(pid) = handover::serves(&self.control()) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}

/// True once a process has ended, whether anybody asked how or not.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])))
}

#[test]
fn ten_upgrades_cost_no_client_anything() {
    let fleet = Fleet::start("drain: 30s");
    let load = Load::start(fleet.web, fleet.tls, &fleet.authority);
    let mut serving = fleet.serving();
    for round in 0..10 {
        let mut socket = load::WebSocket::open(fleet.web);
        let download = load::Download::begin(fleet.web);
        let output = fleet.upgrade(&[]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "round {round}: {said}{}", String::from_utf8_lossy(&output.stderr));
        let next = fleet.serving();
        assert_ne!(next, serving, "round {round}");
        assert!(said.contains(&format!("process {next} serves")), "{said}");
        assert!(socket.echoes("after the upgrade"), "round {round}: the socket was cut");
        download.finish();
        drop(socket);
        let gone = serving;
        wait_until("the process before has drained", || is_gone(gone));
        let ready = send(fleet.admin, "GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        assert_eq!(ready.status, 200, "round {round}");
        serving = next;
    }
    load.stop();
    kill(Pid::from_raw(serving as i32), Signal::SIGTERM).unwrap();
    wait_until("the last one ends", || is_gone(serving));
    assert!(!fleet.control().exists(), "the control socket is left behind");
}

#[test]
fn a_new_process_may_have_another_configuration() {
    let fleet = Fleet::start("drain: 10s");
    let (more, before) = (quiet_port(), fleet.serving());
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let text =
        text.replace("listeners:\n", &format!("listeners:\n  more: {{ address: \"127.0.0.1:{more}\" }}\n"));
    let text = text.replace(
        &format!("  web: {{ address: \"{}\"", fleet.web),
        &format!("  door: {{ address: \"{}\"", fleet.web),
    );
    let other = fleet.folder.path().join("other.yaml");
    std::fs::write(&other, text).unwrap();
    let mut idle = Client::new(fleet.web);
    assert_eq!(idle.get("localhost", "/", "").status, 200);
    let output = binary().arg("upgrade").arg("-c").arg(&other).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], more)), "/").status, 200);
    assert_eq!(get(fleet.web, "/").status, 200);
    assert!(idle.is_closed());
    wait_until("the process before has drained", || is_gone(before));
}

/// Each failure leaves the process that serves as it was, and no client the worse for it.
#[test]
fn what_fails_changes_nothing() {
    let fleet = Fleet::start("upgrade_time: 1s");
    let load = Load::start(fleet.web, fleet.tls, &fleet.authority);
    let serving = fleet.serving();
    let wrong = fleet.folder.path().join("wrong.yaml");
    std::fs::write(
        &wrong,
        "version: 1\nprocess: { control: run/control.sock }\nroutes: { a: { to: nobody } }\n",
    )
    .unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let conflict = fleet.folder.path().join("conflict.yaml");
    let address = taken.local_addr().unwrap();
    std::fs::write(
        &conflict,
        text.replace("listeners:\n", &format!("listeners:\n  more: {{ address: \"{address}\" }}\n")),
    )
    .unwrap();

    let run = |config: &Path, more: &[&str]| {
        binary().arg("upgrade").arg("-c").arg(config).args(more).output().unwrap()
    };
    let false_binary = fleet.script("exit 3");
    let fails = [
        ("a configuration that does not compile", run(&wrong, &[]), "unknown upstream"),
        ("an address in use", run(&conflict, &[]), "the new process ended"),
        ("a binary that ends", run(&fleet.config(), &["--binary", &false_binary]), "exit status: 3"),
        ("a binary that is none", run(&fleet.config(), &["--binary", "/nonexistent"]), "cannot be started"),
    ];
    for (what, output, why) in fails {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(said.contains(why) && said.contains("nothing has changed"), "{what}: {said}");
        assert_eq!(fleet.serving(), serving, "{what}");
    }
    let hangs = fleet.script("exec sleep 600");
    let output = run(&fleet.config(), &["--binary", &hangs]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not ready in time"), "{said}");
    assert_eq!(fleet.serving(), serving);

    // By hand, without the command.
    let output = binary().arg("run").arg("--upgrade").arg("-c").arg(&wrong).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fleet.serving(), serving);
    load.stop();
}

/// A new process that dies, or goes silent, between any two words.
#[test]
fn a_partner_that_fails_at_any_step_changes_nothing() {
    let fleet = Fleet::start("upgrade_time: 1s");
    let load = Load::start(fleet.web, fleet.tls, &fleet.authority);
    let serving = fleet.serving();
    let still_serves = |what: &str| {
        assert_eq!(get(fleet.web, "/").status, 200, "{what}");
        wait_until("a hand-over is possible again", || {
            let mut partner = Partner::connect(&fleet.control());
            partner.say(&Partner::hello(&[1]));
            partner.hear().get("sockets").is_some()
        });
        assert_eq!(fleet.serving(), serving, "{what}");
    };

    drop(Partner::connect(&fleet.control()));
    still_serves("gone without a word");

    let mut partner = Partner::connect(&fleet.control());
    partner.say(&Partner::hello(&[99]));
    assert!(partner.hear()["refused"]["why"].as_str().unwrap().contains("no common version"));
    still_serves("another protocol");

    let mut partner = Partner::connect(&fleet.control());
    partner.say(&json!("accepting"));
    assert!(partner.hear().get("refused").is_some());
    still_serves("a word out of turn");

    let mut partner = Partner::connect(&fleet.control());
    partner.write(b"\xff\xff\xff\xff");
    still_serves("no word at all");

    let mut partner = Partner::joined(&fleet.control());
    let mut another = Partner::connect(&fleet.control());
    another.say(&Partner::hello(&[1]));
    assert!(another.hear()["refused"]["why"].as_str().unwrap().contains("under way"));
    partner.hear_until("refused");
    still_serves("silent after the sockets: `upgrade_time` is over");

    drop(Partner::joined(&fleet.control()));
    still_serves("gone with the sockets");

    let mut partner = Partner::joined(&fleet.control());
    partner.say(&json!("ready"));
    partner.hear_until("go");
    drop(partner);
    still_serves("gone when it was to accept");

    let mut partner = Partner::joined(&fleet.control());
    partner.say(&json!("ready"));
    partner.hear_until("go");
    partner.say(&json!("status"));
    partner.hear_until("refused");
    still_serves("another word than `accepting`");

    let mut partner = Partner::joined(&fleet.control());
    partner.say(&json!("ready"));
    partner.hear_until("go");
    partner.hear_until("refused");
    still_serves("silent when it was to accept");
    load.stop();
}

/// A new process that is killed between any two words.
#[test]
fn a_new_process_that_is_killed_at_any_step_changes_nothing() {
    let fleet = Fleet::start("upgrade_time: 30s");
    let load = Load::start(fleet.web, fleet.tls, &fleet.authority);
    let serving = fleet.serving();
    for last in ["hello", "sockets", "ready", "go", "accepting", "done"] {
        let mut dying = partner::start_dying_new(&fleet.control(), last);
        assert_eq!(dying.0.wait().unwrap().signal(), Some(Signal::SIGKILL as i32), "{last}");
        wait_until("a hand-over is possible again", || {
            let mut partner = Partner::connect(&fleet.control());
            partner.say(&Partner::hello(&[1]));
            partner.hear().get("sockets").is_some()
        });
        assert_eq!(fleet.serving(), serving, "{last}");
        assert_eq!(get(fleet.web, "/").status, 200, "{last}");
    }
    load.stop();
    // Nor has it lost the way to a true one.
    assert!(fleet.upgrade(&[]).status.success());
    assert_ne!(fleet.serving(), serving);
}

#[test]
fn a_reload_waits_for_a_hand_over() {
    let fleet = Fleet::start("upgrade_time: 30s");
    let partner = Partner::joined(&fleet.control());
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| fleet.first.admin("POST", "/reload"));
        // It cannot be seen that nothing happens; what can be is that nothing did.
        wait_until("the reload has been asked for", || {
            let text = fleet.first.admin("GET", "/metrics").text();
            text.contains("tollgate_")
        });
        assert!(!reload.is_finished());
        drop(partner);
        assert_eq!(reload.join().unwrap().status, 200);
    });
}

/// The process that served dies before it says `go`: the new one has the sockets, and goes on alone.
#[test]
fn the_new_process_goes_on_alone_where_the_old_one_dies() {
    for last in ["sockets", "ready", "go", "accepting"] {
        let folder = TempDir::new().unwrap();
        let [web, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], quiet_port())));
        let text = format!(
            "version: 1\nprocess: {{ workers: 1, control: control.sock }}\nadmin: {{ address: \"{admin}\" }}\n\
             telemetry: {{ access_log: off }}\nlisteners: {{ web: {{ address: \"{web}\" }} }}\n\
             routes: {{ all: {{ match: {{ path: /* }}, to: {{ respond: {{ status: 200 }} }} }} }}\n"
        );
        let config = folder.path().join("gateway.yaml");
        std::fs::write(&config, text).unwrap();
        let control = folder.path().join("control.sock");
        let _dying = partner::start_dying(&control, &[("web", web, false), ("admin", admin, true)], last);
        let new = binary()
            .arg("run")
            .arg("--upgrade")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut new = partner::Killed(new);
        // It waits in the queue that both processes share.
        wait_until("the new process is ready", || {
            assert!(new.0.try_wait().unwrap().is_none(), "{last}: it ended");
            send(admin, "GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").status == 200
        });
        wait_until("it is in its place", || handover::serves(&control) == Some(new.0.id()));
        assert_eq!(get(web, "/").status, 200, "{last}");
    }
}

#[test]
fn two_gateways_do_not_share_a_control_socket() {
    let fleet = Fleet::start("drain: 1s");
    let output = binary().arg("run").arg("-c").arg(fleet.config()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("tollgate upgrade"), "{said}");
    assert_eq!(get(fleet.web, "/").status, 200);
    let mode = std::fs::metadata(fleet.control()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn there_is_nobody_to_take_over_from() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("gateway.yaml");
    std::fs::write(&config, "version: 1\nadmin: off\nlisteners: { web: { address: \"127.0.0.1:0\" } }\n")
        .unwrap();
    for (arguments, why) in
        [(&["upgrade"][..], "process.control"), (&["run", "--upgrade"][..], "no control socket")]
    {
        let output = binary().args(arguments).arg("-c").arg(&config).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why), "{arguments:?}: {said}");
    }
    let control = format!("--upgrade={}", folder.path().join("nobody.sock").display());
    let output = binary().args(["run", &control, "-c"]).arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("no hand-over"), "{said}");
}

/// Not a test: what [`a_new_process_that_is_killed_at_any_step_changes_nothing`] starts as a process.
#[test]
#[ignore = "a process that another test starts"]
fn a_new_process_that_dies() {
    partner::die_while_joining();
}

/// Not a test: what [`the_new_process_goes_on_alone_where_the_old_one_dies`] starts as a process.
#[test]
#[ignore = "a process that another test starts"]
fn a_serving_process_that_dies() {
    partner::die_while_serving();
}
