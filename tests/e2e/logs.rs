//! The access log: which requests are in it, with what, and where it goes.

use crate::harness::{Client, Gateway, Origin, Process, get, quiet_port, send, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;

fn gateway(origin: &Origin, settings: &str) -> Gateway {
    Gateway::start(&format!(
        "telemetry: {{ access_log: {{ to: {{ file: access.log }}{settings} }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web', trusted_proxies: [127.0.0.0/8] }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }}, gone: {{ endpoints: ['127.0.0.1:1'] }} }}\n\
         routes:\n  all: {{ to: origin }}\n  gone: {{ match: {{ path: /gone }}, to: gone }}\n  local: {{ match: {{ path: /local }}, to: {{ respond: {{}} }} }}\n",
        origin.address()
    ))
}

/// The first `count` lines, once they are written.
fn lines(file: &Path, count: usize) -> Vec<Value> {
    let text = || std::fs::read_to_string(file).unwrap_or_default();
    wait_until("the lines are written", || text().matches('\n').count() >= count);
    text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_line_has_every_field() {
    let origin = Origin::saying("hello");
    let gateway = gateway(&origin, "");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = send(
        gateway.web(),
        &format!(
            "POST /a//b?secret=1 HTTP/1.1\r\nhost: api.example.com\r\ntraceparent: {trace}\r\nx-request-id: mine\r\n\
             x-forwarded-for: 192.0.2.7\r\nuser-agent: test/1\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody"
        ),
    );
    assert_eq!(answer.status, 200);
    let line = &lines(&gateway.folder().join("access.log"), 1)[0];
    let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "time",
            "request_id",
            "trace_id",
            "listener",
            "route",
            "upstream",
            "endpoint",
            "client",
            "consumer",
            "method",
            "host",
            "path",
            "status",
            "cause",
            "fallback",
            "bytes_received",
            "bytes_sent",
            "duration_ms",
            "upstream_ms",
            "connect_ms",
            "attempts",
            "tls_version",
            "http_version",
            "user_agent"
        ]
    );
    for (key, value) in [
        ("request_id", Value::from("mine")),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c".into()),
        ("listener", "web".into()),
        ("route", "all".into()),
        ("upstream", "origin".into()),
        ("endpoint", origin.address().to_string().into()),
        ("client", "192.0.2.7".into()),
        ("method", "POST".into()),
        ("host", "api.example.com".into()),
        ("path", "/a//b".into()),
        ("status", 200.into()),
        ("cause", Value::Null),
        ("bytes_received", 4.into()),
        ("bytes_sent", 5.into()),
        ("attempts", 1.into()),
        ("tls_version", Value::Null),
        ("http_version", "HTTP/1.1".into()),
        ("user_agent", "test/1".into()),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    let passed = origin.last().field("traceparent").unwrap().to_owned();
    assert!(passed.contains("0af7651916cd43dd8448eb211c80319c"), "one trace: {passed}");
}

#[test]
fn a_trace_is_begun_where_there_is_none() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, ", fields: [trace_id, request_id]");
    get(gateway.web(), "/");
    let line = &lines(&gateway.folder().join("access.log"), 1)[0];
    let got = origin.last();
    let trace = line["trace_id"].as_str().unwrap();
    assert_eq!(trace.len(), 32);
    assert_eq!(got.field("traceparent").unwrap().split('-').nth(1), Some(trace));
    assert_eq!(got.field("x-request-id"), line["request_id"].as_str());
}

#[test]
fn what_no_route_and_no_hook_saw_is_logged_too() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, ", fields: [status, cause, route, path, client]");
    send(gateway.web(), "GET /local HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    send(gateway.web(), "GET /gone HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    send(gateway.web(), "GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n");
    send(gateway.web(), "nonsense\r\n\r\n");
    let all = lines(&gateway.folder().join("access.log"), 4);
    let seen = |status: u16, cause: Value| {
        assert!(
            all.iter().any(|line| line["status"] == status && line["cause"] == cause),
            "{status} {cause}: {all:?}"
        );
    };
    seen(200, Value::Null);
    seen(502, "upstream_failed".into());
    seen(400, "malformed".into());
    assert_eq!(all.iter().filter(|line| line["status"] == 400).count(), 2, "both malformed ones: {all:?}");
    assert!(all.iter().all(|line| line["client"] == "127.0.0.1"), "{all:?}");
}

#[test]
fn secrets_are_redacted_and_lines_cannot_be_forged() {
    let origin = Origin::saying("x");
    let gateway = gateway(
        &origin,
        ", fields: [path, request.authorization, request.x-key, request.x-open, response.content-length], redact: [authorization, x-key]",
    );
    let mut client = Client::new(gateway.web());
    client.get("a", "/%22?q=%0a", "authorization: Bearer c2VjcmV0\r\nx-key: k1\r\nx-open: \"a\\\tb\"\r\n");
    let file = gateway.folder().join("access.log");
    let line = &lines(&file, 1)[0];
    assert_eq!((&line["request.authorization"], &line["request.x-key"]), (&"***".into(), &"***".into()));
    assert_eq!(line["request.x-open"], "\"a\\\tb\"");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
}

#[test]
fn sampling_leaves_out_all_but_failures() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, ", fields: [status, path], sample: 0%");
    let mut client = Client::new(gateway.web());
    for _ in 0..20 {
        client.get("a", "/", "");
    }
    assert_eq!(get(gateway.web(), "/gone").status, 502);
    let all = lines(&gateway.folder().join("access.log"), 1);
    assert_eq!(all, [serde_json::json!({ "status": 502, "path": "/gone" })]);
}

#[test]
fn a_rotated_file_is_opened_anew_on_sigusr1() {
    let folder = TempDir::new().unwrap();
    let (admin, web) = (quiet_port(), quiet_port());
    let path = folder.path().join("gateway.yaml");
    let text = format!(
        "version: 1\nprocess: {{ workers: 1 }}\nadmin: {{ address: '127.0.0.1:{admin}', token: secret }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }}, fields: [path] }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:{web}' }} }}\nroutes: {{ all: {{ to: {{ respond: {{}} }} }} }}\n"
    );
    std::fs::write(&path, text).unwrap();
    let process = Process::run(&path, admin, &[]);
    let web = SocketAddr::from(([127, 0, 0, 1], web));
    let (log, rotated) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    get(web, "/first");
    assert_eq!(lines(&log, 1)[0]["path"], "/first");
    std::fs::rename(&log, &rotated).unwrap();
    get(web, "/second");
    assert_eq!(lines(&rotated, 2)[1]["path"], "/second", "until the signal it goes where it went");
    process.signal(Signal::SIGUSR1);
    wait_until("the file is there again", || {
        get(web, "/third");
        log.exists()
    });
    assert_eq!(lines(&log, 1)[0]["path"], "/third");

    assert_eq!(process.admin("POST", "/log/debug").json()["level"], "debug");
    let errors = folder.path().join("errors.log");
    let refused = || {
        send(web, "GET /%00 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        std::fs::read_to_string(&errors).unwrap().contains("DEBUG")
    };
    wait_until("the error log says more", refused);
    process.signal(Signal::SIGHUP);
    wait_until("a reload is over", || process.admin("GET", "/reload").json()["outcome"] == "applied");
    std::fs::write(&errors, "").unwrap();
    wait_until("a reload leaves the level as it is", refused);
}

#[test]
fn the_environment_says_what_the_error_log_says() {
    let folder = TempDir::new().unwrap();
    let admin = quiet_port();
    let path = folder.path().join("gateway.yaml");
    let text = format!("version: 1\nadmin: {{ address: '127.0.0.1:{admin}', token: secret }}\n");
    std::fs::write(&path, text).unwrap();
    let log = |environment: &[(&str, &str)]| {
        let process = Process::run(&path, admin, environment);
        assert_eq!(process.admin("POST", "/reload").status, 200);
        std::fs::read_to_string(folder.path().join("errors.log")).unwrap()
    };
    assert!(log(&[]).contains("reload applied"));
    let quiet = log(&[("RUST_LOG", "error")]);
    assert!(!quiet.contains("reload applied"), "{quiet}");
}
