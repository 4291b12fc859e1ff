//! A reload changes all or nothing, and no request notices.

use crate::harness::{
    Answer, Authority, Client, Gateway, Origin, Process, curl, get, quiet_port, wait_until,
};
use nix::sys::signal::Signal;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use tempfile::TempDir;

const HEAD: &str = "admin: { address: '127.0.0.1:PORT_admin', token: secret }\n\
                    listeners: { web: { address: '127.0.0.1:PORT_web' } }\n";

fn saying(word: &str) -> String {
    format!("{HEAD}routes: {{ all: {{ to: {{ respond: {{ body: {word} }} }} }} }}\n")
}

fn outcome(answer: &Answer) -> String {
    answer.json()["outcome"].as_str().unwrap().to_owned()
}

fn reloads(gateway: &Gateway, outcome: &str) -> f64 {
    let name = format!("tollgate_reloads_total{{outcome=\"{outcome}\"}} ");
    let text = gateway.admin("GET", "/metrics", "").text();
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0.0)
}

#[test]
fn an_admins_call_puts_another_configuration_in_force() {
    let gateway = Gateway::start(&saying("one"));
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/", "").text(), "one");
    assert_eq!(gateway.admin("GET", "/reload", "").json(), serde_json::Value::Null, "none so far");
    gateway.rewrite(&saying("two"));
    let answer = gateway.reload();
    assert_eq!((answer.status, outcome(&answer).as_str()), (200, "applied"));
    assert_eq!(client.get("a", "/", "").text(), "two", "a connection that is kept gets the new one");
    assert_eq!(outcome(&gateway.admin("GET", "/reload", "")), "applied");
    assert!(reloads(&gateway, "applied") >= 1.0);
}

#[test]
fn a_changed_file_is_enough() {
    let gateway = Gateway::start(&saying("one"));
    for word in ["two", "three"] {
        gateway.rewrite(&saying(word));
        wait_until("the change is in force", || get(gateway.web(), "/").text() == word);
    }
}

#[test]
fn a_mistake_changes_nothing_and_is_seen_everywhere() {
    let gateway = Gateway::start(&saying("one"));
    gateway.rewrite(&saying("two").replace("respond:", "respnd:"));
    let answer = gateway.reload();
    assert_eq!((answer.status, outcome(&answer).as_str()), (422, "rejected"));
    let problems = gateway.admin("GET", "/reload", "").json();
    assert_eq!(problems["outcome"], "rejected");
    let text = problems["problems"].to_string();
    assert!(text.contains("respnd") && text.contains("gateway.yaml") && text.contains("\"line\""), "{text}");
    assert!(reloads(&gateway, "rejected") >= 1.0);
    assert_eq!(get(gateway.web(), "/").text(), "one");
    gateway.rewrite(&saying("three"));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!(get(gateway.web(), "/").text(), "three", "and the next good one is taken");
}

#[test]
fn listeners_come_go_and_move() {
    let route = "routes: { all: { to: { respond: { body: hi } } } }\n";
    let admin = "admin: { address: '127.0.0.1:PORT_admin', token: secret }\n";
    let with = |listeners: &str| {
        format!("{admin}listeners:\n  web: {{ address: '127.0.0.1:PORT_web' }}\n{listeners}{route}")
    };
    let gateway = Gateway::start(&with(""));
    let mut kept = Client::new(gateway.web());
    assert_eq!(kept.get("a", "/", "").status, 200);

    gateway.rewrite(&with("  more: { address: '127.0.0.1:0' }\n"));
    assert_eq!(outcome(&gateway.reload()), "applied");
    let more = gateway.handle().address("more").unwrap();
    assert_eq!(get(more, "/").text(), "hi", "it was bound before it was published");

    let moved_to = quiet_port();
    gateway.rewrite(&with(&format!("  more: {{ address: '127.0.0.1:{moved_to}' }}\n")));
    assert_eq!(outcome(&gateway.reload()), "applied");
    let moved = SocketAddr::from(([127, 0, 0, 1], moved_to));
    assert_eq!(get(moved, "/").text(), "hi");
    wait_until("the old address is free", || std::net::TcpListener::bind(more).is_ok());

    let mut old = Client::new(moved);
    assert_eq!(old.get("a", "/", "").status, 200);
    gateway.rewrite(&with(""));
    assert_eq!(outcome(&gateway.reload()), "applied");
    wait_until("the address is free", || std::net::TcpListener::bind(moved).is_ok());
    assert!(old.is_closed(), "an idle connection of a listener that went is closed");
    assert_eq!(kept.get("a", "/", "").status, 200, "the other listener's connection never noticed");
}

#[test]
fn listeners_are_renamed_and_swap_addresses() {
    let text = |a: &str, b: &str| {
        format!(
            "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
             listeners:\n  {a}: {{ address: '127.0.0.1:PORT_web' }}\n  {b}: {{ address: '127.0.0.1:PORT_side' }}\n\
             routes:\n  a: {{ on: [{a}], to: {{ respond: {{ body: a }} }} }}\n  b: {{ on: [{b}], to: {{ respond: {{ body: b }} }} }}\n"
        )
    };
    let gateway = Gateway::start(&text("web", "side"));
    let (web, side) = (gateway.at("web"), gateway.at("side"));
    let says = || (get(web, "/").text(), get(side, "/").text());
    for (a, b) in [("web", "side"), ("renamed", "side"), ("side", "renamed"), ("web", "side")] {
        gateway.rewrite(&text(a, b));
        let answer = gateway.reload();
        assert_eq!(outcome(&answer), "applied", "{a} {b}: {}", answer.text());
        // A connection that the listener before accepted just now is still that one's.
        wait_until("none is refused, and each finds its routes", || {
            says() == ("a".to_owned(), "b".to_owned())
        });
    }
}

#[test]
fn a_listener_begins_to_speak_tls() {
    let folder = TempDir::new().unwrap();
    let tls = folder.path().join("tls");
    let authority = Authority::within(&tls);
    authority.issue(&tls, "site", &["localhost"]);
    let gateway = Gateway::start_in(folder, &saying("plain"));
    let mut before = Client::new(gateway.web());
    assert_eq!(before.get("a", "/", "").text(), "plain");
    let tls = "PORT_web', tls: { certificates: [{ certificate: tls/site.pem, key: tls/site.key }] }";
    gateway.rewrite(&saying("secret").replace("PORT_web'", tls));
    assert_eq!(outcome(&gateway.reload()), "applied");
    let url = format!("https://localhost:{}/", gateway.web().port());
    let output = curl(gateway.folder(), &["--cacert", "tls/ca.pem", &url].map(String::from));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("secret"), "{output:?}");
    assert_eq!(before.get("a", "/", "").text(), "secret", "a connection stays what it was");
}

#[test]
fn an_address_in_use_rejects_the_whole() {
    let gateway = Gateway::start(&saying("one"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("listeners: {{ more: {{ address: '{}' }}, web:", taken.local_addr().unwrap());
    gateway.rewrite(&saying("two").replace("listeners: { web:", &more));
    let answer = gateway.reload();
    assert_eq!((answer.status, outcome(&answer).as_str()), (422, "rejected"));
    let problems = answer.json()["problems"].to_string();
    assert!(problems.contains("in use") && problems.contains("listeners.more.address"), "{problems}");
    assert_eq!(get(gateway.web(), "/").text(), "one");
    drop(taken);
    assert_eq!(outcome(&gateway.reload()), "applied", "once it is free, the same text is taken");
    assert_eq!(get(gateway.web(), "/").text(), "two");
}

#[test]
fn the_admin_listener_moves_too() {
    let gateway = Gateway::start(&saying("one"));
    let port = quiet_port();
    gateway.rewrite(&saying("two").replace("PORT_admin", &port.to_string()).replace("secret", "another"));
    let answer = gateway.reload();
    // Who watches the file may have been quicker, and then the token is another one already.
    assert!([200, 401, 0].contains(&answer.status), "{answer:?}");
    let moved = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("it answers there", || std::net::TcpStream::connect(moved).is_ok());
    assert_eq!(get(moved, "/readyz").status, 200);
    wait_until("the old address is closed", || std::net::TcpStream::connect(gateway.at("admin")).is_err());
    let ask = |token: &str| {
        let request = format!(
            "GET /config HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        crate::harness::send(moved, &request).status
    };
    assert_eq!((ask("secret"), ask("another")), (401, 200));
}

#[test]
fn a_request_ends_on_what_it_began_with() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::start(move |_, stream| {
        let _ = held.lock().unwrap().recv();
        stream.write_all(&crate::harness::answer("200 OK", "", "from the old upstream")).is_ok()
    });
    let gateway = Gateway::start(&format!(
        "{HEAD}upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ policies: {{ headers: {{ response: {{ set: {{ x-from: old }} }} }} }}, to: origin }} }}\n",
        origin.address()
    ));
    let mut client = Client::new(gateway.web());
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("the request is upstream", || !origin.received().is_empty());
    gateway.rewrite(&saying("new"));
    assert_eq!(outcome(&gateway.reload()), "applied");
    assert_eq!(get(gateway.web(), "/").text(), "new");
    release.send(()).unwrap();
    let answer = client.read(false);
    assert_eq!((answer.status, answer.field("x-from")), (200, Some("old")));
    assert_eq!(answer.text(), "from the old upstream");
    assert_eq!(client.get("a", "/", "").text(), "new", "the next one on this connection has the new one");
}

/// Says that it is over, also when a test has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks on one connection until it is told to stop; every answer must be a 200 that keeps the connection.
fn ask_on(address: SocketAddr, path: &str, stop: &AtomicBool) -> usize {
    let mut client = Client::new(address);
    let mut answered = 0;
    while !stop.load(Ordering::SeqCst) {
        let answer = client.get("a", path, "");
        assert!(answer.status == 200 && !answer.cut && !answer.closes(), "after {answered}: {answer:?}");
        answered += 1;
    }
    answered
}

#[test]
fn an_old_snapshot_goes_with_its_last_request() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::start(move |request, stream| {
        if request.target().starts_with("/held") {
            let _ = held.lock().unwrap().recv();
        }
        stream.write_all(&crate::harness::answer("200 OK", "", "ok")).is_ok()
    });
    let text = |round: usize| {
        let origin = origin.address();
        format!(
            "{HEAD}upstreams:\n  origin: {{ endpoints: ['{origin}'] }}\n  u{round}: {{ endpoints: ['{origin}'] }}\n\
             routes:\n  all: {{ to: origin }}\n  r{round}: {{ match: {{ path: /r{round} }}, to: u{round} }}\n"
        )
    };
    let gateway = Gateway::start(&text(0));
    let living = || gateway.metric("tollgate_snapshots");
    let hold = |path: &str| {
        let mut client = Client::new(gateway.web());
        client.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        wait_until("it is upstream", || origin.received().iter().any(|request| request.target() == path));
        client
    };
    assert_eq!(living(), 1.0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let load: Vec<_> =
            ["/", "/more"].map(|path| scope.spawn(|| ask_on(gateway.web(), path, &stop))).into();
        // The one that is released first began on the first configuration, the other on a later one.
        let mut clients = vec![hold("/held/first")];
        for round in 1..=6 {
            gateway.rewrite(&text(round));
            assert_eq!(outcome(&gateway.reload()), "applied");
            if round == 3 {
                clients.push(hold("/held/second"));
            }
        }
        let expected = [3.0, 2.0, 1.0];
        for (client, before) in clients.iter_mut().zip(expected) {
            wait_until("only those with a request live", || living() == before);
            release.send(()).unwrap();
            assert_eq!(client.read(false).status, 200);
        }
        wait_until("the last old one goes", || living() == expected[2]);
        drop(stopping);
        for thread in load {
            assert!(thread.join().unwrap() > 0, "no load");
        }
    });
}

#[test]
fn what_needs_an_upgrade_is_said_and_left() {
    let process = |workers: u8| format!("process: {{ workers: {workers}, drain: 5s }}\n{}", saying("same"));
    let gateway = Gateway::start(&process(1));
    gateway.rewrite(&process(2));
    for _ in 0..2 {
        let answer = gateway.reload().json();
        assert_eq!(answer["outcome"], "applied");
        assert_eq!(answer["needs_upgrade"], serde_json::json!(["process.workers"]), "as long as it is so");
    }
    gateway.rewrite(&process(1));
    assert_eq!(gateway.reload().json()["needs_upgrade"], serde_json::json!([]));
}

#[test]
fn what_an_operator_switched_survives() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let text = |more: &str| {
        format!(
            "{HEAD}upstreams: {{ origin: {{ endpoints: ['{}', '{}'] }} }}\n\
             routes:\n  all: {{ to: origin }}\n  off: {{ match: {{ path: /off }}, to: origin }}\n{more}",
            a.address(),
            b.address()
        )
    };
    let gateway = Gateway::start(&text(""));
    let post = |path: &str| {
        gateway.admin("POST", path, "authorization: Bearer secret\r\ncontent-length: 0\r\n").status
    };
    assert_eq!(post("/routes/off/off"), 200);
    assert_eq!(post(&format!("/upstreams/origin/{}/drain", a.address())), 200);
    gateway.rewrite(&text("  more: { match: { path: /more }, to: origin }\n"));
    assert_eq!(outcome(&gateway.reload()), "applied");
    assert!((0..6).all(|_| get(gateway.web(), "/more").text() == "b"), "the endpoint still drains");
    assert_eq!(get(gateway.web(), "/off").code(), "route_off");
    assert_eq!(post("/routes/off/on"), 200);
    assert_eq!(get(gateway.web(), "/off").text(), "b");
}

#[test]
fn a_folder_is_watched_as_a_whole() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("conf")).unwrap();
    let route = |name: &str| {
        format!(
            "routes: {{ {name}: {{ match: {{ path: /{name} }}, to: {{ respond: {{ body: {name} }} }} }} }}\n"
        )
    };
    let gateway =
        Gateway::start_files(folder, "conf", &[("conf/a.yaml", HEAD), ("conf/b.yaml", &route("b"))]);
    assert_eq!(get(gateway.web(), "/b").text(), "b");
    let file = |name: &str| gateway.folder().join("conf").join(name);
    std::fs::write(file("c.yaml"), route("c")).unwrap();
    wait_until("the new file is in force", || get(gateway.web(), "/c").text() == "c");
    std::fs::remove_file(file("b.yaml")).unwrap();
    wait_until("the removed one is not", || get(gateway.web(), "/b").status == 404);
    std::fs::write(file("d.yaml"), route("c")).unwrap();
    wait_until("a name in two files is refused", || reloads(&gateway, "rejected") >= 1.0);
    assert_eq!(get(gateway.web(), "/c").text(), "c");
}

#[test]
fn what_is_missing_is_waited_for() {
    let gateway = Gateway::start(&saying("one"));
    std::fs::create_dir(gateway.folder().join("pages")).unwrap();
    let pages = "PORT_web', error_pages: { 404: pages/404.html } }";
    let text = saying("two").replace("PORT_web' }", pages).replace("all: {", "all: { match: { path: /two },");
    gateway.rewrite(&text);
    wait_until("the missing page is found out", || reloads(&gateway, "rejected") >= 1.0);
    assert_eq!(get(gateway.web(), "/").text(), "one");
    std::fs::write(gateway.folder().join("pages/404.html"), "nothing").unwrap();
    wait_until("it has come", || get(gateway.web(), "/x").text() == "nothing");
    gateway.rewrite(&saying("broken").replace("routes", "rotes"));
    wait_until("a mistake is found out", || outcome(&gateway.admin("GET", "/reload", "")) == "rejected");
    gateway.rewrite(&text);
    wait_until("what is put right is right", || outcome(&gateway.admin("GET", "/reload", "")) == "applied");
}

#[test]
fn a_certificate_is_swapped() {
    let folder = TempDir::new().unwrap();
    let tls = folder.path().join("tls");
    let authority = Authority::within(&tls);
    authority.issue(&tls, "site", &["localhost"]);
    let gateway = Gateway::start_in(
        folder,
        "admin: { address: '127.0.0.1:PORT_admin', token: secret }\n\
         listeners:\n  secure:\n    address: '127.0.0.1:PORT_secure'\n    tls: { certificates: [{ certificate: tls/site.pem, key: tls/site.key }] }\n\
         routes: { all: { to: { respond: { body: hi } } } }\n",
    );
    let serves = |name: &str| {
        let port = gateway.at("secure").port();
        let arguments = [
            "--cacert",
            "tls/ca.pem",
            "--resolve",
            &format!("{name}:{port}:127.0.0.1"),
            &format!("https://{name}:{port}/"),
        ];
        curl(gateway.folder(), &arguments.map(String::from)).status.success()
    };
    assert_eq!((serves("localhost"), serves("next.example")), (true, false));
    authority.issue(&tls, "site", &["next.example"]);
    wait_until("the changed file is read", || serves("next.example"));
    assert!(!serves("localhost"));
    std::fs::write(gateway.folder().join("tls/site.key"), "no key").unwrap();
    wait_until("a key that is none is refused", || reloads(&gateway, "rejected") >= 1.0);
    assert!(serves("next.example"), "the one before goes on");
}

#[test]
fn a_hang_up_reloads_the_real_binary() {
    let folder = TempDir::new().unwrap();
    let (admin, web) = (quiet_port(), quiet_port());
    let path = folder.path().join("gateway.yaml");
    let write = |word: &str| {
        let text = format!("version: 1\nprocess: {{ workers: 1 }}\n{}", saying(word));
        let text = text.replace("PORT_admin", &admin.to_string()).replace("PORT_web", &web.to_string());
        std::fs::write(&path, text).unwrap();
    };
    write("one");
    let process = Process::run(&path, admin, &[]);
    let web = SocketAddr::from(([127, 0, 0, 1], web));
    assert_eq!(get(web, "/").text(), "one");
    // The same text again: a change of the file alone would be told as unchanged.
    process.signal(Signal::SIGHUP);
    wait_until("the signal reloads", || outcome_of(&process) == Some("applied".to_owned()));
    write("two");
    process.signal(Signal::SIGHUP);
    wait_until("the change is in force", || get(web, "/").text() == "two");
}

fn outcome_of(process: &Process) -> Option<String> {
    process.admin("GET", "/reload").json()["outcome"].as_str().map(String::from)
}
