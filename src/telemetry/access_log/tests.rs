use super::*;
use crate::values::Name;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, PipeReader};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time that no test reaches on a machine that works.
fn patience() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

static NAMES: LazyLock<[Name; 3]> =
    LazyLock::new(|| ["public", "orders", "backend"].map(|name| name.parse().unwrap()));

fn record() -> Record<'static> {
    let [listener, route, upstream] = &*NAMES;
    Record {
        time: UNIX_EPOCH + Duration::from_millis(1_795_526_317_050),
        request_id: b"id-1",
        trace_id: b"4bf92f3577b34da6a3ce929d0e0e4736",
        listener: Some(listener),
        route: Some(route),
        upstream: Some(upstream),
        endpoint: Some("192.0.2.7:8080"),
        client: Some("2001:db8::1".parse().unwrap()),
        method: "GET",
        host: Some(b"example.com"),
        target: b"/orders?token=secret",
        status: Some(200),
        consumer: None,
        principal: None,
        auth: None,
        cause: None,
        fallback: None,
        bytes_received: 0,
        bytes_sent: 1234,
        duration: Duration::from_micros(12_345),
        upstream_duration: Some(Duration::from_micros(9_000)),
        connect_duration: Some(Duration::from_micros(7)),
        attempts: 1,
        tls_version: Some("TLSv1.3"),
        http_version: Some(Version::HTTP_2),
        request: None,
        response: None,
    }
}

fn settings(fields: &[&str]) -> AccessLogSettings {
    AccessLogSettings { fields: fields.iter().map(ToString::to_string).collect(), ..Default::default() }
}

/// The line that these settings make of a record.
fn line(settings: &AccessLogSettings, record: &Record<'_>) -> String {
    let mut line = Vec::new();
    LinePlan::compile(settings).unwrap().fields.write(&mut line, record, &mut Clock::default());
    let line = String::from_utf8(line).unwrap();
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    line.strip_suffix('\n').unwrap().to_owned()
}

/// A log into a pipe, whose reader the test has.
fn piped(settings: &AccessLogSettings) -> (AccessLog, PipeReader, Arc<AtomicU64>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let sink = Sink::of(File::from(std::os::fd::OwnedFd::from(writer)));
    let dropped = Arc::new(AtomicU64::new(0));
    let plan = LinePlan::compile(settings).unwrap();
    let log = AccessLog::start(settings, plan, sink, (2, dropped.clone())).unwrap();
    (log, reader, dropped)
}

fn to_file(path: &Path) -> AccessLog {
    let settings =
        AccessLogSettings { target: LogTarget::File(path.to_owned()), ..settings(&["request_id"]) };
    AccessLog::open(&settings, 2, Arc::default()).unwrap()
}

fn log_id(log: &AccessLog, id: &str) {
    log.log(&Record { request_id: id.as_bytes(), ..record() });
}

#[test]
fn the_default_line_has_all_but_headers() {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("curl/8"));
    let expected = concat!(
        r#"{"time":"2026-11-24T13:18:37.050Z","request_id":"id-1","#,
        r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","listener":"public","route":"orders","#,
        r#""upstream":"backend","endpoint":"192.0.2.7:8080","client":"2001:db8::1","consumer":null,"method":"GET","#,
        r#""host":"example.com","path":"/orders","status":200,"cause":null,"fallback":null,"bytes_received":0,"#,
        r#""bytes_sent":1234,"duration_ms":12.345,"upstream_ms":9.000,"connect_ms":0.007,"attempts":1,"#,
        r#""tls_version":"TLSv1.3","http_version":"HTTP/2","user_agent":"curl/8"}"#,
    );
    assert_eq!(line(&settings(&[]), &Record { request: Some(&headers), ..record() }), expected);
}

#[test]
fn a_request_that_the_parser_refused_has_a_line_too() {
    let refused = Record {
        request_id: b"",
        route: None,
        upstream: None,
        endpoint: None,
        client: None,
        method: "",
        host: None,
        target: b"",
        status: None,
        upstream_duration: None,
        connect_duration: None,
        tls_version: None,
        http_version: None,
        cause: Some("header_too_large"),
        ..record()
    };
    let line: Value = serde_json::from_str(&line(&settings(&[]), &refused)).unwrap();
    for field in
        ["request_id", "route", "client", "method", "host", "path", "status", "http_version", "user_agent"]
    {
        assert_eq!(line[field], Value::Null, "{field}");
    }
    assert_eq!(line["cause"], "header_too_large");
}

#[test]
fn headers_are_chosen_by_name_and_secrets_hidden() {
    let mut request = HeaderMap::new();
    request.append("x-tenant", HeaderValue::from_static("a"));
    request.append("x-tenant", HeaderValue::from_bytes(b"b\"\xff").unwrap());
    request.insert("authorization", HeaderValue::from_static("Bearer secret"));
    let mut response = HeaderMap::new();
    response.insert("set-cookie", HeaderValue::from_static("secret"));
    let fields = [
        "request.X-Tenant",
        "request.authorization",
        "response.set-cookie",
        "request.cookie",
        "response.etag",
    ];
    let record = Record { request: Some(&request), response: Some(&response), ..record() };
    let line: Value = serde_json::from_str(&line(&settings(&fields), &record)).unwrap();
    let expected = json!({
        "request.X-Tenant": "a, b\"\u{fffd}",
        "request.authorization": "***",
        "response.set-cookie": "***",
        "request.cookie": null,
        "response.etag": null,
    });
    assert_eq!(line, expected);
}

#[test]
fn the_path_is_what_stands_before_the_query() {
    let table: &[(&[u8], &str, Value)] = &[
        (b"/a/b?c=d?e", "/a/b", json!("c=d?e")),
        (b"/a//%2e?", "/a//%2e", json!("")),
        (b"/a", "/a", Value::Null),
        (b"*", "*", Value::Null),
        (b"http://user:secret@example.com/a?b", "/a", json!("b")),
        (b"http://user:secret@example.com", "/", Value::Null),
        (b"/a?u=http://b/c", "/a", json!("u=http://b/c")),
        (b"/http://b/c", "/http://b/c", Value::Null),
    ];
    for (target, path, query) in table {
        let line = line(&settings(&["path", "query"]), &Record { target, ..record() });
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json!({ "path": path, "query": query }));
    }
}

#[test]
fn wrong_fields_are_refused_with_a_remedy() {
    let compile = |fields: &[&str]| LinePlan::compile(&settings(fields)).unwrap_err().to_string();
    assert_eq!(compile(&["statsu"]), "unknown access log field `statsu` (did you mean `status`?)");
    assert!(compile(&["request.bad header"]).starts_with("`bad header` is not the name of a header"));
    assert_eq!(compile(&["time", "time"]), "the field `time` stands twice (remove one)");
    let redact = AccessLogSettings { redact: vec!["a b".into()], ..settings(&[]) };
    assert!(LinePlan::compile(&redact).unwrap_err().to_string().starts_with("`a b` is not the name"));
}

#[test]
fn failures_are_always_sampled() {
    assert!(!is_sampled(0, Some(200)) && !is_sampled(0, None));
    assert!(is_sampled(0, Some(500)) && is_sampled(0, Some(599)));
    assert!(is_sampled(10_000, Some(200)));
    let sampled = (0..10_000).filter(|_| is_sampled(2_500, Some(200))).count();
    assert!((2_000..3_000).contains(&sampled), "{sampled} of 10000 at 25%");
}

#[test]
fn lines_arrive_in_the_order_of_their_thread() {
    let (log, reader, dropped) = piped(&settings(&["request_id"]));
    let logged: Vec<String> = (0..500).map(|number| format!("{{\"request_id\":\"{number}\"}}")).collect();
    (0..500).for_each(|number| log_id(&log, &number.to_string()));
    assert!(log.flush(patience()));
    drop(log);
    let read: Vec<String> = BufReader::new(reader).lines().map(Result::unwrap).collect();
    assert_eq!((read, dropped.load(Ordering::Relaxed)), (logged, 0));
}

#[test]
fn a_dropped_log_writes_what_there_is_and_ends() {
    let (log, reader, _) = piped(&settings(&["request_id"]));
    log_id(&log, "last");
    drop(log);
    // The end of the file comes only when the thread has let go of the pipe.
    assert_eq!(std::io::read_to_string(reader).unwrap(), "{\"request_id\":\"last\"}\n");
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_no_request() {
    let settings = AccessLogSettings { queue: 100, ..settings(&[]) };
    let (log, reader, dropped) = piped(&settings);
    const LOGGED: u64 = 5000;
    // Far more than pipe and queue take: if log() waited for the pipe, this would not end.
    (0..LOGGED).for_each(|_| log.log(&record()));
    let lost_at_once = dropped.load(Ordering::Relaxed);
    assert!(lost_at_once > 0, "the queue is bounded");
    assert!(!log.flush(Instant::now() + Duration::from_millis(20)), "the writer is stuck");
    let reading =
        std::thread::spawn(move || BufReader::new(reader).lines().map(Result::unwrap).count() as u64);
    assert!(log.flush(patience()), "the writer goes on when somebody reads");
    drop(log);
    assert_eq!(
        reading.join().unwrap() + dropped.load(Ordering::Relaxed),
        LOGGED,
        "every line is accounted for"
    );
}

#[test]
fn a_pipe_that_is_gone_costs_lines_only() {
    let (log, reader, dropped) = piped(&settings(&[]));
    drop(reader);
    (0..10).for_each(|_| log.log(&record()));
    assert!(log.flush(patience()));
    assert_eq!(dropped.load(Ordering::Relaxed), 10);
}

#[test]
fn a_full_disk_costs_lines_only() {
    let full = AccessLogSettings { target: LogTarget::File("/dev/full".into()), ..settings(&[]) };
    let dropped = Arc::new(AtomicU64::new(0));
    let log = AccessLog::open(&full, 1, dropped.clone()).unwrap();
    (0..10).for_each(|_| log.log(&record()));
    assert!(log.flush(patience()));
    assert_eq!(dropped.load(Ordering::Relaxed), 10);
}

#[test]
fn a_file_is_appended_to_and_reopened_after_a_rename() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    fs::write(&path, "before\n").unwrap();
    let log = to_file(&path);
    log_id(&log, "1");
    assert!(log.flush(patience()));
    fs::rename(&path, &moved).unwrap();
    log_id(&log, "2");
    assert!(log.flush(patience()));
    log.reopen();
    log_id(&log, "3");
    assert!(log.flush(patience()));
    assert_eq!(
        fs::read_to_string(&moved).unwrap(),
        "before\n{\"request_id\":\"1\"}\n{\"request_id\":\"2\"}\n"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"request_id\":\"3\"}\n");
}

#[test]
fn a_reopen_that_fails_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("logs"), folder.path().join("moved"));
    fs::create_dir(&inside).unwrap();
    let log = to_file(&inside.join("access.log"));
    fs::rename(&inside, &outside).unwrap();
    log.reopen();
    log_id(&log, "1");
    assert!(log.flush(patience()));
    assert_eq!(fs::read_to_string(outside.join("access.log")).unwrap(), "{\"request_id\":\"1\"}\n");
}

#[test]
fn a_target_that_cannot_be_opened_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [folder.path().join("missing/access.log"), folder.path().to_owned(), fifo] {
        let settings = AccessLogSettings { target: LogTarget::File(path.clone()), ..settings(&[]) };
        let problem = AccessLog::open(&settings, 1, Arc::default()).err().expect("it cannot be opened");
        assert!(problem.what.contains(path.to_str().unwrap()), "{problem}");
    }
}

#[test]
fn fields_change_while_the_log_is_open() {
    let before = settings(&["request_id"]);
    let (log, reader, _) = piped(&before);
    log_id(&log, "1");
    let after = AccessLogSettings { sample: 0, ..settings(&["status"]) };
    assert!(log.fits(&after));
    assert!(!log.fits(&AccessLogSettings { target: LogTarget::Stderr, ..after.clone() }));
    assert!(!log.fits(&AccessLogSettings { queue: 1, ..after.clone() }));
    log.configure(LinePlan::compile(&after).unwrap());
    log.log(&record());
    log.log(&Record { status: Some(503), ..record() });
    drop(log);
    assert_eq!(std::io::read_to_string(reader).unwrap(), "{\"request_id\":\"1\"}\n{\"status\":503}\n");
}

#[test]
fn a_line_longer_than_the_queue_is_not_lost() {
    let queue = Queue::new(1, 1);
    assert!(queue.append(&[b'x'; 10_000]));
    assert!(!queue.append(b"x"), "there is room for one line");
    let mut lengths = Vec::new();
    queue.collect(&mut queue::Page::default(), |page| lengths.push((page.lines, page.bytes.len())));
    assert_eq!(lengths, [(1, 10_000)]);
    assert!(queue.append(b"x"), "the room is free again");
}

#[test]
fn waiting_lines_are_bounded_in_bytes_too() {
    let queue = Queue::new(100, 1);
    let taken = (0..100).filter(|_| queue.append(&[b'x'; 10_000])).count();
    assert_eq!(taken, 20);
}

proptest! {
    #[test]
    fn every_line_is_one_json_object(
        target: Vec<u8>, host: Option<Vec<u8>>, agent in proptest::collection::vec(32u8..=255, 0..50),
        method in "[!#$%&'*+.^_`|~0-9A-Za-z-]{0,20}", id in "[-A-Za-z0-9_.:+=/@~]{0,20}", status: Option<u16>, micros: u64,
    ) {
        let mut headers = HeaderMap::new();
        if let Ok(agent) = HeaderValue::from_bytes(&agent) {
            headers.insert(HeaderName::from_static("user-agent"), agent);
        }
        let record = Record {
            time: SystemTime::now(),
            target: &target,
            host: host.as_deref(),
            method: &method,
            request_id: id.as_bytes(),
            status,
            duration: Duration::from_micros(micros),
            request: Some(&headers),
            ..record()
        };
        let default: Value = serde_json::from_str(&line(&settings(&[]), &record)).unwrap();
        prop_assert_eq!(default.as_object().unwrap().len(), 24);
        prop_assert_eq!(default["method"].as_str().unwrap_or_default(), &method);
        let shown = host.as_deref().map(String::from_utf8_lossy);
        prop_assert_eq!(default["host"].as_str(), shown.as_deref());
        let chosen = line(&settings(&["query", "response.x", "request.user-agent"]), &record);
        prop_assert!(serde_json::from_str::<Value>(&chosen).unwrap().is_object());
    }
}
