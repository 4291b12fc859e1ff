//! The admin listener: what it shows, what it moves, and for whom.

use crate::harness::{Answer, Client, Gateway, Origin, get, wait_until};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;

const TOKEN: &str = "authorization: Bearer secret\r\n";

fn gateway(endpoints: &[&Origin], admin: &str) -> Gateway {
    let endpoints: Vec<String> = endpoints.iter().map(|origin| format!("'{}'", origin.address())).collect();
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin'{admin} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: [{}] }} }}\n\
         routes:\n  all: {{ to: origin }}\n  local: {{ match: {{ path: /local }}, to: {{ respond: {{ body: here }} }} }}\n",
        endpoints.join(", ")
    ))
}

fn post(gateway: &Gateway, path: &str) -> Answer {
    gateway.admin("POST", path, &format!("{TOKEN}content-length: 0\r\n"))
}

/// The value of a metric, by its name with labels as it is printed.
fn metric(gateway: &Gateway, name: &str) -> Option<f64> {
    let text = gateway.admin("GET", "/metrics", "").text();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn health_is_open_to_everyone() {
    let origin = Origin::saying("x");
    let gateway = gateway(&[&origin], "");
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = gateway.admin("GET", path, "");
        assert_eq!((answer.status, answer.text().as_str()), (200, text), "{path}");
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        let request = format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut client = Client::new(gateway.at("admin"));
        for _ in 0..2 {
            let head = client.send(&request);
            assert_eq!(
                (head.status, head.field("content-length")),
                (200, Some(text.len().to_string().as_str()))
            );
        }
    }
    assert!(gateway.admin("GET", "/", "").text().contains("/metrics"), "it says what there is");
}

#[test]
fn a_gateway_that_is_going_is_not_ready() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::start(move |_, stream| {
        let _ = held.lock().unwrap().recv();
        stream.write_all(&crate::harness::answer("200 OK", "", "late")).is_ok()
    });
    let gateway = gateway(&[&origin], "");
    let mut client = Client::new(gateway.web());
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("the request has arrived", || !origin.received().is_empty());
    gateway.handle().stop();
    wait_until("it says so", || gateway.admin("GET", "/readyz", "").status == 503);
    assert_eq!(gateway.admin("GET", "/healthz", "").status, 200, "it lives as long as it drains");
    release.send(()).unwrap();
    let answer = client.read(false);
    assert_eq!((answer.status, answer.text().as_str()), (200, "late"));
    assert!(client.is_closed(), "and that was the last one on this connection");
    gateway.stop();
}

#[test]
fn metrics_are_what_prometheus_takes() {
    let origin = Origin::saying("x");
    let gateway = gateway(&[&origin], "");
    for path in ["/", "/local", "/"] {
        assert_eq!(get(gateway.web(), path).status, 200);
    }
    crate::harness::send(gateway.web(), "BREW / HTTP/0.1\r\n\r\n");
    crate::harness::send(gateway.web(), "GET /a\\b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let requests =
        "tollgate_http_requests_total{listener=\"web\",route=\"all\",upstream=\"origin\",class=\"2xx\"}";
    wait_until("the requests are counted", || metric(&gateway, requests) == Some(2.0));
    let scrape = || gateway.admin("GET", "/metrics", "").text();
    wait_until("what the parser refused is counted", || {
        scrape().contains("\ntollgate_unseen_requests_total{")
    });
    let text = scrape();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (packaging/install-deps.sh test)");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
    for family in [
        "tollgate_http_requests_total",
        "tollgate_http_request_duration_seconds_bucket",
        "tollgate_upstream_duration_seconds_bucket",
        "tollgate_http_in_flight",
        "tollgate_connections",
        "tollgate_upstream_connections_total",
        "tollgate_rejections_total",
        "tollgate_unseen_requests_total",
        "tollgate_build_info",
        "tollgate_access_log_dropped_total",
    ] {
        assert!(text.contains(&format!("\n{family}")), "{family} is missing in\n{text}");
    }
}

#[test]
fn whatever_writes_and_the_configuration_ask_for_the_token() {
    let origin = Origin::saying("x");
    let gateway = gateway(&[&origin], ", token: secret");
    let closed = [
        ("GET", "/config"),
        ("POST", "/reload"),
        ("POST", "/routes/all/off"),
        ("POST", "/log/debug"),
        ("POST", "/nothing"),
    ];
    let presented = [
        "",
        "authorization: Bearer secre\r\n",
        "authorization: Bearer secrets\r\n",
        "authorization: Bearer \r\n",
        "authorization: Bearer Secret\r\n",
        "authorization: Basic secret\r\n",
        "authorization: secret\r\n",
    ];
    for (method, path) in closed {
        for fields in presented {
            let answer = gateway.admin(method, path, &format!("{fields}content-length: 0\r\n"));
            assert_eq!(answer.status, 401, "{method} {path} {fields}");
            assert!(answer.field("www-authenticate").unwrap().starts_with("Bearer"));
        }
    }
    assert_eq!(get(gateway.web(), "/").status, 200, "nothing was switched off");
    let config = gateway.admin("GET", "/config", "authorization: bearer secret\r\n");
    assert_eq!(config.status, 200, "the scheme's case does not count (RFC 9110 section 11.1)");
    let text = config.text();
    assert!(text.contains("token: '***'") || text.contains("token: \"***\""), "{text}");
    assert!(!text.contains("secret") && text.contains("routes:"), "{text}");
}

#[test]
fn without_a_token_they_are_closed_to_everyone() {
    let origin = Origin::saying("x");
    let gateway = gateway(&[&origin], "");
    for (method, path) in [("GET", "/config"), ("POST", "/reload"), ("POST", "/routes/all/off")] {
        for fields in ["", "authorization: Bearer \r\n", "authorization: Bearer secret\r\n"] {
            let answer = gateway.admin(method, path, &format!("{fields}content-length: 0\r\n"));
            assert_eq!(answer.status, 403, "{method} {path} {fields}");
        }
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let origin = Origin::saying("x");
    let gateway = gateway(&[&origin], ", token: secret");
    for (method, path) in [
        ("GET", "/nothing"),
        ("GET", "/metrics/x"),
        ("GET", "/routes/all/off"),
        ("DELETE", "/routes"),
        ("POST", "/routes/none/off"),
        ("POST", "/routes/all/sideways"),
        ("POST", "/upstreams/none/127.0.0.1:1/drain"),
        ("POST", "/upstreams/origin/127.0.0.1:1/drain"),
        ("POST", "/upstreams/origin"),
        ("POST", "/"),
    ] {
        let answer = gateway.admin(method, path, &format!("{TOKEN}content-length: 0\r\n"));
        assert_eq!((answer.status, answer.json()["status"].as_u64()), (404, Some(404)), "{method} {path}");
    }
    assert_eq!(post(&gateway, "/log/loud").status, 400);
    assert_eq!(post(&gateway, "/log/debug").status, 409, "the tests' log is not this gateway's");
}

#[test]
fn a_connection_is_in_step_after_a_body_that_nobody_wants() {
    let origin = Origin::saying("x");
    let gateway = gateway(&[&origin], ", token: secret");
    let mut client = Client::new(gateway.at("admin"));
    let body = "GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write(format!(
        "POST /routes/all/on HTTP/1.1\r\nhost: a\r\n{TOKEN}content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(client.read(false).status, 200);
    let next = client.get("a", "/healthz", "");
    assert!(next.status == 200 || (next.status == 0 && client.is_closed()), "{next:?}");
}

#[test]
fn routes_are_shown_and_switched() {
    let origin = Origin::saying("x");
    let gateway = gateway(&[&origin], ", token: secret");
    let routes = gateway.admin("GET", "/routes", "").json();
    assert_eq!(routes[0]["name"], "all");
    assert_eq!((&routes[0]["to"]["upstream"], &routes[0]["off"]), (&"origin".into(), &false.into()));
    assert_eq!(routes[1]["to"]["local"], true);
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/", "").status, 200);
    assert_eq!(post(&gateway, "/routes/all/off").json()["off"], true);
    let off = client.get("a", "/", "");
    assert_eq!((off.status, off.code().as_str()), (503, "route_off"));
    assert_eq!(client.get("a", "/local", "").status, 200, "the others go on");
    assert_eq!(gateway.admin("GET", "/routes", "").json()[0]["off"], true);
    assert_eq!(post(&gateway, "/routes/all/on").json()["off"], false);
    assert_eq!(client.get("a", "/", "").status, 200, "on the same connection");
}

#[test]
fn an_endpoint_is_drained_and_comes_back() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let slow = Origin::start(move |request, stream| {
        if request.target() == "/hold" {
            let _ = held.lock().unwrap().recv();
        }
        stream.write_all(&crate::harness::answer("200 OK", "", "slow")).is_ok()
    });
    let other = Origin::saying("other");
    let gateway = gateway(&[&slow, &other], ", token: secret");
    let endpoint =
        |at: usize, key: &str| gateway.admin("GET", "/upstreams", "").json()[0]["endpoints"][at][key].clone();
    let mut clients: Vec<Client> = (0..2).map(|_| Client::new(gateway.web())).collect();
    for client in &mut clients {
        client.write("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    wait_until("one of them is at each endpoint", || {
        !slow.received().is_empty() && !other.received().is_empty()
    });
    assert_eq!(endpoint(0, "in_flight"), 1);
    let address = slow.address();
    let drained = post(&gateway, &format!("/upstreams/origin/{address}/drain")).json();
    assert_eq!((&drained["draining"], &drained["in_flight"]), (&true.into(), &1.into()));
    assert!((0..10).all(|_| get(gateway.web(), "/").text() == "other"), "nothing new goes there");
    release.send(()).unwrap();
    let mut answers: Vec<String> = clients.iter_mut().map(|client| client.read(false).text()).collect();
    answers.sort();
    assert_eq!(answers, ["other", "slow"], "what was there ends");
    wait_until("none is in flight", || endpoint(0, "in_flight") == 0);
    post(&gateway, &format!("/upstreams/origin/{}/drain", other.address()));
    let none = get(gateway.web(), "/");
    assert_eq!((none.status, none.code().as_str()), (503, "no_endpoint"));
    post(&gateway, &format!("/upstreams/origin/{address}/resume"));
    assert!((0..4).all(|_| get(gateway.web(), "/").text() == "slow"));
}
