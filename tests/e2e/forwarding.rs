//! What an upstream gets of a request, and a client of its answer.

use crate::harness::{Client, Gateway, Origin, answer, get, send};
use std::io::Write;

fn gateway(origin: &Origin, more: &str) -> Gateway {
    Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n{more}",
        origin.address()
    ))
}

#[test]
fn a_request_arrives_with_its_forwarding_fields() {
    let origin = Origin::saying("hello");
    let gateway = gateway(&origin, "");
    let answer = send(
        gateway.web(),
        "GET /a//b/%7e?x=%7e&&y HTTP/1.1\r\nHost: api.example.com\r\nX-Forwarded-For: 203.0.113.9\r\n\
         X-Real-IP: 203.0.113.9\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
         X-Request-Id: mine\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\r\n",
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    let got = origin.last();
    assert_eq!(got.line, "GET /a/b/~?x=%7e&&y HTTP/1.1", "one normalised path, the query as it came");
    assert_eq!(got.fields("host"), ["api.example.com"]);
    assert_eq!(got.fields("x-forwarded-for"), ["127.0.0.1"], "an untrusted client is not believed");
    assert_eq!(got.fields("x-forwarded-proto"), ["http"]);
    assert_eq!(got.fields("x-forwarded-host"), ["api.example.com"]);
    assert_eq!(got.field("x-real-ip"), None);
    assert!(got.field("via").unwrap().starts_with("1.1 tollgate-"));
    assert_ne!(got.field("x-request-id").unwrap(), "mine");
    assert!(!got.field("traceparent").unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    for gone in ["x-secret", "keep-alive", "te"] {
        assert_eq!(got.field(gone), None, "{gone} is for one hop");
    }
}

#[test]
fn the_usual_word_on_a_connection_is_for_one_hop_too() {
    let origin = Origin::saying("");
    let gateway = gateway(&origin, "");
    for word in ["close", "keep-alive", "Keep-Alive\r\nConnection: close"] {
        let answer = send(gateway.web(), &format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: {word}\r\n\r\n"));
        assert_eq!(answer.status, 200, "{word}");
        assert_eq!(origin.last().fields("connection"), [""; 0], "{word}");
    }
}

#[test]
fn a_trusted_proxy_is_believed() {
    let origin = Origin::saying("");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', trusted_proxies: [127.0.0.0/8] }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        origin.address()
    ));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    send(
        gateway.web(),
        &format!(
            "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\n\
             x-request-id: theirs\r\ntraceparent: {trace}\r\nconnection: close\r\n\r\n"
        ),
    );
    let got = origin.last();
    assert_eq!(got.field("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(got.field("x-forwarded-proto"), Some("https"));
    assert_eq!(got.field("x-request-id"), Some("theirs"));
    let passed = got.field("traceparent").unwrap();
    assert!(passed.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && passed != trace, "{passed}");
}

#[test]
fn an_answer_loses_what_was_for_one_hop() {
    let origin = Origin::start(|_, stream| {
        let fields = "connection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\nx-kept: 1\r\n";
        stream.write_all(&answer("200 OK", fields, "ok")).is_ok()
    });
    let gateway = gateway(&origin, "");
    let answer = Client::new(gateway.web()).get("a", "/", "");
    assert_eq!((answer.status, answer.field("x-kept")), (200, Some("1")));
    for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.field(gone), None, "{gone} is for one hop");
    }
}

#[test]
fn connections_are_pooled_and_kept() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin, "");
    let mut client = Client::new(gateway.web());
    for _ in 0..20 {
        assert_eq!(client.get("a", "/", "").status, 200);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn bodies_arrive_whole_in_both_directions() {
    let origin = Origin::start(|request, stream| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&request.body)).is_ok()
    });
    let gateway = gateway(&origin, "");
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let mut request =
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(&body);
    let mut client = Client::new(gateway.web());
    let answer = client.send(&request);
    assert!(answer.status == 200 && answer.body == body, "with a length");

    let mut chunked = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(7_001) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = client.send(&chunked);
    assert!(answer.status == 200 && answer.body == body, "in chunks, on the same connection");
}

#[test]
fn answers_without_bodies_have_none() {
    let origin = Origin::start(|request, stream| {
        let answer = match request.target() {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let gateway = gateway(&origin, "");
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/204", "").status, 204);
    assert_eq!(client.get("a", "/304", "").status, 304);
    let head = client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((head.status, head.field("content-length")), (200, Some("5")));
    assert_eq!(client.get("a", "/204", "").status, 204, "the connection is in step after all of them");
}

#[test]
fn a_client_that_asks_first_is_told_to_continue() {
    let origin = Origin::saying("got it");
    let gateway = gateway(&origin, "");
    let mut client = Client::new(gateway.web());
    client.write("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(client.read_one(false).status, 100);
    assert_eq!(client.send("body").status, 200);
    assert_eq!(origin.last().body, b"body");
}

#[test]
fn a_dead_endpoint_is_passed_over() {
    let origin = Origin::saying("alive");
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{dead}', '{}'] }}, gone: {{ endpoints: ['{dead}'] }} }}\n\
         routes: {{ all: {{ to: origin }}, gone: {{ match: {{ path: /gone }}, to: gone }} }}\n",
        origin.address()
    ));
    for _ in 0..6 {
        assert_eq!(get(gateway.web(), "/").status, 200);
    }
    let answer = get(gateway.web(), "/gone");
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_failed"));
    let post =
        send(gateway.web(), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
    assert_eq!(post.status, 200, "nothing was sent, so any method may go to another endpoint");
}

#[test]
fn a_slow_upstream_is_not_waited_for() {
    let origin = Origin::start(|request, stream| {
        if request.target() == "/drip" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            while stream.write_all(b"1\r\n.\r\n").is_ok() {
                std::thread::park_timeout(std::time::Duration::from_millis(50));
            }
            return false;
        }
        std::thread::park_timeout(std::time::Duration::from_secs(20));
        false
    });
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'], timeouts: {{ read: 200ms }} }} }}\n\
         routes: {{ all: {{ to: origin }}, drip: {{ match: {{ path: /drip }}, timeouts: {{ total: 500ms }}, to: origin }} }}\n",
        origin.address()
    ));
    let answer = get(gateway.web(), "/");
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    let answer = get(gateway.web(), "/drip");
    assert!(answer.status == 200 && answer.cut, "cut, so that nobody takes half for all");
}
