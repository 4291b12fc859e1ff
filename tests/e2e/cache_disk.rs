//! The tier on disk, through the whole gateway: restarts, kills, purges, and a disk that does not work.

use crate::harness::{
    Answer, Client, Gate, Gateway, Origin, Process, answer, binary, quiet_port, wait_until,
};
use nix::sys::signal::Signal;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const FRESH: &str = "cache-control: max-age=3600\r\n";

/// The body of a target in a version: most are small, some come in pieces.
fn body(target: &str, version: usize) -> String {
    let large = target.ends_with('7');
    let line = format!("{target} in version {version}\n");
    line.repeat(if large { 20_000 } else { 20 })
}

/// Answers with the version that each answer has of its own.
fn versions() -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let origin = Origin::start(move |request, stream| {
        let version = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let target = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let fields = format!("{FRESH}x-version: {version}\r\n");
        stream.write_all(&answer("200 OK", &fields, &body(&target, version))).is_ok()
    });
    (origin, count)
}

/// Checks an answer byte for byte; its version.
#[track_caller]
fn check(target: &str, answer: &Answer) -> usize {
    assert_eq!((answer.status, answer.cut), (200, false), "{target}");
    let version: usize = answer.field("x-version").unwrap().parse().unwrap();
    assert!(answer.text() == body(target, version), "{target} in version {version} is not what was sent");
    version
}

fn yaml(origin: &Origin, folder: &Path, memory: &str) -> String {
    format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         caches: {{ default: {{ memory: {memory}, disk: {{ path: '{}', size: 64MiB }} }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ policies: {{ cache: {{ purge_from: [127.0.0.1] }} }}, to: origin }} }}\n",
        folder.display(),
        origin.address(),
    )
}

fn event(gateway: &Gateway, event: &str) -> f64 {
    gateway.metric(&format!("tollgate_cache_disk_events_total{{cache=\"default\",event=\"{event}\"}}"))
}

fn objects(gateway: &Gateway) -> f64 {
    gateway.metric("tollgate_cache_disk_objects{cache=\"default\"}")
}

#[test]
fn a_restart_serves_from_disk_and_keeps_purges() {
    let (origin, asked) = versions();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&yaml(&origin, folder.path(), "8MiB"));
    let mut client = Client::new(gateway.web());
    let targets = ["/1", "/2", "/7", "/gone"];
    for target in targets {
        check(target, &client.get("a", target, ""));
    }
    wait_until("they are written", || objects(&gateway) == 4.0);
    assert!(gateway.metric("tollgate_cache_disk_bytes{cache=\"default\"}") >= 4.0 * 4096.0);
    let purged = client.send("PURGE /gone HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(purged.status, 200);
    gateway.stop();

    let gateway = Gateway::start(&yaml(&origin, folder.path(), "8MiB"));
    let mut client = Client::new(gateway.web());
    for target in &targets[..3] {
        let answer = client.get("a", target, "");
        check(target, &answer);
        assert!(answer.field("cache-status").unwrap().contains("hit"), "{answer:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 4, "the origin was not asked again");
    assert_eq!(event(&gateway, "hit"), 3.0);
    assert_eq!(check("/gone", &client.get("a", "/gone", "")), 5, "the purge holds");
    assert_eq!(client.send("HEAD /7 HTTP/1.1\r\nhost: a\r\n\r\n").status, 200);
}

#[test]
fn what_the_memory_has_no_room_for_comes_from_disk() {
    let (origin, asked) = versions();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&yaml(&origin, folder.path(), "1MiB"));
    let mut client = Client::new(gateway.web());
    let targets: Vec<String> = (0..10).map(|n| format!("/{n}7")).collect();
    for target in &targets {
        check(target, &client.get("a", target, ""));
    }
    let kept = gateway.metric("tollgate_cache_stored_total{cache=\"default\"}");
    wait_until("what was kept is written", || objects(&gateway) >= kept.min(10.0));
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..3 {
        for target in &targets {
            check(target, &client.get("a", target, ""));
        }
    }
    let again = asked.load(Ordering::SeqCst) - before;
    assert!(again <= 10 - kept as usize, "{kept} were kept, and {again} asked for again");
    assert!(event(&gateway, "hit") > 0.0);
}

/// RFC 9110 section 14: of bodies that the memory does not take, too.
#[test]
fn parts_of_what_is_on_disk() {
    let (origin, asked) = versions();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&yaml(&origin, folder.path(), "1MiB"));
    check("/7", &Client::new(gateway.web()).get("a", "/7", ""));
    wait_until("it is written", || objects(&gateway) == 1.0);
    gateway.stop();
    let gateway = Gateway::start(&yaml(&origin, folder.path(), "1MiB"));
    let whole = body("/7", 1);
    let length = whole.len();
    assert!(length > 256 << 10, "larger than what is read at once");
    let mut client = Client::new(gateway.web());
    for (range, first, last) in [
        ("0-0".to_owned(), 0, 0),
        ("65535-65536".to_owned(), 65_535, 65_536),
        ("300000-".to_owned(), 300_000, length - 1),
        ("-9".to_owned(), length - 9, length - 1),
        ("0-".to_owned(), 0, length - 1),
    ] {
        let answer = client.get("a", "/7", &format!("range: bytes={range}\r\n"));
        let told = format!("bytes {first}-{last}/{length}");
        assert_eq!((answer.status, answer.field("content-range")), (206, Some(told.as_str())), "{range}");
        assert!(answer.text() == whole[first..=last] && !answer.cut, "{range}");
    }
    let beyond = client.get("a", "/7", &format!("range: bytes={length}-\r\n"));
    assert_eq!(beyond.status, 416);
    check("/7", &client.get("a", "/7", "range: bytes=0-0,9-9\r\n"));
    check("/7", &client.get("a", "/7", ""));
    assert_eq!(asked.load(Ordering::SeqCst), 1, "all of it came from disk");
}

/// A disk that is full: here, files may grow no more, which is the same error of a write.
#[test]
fn a_full_disk_stops_no_request() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let (origin, _) = versions();
    let folder = tempfile::tempdir().unwrap();
    let (web, admin) = (quiet_port(), quiet_port());
    let path = folder.path().join("gateway.yaml");
    let text = yaml(&origin, &folder.path().join("cache"), "8MiB")
        .replace("PORT_web", &web.to_string())
        .replace("PORT_admin", &admin.to_string());
    let sections = "version: 1\ntelemetry: { access_log: off }\nprocess: { workers: 2 }\n";
    std::fs::write(&path, format!("{sections}{text}")).unwrap();
    let process = Process::run(&path, admin, &[]);
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap());
    let allow = |most| prlimit(pid, Resource::Fsize, Rlimit { current: most, maximum: None }).unwrap();
    let metric = |series: &str| {
        let text = process.admin("GET", "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    let objects = || metric("tollgate_cache_disk_objects{cache=\"default\"}");
    let is_ill = || metric("tollgate_cache_disk_ill{cache=\"default\"}") == 1.0;
    let mut client = Client::new(SocketAddr::from(([127, 0, 0, 1], web)));
    check("/1", &client.get("a", "/1", ""));
    wait_until("it is written", || objects() == 1.0);
    allow(Some(100_000));
    for n in 0..20 {
        let target = format!("/{n}7");
        let version = check(&target, &client.get("a", &target, ""));
        wait_until("the memory serves", || check(&target, &client.get("a", &target, "")) == version);
    }
    wait_until("it is seen", is_ill);
    assert_eq!(objects(), 1.0, "nothing half is there");
    check("/2", &client.get("a", "/2", ""));
    allow(None);
    let mut next = 100;
    wait_until("it works again", || {
        next += 1;
        let target = format!("/{next}7");
        check(&target, &client.get("a", &target, ""));
        !is_ill() && objects() > 1.0
    });
}

#[test]
fn a_disk_that_does_not_work_stops_no_request() {
    let (origin, asked) = versions();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&yaml(&origin, folder.path(), "8MiB"));
    let mut client = Client::new(gateway.web());
    check("/1", &client.get("a", "/1", ""));
    wait_until("it is written", || objects(&gateway) == 1.0);
    // Whoever writes finds no folder to write in.
    let (tmp, away) = (folder.path().join("tmp"), folder.path().join("away"));
    std::fs::rename(&tmp, &away).unwrap();
    std::fs::write(&tmp, "in the way").unwrap();
    for n in 0..50 {
        let target = format!("/x{n}");
        check(&target, &client.get("a", &target, ""));
    }
    wait_until("it is seen", || {
        gateway.metric("tollgate_cache_disk_ill{cache=\"default\"}") == 1.0
            && event(&gateway, "passed_over") + event(&gateway, "error") >= 50.0
    });
    assert!(event(&gateway, "error") < 20.0, "it is left alone after an error");
    let before = asked.load(Ordering::SeqCst);
    check("/x3", &client.get("a", "/x3", ""));
    assert_eq!(asked.load(Ordering::SeqCst), before, "the memory serves");
    std::fs::remove_file(&tmp).unwrap();
    std::fs::rename(&away, &tmp).unwrap();
    let mut next = 0;
    wait_until("it works again", || {
        next += 1;
        let target = format!("/y{next}");
        check(&target, &client.get("a", &target, ""));
        gateway.metric("tollgate_cache_disk_ill{cache=\"default\"}") == 0.0
    });
}

/// RFC 9111 section 4.4, over a restart.
#[test]
fn what_was_made_invalid_stays_so_after_a_restart() {
    let (origin, _) = versions();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&yaml(&origin, folder.path(), "8MiB"));
    let mut client = Client::new(gateway.web());
    check("/1", &client.get("a", "/1", ""));
    wait_until("it is written", || objects(&gateway) == 1.0);
    assert_eq!(client.send("POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").status, 200);
    let journal = folder.path().join("purges");
    wait_until("that is written", || std::fs::read_to_string(&journal).unwrap().contains("/1"));
    gateway.stop();
    let gateway = Gateway::start(&yaml(&origin, folder.path(), "8MiB"));
    assert_eq!(check("/1", &Client::new(gateway.web()).get("a", "/1", "")), 3);
}

/// 50 times kill -9 under load: afterwards every answer is whole, and none that was purged is back.
#[test]
fn no_kill_leaves_a_corrupt_or_partial_or_purged_answer() {
    const ROUNDS: usize = 50;
    const TARGETS: usize = 24;
    let (origin, asked) = versions();
    let folder = tempfile::tempdir().unwrap();
    let (web, admin) = (quiet_port(), quiet_port());
    let path = folder.path().join("gateway.yaml");
    let text = yaml(&origin, &folder.path().join("cache"), "1MiB")
        .replace("PORT_web", &web.to_string())
        .replace("PORT_admin", &admin.to_string());
    let sections = "version: 1\ntelemetry: { access_log: off }\nprocess: { workers: 2 }\n";
    std::fs::write(&path, format!("{sections}{text}")).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], web));
    let target = |n: usize| format!("/t{n}");
    // The newest version of each target when it was purged.
    let purged: Vec<AtomicUsize> = (0..TARGETS).map(|_| AtomicUsize::new(0)).collect();
    let (mut from_disk, mut fetched) = (0, 0);
    for round in 0..ROUNDS {
        let mut process = Process::run(&path, admin, &[]);
        let before = asked.load(Ordering::SeqCst);
        let mut client = Client::new(address);
        for (n, last) in purged.iter().enumerate() {
            let answer = client.get("a", &target(n), "");
            let version = check(&target(n), &answer);
            let last = last.load(Ordering::SeqCst);
            assert!(version > last, "round {round}: {n} in version {version} was purged at {last}");
            from_disk += usize::from(version <= before);
            fetched += usize::from(version > before);
        }
        // Load: some purge, all ask; in the middle of it comes the end.
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (ends, purged, asked) = (&ends, &purged, &asked);
            for thread in 0..4 {
                scope.spawn(move || load(address, (thread, round), ends, (purged, asked)));
            }
            let _end = End(ends);
            let enough = asked.load(Ordering::SeqCst) + 10 + round * 3;
            wait_until("there is load", || asked.load(Ordering::SeqCst) >= enough);
            process.signal(Signal::SIGKILL);
            process.wait();
        });
    }
    println!("{from_disk} answers from disk and {fetched} from the origin after {ROUNDS} kills");
    assert!(from_disk > ROUNDS, "{from_disk} answers came from disk");
}

/// Ends the load, also of a test that fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks and purges until the end; answers that break off are the kill's.
fn load(
    address: SocketAddr,
    (thread, round): (usize, usize),
    ends: &AtomicBool,
    (purged, asked): (&[AtomicUsize], &AtomicUsize),
) {
    let mut step = thread * 7 + round;
    while !ends.load(Ordering::SeqCst) {
        step += 1;
        let n = step / 2 % purged.len();
        let method = if step.is_multiple_of(5) { "PURGE" } else { "GET" };
        // All answers up to now were made before the purge.
        let newest = asked.load(Ordering::SeqCst);
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let request = format!("{method} /t{n} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let mut answer = Vec::new();
        if stream.write_all(request.as_bytes()).is_err() || stream.read_to_end(&mut answer).is_err() {
            continue;
        }
        if method == "PURGE" && answer.ends_with(b"purged\n") {
            // What was fetched meanwhile may be older or newer than the purge.
            purged[n].fetch_max(newest, Ordering::SeqCst);
        }
    }
}

#[test]
fn a_folder_that_cannot_be_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let path = folder.path().join("gateway.yaml");
    let check = |caches: &str| {
        let text = format!(
            "version: 1\ncaches: {{ {caches} }}\nlisteners: {{ web: {{ address: 127.0.0.1:8080 }} }}\n\
             routes: {{ all: {{ to: {{ respond: {{ status: 200 }} }} }} }}\n"
        );
        std::fs::write(&path, text).unwrap();
        let output = binary().arg("check").arg("-c").arg(&path).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let within = format!("a: {{ disk: {{ path: '{}' }} }}", file.join("x").display());
    let cases = [
        (within.as_str(), "this folder cannot be made, or not be written to"),
        ("a: { disk: { path: x, size: 1KiB } }", "a tier on disk holds 1MiB at least"),
        (
            "a: { disk: { path: x } }, b: { disk: { path: x/y } }",
            "the cache `a` has this folder, or one within it",
        ),
    ];
    for (caches, what) in cases {
        let (is_fine, report) = check(caches);
        assert!(!is_fine && report.contains(what), "{caches}: {report}");
    }
    let (is_fine, report) = check("a: { disk: { path: x } }, b: { disk: { path: y } }");
    assert!(is_fine, "{report}");
    assert!(!folder.path().join("x").exists(), "a check makes nothing");
}

/// What others send by unsafe methods is remembered, and written down, only of what is kept or on its way: who may send
/// POSTs cannot fill the memory of purges, which would end in a purge of everything.
#[test]
fn unsafe_methods_leave_nothing_of_what_is_not_kept() {
    let (gate, count) = (Arc::new(Gate::default()), AtomicUsize::new(0));
    let held = Arc::clone(&gate);
    let origin = Origin::start(move |request, stream| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        if request.line.starts_with("GET /held") {
            held.pass();
        }
        stream.write_all(&answer("200 OK", FRESH, &format!("answer {number}"))).is_ok()
    });
    let folder = tempfile::tempdir().unwrap();
    let start = || Gateway::start(&yaml(&origin, folder.path(), "8MiB"));
    let journal = || std::fs::read_to_string(folder.path().join("purges")).unwrap_or_default();
    let ask = |gateway: &Gateway, method: &str, target: &str| {
        let length = if method == "POST" { "content-length: 0\r\n" } else { "" };
        let request = format!("{method} {target} HTTP/1.1\r\nhost: a\r\n{length}\r\n");
        let answer = Client::new(gateway.web()).send(&request);
        assert_eq!(answer.status, 200, "{method} {target}");
        answer.text()
    };
    // What PURGE names has been written when it is answered; what POST makes invalid is written beside it, so that one
    // that is not there yet says little, and five say enough.
    let probes = AtomicUsize::new(0);
    let is_remembered = |gateway: &Gateway| {
        let probe = format!("/probe/{}", probes.fetch_add(1, Ordering::SeqCst));
        ask(gateway, "POST", &probe);
        ask(gateway, "PURGE", "/barrier");
        journal().contains(&format!("http://a{probe}\n"))
    };
    let wait_until_known = |gateway: &Gateway| {
        wait_until("all that is in the folder is known", || (0..5).all(|_| !is_remembered(gateway)));
    };
    let gateway = start();
    wait_until_known(&gateway);
    for number in 0..100 {
        ask(&gateway, "POST", &format!("/absent/{number}"));
    }
    ask(&gateway, "PURGE", "/barrier");
    assert!(!journal().contains("/absent/"), "{}", journal());

    let (kept, other) = (ask(&gateway, "GET", "/kept"), ask(&gateway, "GET", "/other"));
    wait_until("they are written", || objects(&gateway) == 2.0);
    assert_eq!(ask(&gateway, "GET", "/kept"), kept);
    ask(&gateway, "POST", "/kept");
    assert_ne!(ask(&gateway, "GET", "/kept"), kept);
    wait_until("it is written down", || journal().contains("hard url http://a/kept\n"));
    // What is on its way was asked for before.
    let before = origin.received().len();
    let mut first = Client::new(gateway.web());
    first.write("GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("it is asked for", || origin.received().len() > before);
    ask(&gateway, "POST", "/held");
    gate.open();
    let first = first.read(false).text();
    assert_ne!(ask(&gateway, "GET", "/held"), first);
    gateway.stop();
    // While the folder has not been walked, or others may use it, as the first one's store still does in this process,
    // there may be anything in it.
    let gateway = start();
    assert_eq!(ask(&gateway, "GET", "/other"), other);
    ask(&gateway, "POST", "/other");
    assert_ne!(ask(&gateway, "GET", "/other"), other);
    wait_until("it is written down", || journal().contains("hard url http://a/other\n"));
    assert!(!journal().contains("/absent/"), "{}", journal());
}

/// Whoever may write to the folder decides what clients are answered: a gateway does not start with one that others may
/// write to, nor take it over by a reload.
#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (origin, _) = versions();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    std::fs::create_dir(&root).unwrap();
    let path = folder.path().join("config.yaml");
    let text = yaml(&origin, &root, "8MiB")
        .replace("PORT_admin", &quiet_port().to_string())
        .replace("PORT_web", &quiet_port().to_string());
    std::fs::write(&path, format!("version: 1\n{text}")).unwrap();
    let run = |command: &str| {
        let output = binary().arg(command).arg("-c").arg(&path).output().unwrap();
        let report = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(report).unwrap())
    };
    for mode in [0o770, 0o707, 0o1777] {
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(mode)).unwrap();
        for command in ["check", "run"] {
            let (is_fine, report) = run(command);
            assert!(!is_fine, "{command} {mode:o}: {report}");
            let cause = "others may write to this folder, and so choose what clients are answered";
            for part in [
                format!("{}:3:", path.display()),
                format!("{cause}: its mode is {mode:04o}"),
                format!("chmod go-w {}", root.display()),
            ] {
                assert!(report.contains(&part), "{command} {mode:o}: {part}: {report}");
            }
        }
    }
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(run("check").0, "others may look into it, and find files that they may not read");
    if nix::unistd::Uid::effective().is_root() {
        let owner = nix::unistd::Uid::from_raw(54_321);
        nix::unistd::chown(&root, Some(owner), None).unwrap();
        let (is_fine, report) = run("run");
        assert!(!is_fine && report.contains("its owner is 54321, the gateway runs as 0"), "{report}");
        assert!(report.contains("chown -R 0 "), "{report}");
    }
}

/// What others may not read, they do not: answers may be somebody's.
#[test]
fn files_are_the_gateways_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (origin, _) = versions();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/er");
    let gateway = Gateway::start(&yaml(&origin, &root, "8MiB"));
    check("/1", &Client::new(gateway.web()).get("a", "/1", ""));
    wait_until("it is written", || objects(&gateway) == 1.0);
    let mut modes = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            modes.push(path.metadata().unwrap().permissions().mode() & 0o077);
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(modes.iter().all(|mode| *mode == 0));
}

#[test]
fn a_large_answer_that_is_still_good_is_served_from_disk_again() {
    // Larger than the memory, and stale from the beginning: an upstream's cache had it for long.
    let body = "large ".repeat(400_000);
    let sent = body.clone();
    let origin = Origin::start(move |request, stream| {
        let bytes = match request.field("if-none-match") {
            Some(_) => {
                b"HTTP/1.1 304 Not Modified\r\netag: \"v\"\r\ncache-control: max-age=600\r\n\r\n".to_vec()
            }
            None => answer("200 OK", "cache-control: max-age=10\r\nage: 11\r\netag: \"v\"\r\n", &sent),
        };
        stream.write_all(&bytes).is_ok()
    });
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&yaml(&origin, folder.path(), "16MiB"));
    let first = Client::new(gateway.web()).get("a", "/", "");
    assert!(first.text() == body && first.field("cache-status").unwrap().contains("stored"));
    wait_until("it is written", || objects(&gateway) == 1.0);
    gateway.stop();

    let gateway = Gateway::start(&yaml(&origin, folder.path(), "1MiB"));
    let ask = || {
        let answer = Client::new(gateway.web()).get("a", "/", "");
        assert!(answer.status == 200 && !answer.cut && answer.text() == body, "{}", answer.status);
        answer.field("cache-status").unwrap_or_default().to_owned()
    };
    assert!(ask().contains("fwd=stale; fwd-status=304"));
    wait_until("it is written anew", || event(&gateway, "written") == 1.0);
    let before = origin.received().len();
    for _ in 0..3 {
        let status = ask();
        assert!(status.starts_with("tollgate; hit; ttl=5"), "{status}");
    }
    assert_eq!((origin.received().len(), before), (2, 2));
}
